"""Real heads laid out for evaluation: who is stated to have no stroke, and who is one person."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from builders import save
from fvv.cohort.participants import read_participants

ONES = np.ones((4, 4, 4))


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    for name in ("healthy/a_one", "healthy/a_two", "stroke/b"):
        for image in ("b0", "b1000"):
            save(tmp_path / "real" / name / f"{image}.nii.gz", ONES)
    save(tmp_path / "real" / "stroke" / "b" / "lesion.nii.gz", ONES)
    save(tmp_path / "brain.nii.gz", ONES)
    return tmp_path / "real"


def test_the_layout_is_read_by_the_evaluation(
    experiment: Callable[[str], ModuleType], heads: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    experiment("real_cohort").gather([heads], out, persons=["a_"], brains={"b": tmp_path / "brain.nii.gz"})
    people = read_participants(out)
    assert {name: (one.person_id, one.stroke_free) for name, one in people.items()} == {
        "a_one": ("a_", True),
        "a_two": ("a_", True),
        "b": ("b", False),
    }
    assert sorted(file.name for file in (out / "b").iterdir()) == [
        "b0.nii.gz", "b1000.nii.gz", "mask.nii.gz", "stroke_roi.nii.gz"
    ]  # fmt: skip
    assert nib.load(out / "b" / "mask.nii.gz").shape == ONES.shape


def test_a_head_of_which_nothing_is_stated_is_refused(
    experiment: Callable[[str], ModuleType], heads: Path, tmp_path: Path
) -> None:
    (heads / "stroke" / "b" / "lesion.nii.gz").unlink()
    with pytest.raises(SystemExit, match="neither healthy nor with lesion"):
        experiment("real_cohort").gather([heads], tmp_path / "out")
