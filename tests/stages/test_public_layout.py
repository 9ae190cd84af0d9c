"""ISLES'22 and ISLES'24 as they are, through every stage: the numbers of the same images in patient folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, head, save
from bundles import write_bundle
from fvv.cohort.examinations import read_cohort
from fvv.config import EvaluateConfig, PredictConfig, PrepareConfig, PreprocessConfig
from fvv.data import Channel, hashed_ids
from fvv.errors import FvvError
from fvv.io.bundle import write_manifest
from fvv.io.store import CaseStore
from fvv.schemas.bundle import BundleManifest
from fvv.stages.evaluate import evaluate, evaluate_external
from fvv.stages.predict import predict
from fvv.stages.prepare import prepare
from fvv.stages.verify import verify

pytestmark = pytest.mark.usefixtures("plain_evaluations")

PARTIAL = PreprocessConfig(partial_labels=True)
CONFIG = PrepareConfig(kfolds=2, preprocess=PARTIAL, compute={"workers": 1})
QUICK = EvaluateConfig(bootstrap_samples=20, heatmaps=False, preprocess=PARTIAL, compute={"threads": 1, "workers": 1})
Images = Mapping[str, np.ndarray]


def adc_of(images: Images) -> np.ndarray:
    """10^-6 mm^2/s, as scanners write it."""
    drop = np.log(np.maximum(images["b0"], 1.0) / np.maximum(images["b1000"], 1.0))
    return np.clip(drop * 1000.0, 0.0, 4000.0)


def write_isles22(root: Path, number: int, images: Images, affine: np.ndarray = AFFINE) -> None:
    name, place = f"sub-strokecase{number:04}_ses-0001", Path(f"sub-strokecase{number:04}") / "ses-0001"
    save(root / place / "dwi" / f"{name}_dwi.nii.gz", images["b1000"], affine)
    save(root / place / "dwi" / f"{name}_adc.nii.gz", adc_of(images), affine)
    save(root / place / "anat" / f"{name}_FLAIR.nii.gz", np.ones((5, 5, 5)))
    save(root / "derivatives" / place / f"{name}_msk.nii.gz", images["stroke_roi"], affine)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.6.0"}))


def write_isles24(root: Path, number: int, images: Images) -> None:
    """The follow-up is diffusion; the first session is CT. Masks in the space of the CT are of other images."""
    subject, session = f"sub-stroke{number:04}", "ses-02"
    name, place = f"{subject}_{session}", Path(subject) / session
    save(root / "rawdata" / subject / "ses-01" / "ct" / f"{subject}_ses-01_ncct.nii.gz", np.ones((5, 5, 5)))
    save(root / "rawdata" / place / "dwi" / f"{name}_dwi.nii.gz", images["b1000"])
    save(root / "rawdata" / place / "dwi" / f"{name}_adc.nii.gz", adc_of(images))
    save(root / "derivatives" / place / f"{name}_lesion-msk.nii.gz", images["stroke_roi"])
    save(root / "derivatives" / place / f"{name}_space-ncct_lesion-msk.nii.gz", np.ones((5, 5, 5)))


def write_plain(folder: Path, images: Images, affine: np.ndarray = AFFINE) -> None:
    """The same in a patient's folder."""
    save(folder / "b1000.nii.gz", images["b1000"], affine)
    save(folder / "adc.nii.gz", adc_of(images), affine)
    save(folder / "stroke_roi.nii.gz", images["stroke_roi"], affine)


def everything(cohort: Path, out: Path, config: PrepareConfig) -> dict[str, object]:
    """The cohort through all stages, as numbers that do not depend on where it lies."""
    checked = verify(cohort, config)
    stored = prepare(cohort, out / "store", config)
    models = write_bundle(out / "models", out / "store")
    others = write_bundle(out / "others", out / "store")
    manifest = BundleManifest.model_validate_json((others / "bundle.json").read_text())
    entries = [entry.model_copy(update={"trained_on": hashed_ids(["somebody"])}) for entry in manifest.models]
    write_manifest(others, manifest.model_copy(update={"models": tuple(entries)}))
    results = {
        "out of fold": evaluate(out / "store", models, out / "tested", QUICK),
        "external": evaluate_external(cohort, others, out / "external", QUICK),
    }
    answers = predict(cohort, others, out / "predicted", PredictConfig(compute={"threads": 1}))
    assert not answers.failures
    return {
        "verified": (checked.patients, checked.persons, checked.failures),
        "split": stored.plan,
        **{kind: [patient.model_dump(mode="json") for patient in result.patients] for kind, result in results.items()},
        "predicted": [(one.examination_id, one.fvv_ml, one.stroke_voxels) for one in answers.predictions],
    }


def assert_all_equal(public: Path, plain: Path, out: Path, config: PrepareConfig = CONFIG) -> None:
    assert everything(public, out / "public", config) == everything(plain, out / "plain", config)
    stores = [CaseStore.open(out / name / "store") for name in ("public", "plain")]
    for name in stores[0].participants:
        case, same = (store.read(name) for store in stores)
        for array in ("b0", "b1000", "brain", "stroke"):
            np.testing.assert_array_equal(getattr(case, array), getattr(same, array))


def test_both_releases_give_the_numbers_of_patient_folders(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = ["participant_id\tpatient_id\tsex"]
    for number in range(1, 5):
        images = head(rng, lesion=number != 2)
        write_isles22(tmp_path / "22", number, images)
        write_plain(tmp_path / "plain" / f"sub-strokecase{number:04}_ses-0001", images)
        rows.append(f"sub-strokecase{number:04}_ses-0001\tsub-strokecase{number:04}\tf")
        if number < 3:
            write_isles24(tmp_path / "24", number, images)
    (tmp_path / "plain" / "participants.tsv").write_text("\n".join(rows) + "\n")
    assert_all_equal(tmp_path / "22", tmp_path / "plain", tmp_path / "out")
    store = CaseStore.open(tmp_path / "out" / "public" / "store")
    assert store.record("sub-strokecase0001_ses-0001").known == {Channel.BRAIN, Channel.STROKE}
    assert store.read("sub-strokecase0001_ses-0001").flair_visible is None
    # Where there is no stroke, nothing of it is visible.
    assert store.record("sub-strokecase0002_ses-0001").known == frozenset(Channel)
    checked = verify(tmp_path / "24", CONFIG)
    assert (checked.patients, checked.persons, checked.failures) == (2, 2, ())
    assert "1 with a lesion, 1 without" in checked.notes


def test_a_table_of_subjects_holds_for_their_sessions(tmp_path: Path, rng: np.random.Generator) -> None:
    for number in (1, 2):
        write_isles22(tmp_path, number, head(rng))
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tsite\nsub-strokecase0001\tA\nsub-strokecase0002\tB\nsub-strokecase0003\tB\n")
    checked = verify(tmp_path, CONFIG)
    assert (checked.patients, checked.persons) == (3, 3)
    assert [failure.examination_id for failure in checked.failures] == ["sub-strokecase0003"]
    assert "the data set has no diffusion image of it" in checked.failures[0].reason
    table.write_text("participant_id\tsite\nsub-strokecase0001\tA\n")
    with pytest.raises(FvvError, match="have no row"):
        verify(tmp_path, CONFIG)


def test_a_subject_is_one_person_in_all_its_sessions(tmp_path: Path) -> None:
    for session in (1, 2):
        name = f"sub-01_ses-{session}"
        save(tmp_path / "rawdata" / "sub-01" / f"ses-{session}" / "dwi" / f"{name}_dwi.nii.gz", np.ones((4, 4, 4)))

    def persons(*rows: str) -> set[str]:
        table = tmp_path / "rawdata" / "participants.tsv"
        table.write_text("\n".join(["participant_id\tpatient_id", *rows]) + "\n")
        return {one.person_id for one in read_cohort(tmp_path).people.values()}

    assert {one.person_id for one in read_cohort(tmp_path).people.values()} == {"sub-01"}
    assert persons("sub-01\tn/a") == {"sub-01"}
    # The table lies beside the subjects; one patient_id holds for every session.
    assert persons("sub-01\tP7", "sub-01_ses-1\tn/a") == {"P7"}
    assert persons("sub-01_ses-1\tP7", "sub-01_ses-2\tn/a") == {"P7"}
    with pytest.raises(FvvError, match="sub-01 has two patient_ids: 'P7' and 'P8'"):
        persons("sub-01_ses-1\tP7", "sub-01_ses-2\tP8")


def test_stroke_masks_alone_are_refused_unless_that_is_asked_for(tmp_path: Path, rng: np.random.Generator) -> None:
    write_isles22(tmp_path, 1, head(rng))
    (failure,) = verify(tmp_path, PrepareConfig(compute={"workers": 1})).failures
    assert "flairviz_roi" in failure.reason
    assert "--partial-labels" in failure.reason


def test_two_masks_of_one_examination_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    images = head(rng)
    write_isles22(tmp_path, 1, images)
    save(tmp_path / "derivatives" / "other" / "sub-strokecase0001_ses-0001_msk.nii.gz", images["stroke_roi"])
    (failure,) = verify(tmp_path, CONFIG).failures
    assert "two stroke masks" in failure.reason


def test_real_strokes_in_both_layouts(tmp_path: Path, golden: Path) -> None:
    """The real strokes, one of them of ISLES'22; of all the 8 slices with the most lesion, to be quick."""
    isles = golden.parent / "real" / "stroke" / "isles_0009"
    if not isles.is_dir():
        pytest.skip("the real stroke is not here")
    places = {9: (isles, "lesion"), 101: (golden / "cases" / "S01_128x160x8", "stroke_roi")}
    places |= {102: (golden / "cases" / "S01_192x192x8", "stroke_roi")}
    rows = ["participant_id\tpatient_id"]
    for number, (folder, mask) in places.items():
        read = {name: nib.load(folder / f"{name}.nii.gz") for name in ("b0", "b1000", mask)}
        images = {name: np.asarray(image.dataobj, dtype=float) for name, image in read.items()}
        first = int(np.argmax(np.convolve((images[mask] > 0).sum(axis=(0, 1)), np.ones(8), "valid")))
        images = {name: image[..., first : first + 8] for name, image in images.items()}
        images["stroke_roi"] = images[mask] > 0
        write_isles22(tmp_path / "isles", number, images, read["b1000"].affine)
        name = f"sub-strokecase{number:04}"
        write_plain(tmp_path / "plain" / f"{name}_ses-0001", images, read["b1000"].affine)
        rows.append(f"{name}_ses-0001\t{name}")
    (tmp_path / "plain" / "participants.tsv").write_text("\n".join(rows) + "\n")
    config = CONFIG.model_copy(update={"kfolds": 3})
    assert_all_equal(tmp_path / "isles", tmp_path / "plain", tmp_path / "out", config)
