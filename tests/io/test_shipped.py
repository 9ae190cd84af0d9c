"""The model in the package: found, preferred after one's own, and small enough."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

import fvv
from builders import AFFINE, head, write_onnx, write_patient
from fvv.cli import main
from fvv.config import PROFILES, EvaluateConfig, PredictConfig
from fvv.data import Volume
from fvv.errors import ModelError
from fvv.inference.ensemble import open_ensemble
from fvv.io import shipped
from fvv.io.bundle import BundleManifest, ModelBundle, ModelEntry, QuantisedModel, file_sha256, write_manifest
from fvv.io.bundle_size import leave_out_forms
from fvv.io.shipped import models_to_use, shipped_bundle
from fvv.io.tables import read_table

NOTICE = "trained on nobody"


def write_small_bundle(folder: Path, *, models: int = 2) -> Path:
    """Models in both forms; the 8-bit ones mark a little more."""
    entries = []
    for n in range(models):
        full = write_onnx(folder / f"model{n + 1}.onnx", biases=(1.5, -2.0, -3.0))
        small = write_onnx(folder / f"model{n + 1}.int8.onnx", biases=(1.5, -1.9, -2.9))
        int8 = QuantisedModel(file=small.name, sha256=file_sha256(small), calibrated_on=(), checks={})
        entries.append(ModelEntry(file=full.name, sha256=file_sha256(full), fold=n, int8=int8))
    manifest = BundleManifest(
        software="test", run_name=folder.name, notice=NOTICE, profile=PROFILES["robust-v1"], channels=(),
        models=tuple(entries),
    )  # fmt: skip
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package keeps its model; the working directory is empty."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(shipped, "MODELS_FOLDER", tmp_path / "package")
    return tmp_path / "package"


def test_a_package_without_model_says_what_to_do(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shipped_bundle() is None
    assert main(["predict", "anna"]) == 1
    assert "this package holds none (name a folder of models with -m (--models))" in capsys.readouterr().err
    with pytest.raises(ModelError, match="holds none"):
        fvv.predict(Volume(np.zeros((4, 4, 4)), AFFINE), Volume(np.zeros((4, 4, 4)), AFFINE))


def test_models_named_come_first_then_ones_own_then_the_packages(package: Path) -> None:
    write_small_bundle(package / "small-v1")
    assert models_to_use(None) == package / "small-v1"
    Path("saved_models_ONNX").mkdir()
    assert models_to_use(None) == Path("saved_models_ONNX")
    assert models_to_use(Path("mine")) == Path("mine")


def test_two_models_in_the_package_are_a_fault(package: Path) -> None:
    for name in ("one", "two"):
        write_small_bundle(package / name)
    with pytest.raises(ModelError, match="one, two"):
        shipped_bundle()


def test_prediction_without_models_says_everywhere_which_ran(
    package: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("fvv"), "propagate", True)
    write_small_bundle(package / "small-v1")
    write_patient(Path("anna"), rng)
    # In this process: the command line would take the log's lines for itself.
    from fvv.stages.predict import predict  # noqa: PLC0415

    with caplog.at_level(logging.INFO, "fvv"):
        predict(Path("anna"), models_to_use(None), Path("out"), PredictConfig(device="cpu"))
    assert "no --models given: the model in the package, small-v1" in caplog.text
    described = f"small-v1 (2 of 2 models, fp32; {NOTICE})"
    assert f"models: {described}" in caplog.text
    assert json.loads(Path("out/anna/results.json").read_text())["models"] == described
    assert f"models={described}" in Path("out/anna/results.txt").read_text()
    assert read_table(Path("out/results.csv"))[0]["models"] == described
    assert described in Path("out/report.html").read_text()
    assert json.loads(Path("out/run.json").read_text())["about"]["Models"] == described


def test_results_say_which_part_ran_in_which_precision(tmp_path: Path, rng: np.random.Generator) -> None:
    from fvv.stages.predict import predict  # noqa: PLC0415

    folder = write_small_bundle(tmp_path / "small-v1")
    write_patient(tmp_path / "anna", rng)
    predict(tmp_path / "anna", folder, tmp_path / "out", PredictConfig(device="cpu", folds=1, precision="int8"))
    answer = json.loads((tmp_path / "out" / "anna" / "results.json").read_text())
    assert answer["models"] == f"small-v1 (1 of 2 models, int8; {NOTICE})"
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    file = folder / "model1.int8.onnx"
    assert run["models"] == {file.name: file_sha256(file)}
    assert run["about"]["Device"] == "CPUExecutionProvider"


def test_prediction_from_python_takes_the_packages_model(package: Path, rng: np.random.Generator) -> None:
    write_small_bundle(package / "small-v1", models=1)
    images = head(rng)
    prediction = fvv.predict(Volume(images["b0"], AFFINE), Volume(images["b1000"], AFFINE))
    assert prediction.models == f"small-v1 (1 of 1 models, fp32; {NOTICE})"
    assert prediction.stroke is not None
    assert prediction.stroke.any()


@pytest.mark.parametrize(("largest_mb", "left"), [(None, "both"), (0.1, "both"), (0.9, "fp32"), (0.5, "int8")])
def test_forms_are_left_out_until_the_rest_fits(tmp_path: Path, largest_mb: float | None, left: str) -> None:
    """Two files of float32 with 0.4 MB each, two of 8 bits with 0.1 MB each."""
    entries = []
    for n in (1, 2):
        (tmp_path / f"model{n}.onnx").write_bytes(bytes(400_000))
        (tmp_path / f"model{n}.int8.onnx").write_bytes(bytes(100_000))
        int8 = QuantisedModel(file=f"model{n}.int8.onnx", sha256="", calibrated_on=(), checks={})
        entries.append(ModelEntry(file=f"model{n}.onnx", sha256="", fold=n, int8=int8))
    if largest_mb == 0.1:
        with pytest.raises(ModelError, match=r"0\.8 MB in float32, the limit is 0\.1 MB"):
            leave_out_forms(tmp_path, entries, largest_mb)
    else:
        kept, int8_only = leave_out_forms(tmp_path, entries, largest_mb)
        assert int8_only is (left == "int8")
        assert all((model.int8 is None) is (left == "fp32") for model in kept)
    names = {"both": {"model1.onnx", "model1.int8.onnx"}, "fp32": {"model1.onnx"}, "int8": {"model1.int8.onnx"}}[left]
    assert {path.name for path in tmp_path.glob("model1*")} == names


def test_a_bundle_of_8_bit_models_alone_is_used_as_such(tmp_path: Path) -> None:
    folder = write_small_bundle(tmp_path / "bundle")
    both = ModelBundle.open(folder)
    assert (both.precisions, both.precision("auto"), both.precision("int8")) == (("fp32", "int8"), "fp32", "int8")
    for model in both.models:
        (folder / model.file).unlink()
    with pytest.raises(ModelError, match="missing"):
        ModelBundle.open(folder)
    write_manifest(folder, both.manifest.model_copy(update={"int8_only": True}))
    small = ModelBundle.open(folder)
    assert (small.precisions, small.precision("auto")) == (("int8",), "int8")
    assert open_ensemble(small, PredictConfig(device="cpu")).precision == "int8"
    assert small.completed(EvaluateConfig()).precision == "int8"
    assert small.file(small.models[0], "int8").is_file()
    with pytest.raises(ModelError, match="8-bit models only"):
        small.file(small.models[0], "fp32")
