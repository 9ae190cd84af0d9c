"""One answer on every processor: 8-bit products are exact, and models that differ from their reference are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fvv
from builders import AFFINE, head, write_onnx, write_patient
from fvv.arrays import FloatArray
from fvv.cli import main
from fvv.config import PROFILES, PredictConfig
from fvv.data import Volume
from fvv.errors import ModelError
from fvv.inference import reference
from fvv.inference.ensemble import OnnxEnsemble, open_ensemble
from fvv.inference.golden import EVERY, SLICES, difference, golden_input, golden_output
from fvv.io.bundle import (
    BundleFile,
    BundleManifest,
    ModelBundle,
    ModelEntry,
    QuantisedModel,
    file_sha256,
    write_manifest,
)
from fvv.io.golden import read_golden, write_golden
from fvv.io.shipped import shipped_bundle

PROFILE = PROFILES["robust-v1"]
CPU = PredictConfig(device="cpu")
INT8 = PredictConfig(device="cpu", precision="int8")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nothing known from other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FVV_CHECKED", "")
    return tmp_path / "cache" / "fvv" / "checked"


def write_bundle(folder: Path, *, shift: float = 0.0, precision: str = "int8") -> Path:
    """Two models in two forms, and reference outputs that the second misses by `shift` in one form."""
    entries, outputs = [], {}
    for n in range(2):
        file = write_onnx(folder / f"model{n + 1}.onnx", biases=(1.5, -2.0, -1.0 - n))
        small = write_onnx(folder / f"model{n + 1}.int8.onnx", biases=(1.5, -2.0, -1.1 - n))
        int8 = QuantisedModel(file=small.name, sha256=file_sha256(small), calibrated_on=(), checks={})
        entries.append(ModelEntry(file=file.name, sha256=file_sha256(file), fold=n, int8=int8))
    images = golden_input(PROFILE)
    for form, ending in (("fp32", ""), ("int8", ".int8")):
        files = [folder / f"model{n + 1}{ending}.onnx" for n in range(2)]
        outputs[form] = golden_output(OnnxEnsemble(files, PROFILE, device="cpu"), images)
    outputs[precision][1] += np.float32(shift)
    write_golden(folder / "golden.npz", images, outputs)
    golden = BundleFile(file="golden.npz", sha256=file_sha256(folder / "golden.npz"))
    about = {"software": "x", "run_name": "r", "profile": PROFILE, "channels": ()}
    write_manifest(folder, BundleManifest(**about, models=tuple(entries), golden=golden))
    return folder


def test_what_passes_is_checked_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = ModelBundle.open(write_bundle(tmp_path / "bundle"))
    runs = []
    monkeypatch.setattr(reference, "golden_output", lambda *words: runs.append(1) or golden_output(*words))
    for _ in range(2):
        assert len(open_ensemble(bundle, CPU)) == 2
        monkeypatch.setenv("FVV_CHECKED", "")  # as in another run
    assert len(runs) == 1
    open_ensemble(bundle, INT8)  # another form
    open_ensemble(bundle, CPU.model_copy(update={"folds": 1}))  # and other models
    assert len(runs) == 3
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setattr("onnxruntime.__version__", "another")
    open_ensemble(bundle, CPU)
    monkeypatch.setattr("fvv.io.checked._processor", lambda: ("another",))
    open_ensemble(bundle, CPU)
    assert len(runs) == 5


def test_a_form_that_differs_is_refused_in_one_line(tmp_path: Path, cache: Path) -> None:
    bundle = ModelBundle.open(write_bundle(tmp_path / "bundle", shift=0.03))
    for _ in range(2):  # What fails is never remembered.
        with pytest.raises(ModelError) as caught:
            open_ensemble(bundle, INT8)
        said = str(caught.value)
        assert said.startswith(str(bundle.path / "model2.int8.onnx"))
        assert "does not give its reference output on this machine: logits differ by 0.03 on average" in said
        assert "accepted is 0.01" in said
        assert "use --precision fp32" in said
        assert "fvv doctor -m" in said
        assert "\n" not in said
    assert not cache.exists()
    assert len(open_ensemble(bundle, CPU)) == 2
    assert len(open_ensemble(bundle, INT8.model_copy(update={"folds": 1}))) == 1


def test_float32_that_differs_is_refused_too(tmp_path: Path) -> None:
    bundle = ModelBundle.open(write_bundle(tmp_path / "bundle", shift=0.03, precision="fp32"))
    with pytest.raises(ModelError, match=r"model2\.onnx: does not give.*up to 0\.03, accepted is 0\.001") as caught:
        open_ensemble(bundle, CPU)
    assert "--precision fp32" not in str(caught.value)


def test_every_door_refuses(tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_bundle(tmp_path / "bundle", shift=0.03)
    write_patient(tmp_path / "anna", rng)
    words = ["predict", str(tmp_path / "anna"), "-m", str(folder), "-o", str(tmp_path / "out"), "-f", "CPU"]
    assert main([*words, "--precision", "int8"]) == 1
    assert capsys.readouterr().err.count("does not give its reference output") == 1
    assert main([*words, "--fast"]) == 1
    assert not (tmp_path / "out" / "results.csv").exists()
    assert main(words) == 0
    images = head(rng)
    with pytest.raises(ModelError, match="does not give its reference output"):
        fvv.predict(Volume(images["b0"], AFFINE), Volume(images["b1000"], AFFINE), folder, config=INT8)


@pytest.mark.parametrize("kept", [np.zeros((1, 3, 5, 64, 64)), np.zeros((2, 3, 5, 32, 32)), np.zeros(())])
def test_a_reference_of_another_shape_is_a_clear_error(tmp_path: Path, kept: FloatArray) -> None:
    folder = write_bundle(tmp_path / "bundle")
    write_golden(folder / "golden.npz", golden_input(PROFILE), {"fp32": kept})
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
    monkeypatch.setattr(reference, "golden_output", lambda *words: runs.append(1) or golden_output(*words))
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


# The other processor.

STEP, MIDDLE = np.float32(20 / 255), 128
"""8-bit activations of the model below: z-scores from -10 to 10."""
WEIGHT = 120
"""Two products of 255 and this do not fit in 16 bits."""


def write_quantised(path: Path) -> Path:
    """A convolution in 8 bits: each logit is the mean of both channels over seven slices, less 0.5."""
    kernel = np.full((3, 2, 7, 1, 1), WEIGHT, np.int8)
    scale = np.full(3, 1 / (14 * WEIGHT), np.float32)
    arrays = {
        "kernel8": kernel, "kernel_scale": scale, "kernel_zero": np.zeros(3, np.int8),
        "step": STEP, "middle": np.uint8(MIDDLE), "shape": np.array([-1, 3, 256, 256]),
        "bias32": np.round(-0.5 / (STEP * scale)).astype(np.int32), "bias_scale": STEP * scale,
        "bias_zero": np.zeros(3, np.int32),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["modelInput", "step", "middle"], ["input8"]),
        node("DequantizeLinear", ["input8", "step", "middle"], ["input"]),
        node("DequantizeLinear", ["kernel8", "kernel_scale", "kernel_zero"], ["kernel"], axis=0),
        node("DequantizeLinear", ["bias32", "bias_scale", "bias_zero"], ["bias"], axis=0),
        node("Conv", ["input", "kernel", "bias"], ["conv"]),
        node("QuantizeLinear", ["conv", "step", "middle"], ["output8"]),
        node("DequantizeLinear", ["output8", "step", "middle"], ["output"]),
        node("Transpose", ["output"], ["slices_first"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["slices_first", "shape"], ["modelOutput"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "quantised",
        [info("modelInput", TensorProto.FLOAT, ["batch", 2, "slices", 256, 256])],
        [info("modelOutput", TensorProto.FLOAT, ["out", 3, 256, 256])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def emulated(images: FloatArray, *, saturating: bool) -> FloatArray:
    """The same in NumPy, as (1, 3, slices, 64, 64); pairs of products, as x86 adds them, saturate in 16 bits or not."""
    steps = np.clip(np.rint(images.astype(np.float32) / STEP) + MIDDLE, 0, 255).astype(np.int64)[..., ::EVERY, ::EVERY]
    columns = np.stack([steps[:, z : z + 7].reshape(14, *steps.shape[2:]) for z in range(SLICES)])
    pairs = WEIGHT * (columns[:, ::2] + columns[:, 1::2])
    if saturating:
        pairs = np.clip(pairs, -(2**15), 2**15 - 1)
    total = pairs.sum(axis=1) - 14 * WEIGHT * MIDDLE
    mean = total / (14 * WEIGHT) - 0.5 / STEP  # in steps
    logits = STEP * (np.clip(np.rint(mean) + MIDDLE, 0, 255) - MIDDLE)
    return np.repeat(logits[None, None].astype(np.float32), 3, axis=1)


def test_8_bit_products_are_exact_on_this_processor(tmp_path: Path) -> None:
    """On one whose products saturate, this fails without the option that `fvv.inference.sessions` sets."""
    images = golden_input(PROFILE)
    ensemble = OnnxEnsemble([write_quantised(tmp_path / "m.onnx")], PROFILE, device="cpu", threads=1)
    options = ensemble._models[0].session.get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"
    found, exact = golden_output(ensemble, images), emulated(images, saturating=False)
    # Where a sum lies half-way between two steps, float32 decides.
    assert np.abs(found - exact).max() <= STEP * 1.001
    assert (found != exact).mean() < 1e-3
    assert difference(found, exact).accepted("int8")


def test_the_bounds_catch_products_that_saturate() -> None:
    images = golden_input(PROFILE)
    exact, saturated = (emulated(images, saturating=saturating) for saturating in (False, True))
    assert (exact != saturated).any()
    assert not difference(saturated, exact).accepted("int8")


@pytest.mark.parametrize("exact_products", ["0", "1"])
def test_the_shipped_models_give_their_reference_in_both_modes(
    monkeypatch: pytest.MonkeyPatch, exact_products: str
) -> None:
    """With exact products always; without, where the processor does not saturate, or the bounds catch it."""
    shipped = shipped_bundle()
    assert shipped is not None
    monkeypatch.setattr("fvv.inference.sessions._EXACT_PRODUCTS", ("session.x64quantprecision", exact_products))
    bundle = ModelBundle.open(shipped)
    images, kept = read_golden(shipped / "golden.npz", len(bundle.models))
    for number, model in enumerate(bundle.models):
        ensemble = OnnxEnsemble([bundle.file(model, "int8")], bundle.profile, device="cpu", threads=1)
        against = difference(golden_output(ensemble, images), kept["int8"][number : number + 1])
        if exact_products == "1" or against.accepted("int8"):
            assert against.mean < 1e-4
            assert against.flipped < 1e-4
