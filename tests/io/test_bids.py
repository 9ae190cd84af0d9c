"""BIDS data sets in and out: each examination once, nobody passed over, nobody under another's name."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, SHAPE, head, save, write_onnx, write_patient
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


def test_other_b_values_stand_in_where_there_is_no_b1000(data_set: Path, rng: np.random.Generator) -> None:
    """And not beside one: a run at b = 2000 adds no examination to a session with b = 1000."""
    folder = data_set / "sub-01" / "ses-1" / "dwi"
    write_dwi(folder / "sub-01_ses-1_acq-high_dwi.nii.gz", head(rng), (0, 2000), rng)
    (data_set / "sub-02" / "dwi" / "sub-02_acq-trace_dwi.nii.gz").unlink()
    found = {one.name: one for one in find_examinations(data_set)}
    assert list(found) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert found["sub-01_ses-1"].read(PredictConfig())[0].b_value == pytest.approx(1000)
    assert found["sub-02"].read(PredictConfig())[0].b_value == 2000


def test_an_unreadable_table_is_its_examinations_trouble_alone(data_set: Path) -> None:
    table = next((data_set / "sub-01" / "ses-1" / "dwi").glob("*.bval"))
    table.write_text("0 many")
    found = {one.name: one for one in find_examinations(data_set)}
    assert list(found) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    with pytest.raises(InputError, match="expected numbers"):
        found["sub-01_ses-1"].read(PredictConfig())


@pytest.mark.parametrize("place", ["dwi.bval", "sub-01/sub-01_dwi.bval", "sub-01/ses-1/sub-01_ses-1_dwi.bval"])
def test_b_values_are_inherited(data_set: Path, place: str) -> None:
    own = data_set / "sub-01" / "ses-1" / "dwi" / "sub-01_ses-1_dwi.bval"
    own.rename(data_set / place)
    (data_set / "sub-01" / "acq-other_dwi.bval").write_text("0")  # Applies to no image here.
    found = {one.name: one for one in find_examinations(data_set)}
    assert found["sub-01_ses-1"].read(PredictConfig())[0].b_value == pytest.approx(1000)
    assert data_set / place in found["sub-01_ses-1"].files()


def test_subjects_that_cannot_be_used_are_failures(data_set: Path, tmp_path: Path) -> None:
    next((data_set / "sub-02" / "dwi").glob("*trace_dwi.bval")).unlink()
    (data_set / "sub-03").symlink_to("not-mounted/sub-03")
    (data_set / "sub-04").mkdir()
    (data_set / "sub-05" / "dwi").mkdir(parents=True)
    (data_set / "sub-05" / "dwi" / "sub-05_dwi.nii.gz").symlink_to("annex/x")
    (data_set / "sub-05" / "dwi" / "sub-05_dwi.bval").symlink_to("annex/y")
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    result = predict(data_set, tmp_path / "models", tmp_path / "out", PredictConfig(compute={"device": "cpu"}))
    assert [one.examination_id for one in result.predictions] == ["sub-01_ses-1", "sub-01_ses-2"]
    reasons = {failure.examination_id: failure.reason for failure in result.failures}
    assert list(reasons) == ["sub-02", "sub-03", "sub-04", "sub-05"]
    assert "sub-02_acq-trace_dwi.nii.gz has no sub-02_acq-trace_dwi.bval, nor one higher up" in reasons["sub-02"]
    assert "holds b = 2000" in reasons["sub-02"]
    assert "broken link to not-mounted/sub-03" in reasons["sub-03"]
    assert "not fetched" in reasons["sub-04"]
    assert "broken link" in reasons["sub-05"]


def test_patients_whose_folder_is_a_link_to_nothing_are_failures(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("p0", "p1"):
        write_patient(tmp_path / "in" / name, rng)
    (tmp_path / "in" / "p2").symlink_to("/not/mounted/p2")
    (tmp_path / "in" / "notes.txt").symlink_to("/not/mounted/notes.txt")
    (tmp_path / "in" / "README").symlink_to(".git/annex/objects/README")
    (tmp_path / "in" / "p1" / "mask.nii.gz").unlink()
    (tmp_path / "in" / "p1" / "mask.nii.gz").symlink_to("not-fetched")
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    result = predict(tmp_path / "in", tmp_path / "models", tmp_path / "out", PredictConfig(compute={"device": "cpu"}))
    assert [one.examination_id for one in result.predictions] == ["p0"]
    reasons = {failure.examination_id: failure.reason for failure in result.failures}
    assert list(reasons) == ["p1", "p2"]
    assert "mask.nii.gz: a broken link to not-fetched" in reasons["p1"]
    assert "a broken link to /not/mounted/p2" in reasons["p2"]


def test_a_pipe_beside_a_b0_that_is_used_is_not_opened(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "p", rng)
    os.mkfifo(tmp_path / "p" / "adc.nii.gz")
    (examination,) = find_examinations(tmp_path / "p")
    assert "adc.nii.gz" not in {path.name for path in examination.files()}
    examination.sha256()


def test_a_data_set_without_diffusion(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    with pytest.raises(InputError, match=r"sub-\*"):
        find_examinations(tmp_path)


def write_pair(folder: Path, stem: str) -> None:
    save(folder / "dwi" / f"{stem}_dwi.nii.gz", np.ones((*SHAPE, 2)))
    (folder / "dwi" / f"{stem}_dwi.bval").write_text("0 1000")


def refusals(root: Path) -> dict[str, str]:
    """What is said of each examination that cannot be read."""
    said = {}
    for one in find_examinations(root):
        try:
            one.read(PredictConfig())
        except InputError as error:
            said[one.name] = error.message
    return said


def test_a_file_of_another_subject_or_session(tmp_path: Path) -> None:
    write_pair(tmp_path / "sub-01", "sub-01_acq-x")
    write_pair(tmp_path / "sub-02", "sub-03")
    write_pair(tmp_path / "sub-04" / "ses-1", "sub-04_ses-2")
    write_pair(tmp_path / "sub-05" / "ses-1", "sub-05")
    said = refusals(tmp_path)
    assert set(said) == {"sub-02", "sub-04_ses-1"}
    assert "sub-03_dwi.nii.gz lies in a folder of sub-02" in said["sub-02"]


def test_subjects_that_would_be_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pair(tmp_path / "sub-01", "sub-01")
    write_pair(tmp_path / "SUB-02", "SUB-02")
    save(tmp_path / "sub-03" / "dwi" / "sub-03_DWI.nii.gz", np.ones(SHAPE))
    save(tmp_path / "sub-04" / "anat" / "sub-04_T1w.nii.gz", np.ones(SHAPE))
    with caplog.at_level(logging.WARNING):
        said = refusals(tmp_path)
    assert set(said) == {"SUB-02", "sub-03"}
    assert "1 subjects have no folder dwi: sub-04" in caplog.text


def test_parts_of_a_complex_image_are_no_examinations(tmp_path: Path) -> None:
    write_pair(tmp_path / "sub-01", "sub-01_part-mag")
    write_pair(tmp_path / "sub-01", "sub-01_part-phase")
    assert [one.name for one in find_examinations(tmp_path)] == ["sub-01"]


def test_the_images_own_data_set_is_no_place_for_results(data_set: Path, tmp_path: Path) -> None:
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    before = (data_set / "dataset_description.json").read_bytes()
    config = PredictConfig(layout="bids", overwrite=True, compute={"device": "cpu"})
    with pytest.raises(OutputExistsError, match="describes another BIDS data set"):
        predict(data_set, tmp_path / "models", data_set, config)
    assert (data_set / "dataset_description.json").read_bytes() == before


@pytest.mark.parametrize("name", ["README.md", ".bidsignore", "figures/mine.png", "sub-01/notes.txt"])
def test_files_of_others_are_not_replaced(data_set: Path, tmp_path: Path, name: str) -> None:
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    config = PredictConfig(layout="bids", overwrite=True, compute={"device": "cpu"})
    with pytest.raises(OutputExistsError, match="not written by fvv"):
        predict(data_set, tmp_path / "models", tmp_path / "out", config)
    assert theirs.read_text() == "mine"
    assert {path.name for path in (tmp_path / "out").iterdir()} - {".fvv.lock"} == {name.partition("/")[0]}


def test_derivatives(data_set: Path, tmp_path: Path) -> None:
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    out = tmp_path / "derivatives"
    result = predict(data_set, tmp_path / "models", out, PredictConfig(layout="bids", compute={"device": "cpu"}))
    assert [one.examination_id for one in result.predictions] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert (
        predict(data_set, tmp_path / "models", out, PredictConfig(layout="bids", compute={"device": "cpu"})).kept == 3
    )
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
        if not image.name.endswith(("heatmap.nii.gz", "viewer.nii.gz")):  # Named in .bidsignore.
            sidecar = json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
            assert sidecar["Sources"] == ["bids:raw:sub-01/ses-2/dwi/sub-01_ses-2_dwi.nii.gz"]
    assert {path.name for path in (out / "sub-02" / "dwi").glob("*.nii.gz")} == {
        f"sub-02_{stem}.nii.gz"
        for stem in (
            "label-brain_mask", "label-stroke_mask", "label-flairvisible_probseg", "desc-fvv_ADC", "desc-fvv_heatmap",
            "desc-fvv_viewer",
        )
    }  # fmt: skip
