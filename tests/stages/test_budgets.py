from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import write_onnx, write_patient
from fvv.cli import main
from fvv.config import PROFILES, EvaluateConfig, PreprocessConfig
from fvv.data import hashed_ids
from fvv.errors import InputError, ModelError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import BundleManifest, ModelBundle, ModelEntry, QuantisedModel, file_sha256, write_manifest
from fvv.io.case import image_sha256, read_case
from fvv.stages.budgets import measure_budgets

CONFIG = EvaluateConfig(device="cpu")


def write_bundle(
    folder: Path, *, trained_on: tuple[str, ...], strokes: tuple[float, ...] = (-2.0, -2.0, 0.0, 0.0)
) -> Path:
    """Four models: two that mark the lesion, two that mark half of the brain; their 8-bit forms are the same files."""
    entries = []
    for fold, stroke in enumerate(strokes):
        file = write_onnx(folder / f"model{fold + 1}.onnx", biases=(1.5, stroke, -3.2))
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
