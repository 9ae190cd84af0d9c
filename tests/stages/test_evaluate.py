"""Evaluate, end to end on small patients with models of a few nodes."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import write_cohort, write_onnx, write_patient
from bundles import write_bundle
from fvv.config import DecisionConfig, EvaluateConfig, PostprocessConfig, PredictConfig, PrepareConfig
from fvv.data import DecisionState, Role, hashed_ids
from fvv.errors import ModelError, OutputExistsError
from fvv.io.bundle import write_manifest
from fvv.io.store import CaseStore
from fvv.recipes.publish import EvaluateResult
from fvv.recipes.segment import segment_case
from fvv.schemas.bundle import BundleManifest
from fvv.stages.evaluate import evaluate
from fvv.stages.predict import predict
from fvv.stages.prepare import prepare
from fvv.system.fingerprint import file_sha256
from plain_pictures import plain_evaluations

CONFIG = EvaluateConfig(bootstrap_samples=50, compute={"threads": 1, "workers": 1})
QUICK = CONFIG.model_copy(update={"heatmaps": False})
N = 6


@dataclasses.dataclass(frozen=True)
class Cohort:
    """What evaluation needs, and what came out."""

    images: Path
    store: Path
    models: Path
    output: Path
    result: EvaluateResult


def rewrite_models(models: Path, **changes: object) -> None:
    """Change every entry of a bundle."""
    manifest = BundleManifest.model_validate_json((models / "bundle.json").read_text())
    entries = tuple(entry.model_copy(update=changes) for entry in manifest.models)
    write_manifest(models, manifest.model_copy(update={"models": entries}))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(7)
    write_cohort(folder / "input", rng, N - 1)
    write_patient(folder / "input" / "healthy", rng, lesion=False, visible=False)
    prepare(folder / "input", folder / "store", PrepareConfig(kfolds=2, profile="robust-v1", compute={"workers": 1}))
    models = write_bundle(folder / "models", folder / "store")
    result = evaluate(folder / "store", models, folder / "output", CONFIG)
    return Cohort(folder / "input", folder / "store", models, folder / "output", result)


@pytest.fixture
def plain():
    """`cohort` has its plots; nobody looks at those of most other evaluations."""
    with plain_evaluations():
        yield


def test_every_patient_is_tested_once_by_the_model_of_its_test_fold(cohort):
    plan = CaseStore.open(cohort.store).folds
    assert len(cohort.result.patients) == N
    assert not cohort.result.failures
    for patient in cohort.result.patients:
        assert patient.examination_id in plan.participants(patient.fold, Role.TEST)


def test_tables_summary_and_masks_tell_one_story(cohort):
    metrics, patients = rows_of(cohort.output / "metrics.csv"), rows_of(cohort.output / "patients.csv")
    summary = json.loads((cohort.output / "summary.json").read_text())
    assert len(patients) == N
    assert list(metrics[0]) == ["examination_id", "person_id", "fold", "channel", "metric", "value"]
    values = {(row["examination_id"], row["channel"], row["metric"]): row["value"] for row in metrics}
    assert len(values) == len(metrics)
    sums = {part: sum(float(values[row["examination_id"], "stroke", f"{part}_ml"]) for row in patients)
            for part in ("true_positive", "false_positive", "false_negative")}  # fmt: skip
    pooled = 2 * sums["true_positive"] / (2 * sums["true_positive"] + sums["false_positive"] + sums["false_negative"])
    assert summary["stroke"]["dice_pooled"]["value"] == pytest.approx(pooled)
    assert cohort.result.found.stroke.dice_pooled.value == summary["stroke"]["dice_pooled"]["value"]
    for row in patients:
        image = nib.load(cohort.output / "masks" / f"{row['examination_id']}.nii.gz")
        mask = np.asarray(image.dataobj)
        original = nib.load(cohort.images / row["examination_id"] / "b1000.nii.gz")
        assert mask.shape == (*original.shape, 3)
        assert mask.dtype == np.uint8
        assert (image.affine == original.affine).all()
        drawn = np.asarray(nib.load(cohort.images / row["examination_id"] / "stroke_roi.nii.gz").dataobj) > 0
        predicted = mask[..., 1] > 0
        total = drawn.sum() + predicted.sum()
        if total:
            assert float(row["stroke_dice"]) == pytest.approx(2 * (drawn & predicted).sum() / total)
        else:
            assert not row["stroke_dice"]


def test_what_the_toy_model_finds_is_right(cohort):
    """The models threshold a clear lesion: they find it, and FVV tells the visible ones apart."""
    found = cohort.result.found
    assert found.brain.dice_mean.value > 0.9
    assert found.stroke.dice_pooled.value > 0.8
    assert found.marker.auc.value == 1.0
    assert math.isnan(found.marker.auc.low)
    assert "less than 20 %" in found.marker.label
    marker = json.loads((cohort.output / "summary.json").read_text())["marker"]
    assert marker["excluded"]["no lesion in the reference"] == 1
    assert marker["mismatch"] + marker["no_mismatch"] == N - 1


def test_the_healthy_patient_is_counted_and_not_averaged(cohort):
    healthy = next(patient for patient in cohort.result.patients if patient.examination_id == "healthy")
    assert healthy.decision.value in {"no lesion found", "mismatch likely"}
    stroke = json.loads((cohort.output / "summary.json").read_text())["stroke"]
    assert sum(stroke["empty_cases"].values()) == N
    assert stroke["empty_cases"]["both hold voxels"] == N - 1


def test_pictures_and_colour_images_are_there(cohort):
    for patient in cohort.result.patients:
        assert (cohort.output / "heatmaps" / f"{patient.examination_id}.png").read_bytes().startswith(b"\x89PNG")
        colours = nib.load(cohort.output / "heatmaps" / f"{patient.examination_id}.nii.gz")
        assert colours.get_data_dtype().names == ("R", "G", "B")


def test_the_report_names_every_patient_and_asks_nobody_for_anything(cohort):
    page = (cohort.output / "report.html").read_text()
    for patient in cohort.result.patients:
        assert f">{patient.examination_id}<" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "research use only" in page


def test_predicting_with_one_folds_model_gives_the_same_masks_to_the_bit(cohort, tmp_path):
    for patient in cohort.result.patients[:3]:
        manifest = BundleManifest.model_validate_json((cohort.models / "bundle.json").read_text())
        entry = next(model for model in manifest.models if model.fold == patient.fold)
        alone = tmp_path / f"models_{patient.examination_id}"
        alone.mkdir()
        (alone / entry.file).write_bytes((cohort.models / entry.file).read_bytes())
        write_manifest(alone, manifest.model_copy(update={"models": (entry,)}))
        answer = predict(cohort.images / patient.examination_id, alone, tmp_path / "out", PredictConfig(overwrite=True))
        assert not answer.failures
        theirs = nib.load(next((tmp_path / "out").rglob("predictions.nii.gz")))
        ours = nib.load(cohort.output / "masks" / f"{patient.examination_id}.nii.gz")
        assert np.array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
        assert answer.predictions[0].fvv_ml == patient.fvv_ml
        for file in (tmp_path / "out").rglob("predictions.nii.gz"):
            file.unlink()


@pytest.mark.usefixtures("plain")
def test_prediction_and_evaluation_post_process_and_decide_alike_as_the_bundle_says(cohort, tmp_path):
    patient = next(one for one in cohort.result.patients if one.fvv_ml)
    manifest = BundleManifest.model_validate_json((cohort.models / "bundle.json").read_text())
    # Larger than any lesion of these heads: nothing stays.
    gated = manifest.model_copy(update={"postprocess": PostprocessConfig(minimum_lesion_mm3=1e6)})
    models = shutil.copytree(cohort.models, tmp_path / "models")
    write_manifest(models, gated)
    result = evaluate(cohort.store, models, tmp_path / "evaluated", QUICK)
    entry = next(model for model in manifest.models if model.fold == patient.fold)
    write_manifest(models, gated.model_copy(update={"models": (entry,)}))
    answer = predict(cohort.images / patient.examination_id, models, tmp_path / "out", PredictConfig())
    evaluated = next(one for one in result.patients if one.examination_id == patient.examination_id)
    assert answer.predictions[0].fvv_ml == evaluated.fvv_ml == 0
    assert answer.predictions[0].decision.state is evaluated.decision is DecisionState.NO_LESION_FOUND
    assert patient.decision is DecisionState.MISMATCH_UNLIKELY
    theirs = nib.load(next((tmp_path / "out").rglob("predictions.nii.gz")))
    ours = nib.load(tmp_path / "evaluated" / "masks" / f"{patient.examination_id}.nii.gz")
    assert np.array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
    for step, fvv_ml in ((PostprocessConfig(minimum_lesion_mm3=0), patient.fvv_ml), (PostprocessConfig(), 0)):
        asked = PredictConfig(overwrite=True, postprocess=step)  # What is not named stays as the bundle says.
        found = predict(cohort.images / patient.examination_id, models, tmp_path / "out", asked).predictions[0]
        assert found.fvv_ml == fvv_ml
        assert (found.decision.state is DecisionState.MISMATCH_UNLIKELY) == bool(fvv_ml)


def test_another_evaluation_is_refused_and_with_overwrite_gives_the_same_bytes(cohort, tmp_path):
    other = CONFIG.model_copy(update={"visible_fraction_label": 0.5, "decision": DecisionConfig(cutoff_ml=0.8)})
    with pytest.raises(OutputExistsError, match=r"with other settings \(decision, visible_fraction_label\)") as refused:
        evaluate(cohort.store, cohort.models, cohort.output, other)
    assert "goes on: --set decision.cutoff_ml=0.5 --set evaluate.visible_fraction_label=0.2;" in str(refused.value)
    models = write_bundle(tmp_path / "models", cohort.store, biases=(1.5, -3.4, -1.2))
    with pytest.raises(OutputExistsError, match="with other models or images"):
        evaluate(cohort.store, models, cohort.output, CONFIG)
    again = tmp_path / "again"
    shutil.copytree(cohort.output, again)
    (again / "patients" / "gone.json").write_text("{}")
    (again / "masks" / "gone.nii.gz").write_bytes(b"")
    evaluate(cohort.store, cohort.models, again, CONFIG, overwrite=True)
    assert not list(again.rglob("gone*"))
    figures = {path.relative_to(again) for path in (again / "figures").iterdir()}
    assert {path.suffix for path in figures} == {".pdf", ".svg"}
    for name in ("metrics.csv", "patients.csv", "summary.json", "report.html", *sorted(figures)):
        assert (again / name).read_bytes() == (cohort.output / name).read_bytes(), name


def test_the_same_command_again_is_complete_and_does_only_what_is_missing(cohort, tmp_path, monkeypatch):
    again = shutil.copytree(cohort.output, tmp_path / "again")
    measured = []
    original = segment_case

    def count(case, ensemble, postprocess):
        measured.append(case.examination_id)
        return original(case, ensemble, postprocess)

    monkeypatch.setattr("fvv.recipes.examine.segment_case", count)
    result = evaluate(cohort.store, cohort.models, again, CONFIG)
    assert not measured
    assert "already complete" in result.summary()
    (again / "masks" / "p0.nii.gz").unlink()
    whole = (again / "heatmaps" / "p1.png").read_bytes()
    (again / "heatmaps" / "p1.png").write_bytes(whole[: len(whole) // 2])
    (again / "viewer" / "p2_reference.nii.gz").write_bytes(b"")
    record = json.loads((again / "patients" / "p3.json").read_text())
    record["result"]["stroke"]["reference_volume_ml"] = 99.0
    (again / "patients" / "p3.json").write_text(json.dumps(record))
    (again / "patients" / "p4.json").write_text("[")
    for name in ("report.html", "metrics.csv"):
        (again / name).unlink()
    result = evaluate(cohort.store, cohort.models, again, CONFIG)
    assert sorted(measured) == ["p0", "p1", "p2", "p3", "p4"]
    assert "already complete" not in result.summary()
    for path in sorted(path for path in cohort.output.rglob("*") if path.is_file() and path.suffix != ".lock"):
        assert (again / path.relative_to(cohort.output)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize(
    "theirs", ["patients/mine.json", "masks/p0.nii.gz", "methods.md", "tables.tex", "figures/one.pdf", "failures.csv"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_other_people_are_never_touched(cohort, tmp_path, theirs, overwrite):
    file = tmp_path / theirs
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(OutputExistsError, match="not written by fvv"):
        evaluate(cohort.store, cohort.models, tmp_path, QUICK, overwrite=overwrite)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".fvv.lock"] == [file]
    assert file.read_text() == "mine"


@pytest.mark.usefixtures("plain")
def test_files_beside_the_evaluation_stay(cohort, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    evaluate(cohort.store, cohort.models, tmp_path, QUICK, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_answers_and_not_the_volumes_are_the_headline(cohort):
    summary = json.loads((cohort.output / "summary.json").read_text())
    table = summary["answers"]["table"]
    assert sum(sum(row.values()) for row in table.values()) == N
    assert sum(table["no lesion"].values()) == 1
    page, tables = (cohort.output / "report.html").read_text(), (cohort.output / "tables.md").read_text()
    assert page.index("The answers against the reference") < page.index("The FVV alone")
    assert tables.index("Answers against the reference") < tables.index("FVV alone")
    assert "Answers against the reference" in (cohort.output / "tables.tex").read_text()
    assert "stroke-free patients called stroke" in cohort.result.summary()
    assert "stroke_free" not in page


def test_no_mask_of_what_is_flair_visible_leaves_the_stroke(cohort):
    """Votes are interpolated back to the native grid, the stroke is not."""
    for file in (cohort.output / "masks").glob("*.nii.gz"):
        mask = np.asarray(nib.load(file).dataobj)
        assert not (mask[..., 2] & ~(mask[..., 1] > 0)).any()


@pytest.mark.usefixtures("plain")
def test_a_killed_run_resumes(cohort, tmp_path, monkeypatch):
    done = []
    original = segment_case

    def count(case, ensemble, postprocess):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(case.examination_id)
        return original(case, ensemble, postprocess)

    monkeypatch.setattr("fvv.recipes.examine.segment_case", count)
    with pytest.raises(KeyboardInterrupt):
        evaluate(cohort.store, cohort.models, tmp_path, QUICK)
    assert not (tmp_path / "summary.json").exists()
    seen = len(done)
    done.clear()
    evaluate(cohort.store, cohort.models, tmp_path, QUICK)
    assert len(done) == N - seen
    for name in ("metrics.csv", "patients.csv"):
        assert (tmp_path / name).read_bytes() == (cohort.output / name).read_bytes()


@pytest.mark.usefixtures("plain")
def test_results_of_other_models_are_not_gone_on_with(cohort, tmp_path):
    models = shutil.copytree(cohort.models, tmp_path / "models")
    found = []
    for bias in (-2.0, -100.0):  # These predict no stroke.
        other = write_onnx(models / "other.onnx", biases=(1.5, bias, -1.2))
        rewrite_models(models, file=other.name, sha256=file_sha256(other))
        result = evaluate(cohort.store, models, tmp_path / "output", QUICK)
        found.append(sum(patient.stroke.predicted_volume_ml for patient in result.patients))
        (tmp_path / "output" / "summary.json").unlink()  # As a killed run leaves it.
    assert found[0] > found[1] == 0.0


@pytest.mark.parametrize("seen", ["person", "images"])
def test_a_model_that_was_trained_on_the_person_or_the_images_is_refused(cohort, tmp_path, seen):
    store = CaseStore.open(cohort.store)
    record = store.record(store.folds.participants(0, Role.TEST)[0])
    models = write_bundle(tmp_path / "models", cohort.store)
    known = record.participant.person_id if seen == "person" else record.image_sha256
    rewrite_models(models, trained_on=hashed_ids(["someone else", known]))
    with pytest.raises(ModelError, match=r"was trained on th(is person|ese images)") as caught:
        evaluate(cohort.store, models, tmp_path / "output", CONFIG)
    assert caught.value.examination_id == record.participant.examination_id
    assert not (tmp_path / "output" / "summary.json").exists()


def test_models_that_say_nothing_of_their_training_or_lack_a_fold_are_refused(cohort, tmp_path):
    models = write_bundle(tmp_path / "models", cohort.store)
    rewrite_models(models, trained_on=())
    with pytest.raises(ModelError, match="does not say on whom"):
        evaluate(cohort.store, models, tmp_path / "output", CONFIG)
    rewrite_models(models, trained_on=("0" * 16,), fold=0)
    with pytest.raises(ModelError, match="one model per fold"):
        evaluate(cohort.store, models, tmp_path / "output", CONFIG)


def test_models_of_another_preprocessing_are_refused(cohort, tmp_path):
    profile = CaseStore.open(cohort.store).profile.model_copy(update={"clip": 5.0})
    models = write_bundle(tmp_path / "models", cohort.store, profile=profile)
    with pytest.raises(ModelError, match="preprocessing profile"):
        evaluate(cohort.store, models, tmp_path / "output", CONFIG)


@pytest.mark.usefixtures("plain")
def test_a_damaged_patient_is_listed_and_the_others_go_on(cohort, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(cohort.store, store)
    for file in (store / "cases" / "p1.zarr" / "labels").rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.write_bytes(b"damaged")
    result = evaluate(store, cohort.models, tmp_path / "output", QUICK)
    assert [failure.examination_id for failure in result.failures] == ["p1"]
    assert len(result.patients) == N - 1
    assert rows_of(tmp_path / "output" / "failures.csv")[0]["examination_id"] == "p1"
    assert "1 failed" in (tmp_path / "output" / "report.html").read_text()
    assert "1 failed" in result.summary()


@pytest.mark.usefixtures("plain")
def test_what_cannot_be_measured_is_counted_and_never_zero(cohort, tmp_path):
    models = tmp_path / "models"
    write_bundle(models, cohort.store)
    manifest = BundleManifest.model_validate_json((models / "bundle.json").read_text())
    blind = write_onnx(models / "model1.onnx", biases=(-100.0, -100.0, -100.0))
    entries = (manifest.models[0].model_copy(update={"sha256": file_sha256(blind)}), *manifest.models[1:])
    write_manifest(models, manifest.model_copy(update={"models": entries}))
    result = evaluate(cohort.store, models, tmp_path / "output", QUICK)
    unmeasured = [patient for patient in result.patients if patient.fold == 0]
    assert unmeasured
    for patient in unmeasured:
        assert patient.decision.value == "not assessable"
        assert patient.fvv_ml is None
        assert patient.brain.dice_coefficient == 0.0
        assert not (tmp_path / "output" / "masks" / f"{patient.examination_id}.nii.gz").exists()
    rows = {row["examination_id"]: row for row in rows_of(tmp_path / "output" / "patients.csv")}
    assert all(rows[patient.examination_id]["flair_visible_predicted_ml"] == "" for patient in unmeasured)
    marker = json.loads((tmp_path / "output" / "summary.json").read_text())["marker"]
    with_lesion = [patient for patient in unmeasured if patient.examination_id != "healthy"]
    assert marker["excluded"]["could not be measured"] == len(with_lesion)
