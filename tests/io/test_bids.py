from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, head, save, write_onnx
from fvv.config import PredictConfig
from fvv.data import Channel
from fvv.errors import InputError, OutputExistsError
from fvv.io.inputs import find_examinations
from fvv.stages.predict import predict


def write_dwi(file: Path, images: dict[str, np.ndarray], bvals: tuple[int, ...], rng: np.random.Generator) -> None:
    """4D diffusion: b0 and b1000 with noise of their own in each volume, other b-values made up."""
    volumes = []
    for b in bvals:
        image = images["b0"] if b < 50 else images["b1000"] if 900 < b < 1100 else images["b1000"] * 0.4
        volumes.append(image * np.exp(rng.normal(0, 0.01, image.shape)))
    save(file, np.stack(volumes, axis=-1).squeeze())
    file.with_name(file.name.replace(".nii.gz", ".bval")).write_text(" ".join(map(str, bvals)))


@pytest.fixture
def data_set(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two sessions and three b-values for one subject; a subject with its b-values in two files."""
    root = tmp_path / "bids"
    (root / "sub-02" / "dwi").mkdir(parents=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.10.0"}))
    for session in ("1", "2"):
        file = root / "sub-01" / f"ses-{session}" / "dwi" / f"sub-01_ses-{session}_dwi.nii.gz"
        write_dwi(file, head(rng), (0, 1000, 1005, 5, 2000, 995), rng)
    for name, bvals in (("b0", (0,)), ("trace", (1000,)), ("rev", (2000,))):
        write_dwi(root / "sub-02" / "dwi" / f"sub-02_acq-{name}_dwi.nii.gz", head(rng), bvals, rng)
    return root


def test_examinations_of_a_data_set(data_set: Path) -> None:
    found = {one.name: one for one in find_examinations(data_set)}
    assert list(found) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    case = found["sub-01_ses-1"].read(PredictConfig())[0]
    stored = np.asarray(nib.load(next((data_set / "sub-01" / "ses-1" / "dwi").glob("*.nii.gz"))).dataobj, float)
    np.testing.assert_allclose(case.b0.array, stored[..., [0, 3]].mean(axis=3))
    geometric = np.exp(np.log(np.maximum(stored[..., [1, 2, 5]], 1e-6)).mean(axis=3))
    np.testing.assert_allclose(case.b1000.array, geometric, rtol=1e-6)
    assert case.b_value == pytest.approx(1000)
    assert found["sub-02"].read(PredictConfig())[0].b_value == 1000


def test_runs_of_one_session_keep_their_names(tmp_path: Path, rng: np.random.Generator) -> None:
    for run in (1, 2):
        write_dwi(tmp_path / "sub-01" / "dwi" / f"sub-01_run-{run}_dwi.nii.gz", head(rng), (0, 1000), rng)
    assert [one.name for one in find_examinations(tmp_path)] == ["sub-01_run-1", "sub-01_run-2"]


def test_an_unreadable_table_is_its_examinations_trouble_alone(data_set: Path) -> None:
    table = next((data_set / "sub-01" / "ses-1" / "dwi").glob("*.bval"))
    table.write_text("0 many")
    found = {one.name: one for one in find_examinations(data_set)}
    assert list(found) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    with pytest.raises(InputError, match="expected numbers"):
        found["sub-01_ses-1"].read(PredictConfig())


def test_a_data_set_without_diffusion(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    with pytest.raises(InputError, match=r"sub-\*"):
        find_examinations(tmp_path)


def test_the_images_own_data_set_is_no_place_for_results(data_set: Path, tmp_path: Path) -> None:
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    before = (data_set / "dataset_description.json").read_bytes()
    config = PredictConfig(device="cpu", layout="bids", overwrite=True)
    with pytest.raises(OutputExistsError, match="describes another BIDS data set"):
        predict(data_set, tmp_path / "models", data_set, config)
    assert (data_set / "dataset_description.json").read_bytes() == before


@pytest.mark.parametrize("name", ["README.md", ".bidsignore", "figures/mine.png", "sub-01/notes.txt"])
def test_files_of_others_are_not_replaced(data_set: Path, tmp_path: Path, name: str) -> None:
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    config = PredictConfig(device="cpu", layout="bids", overwrite=True)
    with pytest.raises(OutputExistsError, match="not written by fvv"):
        predict(data_set, tmp_path / "models", tmp_path / "out", config)
    assert theirs.read_text() == "mine"
    assert {path.name for path in (tmp_path / "out").iterdir()} - {".fvv.lock"} == {name.partition("/")[0]}


def test_derivatives(data_set: Path, tmp_path: Path) -> None:
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    out = tmp_path / "derivatives"
    result = predict(data_set, tmp_path / "models", out, PredictConfig(device="cpu", layout="bids"))
    assert [one.patient for one in result.predictions] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert predict(data_set, tmp_path / "models", out, PredictConfig(device="cpu", layout="bids")).kept == 3
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "fvv"
    assert (out / description["DatasetLinks"]["raw"]).resolve() == data_set.resolve()
    folder = out / "sub-01" / "ses-2" / "dwi"
    stroke = folder / "sub-01_ses-2_label-stroke_mask.nii.gz"
    np.testing.assert_array_equal(nib.load(stroke).affine, AFFINE)
    measured = nib.load(stroke).get_fdata().sum() * 4 * 4 * 10 / 1000
    assert measured == pytest.approx(result.predictions[1].volume_ml(Channel.STROKE), rel=0.05)
    for image in folder.glob("*.nii.gz"):
        if "heatmap" not in image.name:
            sidecar = json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
            assert sidecar["Sources"] == ["bids:raw:sub-01/ses-2/dwi/sub-01_ses-2_dwi.nii.gz"]
    assert {path.name for path in (out / "sub-02" / "dwi").glob("*.nii.gz")} == {
        f"sub-02_{stem}.nii.gz"
        for stem in (
            "label-brain_mask", "label-stroke_mask", "label-flairvisible_probseg", "desc-fvv_ADC", "desc-fvv_heatmap"
        )
    }  # fmt: skip
