"""Memory of the node over many studies, with workers that answer at once: `python -m hospital.memory`.

A study's own memory goes with its worker; what is measured here is the process that stays.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pydicom
from pydicom.uid import generate_uid

from builders import write_onnx
from dicom_builders import write
from fvv.config import ListenConfig, PredictConfig
from fvv.node import listen
from fvv.node.spool import DONE
from hospital.node import free_port, wait_for_port
from node_peers import Archive, associate

WORKER = """
import hashlib, json, os, shutil, sys
job = json.loads(sys.stdin.readline())
folder = job["folder"]
images = os.path.join(folder, os.path.basename(folder))
objects = sorted(os.listdir(images))
os.makedirs(os.path.join(folder, "outbox"), exist_ok=True)
shutil.copy(os.path.join(images, objects[0]), os.path.join(folder, "outbox", "result.dcm"))
record = dict(schema_version=1, outcome="answered", reason="", attempts=0, objects=objects, made_from=job["made_from"])
record["content_sha256"] = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
with open(os.path.join(folder, "record.json"), "w") as stream:
    json.dump(record, stream)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    options = parser.parse_args()
    listen._WORKER = [sys.executable, "-S", "-c", WORKER]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_onnx(root / "models" / "model1.onnx", whole_volume=False)
        write(root / "study", 100, 0)
        datasets = [pydicom.dcmread(file) for file in sorted((root / "study").rglob("*.dcm"))]
        for dataset in datasets:  # Half a megabyte each, so that one that is kept would show.
            dataset.Rows = dataset.Columns = 512
            dataset.PixelData = np.zeros((512, 512), np.uint16).tobytes()
        archive, port = Archive(), free_port()
        config = ListenConfig(send_to=(archive.address,), port=port, quiet_s=0.5, min_free_mb=0)
        node = listen.Node(root / "spool", root / "models", config, PredictConfig())
        thread = threading.Thread(target=node.run, daemon=True)
        thread.start()
        wait_for_port(port)
        seen = []
        for number in range(options.studies):
            association = associate(port)
            study = generate_uid()
            for dataset in datasets:
                dataset.StudyInstanceUID, dataset.SOPInstanceUID = study, generate_uid()
                association.send_c_store(dataset)
            association.release()
            archive.objects.clear()
            if (number + 1) % (options.studies // 10) == 0:
                gc.collect()
                seen.append(psutil.Process().memory_info().rss / 2**20)
        until = time.monotonic() + 600
        while len(node.spool.studies(DONE)) < options.studies and time.monotonic() < until:
            archive.objects.clear()
            time.sleep(0.5)
        gc.collect()
        seen.append(psutil.Process().memory_info().rss / 2**20)
        done = len(node.spool.studies(DONE))
        node.stop()
        thread.join(30)
    memory = [round(mb) for mb in seen]
    print(f"{done} of {options.studies} studies done; memory (MB), sender and archive included: {memory}")
    return 0 if done == options.studies else 1


if __name__ == "__main__":
    sys.exit(main())
