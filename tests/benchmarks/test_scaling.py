"""Time and memory of cohorts of several sizes: the copies are examinations that both stages accept."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from builders import write_patient
from fvv.config import PreprocessConfig
from fvv.io.case import image_sha256
from fvv.io.store import CaseStore
from fvv.recipes.labelled import read_place

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "scaling.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_copies_of_a_head_are_prepared_and_evaluated(
    script: dict[str, Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    write_patient(tmp_path / "head", rng)
    script["write_cohort"](tmp_path / "in", tmp_path / "head", 4)
    seconds, memory = script["used"](script["prepared"], tmp_path / "in", tmp_path / "out")
    assert seconds > 0
    assert memory > 1
    assert len(CaseStore.open(tmp_path / "out" / "store").participants) == 4
    hashes = {image_sha256(read_place(tmp_path / "in" / f"p{n:04}", PreprocessConfig(), finite=True)) for n in range(4)}
    assert len(hashes) == 4
    script["used"](script["evaluated"], tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "evaluated" / "summary.json").exists()


def test_points_on_a_line_are_said_to_be_on_it(script: dict[str, Any]) -> None:
    said = " ".join(script["line"]([4, 8, 16], [5.0, 9.0, 17.0]).split())
    assert said == "1.0 s + 1.00 s an examination, 0.0 s off the line"
