"""Models that do not give their reference output are refused, once a machine and wherever they are used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fvv
from builders import AFFINE, head, write_onnx, write_patient
from fvv.arrays import FloatArray
from fvv.cli import main
from fvv.config import PROFILES, PredictConfig
from fvv.data import Volume
from fvv.errors import ModelError
from fvv.inference import golden
from fvv.inference.ensemble import OnnxEnsemble, open_ensemble
from fvv.inference.golden import golden_input, golden_output, largest_difference, problem_of
from fvv.io.bundle import ModelBundle, write_golden, write_manifest
from fvv.schemas.bundle import BundleFile, BundleManifest, ModelEntry
from fvv.system.fingerprint import file_sha256

PROFILE = PROFILES["robust-v1"]
CPU = PredictConfig(compute={"device": "cpu"})


def test_the_input_is_the_same_every_time_and_holds_a_lesion() -> None:
    images = golden_input(PROFILE)
    assert images.shape == (2, 11, 256, 256)
    assert images.dtype == np.float16
    np.testing.assert_array_equal(images, golden_input(PROFILE))
    assert (images[0, 5] > 2).sum() > 500


@pytest.mark.parametrize(("change", "accepted"), [(0.0, True), (1e-4, True), (5e-3, False), (np.nan, False)])
def test_one_voxel_decides(rng: np.random.Generator, change: float, *, accepted: bool) -> None:
    kept = rng.normal(size=(3, 5, 64, 64))
    found = kept.copy()
    found[1, 2, 3, 4] += change
    assert (problem_of(largest_difference(found, kept)) == "") is accepted


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nothing known from other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FVV_CHECKED", "")
    return tmp_path / "cache" / "fvv" / "checked"


def write_bundle(folder: Path, *, shift: float = 0.0) -> Path:
    """Two models, and reference outputs that the second misses by `shift`."""
    files = [write_onnx(folder / f"model{n + 1}.onnx", biases=(1.5, -2.0, -1.0 - n)) for n in range(2)]
    entries = tuple(ModelEntry(file=file.name, sha256=file_sha256(file), fold=n) for n, file in enumerate(files))
    images = golden_input(PROFILE)
    output = golden_output(OnnxEnsemble(files, PROFILE, device="cpu"), images)
    output[1] += np.float32(shift)
    write_golden(folder / "golden.npz", images, output)
    kept = BundleFile(file="golden.npz", sha256=file_sha256(folder / "golden.npz"))
    write_manifest(folder, BundleManifest(software="x", run_name="r", profile=PROFILE, models=entries, golden=kept))
    return folder


def test_what_passes_is_checked_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = ModelBundle.open(write_bundle(tmp_path / "bundle"))
    runs = []
    monkeypatch.setattr(golden, "golden_output", lambda *words: runs.append(1) or golden_output(*words))
    for _ in range(2):
        assert len(open_ensemble(bundle, CPU)) == 2
        monkeypatch.setenv("FVV_CHECKED", "")  # as in another run
    assert len(runs) == 1
    open_ensemble(bundle, CPU.model_copy(update={"folds": 1}))  # other models
    assert len(runs) == 2
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr("onnxruntime.__version__", "another")
    open_ensemble(bundle, CPU)
    monkeypatch.setattr("fvv.io.checked._processor", lambda: ("another",))
    open_ensemble(bundle, CPU)
    assert len(runs) == 4


def test_a_model_that_differs_is_refused_in_one_line(tmp_path: Path, cache: Path) -> None:
    bundle = ModelBundle.open(write_bundle(tmp_path / "bundle", shift=0.03))
    for _ in range(2):  # What fails is never remembered.
        with pytest.raises(ModelError) as caught:
            open_ensemble(bundle, CPU)
        said = str(caught.value)
        assert said.startswith(str(bundle.path / "model2.onnx"))
        assert "does not give its reference output on this machine: logits differ by up to 0.03" in said
        assert "accepted is 0.001" in said
        assert "fvv doctor -m" in said
        assert "\n" not in said
    assert not cache.exists()
    assert len(open_ensemble(bundle, CPU.model_copy(update={"folds": 1}))) == 1


def test_every_door_refuses(tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_bundle(tmp_path / "bundle", shift=0.03)
    write_patient(tmp_path / "anna", rng)
    words = ["predict", str(tmp_path / "anna"), "-m", str(folder), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main(words) == 1
    assert capsys.readouterr().err.count("does not give its reference output") == 1
    assert not (tmp_path / "out" / "results.csv").exists()
    assert main([*words, "--first-models", "1"]) == 0
    images = head(rng)
    with pytest.raises(ModelError, match="does not give its reference output"):
        fvv.predict(Volume(images["b0"], AFFINE), Volume(images["b1000"], AFFINE), folder, config=CPU)


@pytest.mark.parametrize("kept", [np.zeros((1, 3, 5, 64, 64)), np.zeros((2, 3, 5, 32, 32)), np.zeros(())])
def test_a_reference_of_another_shape_is_a_clear_error(tmp_path: Path, kept: FloatArray) -> None:
    folder = write_bundle(tmp_path / "bundle")
    write_golden(folder / "golden.npz", golden_input(PROFILE), kept)
    content = json.loads((folder / "bundle.json").read_text())
    content["golden"]["sha256"] = file_sha256(folder / "golden.npz")
    (folder / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"expected an output of|reference output is of"):
        open_ensemble(ModelBundle.open(folder), CPU)


@pytest.mark.parametrize("place", ["a file", "no home", "relative"])
def test_without_a_cache_it_is_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    bundle = ModelBundle.open(write_bundle(tmp_path / "bundle"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", {"a file": str(tmp_path / "file")}.get(place, "not/absolute"))
    if place == "no home":
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.chdir(tmp_path)
    runs = []
    monkeypatch.setattr(golden, "golden_output", lambda *words: runs.append(1) or golden_output(*words))
    open_ensemble(bundle, CPU)
    open_ensemble(bundle, CPU)  # This process knows it ...
    assert len(runs) == 1
    code = "import os; print(os.environ['FVV_CHECKED'])"  # ... and so do those that it starts.
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == os.environ["FVV_CHECKED"] != ""
    monkeypatch.setenv("FVV_CHECKED", "")
    open_ensemble(bundle, CPU)
    assert len(runs) == 2
    assert not (tmp_path / "not").exists()
