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
from fvv.config import PROFILES, PredictConfig
from fvv.data import Volume
from fvv.errors import ModelError
from fvv.io import shipped
from fvv.io.bundle import write_manifest
from fvv.io.shipped import models_to_use, shipped_bundle
from fvv.io.tables import read_table
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.system.fingerprint import file_sha256

NOTICE = "trained on nobody"


def write_small_bundle(folder: Path, *, models: int = 2) -> Path:
    """A few models."""
    files = [write_onnx(folder / f"model{n + 1}.onnx", biases=(1.5, -2.0, -3.0)) for n in range(models)]
    entries = tuple(ModelEntry(file=file.name, sha256=file_sha256(file), fold=n) for n, file in enumerate(files))
    manifest = BundleManifest(
        software="test", run_name=folder.name, notice=NOTICE, profile=PROFILES["robust-v1"], models=entries
    )
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
        predict(Path("anna"), models_to_use(None), Path("out"), PredictConfig(compute={"device": "cpu"}))
    assert "no --models given: using the model in the package, small-v1" in caplog.text
    described = f"small-v1 (2 of 2 models; {NOTICE})"
    assert f"models: {described}" in caplog.text
    assert json.loads(Path("out/anna/results.json").read_text())["models"] == described
    assert f"models={described}" in Path("out/anna/results.txt").read_text()
    assert read_table(Path("out/results.csv"))[0]["models"] == described
    assert described in Path("out/report.html").read_text()
    assert json.loads(Path("out/run.json").read_text())["about"]["Models"] == described


def test_results_say_which_part_ran(tmp_path: Path, rng: np.random.Generator) -> None:
    from fvv.stages.predict import predict  # noqa: PLC0415

    folder = write_small_bundle(tmp_path / "small-v1")
    write_patient(tmp_path / "anna", rng)
    predict(tmp_path / "anna", folder, tmp_path / "out", PredictConfig(folds=1, compute={"device": "cpu"}))
    answer = json.loads((tmp_path / "out" / "anna" / "results.json").read_text())
    assert answer["models"] == f"small-v1 (1 of 2 models; {NOTICE})"
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["models"] == {"model1.onnx": file_sha256(folder / "model1.onnx")}
    assert run["about"]["Device"] == "CPUExecutionProvider"


def test_prediction_from_python_takes_the_packages_model(package: Path, rng: np.random.Generator) -> None:
    write_small_bundle(package / "small-v1", models=1)
    images = head(rng)
    prediction = fvv.predict(Volume(images["b0"], AFFINE), Volume(images["b1000"], AFFINE))
    assert prediction.models == f"small-v1 (1 of 1 models; {NOTICE})"
    assert prediction.stroke is not None
    assert prediction.stroke.any()
