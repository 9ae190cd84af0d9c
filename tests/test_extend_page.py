"""The examples of docs/how-to/extend.md work as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

import fvv
from builders import AFFINE, head, write_onnx, write_patient
from bundles import write_bundle
from fvv.config import Config, load_config
from fvv.errors import ConfigError, FvvError, InputError, ModelError
from fvv.io.bundle import ModelBundle
from fvv.io.tables import read_table
from fvv.stages.evaluate import evaluate_external
from fvv.stages.predict import predict
from fvv.stages.report import report
from fvv.stages.verify import verify
from store_builders import TINY, write_store

pytestmark = pytest.mark.usefixtures("plain_evaluations")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "extend.md"
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
EXAMPLES = list(zip(BLOCKS[::2], BLOCKS[1::2], strict=True))
CHECK, READER, LOSS, NETWORK, METRIC = range(5)


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The settings of an example, whose module can be imported."""
    (_, code), (_, text) = EXAMPLES[request.param]
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "hospital.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "hospital", raising=False)
    (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")
    return load_config(tmp_path / "settings.yaml", {"compute.workers": 1, "compute.threads": 1})


def test_each_example_is_code_and_its_settings() -> None:
    assert [kind for kind, _ in BLOCKS] == ["python", "yaml"] * 5
    sections = [next(iter(yaml.safe_load(text))) for _, (_, text) in EXAMPLES]
    assert sections == ["preprocess", "predict", "train", "train", "evaluate"]


@pytest.mark.parametrize("settings", [CHECK], indirect=True)
def test_a_check_of_ones_own(settings: Config, tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    write_onnx(tmp_path / "models" / "model1.onnx")
    files = [tmp_path / "in" / "anna" / f"{name}.nii.gz" for name in ("b0", "b1000")]
    found = fvv.predict(*files, tmp_path / "models", config=settings.predict)
    usual = fvv.predict(*files, tmp_path / "models")
    assert {one.code for one in found.decision.reasons} - {one.code for one in usual.decision.reasons} == {
        "hospital-few-slices"
    }
    assert found.fvv_ml == usual.fvv_ml
    notes = verify(tmp_path / "in", settings.prepare).notes
    assert any("10 slices, our protocol has 12 or more" in note for note in notes)


@pytest.mark.parametrize("settings", [READER], indirect=True)
def test_a_reader_of_ones_own(settings: Config, tmp_path: Path, rng: np.random.Generator) -> None:
    images = {name: head(rng) for name in ("anna", "bert")}
    write_onnx(tmp_path / "models" / "model1.onnx")
    (tmp_path / "in").mkdir()
    for name, arrays in images.items():
        np.savez(tmp_path / "in" / f"{name}.npz", b0=arrays["b0"], b1000=arrays["b1000"], affine=AFFINE)
    arguments = (tmp_path / "in", tmp_path / "models", tmp_path / "out", settings.predict)
    predictions = predict(*arguments).predictions
    assert [one.examination_id for one in predictions] == ["anna", "bert"]
    for one in predictions:
        volumes = ((images[one.examination_id][name], AFFINE) for name in ("b0", "b1000"))
        assert one.fvv_ml == fvv.predict(*volumes, tmp_path / "models").fvv_ml
    assert predict(*arguments).kept == 2
    single = predict(tmp_path / "in" / "anna.npz", tmp_path / "models", tmp_path / "one", settings.predict)
    assert [one.examination_id for one in single.predictions] == ["anna"]
    with pytest.raises(FvvError):
        predict(tmp_path / "in", tmp_path / "models", tmp_path / "none", fvv.PredictConfig())


@pytest.mark.parametrize("settings", [LOSS], indirect=True)
def test_a_loss_of_ones_own(settings: Config) -> None:
    torch: Any = pytest.importorskip("torch")
    from fvv.training.losses import loss_of, segmentation_loss  # noqa: PLC0415
    from fvv.training.module import SegmentationModule  # noqa: PLC0415

    config = settings.train.loss
    logits, labels = torch.randn(2, 3, 4, 16, 16), torch.ones(2, 3, 4, 16, 16)
    usual, mine = segmentation_loss(logits, labels, config), loss_of(config)(logits, labels, config)
    assert mine.total == usual.total + usual.stroke
    module = SegmentationModule(settings.train, ())
    assert module.loss(logits, labels, config).total == mine.total


@pytest.mark.usefixtures("plain_trainings")
@pytest.mark.parametrize("settings", [NETWORK], indirect=True)
def test_a_network_of_ones_own(settings: Config, tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    from fvv.stages.convert import convert  # noqa: PLC0415
    from fvv.stages.train import train_all_folds  # noqa: PLC0415
    from fvv.training.checkpoint import read_checkpoint  # noqa: PLC0415

    own = settings.train.network.module
    train = TINY.model_copy(update={"epochs": 1, "network": settings.train.network})
    write_store(tmp_path / "store")
    train_all_folds(tmp_path / "store", tmp_path / "saved_models", train)
    arguments = (tmp_path / "saved_models", tmp_path / "store", tmp_path / "models", settings.convert)
    # A checkpoint of somebody else may name any code.
    with pytest.raises(ModelError, match=r"no file runs by itself.*train.network.module=hospital:Slabs"):
        convert(*arguments, name="tiny")
    bundle = ModelBundle.open(convert(*arguments, name="tiny", network=own).bundle)
    assert bundle.manifest.network == own
    parity = [model.parity for model in bundle.models]
    assert all(one is not None and one.largest_slab_difference < 1e-4 for one in parity)
    file = onnx.load(bundle.path / "model1.onnx")
    assert {entry.key: entry.value for entry in file.metadata_props}["network"] == own
    checkpoint = read_checkpoint(tmp_path / "saved_models" / "tiny" / "fold_0" / "best.ckpt", own)
    assert checkpoint.network.module == own
    assert type(checkpoint.build()) is sys.modules["hospital"].Slabs
    assert checkpoint.build()(torch.zeros(1, 2, 9, 32, 32)).shape == (1, 3, 3, 32, 32)


@pytest.mark.parametrize("settings", [METRIC], indirect=True)
def test_a_metric_that_needs_an_unknown_mask_is_not_defined(
    settings: Config, tmp_path: Path, rng: np.random.Generator
) -> None:
    for name in ("anna", "berta"):
        write_patient(tmp_path / "in" / name, rng)
    (tmp_path / "in" / "berta" / "stroke_roi.nii.gz").unlink()
    write_store(tmp_path / "store")
    models = write_bundle(tmp_path / "models", tmp_path / "store")
    partial = settings.evaluate.preprocess.model_copy(update={"partial_labels": True})
    config = settings.evaluate.model_copy(update={"heatmaps": False, "bootstrap_samples": 20, "preprocess": partial})
    result = evaluate_external(tmp_path / "in", models, tmp_path / "out", config)
    assert not result.failures
    assert result.found.own_metrics["hospital:centre_distance_mm"].defined == 1


@pytest.mark.parametrize("settings", [METRIC], indirect=True)
def test_a_metric_of_ones_own(settings: Config, tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    write_patient(tmp_path / "in" / "healthy", rng, lesion=False, visible=False)
    write_store(tmp_path / "store")
    models = write_bundle(tmp_path / "models", tmp_path / "store")
    config = settings.evaluate.model_copy(update={"heatmaps": False, "bootstrap_samples": 20})
    result = evaluate_external(tmp_path / "in", models, tmp_path / "out", config)
    name = "hospital:centre_distance_mm"
    rows = {row["examination_id"]: row[name] for row in read_table(tmp_path / "out" / "patients.csv")}
    assert 0 <= float(rows["anna"]) < 10
    assert rows["healthy"] == ""
    assert result.found.own_metrics[name].defined == 1
    assert f"{name}: mean {float(rows['anna']):.3f}, n 1" in result.summary()
    assert name in (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    # In words: numbers that are not defined are NaN, which equals nothing (from Python 3.13 on, in dataclasses, too).
    assert repr(report(tmp_path / "out").found) == repr(result.found)
    wrong = config.model_copy(update={"metrics": ("builtins:dict",)})
    with pytest.raises(InputError, match="metric builtins:dict: expected a number, got TypeError"):
        evaluate_external(tmp_path / "in", models, tmp_path / "wrong", wrong)
    missing = config.model_copy(update={"metrics": ("hospital:centre",)})
    with pytest.raises(ConfigError, match="has no centre"):
        evaluate_external(tmp_path / "in", models, tmp_path / "missing", missing)


@pytest.mark.parametrize("settings", [CHECK], indirect=True)
def test_what_is_no_check_and_no_reader_is_refused(settings: Config, tmp_path: Path, rng: np.random.Generator) -> None:
    images = head(rng)
    write_onnx(tmp_path / "models" / "model1.onnx")
    volumes = [(images[name], AFFINE) for name in ("b0", "b1000")]
    wrong = fvv.PredictConfig(preprocess=fvv.PreprocessConfig(checks=("builtins:dir",)))
    with pytest.raises(ConfigError, match="expected findings"):
        fvv.predict(*volumes, tmp_path / "models", config=wrong)
    with pytest.raises(ConfigError, match="gives a Reader"):
        predict(tmp_path, tmp_path / "models", None, fvv.PredictConfig(readers=("builtins:list",)))
