"""Drafts for readers: resumed, refused by `prepare` until accepted, never replaced once a reader has worked on them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("SimpleITK")

from builders import AFFINE, head, save, write_onnx, write_patient
from fvv.cli import main
from fvv.cohort.participants import read_participants
from fvv.config import LabelConfig, PreprocessConfig
from fvv.errors import ConfigError, InputError, OutputExistsError
from fvv.io.case import read_case
from fvv.io.drafts import LABELS, RECORD
from fvv.io.nifti import read_volume
from fvv.stages.label import accept, label

CONFIG = LabelConfig(compute={"device": "cpu"})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that predicts what is bright."""
    return write_onnx(
        tmp_path_factory.mktemp("models") / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.2)
    ).parent


@pytest.fixture
def cohort(tmp_path: Path, rng: np.random.Generator) -> Path:
    """anna has a FLAIR that shows half of her stroke, berta has none."""
    images = write_patient(tmp_path / "in" / "anna", rng)
    write_patient(tmp_path / "in" / "berta", rng)
    flair = np.where(images["brain"], 300.0, 5.0) * (1 + 0.5 * images["flairviz_roi"])
    flair[images["b0"] > 1200] = 40.0
    save(tmp_path / "in" / "anna" / "flair.nii.gz", flair)
    (tmp_path / "in" / "participants.tsv").write_text("participant_id\tpatient_id\nanna\tA\nberta\tB\n")
    return tmp_path / "in"


def edit(folder: Path, value: int) -> np.ndarray:
    """Set two slices of the label map, as a reader does."""
    image = nib.load(folder / LABELS)
    array = np.asarray(image.dataobj).copy()
    array[20:24, 30:34, 4:6] = value
    nib.save(nib.Nifti1Image(array, image.affine), folder / LABELS)
    return array


def test_from_draft_to_masks(tmp_path: Path, cohort: Path, models: Path) -> None:
    drafts = tmp_path / "drafts"
    result = label(cohort, models, drafts, CONFIG)
    assert result.failures == ()
    written = {path.name for path in (drafts / "anna").iterdir() if path.name[0] != "."}
    assert written == {
        "b0.nii.gz", "b1000.nii.gz", "mask.nii.gz", "flair.nii.gz", "fvv_adc.nii.gz",
        "labels.nii.gz", "draft.nii.gz", "labels.txt", "draft.png", "draft.json",
    }  # fmt: skip
    assert (drafts / "participants.tsv").read_bytes() == (cohort / "participants.tsv").read_bytes()
    images = head(np.random.default_rng(0))
    proposed = read_volume(drafts / "anna" / LABELS).array
    for value, name in ((1, "stroke_roi"), (2, "flairviz_roi")):
        mask = proposed >= value
        assert 2 * (mask & images[name]).sum() / (mask.sum() + images[name].sum()) > 0.8
    assert read_volume(drafts / "berta" / LABELS).array.max() == 1

    with pytest.raises(InputError, match=r"patient anna.*a draft: no reader has accepted"):
        read_case(drafts / "anna", PreprocessConfig(), labelled=True)
    edited = edit(drafts / "anna", 0)
    done = accept(drafts, [], "A. Reader")
    assert done.failures == ()
    case = read_case(drafts / "anna", PreprocessConfig(), labelled=True)
    assert case.stroke_roi is not None
    assert case.flair_visible_roi is not None
    np.testing.assert_array_equal(case.stroke_roi.array, edited >= 1)
    np.testing.assert_array_equal(case.flair_visible_roi.array, edited == 2)
    # What FLAIR shows is not known of berta: no mask says that it shows nothing.
    assert not (drafts / "berta" / "flairviz_roi.nii.gz").exists()
    (acceptance,) = json.loads((drafts / "berta" / RECORD).read_text())["acceptances"]
    assert acceptance["flair_visible"] is None
    assert "FLAIR-visible part unknown" in done.lines[1]
    (acceptance,) = json.loads((drafts / "anna" / RECORD).read_text())["acceptances"]
    assert acceptance["reader"] == "A. Reader"
    assert acceptance["stroke"]["accepted_ml"] == pytest.approx((edited >= 1).sum() * 0.16)
    assert 0.5 < acceptance["stroke"]["dice_coefficient"] < 1


def test_the_images_of_a_draft_are_those_of_the_examination(tmp_path: Path, cohort: Path, models: Path) -> None:
    label(cohort, models, tmp_path / "drafts", CONFIG)
    for name in ("b0", "b1000", "mask"):
        before, after = (read_volume(place / "anna" / f"{name}.nii.gz") for place in (cohort, tmp_path / "drafts"))
        np.testing.assert_array_equal(before.array, after.array)
        np.testing.assert_array_equal(before.affine, after.affine)


def test_what_a_reader_touched_is_kept(tmp_path: Path, cohort: Path, models: Path) -> None:
    drafts = tmp_path / "drafts"
    label(cohort, models, drafts, CONFIG)
    accept(drafts, ["berta"], "A. Reader")
    edited = edit(drafts / "anna", 1)
    other = CONFIG.model_copy(update={"visible_ratio": 1.3})
    again = label(cohort, models, drafts, other, overwrite=True)
    assert again.kept == 2
    np.testing.assert_array_equal(read_volume(drafts / "anna" / LABELS).array, edited)
    # Accepted, then edited: refused until it is accepted again.
    accept(drafts, ["anna"], "A. Reader")
    edit(drafts / "anna", 2)
    with pytest.raises(InputError, match=r"labels.nii.gz was edited after A. Reader accepted it"):
        read_case(drafts / "anna", PreprocessConfig(), labelled=True)
    accept(drafts, [], "B. Reader")
    record = json.loads((drafts / "anna" / RECORD).read_text())
    assert [one["reader"] for one in record["acceptances"]] == ["A. Reader", "B. Reader"]


def test_sessions_of_a_bids_subject_stay_one_person(
    tmp_path: Path, cohort: Path, models: Path, rng: np.random.Generator
) -> None:
    for session in ("1", "2"):
        folder, name = tmp_path / "bids" / "sub-01" / f"ses-{session}" / "dwi", f"sub-01_ses-{session}"
        images = head(rng)
        save(folder / f"{name}_dwi.nii.gz", np.stack([images["b0"], images["b1000"]], axis=-1))
        (folder / f"{name}_dwi.bval").write_text("0 1000\n")
    (tmp_path / "bids" / "participants.tsv").write_text("participant_id\tsite\tdwi_flair_mismatch\nsub-01\tA\t1\n")
    label(tmp_path / "bids", models, tmp_path / "drafts", CONFIG)
    people = read_participants(tmp_path / "drafts")
    assert {name: one.person_id for name, one in people.items()} == dict.fromkeys(
        ("sub-01_ses-1", "sub-01_ses-2"), "sub-01"
    )
    assert [(one.site, one.dwi_flair_mismatch, one.stroke_free) for one in people.values()] == [("A", True, False)] * 2


def test_labels_that_a_reader_wrote_into_the_table_are_kept(tmp_path: Path, cohort: Path, models: Path) -> None:
    drafts = tmp_path / "drafts"
    label(cohort, models, drafts, CONFIG)
    labelled = "participant_id\tpatient_id\tdwi_flair_mismatch\nanna\tA\t1\nberta\tB\t0\n"
    (drafts / "participants.tsv").write_text(labelled)
    label(cohort, models, drafts, CONFIG)
    assert (drafts / "participants.tsv").read_text() == labelled


def test_a_second_run_keeps_drafts_and_other_settings_are_refused(tmp_path: Path, cohort: Path, models: Path) -> None:
    drafts = tmp_path / "drafts"
    label(cohort, models, drafts, CONFIG)
    before = (drafts / "anna" / RECORD).read_bytes()
    assert label(cohort, models, drafts, CONFIG).kept == 2
    assert (drafts / "anna" / RECORD).read_bytes() == before
    other = CONFIG.model_copy(update={"visible_ratio": 1.3})
    refused = label(cohort, models, drafts, other)
    assert "a draft of other settings is there" in refused.failures[0].reason
    assert label(cohort, models, drafts, other, overwrite=True).failures == ()
    (drafts / "anna" / "note.txt").write_text("mine")
    kept = label(cohort, models, drafts, CONFIG, overwrite=True)
    assert "note.txt, which fvv did not write" in kept.failures[0].reason


def test_what_cannot_be_accepted(tmp_path: Path, cohort: Path, models: Path) -> None:
    drafts = tmp_path / "drafts"
    label(cohort, models, drafts, CONFIG)
    edit(drafts / "anna", 3)
    save(drafts / "berta" / LABELS, np.zeros((4, 4, 4), dtype=bool), AFFINE)
    failures = accept(drafts, ["anna", "berta", "clara"], "A. Reader").failures
    assert "expected the labels 0, 1 and 2, found 0, 1, 2, 3" in failures[0].reason
    assert "not on the grid of draft.nii.gz" in failures[1].reason
    assert "no draft" in failures[2].reason
    with pytest.raises(ConfigError, match="no reader is named"):
        accept(drafts, [], " ")


def test_other_peoples_files_are_in_the_way(tmp_path: Path, cohort: Path, models: Path) -> None:
    with pytest.raises(OutputExistsError):
        label(cohort, models, cohort.parent, CONFIG)
    with pytest.raises(ConfigError, match="among the images"):
        label(cohort, models, cohort, CONFIG)


def test_the_command_line(tmp_path: Path, cohort: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drafts = str(tmp_path / "drafts")
    assert main(["label", str(cohort), "-m", str(models), "-o", drafts, "--device", "cpu"]) == 0
    assert "2 drafts, 0 kept" in capsys.readouterr().out
    assert main(["label", "--accept", drafts, "anna", "--reader", "A. Reader"]) == 0
    assert "Dice 1.00" in capsys.readouterr().out
    assert main(["label", drafts]) == 1
    assert "expected one folder of examinations" in capsys.readouterr().err


@pytest.mark.parametrize("born", [("19500101", "19500101"), ("19500101", "19600101")])
def test_studies_of_a_dicom_folder_keep_their_person_and_never_share_a_flair(
    tmp_path: Path, rng: np.random.Generator, models: Path, born: tuple[str, str]
) -> None:
    pytest.importorskip("pydicom")
    from dicom_builders import say, write_series  # noqa: PLC0415  (needs pydicom)

    same = born[0] == born[1]
    for number, date in enumerate(born):
        change = say(PatientID=f"id {date}", PatientBirthDate=date, StudyDate=f"2024010{number + 1}")
        images = head(rng)
        for b_value, name in ((0, "b0"), (1000, "b1000")):
            place = tmp_path / "in" / "anna" / f"{number}_{name}"
            write_series(
                place, images[name], b_value=b_value, vendor="siemens", number=1, study=f"1.2.{number}", change=change
            )
    result = label(tmp_path / "in", models, tmp_path / "drafts", CONFIG)
    assert result.failures == ()
    names = sorted(path.name for path in (tmp_path / "drafts").iterdir() if path.is_dir() and path.name[0] != ".")
    assert len(names) == 2
    people = read_participants(tmp_path / "drafts")
    assert len({people[name].person_id if name in people else name for name in names}) == (1 if same else 2)
    save(tmp_path / "in" / "anna" / "flair.nii.gz", images["b0"])
    refused = label(tmp_path / "in", models, tmp_path / "other", CONFIG)
    assert len(refused.failures) == 2
    assert all("one FLAIR for 2 examinations" in one.reason for one in refused.failures)
