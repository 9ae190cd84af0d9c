from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from builders import save, write_cohort, write_patient
from fvv.config import PrepareConfig, PreprocessConfig
from fvv.errors import InputError, StoreError
from fvv.io.manifest import read_table
from fvv.io.store import CaseStore
from fvv.stages.prepare import prepare
from fvv.stages.verify import verify

CONFIG = PrepareConfig(kfolds=3, workers=1)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean")
    write_cohort(root / "input_data", np.random.default_rng(0), n=4)
    return root / "input_data"


@pytest.fixture
def cohort(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "input_data"))


def content(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.name != ".fvv.lock")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def test_a_cohort_becomes_a_store_and_a_second_run_does_nothing(cohort: Path, tmp_path: Path) -> None:
    first = prepare(cohort, tmp_path / "store", CONFIG)
    assert (first.prepared, first.unchanged, first.failures) == (4, 0, ())
    before = content(tmp_path / "store")
    second = prepare(cohort, tmp_path / "store", CONFIG)
    assert (second.prepared, second.unchanged) == (0, 4)
    assert content(tmp_path / "store") == before
    assert "4 unchanged" in second.summary()


def test_one_and_two_processes_write_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    prepare(cohort, tmp_path / "one", CONFIG)
    prepare(cohort, tmp_path / "two", CONFIG.model_copy(update={"workers": 2}))
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_only_what_changed_is_done_again(cohort: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    prepare(cohort, tmp_path / "store", CONFIG)
    write_patient(cohort / "p2", rng)
    write_patient(cohort / "p9", rng)
    result = prepare(cohort, tmp_path / "store", CONFIG)
    assert (result.prepared, result.unchanged) == (2, 3)
    assert CaseStore.open(tmp_path / "store").participants == ("p0", "p1", "p2", "p3", "p9")


def test_bad_patients_are_recorded_and_the_others_go_on(cohort: Path, tmp_path: Path) -> None:
    (cohort / "p0" / "b0.nii.gz").write_bytes(b"not an image")
    empty = np.zeros((64, 64, 10), dtype=bool)
    write_patient(cohort / "p8", np.random.default_rng(8))
    save(cohort / "p8" / "mask.nii.gz", empty)
    result = prepare(cohort, tmp_path / "store", CONFIG)
    assert result.prepared == 3
    reasons = {row["patient"]: row["reason"] for row in read_table(tmp_path / "store" / "failures.csv")}
    assert set(reasons) == {"p0", "p8"}
    assert "b0.nii.gz" in reasons["p0"]
    assert "brain mask is empty" in reasons["p8"]
    assert {failure.patient for failure in result.failures} == {"p0", "p8"}


def test_an_implausible_brain_is_no_brain(cohort: Path, tmp_path: Path) -> None:
    tiny = np.zeros((64, 64, 10), dtype=bool)
    tiny[30:36, 30:36, 4:6] = True
    write_patient(cohort / "p8", np.random.default_rng(8))
    save(cohort / "p8" / "mask.nii.gz", tiny)
    (failure,) = prepare(cohort, tmp_path / "store", CONFIG).failures
    assert "holds 12 mL, expected 400 to 2500 mL" in failure.reason


def test_one_image_under_two_persons_is_left_out(cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort / "p1", cohort / "p7")
    (failure,) = prepare(cohort, tmp_path / "store", CONFIG).failures
    assert failure.patient == "p7"
    assert "same images as p1" in failure.reason


def test_a_given_split_is_obeyed(cohort: Path, tmp_path: Path) -> None:
    given = tmp_path / "mine.tsv"
    given.write_text(
        "participant_id\tpatient_id\tfold_0\tfold_1\n"
        "p0\tp0\ttrain\ttest\np1\tp1\ttest\ttrain\np2\tp2\tvalid\tvalid\ngone\tgone\ttrain\ttrain\n"
    )
    result = prepare(cohort, tmp_path / "store", CONFIG, folds=given)
    assert [row.participant for row in result.plan.rows] == ["p0", "p1", "p2"]
    given.write_text(given.read_text().replace("p2\tp2", "p2\tother"))
    with pytest.raises(StoreError, match="p2 is other in the given split and p2 in the cohort"):
        prepare(cohort, tmp_path / "store", CONFIG, folds=given)


def test_options_of_the_mask_reach_the_patients(cohort: Path, tmp_path: Path) -> None:
    (cohort / "p0" / "mask.nii.gz").unlink()
    given = CONFIG.model_copy(update={"preprocess": PreprocessConfig(mask_method="given")})
    (failure,) = prepare(cohort, tmp_path / "store", given).failures
    assert failure.patient == "p0"
    assert CaseStore.open(tmp_path / "store").profile.mask_method == "given"


def test_no_data_and_only_bad_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        prepare(tmp_path / "none", tmp_path / "store", CONFIG)
    (tmp_path / "in" / "p").mkdir(parents=True)
    with pytest.raises(StoreError, match="1 persons cannot make 3 folds"):
        prepare(tmp_path / "in", tmp_path / "store", CONFIG)
    for name in ("q", "r"):
        (tmp_path / "in" / name).mkdir()
    with pytest.raises(StoreError, match="none of the 3 patients"):
        prepare(tmp_path / "in", tmp_path / "store", CONFIG)
    with pytest.raises(StoreError, match="no such file"):
        prepare(tmp_path / "in", tmp_path / "store", CONFIG, folds=tmp_path / "none.tsv")


def test_verify_says_what_prepare_would_meet(cohort: Path) -> None:
    (cohort / "p0" / "b1000.nii.gz").unlink()
    shutil.copytree(cohort / "p1", cohort / "p7")
    save(cohort / "p2" / "stroke_roi.nii.gz", np.zeros((64, 64, 10)))
    (cohort / "participants.tsv").write_text("participant_id\nghost\np1\n")
    result = verify(cohort, CONFIG.model_copy(update={"unlisted": "own-person"}))
    gone, missing = result.failures
    assert (gone.patient, missing.patient) == ("ghost", "p0")
    assert "no such folder" in gone.reason
    text = result.summary()
    for words in (
        "6 patients of 6 persons; 4 usable, 2 not",
        "p7: same images as p1, said to be another person",
        "p2: the stroke ROI is empty",
        "FLAIR-visible voxels lie outside the stroke ROI",
    ):
        assert words in text
