"""Many studies at once, kills of the node, a destination that is down for a while: `python -m hospital.storm`.

Each study must end with exactly one result set at the destination, and with nothing of it left in the queue.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import psutil
import pydicom
from pydicom.uid import generate_uid

from builders import head, write_onnx
from dicom_builders import save_dicom, write_enhanced
from hospital.node import free_port, start_node, wait_for_port
from node_peers import Archive

EXPECTED = Counter(SEG=1, SR=1, OT=1)


def write_study(folder: Path, number: int) -> None:
    images = {name: array[::-1, ::-1] for name, array in head(np.random.default_rng(number)).items()}

    def person(dataset: pydicom.Dataset) -> None:
        dataset.PatientID = f"person{number}"

    file = folder / f"{number}" / "dwi.dcm"
    write_enhanced(file, {0: images["b0"], 1000: images["b1000"]}, number=3, study=generate_uid(), change=person)
    # A second series: other objects of the study, so that a kill finds some of them confirmed and some not.
    dataset = pydicom.dcmread(file)
    for extra in range(4):
        dataset.SOPInstanceUID, dataset.SeriesInstanceUID = generate_uid(), f"1.2.{number}.7"
        dataset.SeriesNumber, dataset.SeriesDescription, dataset.InstanceNumber = 9, "T2", extra + 1
        save_dicom(dataset, file.parent / f"other{extra}.dcm")
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.pop("MRDiffusionSequence", None)
    (file.parent / "other0.dcm").unlink()


def dcmtk_storescu() -> str | None:
    """The `storescu` of dcmtk: in an activated environment, pynetdicom's is found first, which has other options."""
    for folder in os.get_exec_path():
        if found := shutil.which("storescu", path=folder):
            said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
            if "dcmtk" in said:
                return found
    return None


def send_until_taken(program: str, folder: Path, port: int, over: threading.Event) -> None:
    """As an archive does: the whole study again until all of it is confirmed."""
    command = [program, "-to", "30", "-aec", "FVV", "+sd", "127.0.0.1", str(port), str(folder)]
    while not over.is_set():
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(1)


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of the node, without its worker."""
    return float(psutil.Process(process.pid).memory_info().rss / 2**20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument(
        "--kills", type=int, default=10, help="3 or more: the archive is unreachable for a third of them"
    )
    parser.add_argument(
        "--patience-minutes", type=float, default=10, help="after so long without a kill or a finished study it ends"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    storescu = dcmtk_storescu()
    if storescu is None:
        print("storescu (dcmtk) is not here: skipped")
        return 0
    chance, over = random.Random(options.seed), threading.Event()  # noqa: S311
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_onnx(root / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
        for number in range(options.studies):
            write_study(root / "studies", number)
        archive = Archive()
        port, spool = free_port(), root / "spool"

        def node() -> subprocess.Popen[bytes]:
            process = start_node(
                spool, root / "models", port, archive.address, settings=("listen.quiet_s=3", "listen.aborted_s=20")
            )
            wait_for_port(port)
            return process

        process, started = node(), time.monotonic()
        folders = sorted((root / "studies").iterdir())
        senders = [threading.Thread(target=send_until_taken, args=(storescu, one, port, over)) for one in folders]
        for sender in senders:
            sender.start()
        taken, times, kills, memory = {}, Counter[str](), 0, []
        steps, until = (0, 0), started + options.patience_minutes * 60

        def done() -> int:
            return len(list(spool.glob("done/*")))

        def finished() -> bool:
            return done() == options.studies and not any(one.is_alive() for one in senders)

        while time.monotonic() < until and not (kills == options.kills and finished()):
            if (kills, done()) != steps:
                steps, until = (kills, done()), time.monotonic() + options.patience_minutes * 60
            time.sleep(chance.uniform(1, 30) if kills < options.kills else 1)
            memory.append(memory_mb(process))
            if kills < options.kills:
                process.kill()
                process.wait()
                kills += 1
                if kills == options.kills // 3 and archive is not None:
                    archive.close()
                    taken, times = archive.objects, archive.times
                if kills == 2 * options.kills // 3:
                    archive = Archive(archive.port)
                    archive.objects, archive.times = taken, times
                process = node()
        over.set()
        seconds = time.monotonic() - started
        process.terminate()
        process.wait()
        sets: dict[str, Counter[str]] = defaultdict(Counter)
        for one in archive.objects.values():
            sets[str(one.PatientID)][str(one.Modality)] += 1
        whole = sum(found == EXPECTED for found in sets.values())
        states = {
            state: len(list(spool.glob(f"{state}/*"))) for state in ("received", "running", "sending", "done", "failed")
        }
        again = sum(count - 1 for count in archive.times.values())
        print(
            f"{options.studies} studies, {kills} SIGKILLs, {seconds:.0f} s: {whole} with exactly one result set; "
            f"spool {states}"
        )
        print(f"objects that came again under the same UID, after a kill between reply and note: {again}")
        print(f"node's memory: {min(memory):.0f} to {max(memory):.0f} MB, at the end {memory[-1]:.0f} MB")
        complete = whole == options.studies and states["done"] == options.studies and sum(states.values()) == whole
        if not complete:
            print((root / "node.log").read_text(encoding="utf-8")[-5000:])
        return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
