"""One answer to the bit, whichever way the images come."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import fvv
from builders import AFFINE, save, write_onnx, write_patient
from fvv.api.sources import case_of
from fvv.config import ComputeConfig, PredictConfig, PreprocessConfig
from fvv.data import Prediction
from fvv.io.case import CaseFiles
from fvv.stages.predict import predict

CONFIG = PredictConfig(compute=ComputeConfig(threads=1))


@pytest.fixture
def anna(tmp_path: Path, rng: np.random.Generator) -> Path:
    write_patient(tmp_path / "anna", rng)
    write_onnx(tmp_path / "models" / "model1.onnx")
    return tmp_path / "anna"


@pytest.fixture
def predictor(anna: Path) -> fvv.Predictor:
    return fvv.Predictor(anna.parent / "models", CONFIG)


def in_memory(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def fortran(path: Path) -> tuple[np.ndarray, np.ndarray]:
    array, affine = in_memory(path)
    return np.asfortranarray(array, dtype=np.float32), affine


SOURCES: dict[str, Callable[[Path], object]] = {
    "text": str, "path": Path, "nibabel": nib.load, "array": in_memory, "another order in memory": fortran,
    "volume": fvv.read,
}  # fmt: skip


IMAGES = ("brain", "stroke", "stroke_votes", "flair_visible_votes", "adc")


def assert_same(one: Prediction, other: Prediction) -> None:
    for field in fields(Prediction):
        if field.name not in {"seconds", "b1000", "examination_id", *IMAGES}:
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    for name in IMAGES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("masked", [True, False])
def test_every_source_gives_the_answer_of_the_files(masked: bool, anna: Path, predictor: fvv.Predictor) -> None:
    names = ["b0", "b1000", "mask"][: 3 if masked else 2]
    b0, b1000, *mask = (anna / f"{name}.nii.gz" for name in names)
    files = CaseFiles("anna", b1000, b0=b0, mask=mask[0] if mask else None)
    (stage,) = predict(files, anna.parent / "models", anna.parent / "results", CONFIG).predictions
    assert stage.fvv_ml
    written = nib.load(anna.parent / "results" / "anna" / "predictions.nii.gz")
    adc = np.asarray(nib.load(anna.parent / "results" / "anna" / "fvv_adc.nii.gz").dataobj)
    for kind, source in SOURCES.items():
        found = predictor(*(source(anna / f"{name}.nii.gz") for name in names))
        assert found.b1000 is not None
        np.testing.assert_array_equal(written.affine, found.b1000.affine)
        masks = [found.brain, found.stroke, found.flair_visible_votes]
        np.testing.assert_array_equal(np.asarray(written.dataobj), np.stack(masks, axis=3), err_msg=kind)
        assert found.adc is not None
        np.testing.assert_array_equal(adc, np.rint(np.nan_to_num(found.adc) * 1e6).astype(np.int16), err_msg=kind)
        for name in ("decision", "brain_voxels", "stroke_voxels", "flair_visible_voxels"):
            assert getattr(found, name) == getattr(stage, name), (kind, name)
        assert (found.fvv_per_model_ml, found.lesion_adc) == (stage.fvv_per_model_ml, stage.lesion_adc), kind


def test_the_folder_of_the_patient_and_its_files_are_one_examination(anna: Path, predictor: fvv.Predictor) -> None:
    (stage,) = predict(str(anna), anna.parent / "models", anna.parent / "results", CONFIG).predictions
    found = predictor(anna / "b0.nii.gz", anna / "b1000.nii.gz", anna / "mask.nii.gz", examination_id="anna")
    assert (found.examination_id, found.fvv_ml, found.decision) == (stage.examination_id, stage.fvv_ml, stage.decision)


def test_a_predictor_opens_its_models_once(
    anna: Path, predictor: fvv.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = predictor(anna / "b0.nii.gz", anna / "b1000.nii.gz")
    shutil.rmtree(anna.parent / "models")
    assert_same(first, predictor(anna / "b0.nii.gz", anna / "b1000.nii.gz"))
    assert "CPUExecutionProvider" in repr(predictor)


def test_the_sources_may_be_mixed(anna: Path, predictor: fvv.Predictor) -> None:
    b0, b1000, mask = (anna / f"{name}.nii.gz" for name in ("b0", "b1000", "mask"))
    wanted = predictor(b0, b1000, mask)
    assert_same(wanted, predictor(b0, nib.load(b1000), str(mask)))
    assert_same(wanted, predictor(b0, b1000, in_memory(mask)))


def test_b_values_of_a_4d_file_and_of_the_user(anna: Path, predictor: fvv.Predictor) -> None:
    b0, b1000 = (in_memory(anna / f"{name}.nii.gz")[0] for name in ("b0", "b1000"))
    save(anna / "dwi.nii.gz", np.stack([b1000, b0], axis=3))
    (anna / "dwi.bval").write_text("1000 0\n")
    wanted = predictor(anna / "b0.nii.gz", anna / "b1000.nii.gz")
    assert predictor(anna / "dwi.nii.gz", anna / "dwi.nii.gz").fvv_ml == wanted.fvv_ml
    far = predictor((b0, AFFINE), (b1000, AFFINE), b_value=3000.0)
    assert "b-value" in {reason.code for reason in far.decision.reasons}


def test_a_b_value_that_a_file_states_is_used_and_never_overruled(anna: Path) -> None:
    b0, b1000 = anna / "b0.nii.gz", anna / "b1000.nii.gz"
    (anna / "b1000.bval").write_text("2000")
    for first in (b0, in_memory(b0)):
        assert case_of(first, b1000, None, PreprocessConfig()).b_value == 2000
        assert case_of(first, b1000, None, PreprocessConfig(b_value=2010)).b_value == 2000
        with pytest.raises(fvv.FvvError, match=r"b = 1000 s/mm\^2 was asked for, the file states 2000"):
            case_of(first, b1000, None, PreprocessConfig(), b_value=1000)
    assert case_of(b0, in_memory(b1000), None, PreprocessConfig(b_value=1500)).b_value == 1500
    assert case_of(b0, in_memory(b1000), None, PreprocessConfig(b_value=1500), b_value=800).b_value == 800
    (anna / "b0.bval").write_text("300")
    with pytest.raises(fvv.FvvError, match="expected b0"):
        case_of(b0, in_memory(b1000), None, PreprocessConfig())


def test_other_grids(anna: Path, predictor: fvv.Predictor) -> None:
    b0, b1000 = (fvv.read(anna / f"{name}.nii.gz") for name in ("b0", "b1000"))
    flipped = fvv.Volume(
        b0.array[::-1], b0.affine @ np.array([[-1, 0, 0, 63], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    turned = predictor(flipped, b1000)
    assert turned.fvv_ml == predictor(b0, b1000).fvv_ml
    smaller = fvv.Volume(b0.array, b0.affine @ np.diag([1.02, 1.02, 1, 1]))
    with pytest.raises(fvv.FvvError, match=r"b0 is not on the grid.*resample_b0=True"):
        predictor(smaller, b1000)
    resampling = PredictConfig(compute=CONFIG.compute, preprocess=PreprocessConfig(resample_b0=True))
    assert fvv.predict(smaller, b1000, anna.parent / "models", config=resampling).decision.reasons
    with pytest.raises(fvv.FvvError, match="mask is not on the grid"):
        predictor(b0, b1000, smaller)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (np.zeros((4, 4, 4)), "expected a file"),
        (None, "got NoneType"),
        ((np.zeros((4, 4)), np.eye(4)), "3D"),
        ((np.zeros((4, 4, 4)), np.eye(3)), "affine"),
        ((np.zeros((4, 4, 4)), np.zeros((4, 4))), "singular"),
        ((np.zeros((4, 4, 4), complex), np.eye(4)), "numbers"),
        ((np.full((4, 4, 4), "a"), np.eye(4)), "numbers"),
        ("nothing.nii.gz", "nothing.nii.gz"),
    ],
)
def test_what_is_no_image_is_refused(source: object, said: str, anna: Path, predictor: fvv.Predictor) -> None:
    with pytest.raises(fvv.FvvError, match=said):
        predictor(anna / "b0.nii.gz", source)  # type: ignore[arg-type]
    with pytest.raises(fvv.FvvError):
        predictor(anna / "b0.nii.gz", anna / "b1000.nii.gz", source or np.eye(4) if source is None else source)  # type: ignore[arg-type]


def test_one_volume_of_a_4d_file_can_be_read(tmp_path: Path) -> None:
    save(tmp_path / "four.nii.gz", np.arange(4 * 4 * 2 * 3.0).reshape(4, 4, 2, 3))
    volume = fvv.read(tmp_path / "four.nii.gz", index=2)
    assert volume.array[0, 0].tolist() == [2.0, 5.0]
    with pytest.raises(fvv.FvvError, match="index"):
        fvv.read(volume, index=0)
    with pytest.raises(fvv.FvvError):
        fvv.read(tmp_path / "four.nii.gz")


def test_a_mask_need_not_be_0_and_1(anna: Path, predictor: fvv.Predictor) -> None:
    b0, b1000 = (fvv.read(anna / f"{name}.nii.gz") for name in ("b0", "b1000"))
    array, affine = in_memory(anna / "mask.nii.gz")
    wanted = predictor(b0, b1000, (array.astype(bool), affine))
    found = predictor(b0, b1000, (array * 255.0, affine))
    assert found.fvv_ml == wanted.fvv_ml
    assert "not 0/1" in " ".join(reason.message for reason in found.decision.reasons)
    with pytest.raises(fvv.FvvError, match="no mask"):
        predictor(b0, b1000, (np.linspace(0, 0.4, array.size).reshape(array.shape), affine))
