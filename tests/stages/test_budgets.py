from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import save, write_onnx, write_patient
from fvv.cli import main
from fvv.config import PROFILES, EvaluateConfig, PredictConfig, PreprocessConfig
from fvv.data import DecisionState, hashed_ids
from fvv.errors import InputError, ModelError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import Budget, BundleManifest, ModelBundle, ModelEntry, QuantisedModel, file_sha256, write_manifest
from fvv.io.case import image_sha256, read_case
from fvv.stages.budgets import measure_budgets
from fvv.stages.predict import predict

CONFIG = EvaluateConfig(device="cpu")


def write_bundle(
    folder: Path,
    *,
    trained_on: tuple[str, ...],
    strokes: tuple[float, ...] = (-2.0, -2.0, 0.0, 0.0),
    brains: tuple[float, ...] = (1.5, 1.5, 1.5, 1.5),
) -> Path:
    """Four models: two that mark the lesion, two that mark half of the brain; their 8-bit forms are the same files."""
    entries = []
    for fold, (brain, stroke) in enumerate(zip(brains, strokes, strict=False)):
        file = write_onnx(folder / f"model{fold + 1}.onnx", biases=(brain, stroke, -3.2))
        sha256 = file_sha256(file)
        int8 = QuantisedModel(file=file.name, sha256=sha256, calibrated_on=(), checks={})
        entries.append(ModelEntry(file=file.name, sha256=sha256, fold=fold, trained_on=trained_on, int8=int8))
    profile = PROFILES["reference-v1"]
    manifest = BundleManifest(software="x", run_name="r", profile=profile, channels=(), models=tuple(entries))
    write_manifest(folder, manifest)
    return folder


def test_parts_of_the_ensemble_are_measured_and_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("anna", "berta"):
        write_patient(tmp_path / "in" / name, rng)
    models = write_bundle(tmp_path / "models", trained_on=("someone else",))
    result = measure_budgets(tmp_path / "in", models, CONFIG)
    found = {(row.folds, row.precision): row for row in result.budgets}
    assert set(found) == {(folds, precision) for folds in (1, 3, 4) for precision in ("fp32", "int8")}
    assert all(row.patients == 2 for row in result.budgets)
    assert found[1, "fp32"].stroke_dice > 0.9 > found[4, "fp32"].stroke_dice + 0.2
    assert found[3, "fp32"].stroke_dice == found[1, "fp32"].stroke_dice  # two of three outvote the third
    assert found[4, "fp32"].decisions_changed == 0
    bundle = ModelBundle.open(models)
    assert bundle.manifest.budgets == result.budgets
    assert "measured on 2 patients: stroke Dice 0.9" in bundle.cost_of(3, "int8")
    assert "not measured" in bundle.cost_of(2, "fp32")
    assert "kept in" in result.summary()


def test_a_patient_that_a_model_has_seen_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    image = image_sha256(read_case(tmp_path / "in" / "anna", PreprocessConfig(), labelled=True))
    models = write_bundle(tmp_path / "models", trained_on=hashed_ids([image]))
    with pytest.raises(ModelError, match=r"patient anna.*trained on these images"):
        measure_budgets(tmp_path / "in", models, CONFIG)
    assert ModelBundle.open(models).manifest.budgets == ()
    with pytest.raises(ModelError, match="does not say on whom"):
        measure_budgets(tmp_path / "in", write_bundle(tmp_path / "silent", trained_on=()), CONFIG)


def test_no_patient(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    (tmp_path / "in" / "anna" / "stroke_roi.nii.gz").unlink()
    with pytest.raises(InputError, match="no patient could be measured"):
        measure_budgets(tmp_path / "in", write_bundle(tmp_path / "models", trained_on=("x",)), CONFIG)


def test_a_dice_that_nobody_defines_is_not_a_perfect_one(tmp_path: Path, rng: np.random.Generator) -> None:
    """No lesion was drawn, and the one model marks none."""
    write_patient(tmp_path / "in" / "anna", rng, lesion=False)
    models = write_bundle(tmp_path / "models", trained_on=("x",), strokes=(-100.0,))
    result = measure_budgets(tmp_path / "in", models, CONFIG)
    assert [(row.stroke_dice, row.flair_visible_dice, row.fvv_error_ml) for row in result.budgets] == [
        (None, None, 0)
    ] * 2
    assert "n/a" in result.summary()
    bundle = ModelBundle.open(models)
    assert bundle.manifest.budgets == result.budgets
    assert "stroke Dice not defined" in bundle.cost_of(1, "fp32")


NO_BRAIN, A_SPECK = -100.0, -2.0


@pytest.mark.parametrize("little", [NO_BRAIN, A_SPECK])
def test_without_a_brain_there_is_no_volume_and_no_answer(
    tmp_path: Path, rng: np.random.Generator, little: float
) -> None:
    """The first model alone gives no answer, both together do: as `predict` says it with either."""
    for name in ("anna", "berta"):
        write_patient(tmp_path / "in" / name, rng)
    models = write_bundle(tmp_path / "models", trained_on=("x",), strokes=(-2.0, -2.0), brains=(little, 1.5))
    result = measure_budgets(tmp_path / "in", models, CONFIG)
    found = {row.folds: row for row in result.budgets if row.precision == "fp32"}
    assert (found[2].not_assessable, found[2].decisions_changed) == (0, 0)
    assert found[2].stroke_dice > 0.9
    alone = found[1]
    assert (alone.patients, alone.not_assessable, alone.decisions_changed) == (2, 2, 2)
    assert (alone.stroke_dice, alone.flair_visible_dice, alone.fvv_error_ml) == (None, None, None)
    assert "n/a" in result.summary()
    bundle = ModelBundle.open(models)
    assert bundle.manifest.budgets == result.budgets
    said = "measured on 2 patients (2 not assessable): stroke Dice not defined, FVV error not defined, 2 decisions"
    assert bundle.cost_of(1, "fp32").startswith(said)
    assert "measured on 2 patients: stroke Dice 0.9" in bundle.cost_of(2, "fp32")
    for folds, row in found.items():
        asked = PredictConfig(device="cpu", folds=folds)
        answers = predict(tmp_path / "in", models, tmp_path / str(folds), asked).predictions
        assert sum(one.decision.state is DecisionState.NOT_ASSESSABLE for one in answers) == row.not_assessable


def test_a_patient_without_an_answer_is_in_no_mean(tmp_path: Path, rng: np.random.Generator) -> None:
    """The mask of berta holds the air around her too: several times the brain that the model marks."""
    write_patient(tmp_path / "in" / "anna", rng)
    models = write_bundle(tmp_path / "models", trained_on=("x",), strokes=(-2.0,), brains=(0.4,))
    alone = measure_budgets(tmp_path / "in", models, CONFIG).budgets[0]
    images = write_patient(tmp_path / "in" / "berta", rng)
    save(tmp_path / "in" / "berta" / "mask.nii.gz", np.ones_like(images["brain"]))
    both = measure_budgets(tmp_path / "in", models, CONFIG).budgets[0]
    assert (alone.patients, alone.not_assessable) == (1, 0)
    assert alone.stroke_dice > 0.9
    assert both == alone.model_copy(update={"patients": 2, "not_assessable": 1})


def test_budgets_of_an_earlier_bundle_are_read() -> None:
    """Measured before patients without an answer were told apart."""
    written = {"folds": 3, "precision": "fp32", "patients": 60, "stroke_dice": 0.8, "flair_visible_dice": 0.6}
    budget = Budget.model_validate({**written, "fvv_error_ml": 4.2, "decisions_changed": 1})
    assert budget.not_assessable == 0


def test_patients_are_prepared_as_the_settings_say(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    write_patient(tmp_path / "in" / "berta", rng, mask=False)
    models = write_bundle(tmp_path / "models", trained_on=("x",), strokes=(-2.0,))
    given = CONFIG.model_copy(update={"preprocess": PreprocessConfig(mask_method="given")})
    result = measure_budgets(tmp_path / "in", models, given)
    assert result.budgets[0].patients == 1
    (failure,) = result.failures
    assert failure.reason.startswith("patient berta: no brain mask file")
    with pytest.raises(InputError, match="no brain mask file"):
        measure_budgets(tmp_path / "in", models, given.model_copy(update={"own_masks": True}))


def test_a_patient_on_whom_a_model_fails_is_recorded(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("anna", "berta"):
        write_patient(tmp_path / "in" / name, rng)
    models = write_bundle(tmp_path / "models", trained_on=("x",), strokes=(-2.0,))
    masks, calls = OnnxEnsemble.masks, []

    def failing_at_first(ensemble: OnnxEnsemble, padded: np.ndarray) -> np.ndarray:
        calls.append(padded.shape)
        if len(calls) == 1:
            raise ModelError("the output is not finite")
        return masks(ensemble, padded)

    monkeypatch.setattr(OnnxEnsemble, "masks", failing_at_first)
    result = measure_budgets(tmp_path / "in", models, CONFIG)
    assert [row.patients for row in result.budgets] == [1, 1]
    assert [failure.patient for failure in result.failures] == ["anna"]


def test_two_runs_are_not_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--external", "these", "--budgets", "those"]) != 0
    assert "--external and --budgets are two runs" in capsys.readouterr().err
