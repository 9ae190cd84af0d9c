"""BIDS data sets whose folders and files contradict each other: nobody is passed over, nobody takes another's name."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from builders import SHAPE, save
from fvv.config import PredictConfig
from fvv.errors import InputError
from fvv.io.inputs import find_examinations


def write(folder: Path, stem: str) -> None:
    save(folder / "dwi" / f"{stem}_dwi.nii.gz", np.ones((*SHAPE, 2)))
    (folder / "dwi" / f"{stem}_dwi.bval").write_text("0 1000")


def refusals(root: Path) -> dict[str, str]:
    """What is said of each examination that cannot be read."""
    said = {}
    for one in find_examinations(root):
        try:
            one.read(PredictConfig())
        except InputError as error:
            said[one.name] = error.message
    return said


def test_a_file_of_another_subject_or_session(tmp_path: Path) -> None:
    write(tmp_path / "sub-01", "sub-01_acq-x")
    write(tmp_path / "sub-02", "sub-03")
    write(tmp_path / "sub-04" / "ses-1", "sub-04_ses-2")
    write(tmp_path / "sub-05" / "ses-1", "sub-05")
    said = refusals(tmp_path)
    assert set(said) == {"sub-02", "sub-04_ses-1"}
    assert "sub-03_dwi.nii.gz lies in a folder of sub-02" in said["sub-02"]


def test_subjects_that_would_be_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "sub-01", "sub-01")
    write(tmp_path / "SUB-02", "SUB-02")
    save(tmp_path / "sub-03" / "dwi" / "sub-03_DWI.nii.gz", np.ones(SHAPE))
    save(tmp_path / "sub-04" / "anat" / "sub-04_T1w.nii.gz", np.ones(SHAPE))
    with caplog.at_level(logging.WARNING):
        said = refusals(tmp_path)
    assert set(said) == {"SUB-02", "sub-03"}
    assert "1 subjects have no folder dwi: sub-04" in caplog.text


def test_parts_of_a_complex_image_are_no_examinations(tmp_path: Path) -> None:
    write(tmp_path / "sub-01", "sub-01_part-mag")
    write(tmp_path / "sub-01", "sub-01_part-phase")
    assert [one.name for one in find_examinations(tmp_path)] == ["sub-01"]
