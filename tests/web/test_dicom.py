"""DICOM as the page reads it, in Node, beside Python: the same choice, values, places, notes and refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="no DICOM: the extra `dicom`")
from fvv.config import PreprocessConfig
from fvv.errors import FvvError
from fvv.io.dicom.group import examinations_of, index_place
from fvv.io.dicom.stack import read_dicom
from web.dicom_cases import CASES, ONLY_PYTHON
from web.parity import NODE, ROOT

READER = ROOT / "web" / "build" / "node" / "dicom.js"
FAULTS = sorted((ROOT.parent / "shared" / "faults" / "dicom").glob("*.zip"))
pytestmark = pytest.mark.skipif(NODE is None or not READER.exists(), reason="no engine: make web")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What was dropped, and what the page's reader made of it."""
    assert NODE is not None
    dropped, read = tmp_path_factory.mktemp("dropped"), tmp_path_factory.mktemp("read")
    for name, fill in CASES.items():
        (dropped / name).mkdir()
        fill(dropped / name)
    for file in FAULTS:
        shutil.copy(file, dropped)
    subprocess.run([NODE, str(READER), str(dropped), str(read)], check=True)
    return dropped, read


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*CASES, *(file.name for file in FAULTS)])
def test_the_page_reads_what_python_reads(folders: tuple[Path, Path], name: str) -> None:
    dropped, read = folders
    place, stem = dropped / name, name.removesuffix(".zip")
    page = json.loads((read / f"{stem}.json").read_text())
    if stem in ONLY_PYTHON:
        assert ONLY_PYTHON[stem] in page["error"]
        return
    found = examinations_of(place, index_place(place))
    if len(found) > 1:
        assert "never mixed" in page["error"]
        return
    refused, case = "", None
    try:
        case, _ = read_dicom(found[0], name=name, config=PreprocessConfig())
    except FvvError as error:
        refused = error.message[:18]  # The rest names files, or says it in pydicom's words.
    if case is None:
        assert refused in page["error"]
        return
    assert "error" not in page
    notes = [note.replace("`fvv predict --series`", "--series") for note in page["notes"]]
    assert (notes, page["warnings"]) == (list(case.notes), list(case.warnings))
    assert page["b_value"] == case.b_value
    np.testing.assert_allclose(page["affine"], case.b1000.affine, atol=1e-9)
    for kind, volume in (("b0", case.b0), ("b1000", case.b1000)):
        values = np.fromfile(read / f"{stem}_{kind}.bin").reshape(page["shape"])
        np.testing.assert_allclose(values, volume.array, rtol=1e-12)


def test_the_cases_hold_answers_and_refusals(folders: tuple[Path, Path]) -> None:
    answers: list[dict[str, Any]] = [json.loads(file.read_text()) for file in folders[1].glob("*.json")]
    assert sum("error" in one for one in answers) >= 15
    assert sum("error" not in one for one in answers) >= 35
