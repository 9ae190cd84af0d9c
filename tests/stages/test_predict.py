from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, save, write_onnx, write_patient
from fvv.config import PredictConfig
from fvv.errors import InputError, OutputExistsError
from fvv.io.manifest import read_table
from fvv.stages.predict import predict

CONFIG = PredictConfig(device="cpu")
FILES = {"predictions.nii.gz", "heatmap.nii.gz", "synthesis.png", "results.txt", "results.json"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models in the published format that mark what is bright; the third sees nothing FLAIR-visible."""
    folder = tmp_path_factory.mktemp("models")
    for number, visible in enumerate((-3.2, -3.0, -100.0), start=1):
        write_onnx(folder / f"model{number}.onnx", whole_volume=False, biases=(1.5, -2.0, visible))
    return folder


def test_a_folder_of_patients(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    lesion = write_patient(tmp_path / "in" / "anna", rng)
    write_patient(tmp_path / "in" / "berta", rng, lesion=False)
    result = predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    assert [one.patient for one in result.predictions] == ["anna", "berta"]
    assert result.failures == ()
    for name in ("anna", "berta"):
        assert {path.name for path in (tmp_path / "out" / name).iterdir()} == FILES
    rows = {row["Patient"]: row for row in read_table(tmp_path / "out" / "results.csv")}
    assert rows["anna"]["decision"] == "mismatch unlikely"
    assert rows["berta"]["decision"] == "no lesion found"
    assert rows["berta"]["StrokeBlobVolume"] == "0.0"

    image = nib.load(tmp_path / "out" / "anna" / "predictions.nii.gz")
    assert image.shape == (64, 64, 10, 3)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(image.affine, AFFINE)
    found = np.asarray(image.dataobj)
    stroke = found[..., 1] == 3
    assert 2 * (stroke & lesion["stroke_roi"]).sum() / (stroke.sum() + lesion["stroke_roi"].sum()) > 0.95
    visible = found[..., 2] >= 1
    assert 2 * (visible & lesion["flairviz_roi"]).sum() / (visible.sum() + lesion["flairviz_roi"].sum()) > 0.9

    answer = json.loads((tmp_path / "out" / "anna" / "results.json").read_text())
    per_model = answer["FlairVizVolume_per_model"]
    assert per_model[2] == 0
    assert answer["FlairVizVolume"] == pytest.approx(np.mean(per_model))
    assert answer["provider"] == "CPUExecutionProvider"
    assert set(answer["seconds"]) == {"read", "prepare", "network", "restore", "draw"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "anna" in page
    assert "not measured" not in page
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(run["bundle"]["models"]) == 3


def test_one_patients_folder_and_results_beside_the_images(
    tmp_path: Path, models: Path, rng: np.random.Generator
) -> None:
    write_patient(tmp_path / "anna", rng)
    predict(tmp_path / "anna", models, None, CONFIG)
    assert {path.name for path in (tmp_path / "anna").iterdir()} >= FILES


def test_bad_patients_are_listed_and_the_others_go_on(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    for name in ("a", "b", "c"):
        write_patient(tmp_path / "in" / name, rng)
    (tmp_path / "in" / "a" / "b0.nii.gz").unlink()
    save(tmp_path / "in" / "b" / "b0.nii.gz", np.ones((64, 64, 10, 3)))
    result = predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    assert [one.patient for one in result.predictions] == ["c"]
    reasons = {row["patient"]: row["reason"] for row in read_table(tmp_path / "out" / "failures.csv")}
    assert "b0.nii.gz: missing" in reasons["a"]
    assert "--b0-index" in reasons["b"]


@pytest.mark.parametrize("fault", ["empty mask", "swapped"])
def test_what_cannot_be_measured_is_never_zero(
    tmp_path: Path, models: Path, rng: np.random.Generator, fault: str
) -> None:
    folder = tmp_path / "in" / "anna"
    images = write_patient(folder, rng)
    predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    if fault == "empty mask":
        save(folder / "mask.nii.gz", np.zeros((64, 64, 10)))
    else:
        save(folder / "b0.nii.gz", images["b1000"])
        save(folder / "b1000.nii.gz", images["b0"])
    result = predict(tmp_path / "in", models, tmp_path / "out", CONFIG.model_copy(update={"overwrite": True}))
    assert result.predictions[0].fvv_ml is None
    assert "FVV not measured" in result.summary()
    (row,) = read_table(tmp_path / "out" / "results.csv")
    assert row["decision"] == "not assessable"
    assert row["FlairVizVolume"] == row["StrokeBlobVolume"] == row["BrainMaskVolume"] == ""
    assert "FlairVizVolume=n/a" in (tmp_path / "out" / "anna" / "results.txt").read_text()
    # The masks of the earlier, good run must not be taken for this one's.
    assert not (tmp_path / "out" / "anna" / "predictions.nii.gz").exists()


def test_nothing_is_overwritten_unasked(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    (tmp_path / "out" / "results.csv").unlink()
    for name in ("failures.csv", "run.json", "report.html"):
        (tmp_path / "out" / name).unlink(missing_ok=True)
    (failure,) = predict(tmp_path / "in", models, tmp_path / "out", CONFIG).failures
    assert "already there" in failure.reason


def test_the_cutoff_decides(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    high = CONFIG.model_copy(update={"decision": CONFIG.decision.model_copy(update={"cutoff_ml": 500.0})})
    (prediction,) = predict(tmp_path / "in", models, tmp_path / "out", high).predictions
    assert prediction.decision.state.value == "mismatch likely"


def test_nothing_there(tmp_path: Path, models: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        predict(tmp_path / "none", models, None, CONFIG)
    with pytest.raises(InputError, match="holds no patient"):
        predict(tmp_path, models, None, CONFIG)
