from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import write_onnx
from fvv.config import PROFILES, ComputeConfig
from fvv.errors import ModelError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.golden import golden_input, golden_output
from fvv.io.bundle import ModelBundle, write_golden, write_manifest
from fvv.schemas.bundle import BundleFile, BundleManifest, ModelEntry
from fvv.stages.doctor import doctor
from fvv.system.fingerprint import file_sha256

PROFILE = PROFILES["robust-v1"]
CONFIG = ComputeConfig(device="cpu")


def write_bundle(folder: Path, *, shift: float = 0.0, n_models: int = 2) -> Path:
    """Models, and golden outputs that the last one misses by `shift`."""
    files = [write_onnx(folder / f"model{n + 1}.onnx", biases=(1.5, -2.0, -1.0 - n)) for n in range(n_models)]
    entries = tuple(ModelEntry(file=file.name, sha256=file_sha256(file), fold=n) for n, file in enumerate(files))
    images = golden_input(PROFILE)
    outputs = golden_output(OnnxEnsemble(files, PROFILE, device="cpu"), images)
    outputs[-1] += np.float32(shift)
    write_golden(folder / "golden.npz", images, outputs)
    golden = BundleFile(file="golden.npz", sha256=file_sha256(folder / "golden.npz"))
    manifest = BundleManifest(software="x", run_name="r", profile=PROFILE, models=entries, golden=golden)
    write_manifest(folder, manifest)
    return folder


def test_a_sound_bundle_passes(tmp_path: Path) -> None:
    result = doctor(write_bundle(tmp_path), CONFIG)
    assert result.failures == ()
    assert [model.file for model in result.models] == ["model1.onnx", "model2.onnx"]
    assert all(model.seconds_per_slice > 0 for model in result.models)
    text = result.summary()
    assert "ran on CPUExecutionProvider" in text
    assert f"pass: {tmp_path}" in text


def test_a_model_with_another_output_fails(tmp_path: Path) -> None:
    result = doctor(write_bundle(tmp_path, shift=0.01), CONFIG)
    assert [failure.examination_id for failure in result.failures] == ["model2.onnx"]
    assert [model.problem == "" for model in result.models] == [True, False]
    assert "FAIL" in result.summary()


def test_published_models_only_have_to_run(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model1.onnx", whole_volume=False)
    write_onnx(tmp_path / "model2.onnx", whole_volume=False, biases=(float("nan"), 0.0, 0.0))
    result = doctor(tmp_path, CONFIG)
    assert [model.problem == "" for model in result.models] == [True, False]
    assert "no reference output" in result.summary()


def test_a_damaged_bundle_and_a_device_that_is_not_there(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    manifest = ModelBundle.open(tmp_path).manifest
    with pytest.raises(ModelError, match="no_such_device"):
        doctor(tmp_path, ComputeConfig(device="no_such_device"))
    (tmp_path / "golden.npz").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="changed since"):
        doctor(tmp_path, CONFIG)
    golden = BundleFile(file="golden.npz", sha256=file_sha256(tmp_path / "golden.npz"))
    write_manifest(tmp_path, manifest.model_copy(update={"golden": golden}))
    with pytest.raises(ModelError, match=r"golden\.npz: cannot be read"):
        doctor(tmp_path, CONFIG)
