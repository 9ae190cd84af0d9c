"""With Orthanc as the archive: a study that arrives there is answered there (`make hospital-test`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import head, write_onnx
from dicom_builders import write_patient
from hospital.node import free_port, start_node, wait_for_port

ORTHANC, DCIODVFY = shutil.which("Orthanc"), shutil.which("dciodvfy")
RULE = Path(__file__).resolve().parents[2] / "container" / "orthanc-fvv.lua"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not here (apt-get install orthanc)"),
    pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy (dicom3tools) is not here"),
]


@dataclass(frozen=True)
class Rest:
    """Orthanc's REST interface."""

    port: int

    def ask(self, path: str, body: bytes | None = None) -> Any:
        return json.loads(self.fetch(path, body))

    def fetch(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", body, timeout=60) as answer:
            content: bytes = answer.read()
            return content

    def modalities(self, study: str) -> Counter[str]:
        return Counter(one["MainDicomTags"]["Modality"] for one in self.ask(f"/studies/{study}/series"))


def until(check: Any, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "too late"
        time.sleep(0.3)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[tuple[Rest, Path]]:
    """An Orthanc with the rule of the page, and the node it sends to."""
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    http, dicom, ours = free_port(), free_port(), free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "AuthenticationEnabled": False,
        "StableAge": 2,
        "DicomModalities": {"fvv": ["FVV", "127.0.0.1", ours]},
        "LuaScripts": [str(RULE)],
        "Plugins": [],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("wb") as log:
        orthanc = subprocess.Popen([ORTHANC or "", str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    spool = tmp_path / "spool"
    node = start_node(
        spool, tmp_path / "models", ours, f"pacs=ORTHANC@127.0.0.1:{dicom}", settings=("listen.quiet_s=2",)
    )
    try:
        wait_for_port(http)
        wait_for_port(ours)
        yield Rest(http), spool
    finally:
        for process in (node, orthanc):
            process.terminate()
        for process in (node, orthanc):
            process.wait(60)


def test_a_study_in_the_archive_is_answered_there_once(
    tmp_path: Path, rng: np.random.Generator, archive: tuple[Rest, Path]
) -> None:
    rest, spool = archive
    write_patient(tmp_path / "p", {name: array[::-1, ::-1] for name, array in head(rng).items()})
    for file in sorted((tmp_path / "p").rglob("*.dcm")):
        rest.ask("/instances", file.read_bytes())
    (study,) = rest.ask("/studies")
    before = rest.modalities(study)["MR"]
    expected = {"MR": before, "SEG": 1, "SR": 1, "OT": 1}
    until(lambda: rest.modalities(study) == expected)
    assert rest.ask("/studies") == [study]
    for series in rest.ask(f"/studies/{study}/series"):
        if series["MainDicomTags"]["Modality"] == "MR":
            continue
        (instance,) = series["Instances"]
        file = tmp_path / f"{instance}.dcm"
        file.write_bytes(rest.fetch(f"/instances/{instance}/file"))
        done = subprocess.run([DCIODVFY or "", str(file)], capture_output=True, text=True, check=False)
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
    until(
        lambda: [path.parent.name for path in spool.glob("*/*/record.json")] != [] and not list(spool.glob("sending/*"))
    )
    # A second manual push: nothing new.
    instances = sorted(rest.ask(f"/studies/{study}/instances"), key=lambda one: one["ID"])
    rest.ask("/modalities/fvv/store", json.dumps(study).encode())
    until(lambda: list(spool.glob("received/*")) == [] and list(spool.glob("running/*")) == [])
    time.sleep(3)
    after = sorted(rest.ask(f"/studies/{study}/instances"), key=lambda one: one["ID"])
    assert [one["ID"] for one in after] == [one["ID"] for one in instances]
    assert len(list(spool.glob("done/*"))) == 1
