from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import fvv
import fvv.io.result_files
from builders import AFFINE, case_of, head, save, write_onnx, write_patient
from fvv.config import PROFILES, DecisionConfig, PredictConfig, PreprocessConfig
from fvv.data import Case, Channel, DecisionState, Prediction, Volume
from fvv.errors import ConfigError, FvvError, GeometryError, InputError, OutputExistsError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle, write_manifest
from fvv.io.case import CaseFiles, read_case
from fvv.io.inputs import Examination
from fvv.io.lock import only_writer
from fvv.io.nifti import read_volume
from fvv.io.result_files import IN_FOLDER, files_in_folder, write_heatmap, write_images
from fvv.io.tables import read_table
from fvv.recipes.examine import Settings, examine
from fvv.schemas.bundle import Calibration
from fvv.stages.decide import decide
from fvv.stages.predict import predict

CONFIG = PredictConfig(compute={"device": "cpu"})
OVERWRITE = CONFIG.model_copy(update={"overwrite": True})
FILES = {
    *("predictions.nii.gz", "heatmap.nii.gz", "fvv_adc.nii.gz", "synthesis.png", "lesions.csv", "viewer.nii.gz"),
    *("results.txt", "results.json"),
}


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
    assert [one.examination_id for one in result.predictions] == ["anna", "berta"]
    assert result.failures == ()
    for name in ("anna", "berta"):
        assert {path.name for path in (tmp_path / "out" / name).iterdir() if path.name[0] != "."} == FILES
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
    assert set(answer["seconds"]) == {"read", "prepare", "check", "network", "restore", "draw"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "anna" in page
    assert page.count("not measured") == 1, "in the key of the table alone"
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(run["models"]) == 3


def test_one_patients_folder_and_results_beside_the_images(
    tmp_path: Path, models: Path, rng: np.random.Generator
) -> None:
    write_patient(tmp_path / "anna", rng)
    predict(tmp_path / "anna", models, None, CONFIG)
    assert {path.name for path in (tmp_path / "anna").iterdir()} >= FILES


def test_a_link_to_a_picture_is_an_address_whatever_the_patient_is_named(
    tmp_path: Path, models: Path, rng: np.random.Generator
) -> None:
    for name in ("a#1", "javascript:1"):
        write_patient(tmp_path / "in" / name, rng)
    predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'href="a%231/synthesis.png"' in page
    assert 'href="javascript%3A1/synthesis.png"' in page


def test_bad_patients_are_listed_and_the_others_go_on(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    for name in ("a", "b", "c"):
        write_patient(tmp_path / "in" / name, rng)
    (tmp_path / "in" / "a" / "b0.nii.gz").unlink()
    save(tmp_path / "in" / "b" / "b0.nii.gz", np.ones((64, 64, 10, 3)))
    result = predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    assert [one.examination_id for one in result.predictions] == ["c"]
    reasons = {row["examination_id"]: row["reason"] for row in read_table(tmp_path / "out" / "failures.csv")}
    assert "b0.nii.gz: missing" in reasons["a"]
    assert "--b0-index" in reasons["b"]


def test_a_file_that_may_not_be_read_is_its_patients_trouble_alone(
    tmp_path: Path, models: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused on opening, as tests may run as a user who may read everything."""
    for name in ("a", "b"):
        write_patient(tmp_path / "in" / name, rng)
    locked = tmp_path / "in" / "a" / "b1000.nii.gz"
    really_open = Path.open

    def open_unless_locked(path: Path, *args: Any, **options: Any) -> Any:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, *args, **options)

    monkeypatch.setattr(Path, "open", open_unless_locked)
    result = predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    assert [one.examination_id for one in result.predictions] == ["b"]
    assert "cannot be read: Permission denied" in result.failures[0].reason
    assert "b1000.nii.gz" in result.failures[0].reason


def test_images_that_cannot_be_written_are_their_patients_failure(
    tmp_path: Path, models: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written while the picture is drawn: the error comes from another thread."""
    for name in ("a", "b"):
        write_patient(tmp_path / "in" / name, rng)
    full = tmp_path / "out" / "a" / "heatmap.nii.gz"
    really_write = fvv.io.result_files.write_rgb

    def write_unless_full(path: Path, *args: Any, **options: Any) -> None:
        if path == full:
            raise FvvError("cannot write: No space left on device", file=path)
        really_write(path, *args, **options)

    monkeypatch.setattr(fvv.io.result_files, "write_rgb", write_unless_full)
    result = predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    assert [one.examination_id for one in result.predictions] == ["b"]
    assert "heatmap.nii.gz: cannot write: No space left" in result.failures[0].reason
    assert not {"results.json", "results.txt", "synthesis.png"} & {file.name for file in full.parent.iterdir()}
    monkeypatch.undo()
    assert predict(tmp_path / "in", models, tmp_path / "out", CONFIG).kept == 1
    assert {file.name for file in full.parent.iterdir() if not file.name.startswith(".")} == FILES


@pytest.mark.parametrize(("other", "layout"), [("anna.zip", "folders"), ("an-na", "bids"), ("an_na", "bids")])
def test_two_examinations_of_one_name_are_refused(
    tmp_path: Path, models: Path, rng: np.random.Generator, other: str, layout: str
) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    if other.endswith(".zip"):
        (tmp_path / "in" / other).write_bytes(b"")
    else:
        write_patient(tmp_path / "in" / other, rng)
    settings = {"layout": layout, "overwrite": True}
    with pytest.raises(InputError, match="would have the same results as") as raised:
        predict(tmp_path / "in", models, tmp_path / "out", CONFIG.model_copy(update=settings))
    assert str(tmp_path / "in" / other) in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["failures.csv", "Results.csv", "report.html", "run.json"])
def test_a_patient_named_as_a_table_is_refused_before_the_work(
    tmp_path: Path, models: Path, rng: np.random.Generator, name: str
) -> None:
    write_patient(tmp_path / "in" / name, rng)
    with pytest.raises(InputError, match="of the whole run"):
        predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


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


def test_results_of_other_images_models_or_settings_are_refused_before_anything_is_computed(
    tmp_path: Path, models: Path, rng: np.random.Generator
) -> None:
    for name in ("a", "b", "c"):
        write_patient(tmp_path / "in" / name, rng)
    out = tmp_path / "out"
    predict(tmp_path / "in", models, out, CONFIG)
    (out / "c" / "results.json").unlink()
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    other_cutoff = CONFIG.model_copy(update={"decision": DecisionConfig(cutoff_ml=2.0)})
    with pytest.raises(OutputExistsError, match=r"run\.json: holds results of other settings .*--overwrite.*decide"):
        predict(tmp_path / "in", models, out, other_cutoff)
    (out / "run.json").unlink()  # As of a run that was killed: each result says what it was made from.
    with pytest.raises(OutputExistsError, match=r"holds results of other settings: a, b .*--overwrite"):
        predict(tmp_path / "in", models, out, other_cutoff)
    with pytest.raises(OutputExistsError, match=r"holds results of other models: a, b"):
        predict(tmp_path / "in", fewer(models, tmp_path / "fewer"), out, CONFIG)
    write_patient(tmp_path / "in" / "b", rng, visible=False)
    with pytest.raises(OutputExistsError, match=r"holds results of other images: b"):
        predict(tmp_path / "in", models, out, CONFIG)
    del before[out / "run.json"]
    assert {file: file.read_bytes() for file in before} == before
    assert not (out / "c" / "results.json").exists()
    replaced = predict(tmp_path / "in", models, out, OVERWRITE)
    assert (len(replaced.predictions), replaced.kept) == (3, 1)


def fewer(models: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in ("model1.onnx", "model2.onnx"):
        shutil.copy(models / name, folder)
    return folder


@pytest.mark.parametrize("layout", ["folders", "bids"])
def test_a_patient_who_fails_now_keeps_no_earlier_answer(
    tmp_path: Path, models: Path, rng: np.random.Generator, layout: str
) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    config = CONFIG.model_copy(update={"layout": layout})
    predict(tmp_path / "in", models, tmp_path / "out", config)
    assert list(tmp_path.glob("out/**/*results.json"))
    image = tmp_path / "in" / "anna" / "b1000.nii.gz"
    image.write_bytes(image.read_bytes()[:1000])
    result = predict(tmp_path / "in", models, tmp_path / "out", config.model_copy(update={"overwrite": True}))
    assert len(result.failures) == 1
    folders = {"folders": "anna", "bids": "sub-anna"}
    files = [path.name for path in (tmp_path / "out" / folders[layout]).rglob("*") if path.is_file()]
    assert set(files) <= {".fvv.json", ".fvv.lock"}
    assert decide(tmp_path / "out", CONFIG.decision).after == ()


def test_hardly_any_brain_is_not_assessable_whatever_the_stroke(tmp_path: Path, rng: np.random.Generator) -> None:
    """The stroke is cut to the brain: with a speck of it, 0 mL of stroke would be no measurement."""
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(-2.0, -2.0, -3.0))
    write_patient(tmp_path / "anna", rng)
    (prediction,) = predict(tmp_path / "anna", tmp_path / "models", tmp_path / "out", CONFIG).predictions
    assert prediction.decision.state is DecisionState.NOT_ASSESSABLE
    (reason,) = (one for one in prediction.decision.reasons if one.code == "no-brain")
    assert "mL of brain, the mask holds" in reason.message
    assert prediction.fvv_ml is None


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
    file = tmp_path / "scan_b1000.nii.gz"
    file.write_text("an image")
    with pytest.raises(InputError, match=r"found a file .*--b0 FILE --b1000 FILE"):
        predict(file, models, None, CONFIG)
    with pytest.raises(InputError, match=r"holds no patient folder .*found scan_b1000\.nii\.gz: rename them"):
        predict(tmp_path, models, None, CONFIG)


def test_two_files_give_what_a_folder_gives(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    images = write_patient(tmp_path / "anna", rng)
    for stem in ("b0", "b1000"):
        save(tmp_path / "flat" / f"x_{stem}.nii.gz", images[stem])
    folder = predict(tmp_path / "anna", models, tmp_path / "out1", CONFIG)
    mask = tmp_path / "anna" / "mask.nii.gz"
    flat = tmp_path / "flat"
    files = CaseFiles("anna", flat / "x_b1000.nii.gz", b0=flat / "x_b0.nii.gz", mask=mask)
    named = predict(files, models, tmp_path / "out2", CONFIG)
    assert named.predictions[0].fvv_ml == folder.predictions[0].fvv_ml
    predict(files, models, None, CONFIG)
    assert {path.name for path in (flat / "anna_fvv").iterdir()} >= FILES


def write_physical_patient(folder: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A patient whose lesion has an ADC over 0."""
    images = write_patient(folder, rng)
    images["b1000"] = np.where(images["stroke_roi"], 400.0, images["b1000"])
    save(folder / "b1000.nii.gz", images["b1000"])
    return images


@pytest.mark.parametrize("unit", [1.0, 1e3, 1e6])
def test_an_adc_map_stands_in_for_b0(tmp_path: Path, models: Path, rng: np.random.Generator, unit: float) -> None:
    images = write_physical_patient(tmp_path / "anna", rng)
    whole = predict(tmp_path / "anna", models, tmp_path / "out1", CONFIG).predictions[0]
    adc = np.log(np.maximum(images["b0"], 1) / np.maximum(images["b1000"], 1)) / 1000 * unit
    (tmp_path / "anna" / "b0.nii.gz").unlink()
    save(tmp_path / "anna" / "adc.nii.gz", np.clip(adc, 0, None))
    derived = predict(tmp_path / "anna", models, tmp_path / "out2", CONFIG).predictions[0]
    assert derived.fvv_ml == pytest.approx(whole.fvv_ml, rel=0.01)
    assert any("b0 computed from b1000 and adc.nii.gz" in reason.message for reason in derived.decision.reasons)


def test_an_adc_map_beside_the_results_is_left_alone(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    """Results beside the images, again, and again under quality control that refuses the patient."""
    folder = tmp_path / "anna"
    images = write_physical_patient(folder, rng)
    save(folder / "adc.nii.gz", np.log(np.maximum(images["b0"], 1) / np.maximum(images["b1000"], 1)) / 1000)
    (folder / "b0.nii.gz").unlink()
    given = (folder / "adc.nii.gz").read_bytes()
    assert predict(folder, models, None, CONFIG).failures == ()
    stamp = (folder / "results.json").stat().st_mtime_ns
    predict(folder, models, None, CONFIG)
    assert (folder / "results.json").stat().st_mtime_ns == stamp  # The results are no images that could have changed.
    save(folder / "mask.nii.gz", np.zeros((64, 64, 10)))
    (refused,) = predict(folder, models, None, CONFIG.model_copy(update={"overwrite": True})).predictions
    assert refused.fvv_ml is None
    assert (folder / "adc.nii.gz").read_bytes() == given


@pytest.mark.parametrize("name", list(IN_FOLDER.values())[:3])
def test_no_result_replaces_an_image_that_is_read(
    tmp_path: Path, models: Path, rng: np.random.Generator, name: str
) -> None:
    images = write_patient(tmp_path / "elsewhere", rng)
    save(tmp_path / "out" / "anna" / name, images["b1000"])
    given = (tmp_path / "out" / "anna" / name).read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    b1000 = tmp_path / "link" / "anna" / name
    files = CaseFiles("anna", b1000, b0=tmp_path / "elsewhere" / "b0.nii.gz")
    for settings in (CONFIG, OVERWRITE):
        (failure,) = predict(files, models, tmp_path / "out", settings).failures
        assert "a result would replace it" in failure.reason
        assert b1000.read_bytes() == given


def test_the_lesions_adc_is_measured(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    images = write_physical_patient(tmp_path / "anna", rng)
    (prediction,) = predict(tmp_path / "anna", models, tmp_path / "out", CONFIG).predictions
    stored = np.asarray(nib.load(tmp_path / "out" / "anna" / "fvv_adc.nii.gz").dataobj)
    lesion = images["stroke_roi"]
    expected = np.log(images["b0"][lesion] / images["b1000"][lesion]) * 1000
    assert np.median(stored[lesion]) == pytest.approx(np.median(expected), abs=1)
    assert prediction.lesion_adc is not None
    assert prediction.lesion_adc[0] == pytest.approx(np.median(expected), rel=0.05)
    assert prediction.lesion_adc[2] < 0.8


def test_no_adc_is_given_where_the_images_share_no_gain(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    """b1000 halved, or each image scaled to 0-1: FVV stays, the ratio of the two is no diffusion any more."""
    images = write_physical_patient(tmp_path / "in" / "raw", rng)
    for name, b0, b1000 in (
        ("halved", images["b0"], images["b1000"] / 2),
        ("unit", *((image - image.min()) / np.ptp(image) for image in (images["b0"], images["b1000"]))),
    ):
        for kind, image in (("b0", b0), ("b1000", b1000), ("mask", images["brain"])):
            save(tmp_path / "in" / name / f"{kind}.nii.gz", image)
    predictions = {
        one.examination_id: one for one in predict(tmp_path / "in", models, tmp_path / "out", CONFIG).predictions
    }
    codes = {name: {reason.code for reason in one.decision.reasons} for name, one in predictions.items()}
    assert "no-common-gain" not in codes["raw"]
    for name in ("halved", "unit"):
        assert "no-common-gain" in codes[name]
        assert predictions[name].lesion_adc is None
        assert not (tmp_path / "out" / name / "fvv_adc.nii.gz").exists()
        assert (tmp_path / "out" / name / "predictions.nii.gz").exists()
    assert "rescaled" in codes["unit"] - codes["halved"]

    derived = predict(tmp_path / "in" / "unit", models, tmp_path / "bids", CONFIG.model_copy(update={"layout": "bids"}))
    assert derived.predictions[0].fvv_ml == pytest.approx(predictions["unit"].fvv_ml)
    (folder,) = (tmp_path / "bids").glob("sub-*/dwi")
    assert list(folder.glob("*stroke_mask.nii.gz"))
    assert not list(folder.glob("*ADC*"))


def stamps(out: Path) -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in out.glob("*/results.json")}


def test_the_same_command_again_keeps_the_finished_and_does_the_others(
    tmp_path: Path, models: Path, rng: np.random.Generator
) -> None:
    for name in ("a", "b", "c"):
        write_patient(tmp_path / "in" / name, rng)
    hidden = (tmp_path / "in" / "b" / "b0.nii.gz").rename(tmp_path / "b0.nii.gz")
    out = tmp_path / "out"
    first = predict(tmp_path / "in", models, out, CONFIG)
    assert [failure.examination_id for failure in first.failures] == ["b"]
    before = stamps(out)
    hidden.rename(tmp_path / "in" / "b" / "b0.nii.gz")
    (out / "c" / "results.json").unlink()
    second = predict(tmp_path / "in", models, out, CONFIG)
    assert {name for name, stamp in stamps(out).items() if before.get(name) != stamp} == {"b", "c"}
    assert (second.failures, second.kept) == ((), 1)
    assert "(1 kept from an earlier run)" in second.summary()
    assert [row["Patient"] for row in read_table(out / "results.csv")] == ["a", "b", "c"]
    assert read_table(out / "failures.csv") == []
    again = predict(tmp_path / "in", models, out, OVERWRITE)  # It allows, it does not force.
    assert again.kept == 3
    assert [one.fvv_ml for one in again.predictions] == [one.fvv_ml for one in second.predictions]


def test_probabilities_are_written_where_they_are_asked_for(
    tmp_path: Path, models: Path, rng: np.random.Generator
) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    predict(tmp_path / "in", models, tmp_path / "out", CONFIG.model_copy(update={"probabilities": True}))
    image = nib.load(tmp_path / "out" / "anna" / "probabilities.nii.gz")
    found = np.asarray(image.dataobj)
    assert (image.shape, image.get_data_dtype()) == ((64, 64, 10, 3), np.float32)
    assert found.min() >= 0
    assert found.max() <= 1
    stroke = np.asarray(nib.load(tmp_path / "out" / "anna" / "predictions.nii.gz").dataobj)[..., 1] > 0
    assert found[..., 1][stroke].mean() > 0.5 > found[..., 1][~stroke].mean()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "one bit": lambda file: file.write_bytes(file.read_bytes()[:-9] + b"#" + file.read_bytes()[-8:]),
}


@pytest.mark.parametrize("layout", ["folders", "bids"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_output_is_made_again_and_decide_does_not_believe_it(
    tmp_path: Path, models: Path, rng: np.random.Generator, damage: str, layout: str
) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    config, out = CONFIG.model_copy(update={"layout": layout}), tmp_path / "out"
    predict(tmp_path / "in", models, out, config)
    files = [file for file in out.rglob("*") if file.is_file() and ("anna" in str(file.relative_to(out)))]
    files = [file for file in files if not file.name.startswith(".")]
    assert len(files) == {"folders": 8, "bids": 13}[layout]
    for file in files:
        DAMAGES[damage](file)
        (failure,) = decide(out, DecisionConfig(cutoff_ml=3.0), overwrite=True).failures
        assert failure.examination_id == "anna"
        assert file.name in failure.reason
        result = predict(tmp_path / "in", models, out, config)
        assert (result.failures, result.kept) == ((), 0)
        assert len(decide(out, DecisionConfig(cutoff_ml=3.0), overwrite=True).after) == 1


def test_an_edited_answer_is_not_believed(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    out = tmp_path / "out"
    (true,) = predict(tmp_path / "in", models, out, CONFIG).predictions
    file = out / "anna" / "results.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "FlairVizVoxels": 0.0}))
    (failure,) = decide(out, DecisionConfig()).failures
    assert "edited or damaged" in failure.reason
    (again,) = predict(tmp_path / "in", models, out, CONFIG).predictions
    assert again.fvv_ml == true.fvv_ml
    assert json.loads(file.read_text())["FlairVizVolume"] == true.fvv_ml


def test_damaged_tables_are_written_again(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    out = tmp_path / "out"
    predict(tmp_path / "in", models, out, CONFIG)
    before = (out / "results.csv").read_bytes()
    for name in ("results.csv", "failures.csv", "report.html", "run.json"):
        (out / name).write_bytes((out / name).read_bytes()[:7])
    assert predict(tmp_path / "in", models, out, CONFIG).kept == 1
    assert (out / "results.csv").read_bytes() == before
    assert len(decide(out, DecisionConfig()).after) == 1
    (out / "results.csv").unlink()
    (out / "results.csv").mkdir()
    with pytest.raises(FvvError, match=r"results\.csv"):
        predict(tmp_path / "in", models, out, CONFIG)


def test_images_that_cannot_be_reached_cost_no_result(
    tmp_path: Path, models: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_patient(tmp_path / "in" / name, rng)
    out = tmp_path / "out"
    predict(tmp_path / "in", models, out, CONFIG)
    before = (out / "a" / "results.json").read_bytes()

    def unreachable(examination: Examination) -> str:
        if examination.name == "a":
            raise InputError("cannot be read: Stale file handle")
        return really(examination)

    really = Examination.sha256
    monkeypatch.setattr(Examination, "sha256", unreachable)
    result = predict(tmp_path / "in", models, out, CONFIG)
    assert [failure.examination_id for failure in result.failures] == ["a"]
    assert (out / "a" / "results.json").read_bytes() == before
    assert [one.examination_id for one in decide(out, DecisionConfig()).after] == ["b"]
    monkeypatch.undo()
    assert predict(tmp_path / "in", models, out, CONFIG).kept == 2


def test_a_part_of_the_cohort_leaves_its_tables_alone(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "a", rng)
    write_patient(tmp_path / "in" / "b", rng)
    write_patient(tmp_path / "in" / "c", rng)
    (tmp_path / "in" / "c" / "b0.nii.gz").unlink()
    out = tmp_path / "out"
    predict(tmp_path / "in", models, out, CONFIG)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with pytest.raises(OutputExistsError, match="results of patients who are not in this run: b, c"):
        predict(tmp_path / "in" / "a", models, out, CONFIG)
    (out / "run.json").write_text("{")  # Then the tables tell.
    with pytest.raises(OutputExistsError, match="results of patients who are not in this run: b, c"):
        predict(tmp_path / "in" / "a", models, out, CONFIG)
    assert {file: file.read_bytes() for file in before if file.name != "run.json"} == {
        file: content for file, content in before.items() if file.name != "run.json"
    }
    shutil.rmtree(tmp_path / "in" / "c")
    assert len(predict(tmp_path / "in", models, out, OVERWRITE).predictions) == 2


def test_a_run_that_only_failed_does_not_hold_its_folder(
    tmp_path: Path, models: Path, rng: np.random.Generator
) -> None:
    """The wrong folder was named first: the right one may use the same output."""
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "b1000.nii.gz").write_text("no image")
    write_patient(tmp_path / "right", rng)
    out = tmp_path / "out"
    assert "0 patients on" in predict(tmp_path / "wrong", models, out, CONFIG).summary()
    assert "1 patient on" in predict(tmp_path / "right", models, out, CONFIG).summary()


@pytest.mark.parametrize("name", ["results.csv", "report.html", "run.json", "failures.csv"])
def test_files_of_others_are_never_replaced(tmp_path: Path, models: Path, rng: np.random.Generator, name: str) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    theirs = tmp_path / "in" / name
    theirs.write_text("mine")
    with pytest.raises(OutputExistsError, match="not written by fvv"):
        predict(tmp_path / "in", models, None, OVERWRITE)
    assert theirs.read_text() == "mine"
    assert [path.name for path in (tmp_path / "in" / "anna").iterdir() if path.name[0] == "."] == []


@pytest.mark.parametrize("name", IN_FOLDER.values())
def test_a_patients_files_of_others_are_never_replaced(
    tmp_path: Path, models: Path, rng: np.random.Generator, name: str
) -> None:
    for patient in ("anna", "berta"):
        write_patient(tmp_path / "in" / patient, rng)
    theirs = tmp_path / "in" / "anna" / name
    theirs.write_text("mine")
    result = predict(tmp_path / "in", models, None, OVERWRITE)
    assert [one.examination_id for one in result.predictions] == ["berta"]
    assert "not written by fvv" in result.failures[0].reason
    assert theirs.read_text() == "mine"


def test_two_runs_do_not_write_one_patient(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    """One on the cohort, one on a patient of it: results lie beside the images."""
    for name in ("anna", "berta"):
        write_patient(tmp_path / "in" / name, rng)
    with only_writer(tmp_path / "in" / "anna"):
        result = predict(tmp_path / "in", models, None, CONFIG)
        assert [failure.examination_id for failure in result.failures] == ["anna"]
        assert "another fvv process" in result.failures[0].reason
    with only_writer(tmp_path / "in"):  # The cohort's tables are not this run's.
        assert predict(tmp_path / "in" / "anna", models, None, CONFIG).failures == ()
    assert predict(tmp_path / "in", models, None, CONFIG).kept == 2


def test_names_equal_but_for_case_are_one_name(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    for name in ("Anna", "anna"):
        write_patient(tmp_path / "in" / name, rng)
    if len(list((tmp_path / "in").iterdir())) == 1:
        pytest.skip("this disk ignores case")
    with pytest.raises(InputError, match="same name but for case"):
        predict(tmp_path / "in", models, tmp_path / "out", CONFIG)


def test_text_from_outside_stays_on_its_line(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "=anna", rng)
    folder = tmp_path / "models"
    write_onnx(folder / "model1.onnx", biases=(1.5, -2.0, -3.0))
    manifest = ModelBundle.open(folder).manifest
    write_manifest(folder, manifest.model_copy(update={"notice": "x\ndecision=mismatch likely\x1b[2K"}))
    predict(tmp_path / "in", folder, tmp_path / "out", CONFIG)
    lines = (tmp_path / "out" / "=anna" / "results.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("decision=")] == ["decision=mismatch unlikely"]
    assert all(line.isprintable() for line in lines)
    assert "\n'=anna," in (tmp_path / "out" / "results.csv").read_text()
    (row,) = read_table(tmp_path / "out" / "results.csv")
    assert row["Patient"] == "=anna"


@pytest.mark.slow
def test_patients_side_by_side_give_the_same(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    for name in ("a", "b", "c"):
        write_patient(tmp_path / "in" / name, rng)
    (tmp_path / "in" / "c" / "b0.nii.gz").unlink()
    alone = predict(tmp_path / "in", models, tmp_path / "out1", CONFIG)
    together = predict(tmp_path / "in", models, tmp_path / "out2", CONFIG.model_copy(update={"workers": 2}))
    assert [one.examination_id for one in together.predictions] == ["a", "b"]
    assert [one.fvv_ml for one in together.predictions] == [one.fvv_ml for one in alone.predictions]
    assert [failure.examination_id for failure in together.failures] == ["c"]


def test_from_python_on_arrays(tmp_path: Path, models: Path, rng: np.random.Generator) -> None:
    images = write_patient(tmp_path / "anna", rng)
    (from_files,) = predict(tmp_path / "anna", models, tmp_path / "out", CONFIG).predictions
    b0, b1000, mask = (Volume(images[name], AFFINE) for name in ("b0", "b1000", "brain"))
    prediction = fvv.predict(b0, b1000, str(models), mask=mask, config=CONFIG)
    assert prediction.fvv_ml == from_files.fvv_ml
    assert prediction.stroke is not None
    assert prediction.stroke.shape == b0.array.shape
    with pytest.raises(GeometryError, match="not on the grid"):
        fvv.predict(b0, Volume(images["b1000"], AFFINE @ np.diag([1.1, 1, 1, 1])), models, config=CONFIG)


def test_the_probability_comes_with_calibrated_models_only(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in", rng)
    folder = tmp_path / "models"
    write_onnx(folder / "model1.onnx", biases=(1.5, -2.0, -3.0))
    manifest = ModelBundle.open(folder).manifest
    assert predict(tmp_path / "in", folder, tmp_path / "o1", CONFIG).predictions[0].mismatch_probability is None
    calibration = Calibration(intercept=1.0, slope=-2.0, pseudo_volume_ml=0.1)
    write_manifest(folder, manifest.model_copy(update={"calibration": calibration}))
    (own,) = predict(tmp_path / "in", folder, tmp_path / "o2", CONFIG).predictions
    assert own.fvv_ml is not None
    odds = np.exp(1 - 2 * np.log(own.fvv_ml + 0.1))
    assert own.mismatch_probability == pytest.approx(odds / (1 + odds))
    assert (own.calibration_source, own.mismatch_prevalence) == ("unknown", None)


def test_the_probability_is_given_for_the_prevalence_asked_for(tmp_path: Path, rng: np.random.Generator) -> None:
    """Bayes' rule on the odds: from 34 % to 64 % they grow by the ratio of the prior odds."""
    write_patient(tmp_path / "in", rng)
    folder = tmp_path / "models"
    write_onnx(folder / "model1.onnx", biases=(1.5, -2.0, -3.0))
    calibration = Calibration(
        intercept=1.0, slope=-2.0, pseudo_volume_ml=0.1, fitted_on="simulated", patients=50, prevalence=0.34
    )
    write_manifest(folder, ModelBundle.open(folder).manifest.model_copy(update={"calibration": calibration}))
    (own,) = predict(tmp_path / "in", folder, tmp_path / "o1", CONFIG).predictions
    asked = CONFIG.model_copy(update={"decision": DecisionConfig(prevalence=0.64)})
    (mine,) = predict(tmp_path / "in", folder, tmp_path / "o2", asked).predictions
    assert own.mismatch_probability is not None
    assert mine.mismatch_probability is not None
    odds = own.mismatch_probability / (1 - own.mismatch_probability) * (0.64 / 0.36) / (0.34 / 0.66)
    assert mine.mismatch_probability == pytest.approx(odds / (1 + odds))
    assert (own.mismatch_prevalence, mine.mismatch_prevalence) == (0.34, 0.64)
    assert (own.calibration_source, mine.calibration_source) == ("simulated", "simulated")
    again = own.at_prevalence(0.64)
    assert again.mismatch_probability == pytest.approx(mine.mismatch_probability)
    assert own.at_prevalence(None) is own
    unknown = dataclasses.replace(own, mismatch_prevalence=None).at_prevalence(0.64)
    assert (unknown.mismatch_probability, unknown.calibration_source) == (None, "")
    content = json.loads((tmp_path / "o2" / "in" / "results.json").read_text())
    assert content["mismatch_probability_prevalence"] == 0.64
    assert content["mismatch_probability_source"] == "simulated"


AXES = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


@pytest.fixture(scope="module")
def one_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxEnsemble, dict[str, np.ndarray]]:
    file = write_onnx(tmp_path_factory.mktemp("one") / "model1.onnx", biases=(1.5, -2.0, -3.0))
    return OnnxEnsemble([file], PROFILES["robust-v3"], device="cpu", threads=1), head(np.random.default_rng(3))


OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (12, -5, 8), degrees=True).as_matrix()
FORM_CODES = [(1, 2), (0, 1), (4, 0)]
"""Codes of s-form and q-form in the input; one of them may be missing."""


def predicted(case: Case, ensemble: OnnxEnsemble, config: PredictConfig) -> Prediction:
    return examine(case, ensemble, Settings.of(ensemble.profile, config)).prediction


@pytest.mark.parametrize("turned_by", [np.eye(4), OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("number", range(len(AXES)))
def test_stored_axes_change_nothing(
    one_model: tuple[OnnxEnsemble, dict[str, np.ndarray]], tmp_path: Path, number: int, turned_by: np.ndarray
) -> None:
    """All 48 ways to store one head, from files to files: the same answer to the bit, on the input's own grid."""
    ensemble, images = one_model
    straight = np.float32(turned_by @ AFFINE).astype(float)  # What a header holds.
    expected = predicted(case_of(images, straight), ensemble, CONFIG)
    orientation = np.array([[axis, flip] for axis, flip in zip(*AXES[number], strict=True)])
    affine = straight @ nib.orientations.inv_ornt_aff(orientation, images["b0"].shape)
    s_code, q_code = FORM_CODES[number % 3]
    for name, key in (("b0", "b0"), ("b1000", "b1000"), ("mask", "brain")):
        turned = nib.orientations.apply_orientation(images[key].astype(np.float32), orientation)
        image = nib.Nifti1Image(turned, affine)
        image.set_sform(affine, s_code)
        image.set_qform(affine, q_code)
        nib.save(image, tmp_path / f"{name}.nii.gz")

    stored = read_case(tmp_path, PreprocessConfig(), labelled=False)
    found = predicted(stored, ensemble, CONFIG)
    assert found.decision == expected.decision
    if s_code:
        assert (found.fvv_ml, found.lesion_adc) == (expected.fvv_ml, expected.lesion_adc)
    else:  # A q-form holds rounded quaternions: voxel edges are those of the header to seven digits.
        assert found.fvv_ml == pytest.approx(expected.fvv_ml, rel=1e-6)
    for name in ("brain", "stroke", "flair_visible_votes", "adc"):
        ours = nib.orientations.apply_orientation(getattr(expected, name), orientation)
        np.testing.assert_array_equal(getattr(found, name), ours)

    files = files_in_folder(tmp_path / "out")
    heatmap = np.zeros((*stored.b1000.array.shape, 3), dtype=np.uint8)
    write_images(files, stored, found)
    write_heatmap(files, stored, heatmap)
    source = nib.load(tmp_path / "b1000.nii.gz")
    for name in ("predictions.nii.gz", "heatmap.nii.gz", "fvv_adc.nii.gz"):
        image = nib.load(tmp_path / "out" / name)
        assert image.shape[:3] == source.shape
        np.testing.assert_array_equal(image.affine, source.affine)
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (s_code, q_code)


@pytest.mark.parametrize("kind", ["nrrd", "mha"])
def test_a_label_map_for_itk_programs(tmp_path: Path, models: Path, rng: np.random.Generator, kind: str) -> None:
    pytest.importorskip("SimpleITK")
    write_patient(tmp_path / "in" / "anna", rng)
    config = CONFIG.model_copy(update={"label_map": kind})
    assert not predict(tmp_path / "in", models, tmp_path / "out", config).failures
    votes = nib.load(tmp_path / "out" / "anna" / IN_FOLDER["predictions"])
    labels = read_volume(tmp_path / "out" / "anna" / IN_FOLDER[kind])
    brain, stroke, visible = np.moveaxis(np.asarray(votes.dataobj), 3, 0)
    np.testing.assert_array_equal(labels.array >= 1, brain > 0)
    np.testing.assert_array_equal(labels.array >= 2, stroke > 0)
    np.testing.assert_array_equal(labels.array == 3, (2 * visible.astype(int) >= brain.max()) & (stroke > 0))
    np.testing.assert_allclose(labels.affine, votes.affine, atol=1e-5)
    other = {"nrrd", "mha"} - {kind}
    assert not (tmp_path / "out" / "anna" / IN_FOLDER[other.pop()]).exists()
    with pytest.raises(ConfigError, match="BIDS has no name"):
        predict(tmp_path / "in", models, tmp_path / "bids", config.model_copy(update={"layout": "bids"}))


@pytest.fixture(scope="module")
def scan(simulated: Callable[[int], Any]) -> Any:
    return simulated(6)


@pytest.fixture(scope="module")
def scan_models(tmp_path_factory: pytest.TempPathFactory) -> OnnxEnsemble:
    """Marks what is over 2 deviations on b1000 as stroke, and of it what is over half a deviation on b0 as visible."""
    weights = ((0.5, 0.5), (1.0, 0.0), (0.0, 1.0))
    file = write_onnx(tmp_path_factory.mktemp("scan") / "m.onnx", weights=weights, biases=(1.2, -2.0, -0.5))
    return OnnxEnsemble([file], PROFILES["robust-v1"], device="cpu", threads=1)


def scan_case(scan: Any, b0: np.ndarray | None = None, b1000: np.ndarray | None = None) -> Case:
    images = (scan.b0 if b0 is None else b0, scan.b1000 if b1000 is None else b1000)
    return Case("p", *(Volume(image.astype(float), scan.affine) for image in images))


@pytest.mark.parametrize("change", ["0-1", "0-1 together", "offset", "times 37", "int16"])
def test_intensity_scale_changes_nothing(scan: Any, scan_models: OnnxEnsemble, change: str) -> None:
    expected = predicted(scan_case(scan), scan_models, CONFIG)
    assert expected.fvv_ml is not None
    assert expected.fvv_ml > 1
    b0, b1000 = scan.b0.astype(float), scan.b1000.astype(float)
    if change == "0-1":
        b0, b1000 = b0 / b0.max(), b1000 / b1000.max()
    elif change == "0-1 together":
        b0, b1000 = b0 / b0.max(), b1000 / b0.max()
    elif change == "offset":
        b0, b1000 = b0 - 500, b1000 - 300
    elif change == "int16":
        b0, b1000 = (np.rint(4 * image).astype(np.int16) for image in (b0, b1000))
    else:
        b0, b1000 = 37 * b0, 37 * b1000
    found = predicted(scan_case(scan, b0, b1000), scan_models, CONFIG)
    assert found.fvv_ml == pytest.approx(expected.fvv_ml, rel=0.02)


def brightened(images: dict[str, np.ndarray], times: float, finer: int) -> Case:
    """The head of `builders` in voxels so many times finer, its lesion so many times brighter than tissue on b1000."""
    images = {name: array.repeat(finer, axis=0).repeat(finer, axis=1) for name, array in images.items()}
    b1000 = np.where(images["stroke_roi"], times * 220.0, images["b1000"])
    affine = AFFINE @ np.diag([1 / finer, 1 / finer, 1, 1])
    return Case("p", Volume(images["b0"], affine), Volume(b1000, affine))


@pytest.mark.parametrize("finer", [1, 2, 4, 6])
def test_a_brighter_lesion_is_the_same_lesion(
    one_model: tuple[OnnxEnsemble, dict[str, np.ndarray]], scan_models: OnnxEnsemble, finer: int
) -> None:
    """Whether the grid enlarges the image (four times, twice), leaves it as it is or shrinks it."""
    _, images = one_model
    expected = predicted(brightened(images, 3, finer), scan_models, CONFIG)
    assert expected.fvv_ml is not None
    assert expected.fvv_ml > 10
    for times in (6, 10):
        found = predicted(brightened(images, times, finer), scan_models, CONFIG)
        assert found.fvv_ml == pytest.approx(expected.fvv_ml, rel=0.02)
        assert found.volume_ml(Channel.STROKE) == pytest.approx(expected.volume_ml(Channel.STROKE), rel=0.02)


def test_where_the_references_mask_collapses_no_number_is_given(
    one_model: tuple[OnnxEnsemble, dict[str, np.ndarray]],
) -> None:
    ensemble, images = one_model
    reference = PredictConfig(preprocess=PreprocessConfig(mask_method="otsu"), compute={"device": "cpu"})
    expected, six, ten = (predicted(brightened(images, times, 4), ensemble, reference) for times in (3, 6, 10))
    assert six.fvv_ml == pytest.approx(expected.fvv_ml, rel=0.02)
    assert ten.fvv_ml is None
    assert "mask-on-lesion" in {reason.code for reason in ten.decision.reasons}
