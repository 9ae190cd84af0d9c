"""The numbered scripts: what their options make the stages receive, from any working directory."""

from __future__ import annotations

import importlib
import inspect
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fvv.config import Config

SCRIPTS = Path(__file__).resolve().parents[1] / "ModelTraining"


class Done:
    failures = ()

    def summary(self) -> str:
        return "done"


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a script, beside models, with its stage replaced; gives what the stage received, by parameter name."""
    monkeypatch.chdir(tmp_path)
    Path("saved_models_ONNX").mkdir()

    def run_script(script: str, words: str, stage: str, function: str) -> dict[str, Any]:
        received: dict[str, Any] = {}
        module = importlib.import_module(f"fvv.stages.{stage}")
        signature = inspect.signature(getattr(module, function))

        def stand_in(*args: Any, **kwargs: Any) -> Done:
            received.update(signature.bind(*args, **kwargs).arguments)
            return Done()

        monkeypatch.setattr(module, function, stand_in)
        monkeypatch.setattr(sys, "argv", [script, *words.split()])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        assert stop.value.code == 0
        return received

    return run_script


def test_preparation_defaults(run: Run) -> None:
    received = run("1-DataPreparation.py", "", "prepare", "prepare")
    assert received["config"] == Config().prepare
    assert (received["config"].kfolds, received["config"].valid_proportion) == (10, 0.2)
    assert (received["input_path"], received["output_path"]) == (Path("input_data"), Path("preprocessed_data"))


@pytest.mark.parametrize("words", ["-k 3 -v 0.1", "--kfolds 3 --valid_proportion 0.1"])
def test_preparation_options(words: str, run: Run) -> None:
    config = run("1-DataPreparation.py", words, "prepare", "prepare")["config"]
    assert (config.kfolds, config.valid_proportion) == (3, 0.1)


def test_training_defaults(run: Run) -> None:
    received = run("2a-Training.py", "", "train", "train_fold")
    assert received["fold"] == 0
    assert received["config"] == Config().train
    assert (received["store"], received["output"]) == (Path("preprocessed_data"), Path("saved_models"))


@pytest.mark.parametrize(
    ("words", "preload", "debug"),
    [
        ("-ram", True, False),
        ("-ram True", True, False),
        ("-ram False", False, False),
        ("-d", False, True),
        ("-d False", False, False),
        ("-d True -ram", True, True),
        ("--debug --preload_RAM true", True, True),
    ],
)
def test_training_switches(words: str, preload: bool, debug: bool, run: Run) -> None:
    config = run("2a-Training.py", words, "train", "train_fold")["config"]
    assert (config.preload_ram, config.debug) == (preload, debug)


def test_training_options(run: Run) -> None:
    received = run("2a-Training.py", "-k 4 -n run7 -w mine", "train", "train_fold")
    assert (received["fold"], received["config"].name, received["config"].wandb_project) == (4, "run7", "mine")


@pytest.mark.parametrize(("words", "preload"), [("", False), ("-ram", True), ("-ram True", True), ("-ram no", False)])
def test_all_folds(words: str, preload: bool, run: Run) -> None:
    config = run("2b-TrainingKFolds.py", f"-n run7 -w mine {words}", "train", "train_all_folds")["config"]
    assert (config.name, config.wandb_project, config.preload_ram) == ("run7", "mine", preload)


def test_conversion(run: Run) -> None:
    received = run("3-ConvertModels.py", "", "convert", "convert")
    assert (received["checkpoints"], received["output"]) == (Path("saved_models"), Path("saved_models_ONNX"))
    assert not received["chosen"]


def test_inference_test(run: Run) -> None:
    received = run("4-InferenceTest.py", "", "evaluate", "evaluate")
    assert (received["store"], received["models"]) == (Path("preprocessed_data"), Path("saved_models_ONNX"))
    assert received["output"] == Path("processed_data")


@pytest.mark.parametrize(
    ("words", "folder", "device"),
    [
        ("", "input_data", "gpu"),
        ("-d some/dir", "some/dir", "gpu"),
        ("--inference_dir some/dir -f GPU", "some/dir", "gpu"),
        ("-f CPU", "input_data", "cpu"),
    ],
)
def test_direct_inference(words: str, folder: str, device: str, run: Run) -> None:
    received = run("5-DirectInference.py", words, "predict", "predict")
    assert (received["input_path"], received["config"].compute.device) == (Path(folder), device)
    assert received["output"] is None


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("2b-TrainingKFolds.py", "-k 3"),
        ("2b-TrainingKFolds.py", "-d"),
        ("2a-Training.py", "-ram perhaps"),
        ("3-ConvertModels.py", "--model 0=a"),
        ("5-DirectInference.py", "-f TPU"),
    ],
)
def test_options_a_script_does_not_have(script: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [script, *words.split()])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    assert stop.value.code == 2


def test_scripts_are_the_six() -> None:
    assert [path.name for path in sorted(SCRIPTS.glob("*.py"))] == [
        "1-DataPreparation.py",
        "2a-Training.py",
        "2b-TrainingKFolds.py",
        "3-ConvertModels.py",
        "4-InferenceTest.py",
        "5-DirectInference.py",
    ]


def test_a_script_runs_from_an_empty_folder_and_fails_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "1-DataPreparation.py"), "-k", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "input_data" in done.stderr
    assert "Traceback" not in done.stderr
