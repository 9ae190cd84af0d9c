"""Reports from files alone, calibration into the bundle, and the ensemble on patients it never saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from builders import write_cohort
from bundles import write_bundle
from fvv.cli import main
from fvv.config import CardConfig, DecisionConfig, EvaluateConfig, PostprocessConfig, PredictConfig, PrepareConfig
from fvv.errors import ConfigError, FvvError, InputError, ModelError, OutputExistsError
from fvv.io.bundle import ModelBundle
from fvv.io.sealed import read_sealed, write_sealed
from fvv.recipes.publish import EvaluateResult
from fvv.stages.card import card
from fvv.stages.evaluate import evaluate, evaluate_external
from fvv.stages.predict import predict
from fvv.stages.prepare import prepare
from fvv.stages.report import report

pytestmark = pytest.mark.usefixtures("plain_evaluations")

CONFIG = EvaluateConfig(bootstrap_samples=30, compute={"threads": 1, "workers": 1})
QUICK = CONFIG.model_copy(update={"heatmaps": False})
WRITTEN = ("metrics.csv", "patients.csv", "failures.csv", "tables.md", "tables.tex", "methods.md", "figures/roc.svg")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients, their store, a bundle of two models and the evaluation; three patients nobody ever saw."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(11)
    write_cohort(folder / "input", rng, 6)
    write_cohort(folder / "others", rng, 3)
    for name in ("p0", "p1", "p2"):
        (folder / "others" / name).rename(folder / "others" / f"new_{name}")
    prepare(folder / "input", folder / "store", PrepareConfig(kfolds=2, profile="robust-v1", compute={"workers": 1}))
    write_bundle(folder / "models", folder / "store")
    evaluate(folder / "store", folder / "models", folder / "output", CONFIG)
    return folder


@pytest.fixture
def output(cohort: Path, tmp_path: Path) -> Path:
    """A copy of the evaluation."""
    shutil.copytree(cohort / "output", tmp_path / "output")
    return tmp_path / "output"


@pytest.fixture(scope="module")
def external(cohort: Path) -> EvaluateResult:
    return evaluate_external(cohort / "others", cohort / "models", cohort / "external", CONFIG)


def test_the_report_is_rebuilt_from_the_files_to_the_byte(output, cohort):
    for name in (*WRITTEN, "report.html", "summary.json"):
        assert (output / name).exists(), name
    for name in ("report.html", *WRITTEN):
        (output / name).write_text("spoilt")
    report(output)
    for name in (*WRITTEN, "report.html", "summary.json"):
        assert (output / name).read_bytes() == (cohort / "output" / name).read_bytes(), name


def test_another_cutoff_needs_no_inference_and_agrees_with_evaluating_under_it(output, cohort, tmp_path, monkeypatch):
    rows = (cohort / "output" / "patients.csv").read_text().splitlines()
    column = rows[0].split(",").index("flair_visible_predicted_ml")
    volumes = sorted(float(row.split(",")[column]) for row in rows[1:])
    cutoff_ml = (volumes[2] + volumes[3]) / 2
    changed = CONFIG.model_copy(update={"decision": CONFIG.decision.model_copy(update={"cutoff_ml": cutoff_ml})})
    evaluate(cohort / "store", cohort / "models", tmp_path / "again", changed)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("no inference")

    monkeypatch.setattr("fvv.inference.ensemble.OnnxEnsemble.__init__", refuse)
    result = report(output, EvaluateConfig(decision=DecisionConfig(cutoff_ml=cutoff_ml)))
    assert sum(patient.decision.value == "mismatch likely" for patient in result.patients) == 3
    for name in (*WRITTEN, "report.html", "summary.json"):
        assert (output / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    # The change is remembered: the next report keeps it.
    report(output)
    assert json.loads((output / "summary.json").read_text())["marker"]["cutoff_ml"] == cutoff_ml


def test_a_report_changes_what_was_set_and_never_how_it_was_measured(output, tmp_path, capsys):
    file = output / "summary.json"
    summary = read_sealed(file)
    done = {"own_masks": True, "postprocess": PostprocessConfig(minimum_lesion_mm3=2.0).model_dump(mode="json")}
    summary["settings"] |= {**done, "decision": {"cutoff_ml": 0.8, "minimum_lesion_ml": 0.1}}
    write_sealed(file, summary)
    settings = tmp_path / "mine.yaml"
    settings.write_text("evaluate: {bootstrap_samples: 20}\ndecision: {minimum_lesion_ml: 0.2}")
    words = ["report", "-i", str(output), "-c", str(settings), "--set", "evaluate.own_masks=false"]
    assert main(words) == 0
    expected = summary["settings"] | {
        "bootstrap_samples": 20,
        "decision": {"cutoff_ml": 0.8, "minimum_lesion_ml": 0.2, "prevalence": None},
    }
    assert json.loads(file.read_text())["settings"] == expected
    assert "that a report cannot change keep their values: own_masks\n" in capsys.readouterr().err


def test_masks_of_our_own_are_refused_out_of_fold(cohort, tmp_path):
    with pytest.raises(ConfigError, match="own_masks is for external"):
        evaluate(cohort / "store", cohort / "models", tmp_path, QUICK.model_copy(update={"own_masks": True}))


def test_what_is_no_finished_evaluation_is_said(output, tmp_path):
    with pytest.raises(InputError, match="no finished evaluation"):
        report(tmp_path / "nothing")
    write_sealed(
        output / "summary.json",
        {**read_sealed(output / "summary.json"), "schema_version": 0},
    )
    with pytest.raises(InputError, match="version 0 cannot be read"):
        report(output)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "summary.json").write_text("{}"),
        lambda folder: (folder / "summary.json").write_text("[1]"),
        lambda folder: (folder / "summary.json").write_bytes(b"\xff"),
        lambda folder: (folder / "summary.json").write_text('{"schema_version": 1}'),
        lambda folder: edit(folder / "summary.json", lambda content: content.pop("settings")),
        lambda folder: edit(folder / "summary.json", lambda content: content["settings"].pop("decision")),
        lambda folder: edit(folder / "summary.json", lambda content: content.update(counts=None)),
        lambda folder: (folder / "patients" / "p1.json").write_text("{}"),
        lambda folder: (folder / "patients" / "p1.json").unlink(),
        lambda folder: edit(folder / "patients" / "p1.json", lambda content: content["result"].pop("stroke")),
        lambda folder: edit(folder / "patients" / "p1.json", lambda content: content["result"].update(stroke=3)),
        lambda folder: edit(folder / "patients" / "p1.json", lambda content: content.update(source_sha256="0")),
    ],
)
def test_damage_is_one_clear_line_in_a_report_and_fixed_by_evaluate(output, cohort, damage, capsys):
    damage(output)
    assert main(["report", "-i", str(output)]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "evaluate" in told[0]
    assert "summary.json" in told[0] or "p1.json" in told[0]


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_result_of_another_form_is_one_line_too(output, capsys):
    """Sealed, so written by this program, and still not what it reads."""
    record = read_sealed(output / "patients" / "p1.json")
    del record["result"]["stroke"]["reference_volume_ml"]
    write_sealed(output / "patients" / "p1.json", record)
    assert main(["report", "-i", str(output)]) == 1
    assert "damaged: result.stroke.reference_volume_ml: Field required" in capsys.readouterr().err


def test_a_picture_that_is_gone_or_damaged_is_left_out_and_said(output, capsys):
    (output / "heatmaps" / "p1.png").unlink()
    (output / "viewer" / "p2_b1000.nii.gz").write_bytes(b"x")
    assert main(["report", "-i", str(output)]) == 0
    told = capsys.readouterr().err
    assert "p1.png: missing or damaged, left out" in told
    assert "p2_b1000.nii.gz: missing or damaged" in told


def test_files_of_other_people_are_in_no_reports_way(output, tmp_path):
    with pytest.raises(InputError, match="no finished evaluation"):
        report(tmp_path / "empty")
    (output / "notes.md").write_text("mine")
    (output / ".fvv.json").unlink()  # As in a folder that was put together manually.
    with pytest.raises(OutputExistsError, match="not written by fvv"):
        report(output)
    assert (output / "notes.md").read_text() == "mine"


def test_two_models_are_compared_on_the_same_patients(output, cohort, tmp_path):
    write_bundle(tmp_path / "worse", cohort / "store", biases=(1.5, -3.4, -1.2))
    evaluate(cohort / "store", tmp_path / "worse", tmp_path / "other", QUICK)
    result = report(output, compare=tmp_path / "other")
    comparison = json.loads((output / "summary.json").read_text())["comparison"]
    assert comparison["patients"] == 6
    assert comparison["dice_difference"]["stroke"]["value"] != 0
    assert "This evaluation against another" in (output / "report.html").read_text()
    assert "against the other evaluation" in result.summary()


def test_a_calibration_is_written_only_when_asked_for_and_predict_finds_it(cohort, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(cohort / "models", models)
    assert ModelBundle.open(models).manifest.calibration is None
    asked = QUICK.model_copy(update={"calibrate": True})
    result = evaluate(cohort / "store", models, tmp_path / "output", asked)
    curve = ModelBundle.open(models).manifest.calibration
    assert curve == result.calibration
    assert curve.slope < 0
    assert "calibration of P(mismatch) written" in result.summary()
    assert (curve.fitted_on, curve.patients) == ("people", 6)
    assert curve.prevalence == pytest.approx(sum(one.visible_fraction < 0.2 for one in result.patients) / 6)
    answer = predict(cohort / "others" / "new_p0", models, tmp_path / "answer", PredictConfig(compute={"threads": 1}))
    assert not answer.failures


def test_a_bundle_calibrated_and_tested_gets_its_card(cohort, tmp_path):
    """What `make model` does after conversion."""
    rules = PostprocessConfig(minimum_lesion_mm3=1.0, minimum_visible_share=0.15, visible_logit=-0.5)
    models = write_bundle(tmp_path / "models", cohort / "store", postprocess=rules)
    calibrating = QUICK.model_copy(update={"calibrate": True})
    evaluate(cohort / "store", models, tmp_path / "out_of_fold", calibrating)
    unmasked = QUICK.model_copy(update={"own_masks": True})
    evaluate_external(cohort / "others", models, tmp_path / "external", unmasked)
    card(models, CardConfig(), out_of_fold=tmp_path / "out_of_fold", external=tmp_path / "external")
    said = (models / "MODEL_CARD.md").read_text()
    assert "fitted on the patients of: out of fold" in said
    assert "Smallest lesion: 1 mm³" in said
    assert "Smallest FLAIR-visible part: 15 % of a lesion" in said
    assert "A voxel is FLAIR-visible to a model: logit over -0.5" in said
    assert "Out of fold, each examination is predicted by the one model" in said
    card(models, CardConfig(), external=tmp_path / "external")
    said = (models / "MODEL_CARD.md").read_text()
    assert "Each examination is predicted by the whole ensemble." in said
    assert "ut of fold" not in said.partition("## What was measured")[2]


def test_external_patients_get_what_predict_gives_them(external, cohort, tmp_path):
    assert [patient.examination_id for patient in external.patients] == ["new_p0", "new_p1", "new_p2"]
    answer = predict(cohort / "others", cohort / "models", tmp_path, PredictConfig(compute={"threads": 1}))
    for patient, prediction in zip(external.patients, answer.predictions, strict=True):
        assert patient.fold is None
        assert patient.fvv_ml == prediction.fvv_ml
        assert patient.decision is prediction.decision.state
        masks = np.asarray(nib.load(cohort / "external" / "masks" / f"{patient.examination_id}.nii.gz").dataobj)
        theirs = np.asarray(nib.load(tmp_path / patient.examination_id / "predictions.nii.gz").dataobj)
        assert np.array_equal(masks[..., :2] > 0, theirs[..., :2] > 0)
        assert np.array_equal(masks[..., 2] > 0, theirs[..., 2] >= 1)


def test_the_external_report_says_what_it_is(external, cohort):
    summary = json.loads((cohort / "external" / "summary.json").read_text())
    assert summary["evaluation"] == "external"
    page = (cohort / "external" / "report.html").read_text()
    assert "whole ensemble" in page
    assert "with the whole ensemble" in external.summary()
    rebuilt = report(cohort / "external")
    assert rebuilt.found.model_dump_json() == external.found.model_dump_json()


@pytest.mark.parametrize("disguise", ["as it was", "renamed", "compressed otherwise", "another header"])
def test_a_patient_the_ensemble_was_trained_on_is_refused_under_any_name(cohort, tmp_path, disguise):
    """Every patient of the store has trained one of the two models."""
    folder = tmp_path / "others"
    shutil.copytree(cohort / "others", folder)
    name = "p3" if disguise == "as it was" else "stranger"
    shutil.copytree(cohort / "input" / "p3", folder / name)
    if disguise in {"compressed otherwise", "another header"}:
        for file in list((folder / name).glob("*.nii.gz")):
            image = nib.load(file)
            array = np.asarray(image.dataobj)
            if disguise == "another header":
                array = array.astype(np.int16)
            file.unlink()
            nib.save(nib.Nifti1Image(array, image.affine), file.with_suffix(""))
    with pytest.raises(ModelError, match=r"was trained on these images|was trained on this person") as caught:
        evaluate_external(folder, cohort / "models", tmp_path / "output", QUICK)
    assert caught.value.examination_id == name
    assert not (tmp_path / "output" / "summary.json").exists()


def test_a_person_is_refused_by_id_even_with_new_images(cohort, tmp_path):
    folder = tmp_path / "others"
    shutil.copytree(cohort / "others", folder)
    (folder / "participants.tsv").write_text("participant_id\tpatient_id\nnew_p0\tn/a\nnew_p1\tp2\nnew_p2\tn/a\n")
    with pytest.raises(ModelError, match="trained on this person") as caught:
        evaluate_external(folder, cohort / "models", tmp_path / "output", QUICK)
    assert caught.value.examination_id == "new_p1"


def test_models_that_do_not_say_on_whom_they_were_trained_are_refused(cohort, tmp_path):
    models = tmp_path / "published"
    models.mkdir()
    shutil.copy(cohort / "models" / "model1.onnx", models)
    with pytest.raises(ModelError, match="does not say on whom"):
        evaluate_external(cohort / "others", models, tmp_path / "output", QUICK)


def test_an_external_patient_that_cannot_be_read_or_measured_is_listed(cohort, tmp_path):
    folder = tmp_path / "others"
    shutil.copytree(cohort / "others", folder)
    (folder / "new_p0" / "stroke_roi.nii.gz").unlink()
    for name in ("b0", "b1000"):  # Two copies of one image are not assessable.
        shutil.copy(cohort / "others" / "new_p1" / "b0.nii.gz", folder / "new_p1" / f"{name}.nii.gz")
    result = evaluate_external(folder, cohort / "models", tmp_path / "output", QUICK)
    assert [failure.examination_id for failure in result.failures] == ["new_p0"]
    states = {patient.examination_id: patient.decision.value for patient in result.patients}
    assert states["new_p1"] == "not assessable"
    refused = next(p for p in result.patients if p.examination_id == "new_p1")
    assert refused.fvv_ml is None
    # Nothing was looked for, so nothing was missed.
    assert not refused.segmented
    summary = json.loads((tmp_path / "output" / "summary.json").read_text())["stroke"]
    assert summary["empty_cases"]["not segmented: quality control refused the images"] == 1
    assert summary["per_patient"]["dice_coefficient"]["defined"] == 1
    assert summary["lesions_missed"] == 0


@pytest.mark.parametrize("own_masks", [False, True])
def test_what_quality_control_judges_is_judged_as_in_predict(cohort, tmp_path, own_masks):
    """Images with holes, and one of which no brain mask can be made: neither is a failure."""
    folder, unlabelled = tmp_path / "others", tmp_path / "unlabelled"
    shutil.copytree(cohort / "others", folder)
    change(folder / "new_p0" / "b0.nii.gz", np.s_[31, 31, 4:6], np.nan)
    change(folder / "new_p1" / "b1000.nii.gz", np.s_[:], 7.0)
    if not own_masks:
        change(folder / "new_p2" / "mask.nii.gz", np.s_[:], 0)
    shutil.copytree(folder, unlabelled)
    if own_masks:
        for file in unlabelled.glob("*/mask.nii.gz"):
            file.unlink()
    config = QUICK.model_copy(update={"own_masks": own_masks})
    result = evaluate_external(folder, cohort / "models", tmp_path / "output", config)
    answers = predict(
        unlabelled, cohort / "models", tmp_path / "answers", PredictConfig(compute={"threads": 1})
    ).predictions
    assert not result.failures
    for patient, prediction in zip(result.patients, answers, strict=True):
        assert (patient.decision, patient.fvv_ml) == (prediction.decision.state, prediction.fvv_ml)
        of_drawing = {"roi-cut", "empty-roi"}
        assert [code for code in patient.reasons if code not in of_drawing] == [
            finding.code for finding in prediction.decision.reasons
        ]
        assert patient.stroke.reference_volume_ml > 0
    assert result.patients[0].fvv_ml is not None
    unmade = result.patients[1 if own_masks else 2]
    assert unmade.reasons == ("no-brain-mask",)
    assert not unmade.segmented
    assert f"{sum(not one.segmented for one in result.patients)} not assessable, 0 failed" in result.summary()


def change(file: Path, where: object, value: float) -> None:
    """Put a value into some voxels of an image."""
    image = nib.load(file)
    array = np.asarray(image.dataobj).copy()
    array[where] = value
    nib.save(nib.Nifti1Image(array, image.affine), file)


def test_evaluations_of_different_cohorts_are_not_compared(output, external, cohort):
    with pytest.raises(FvvError, match="no patient in common"):
        report(output, compare=cohort / "external")


@pytest.mark.parametrize("last_written", ["patients.csv", "summary.json"])
def test_a_report_cut_short_goes_on(output: Path, monkeypatch: pytest.MonkeyPatch, last_written: str) -> None:
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if Path(target).name == last_written:
            raise OSError(28, "No space left on device")
        return replace(path, target)

    other = CONFIG.model_copy(update={"decision": DecisionConfig(cutoff_ml=0.9)})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(FvvError, match="No space left"):
            report(output, other)
    assert not (output / "summary.json").exists()  # Tables of two cut-offs are no finished evaluation.
    again = report(output, other)
    assert len(again.patients) == 6
    assert read_sealed(output / "summary.json")["settings"]["decision"]["cutoff_ml"] == 0.9
    assert not (output / ".fvv.summary.json").exists()


def test_an_evaluation_goes_on_after_a_report_cut_short(output: Path, cohort: Path) -> None:
    (output / "summary.json").rename(output / ".fvv.summary.json")
    with pytest.raises(OutputExistsError, match="other settings"):
        evaluate(cohort / "store", cohort / "models", output, CONFIG.model_copy(update={"bootstrap_samples": 31}))
    evaluate(cohort / "store", cohort / "models", output, CONFIG)
    assert (output / "summary.json").exists()
    assert not (output / ".fvv.summary.json").exists()
