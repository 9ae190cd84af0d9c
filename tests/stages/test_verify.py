"""`verify`: what `prepare` would meet, and nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import save, write_cohort
from fvv.config import PrepareConfig
from fvv.stages.verify import verify
from fvv.system.shard import Shard

CONFIG = PrepareConfig(kfolds=2, compute={"workers": 1})


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean")
    write_cohort(root / "input_data", np.random.default_rng(0), n=4)
    return root / "input_data"


@pytest.fixture
def cohort(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "input_data"))


def test_verify_says_what_prepare_would_meet(cohort: Path) -> None:
    (cohort / "p0" / "b1000.nii.gz").unlink()
    shutil.copytree(cohort / "p1", cohort / "p7")
    save(cohort / "p2" / "stroke_roi.nii.gz", np.zeros((64, 64, 10)))
    (cohort / "participants.tsv").write_text("participant_id\nghost\np1\n")
    result = verify(cohort, PrepareConfig(**{**dict(CONFIG), "preprocess": {"unlisted": "own-person"}}))
    gone, missing, twice = result.failures
    assert (gone.examination_id, missing.examination_id, twice.examination_id) == ("ghost", "p0", "p7")
    assert "no such folder" in gone.reason
    assert "same images as p1, listed as another person" in twice.reason
    text = result.summary()
    for words in (
        "6 patients of 6 persons; 3 usable, 3 not",
        "p2: note: the stroke ROI is empty",
        "voxels of the FLAIR-visible ROI lay outside the stroke ROI",
    ):
        assert words in text


def test_a_finding_that_does_not_refuse_is_listed(cohort: Path) -> None:
    image = nib.load(cohort / "p0" / "b1000.nii.gz")
    array = np.asarray(image.dataobj)
    array[20:40, 20:40, 4] = 4 * array.max()
    save(cohort / "p0" / "b1000.nii.gz", array, image.affine)
    result = verify(cohort, CONFIG)
    assert any(note.startswith("p0: warning: ") for note in result.notes) or result.failures


def test_verify_looks_at_its_part(cohort: Path) -> None:
    assert verify(cohort, CONFIG, shard=Shard(1, 2)).patients == 2
