"""The command line: what each option does to what a stage receives, and what comes out for the shell."""

from __future__ import annotations

import gc
import importlib
import inspect
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from fvv.cli import build_parser, main
from fvv.cli.options import truth
from fvv.config import SHARED, Config, load_config
from fvv.data import Failure
from fvv.errors import ConfigError, InputError
from fvv.io.shipped import shipped_bundle


@dataclass(frozen=True)
class Result:
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        return "all is well"


class Calls:
    """Stands in for stage functions: keeps what they were called with, by the names of the real parameters."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}
        self.answer: Callable[[], Result] = Result

    def stand_in(self, real: Callable[..., Any]) -> Callable[..., Result]:
        signature = inspect.signature(real)

        def call(*args: Any, **kwargs: Any) -> Result:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            self.seen[real.__name__] = dict(bound.arguments)
            return self.answer()

        return call


STAGES = {
    "simulate": ["simulate"],
    "verify": ["verify"],
    "prepare": ["prepare"],
    "train": ["train_fold", "train_all_folds"],
    "convert": ["convert"],
    "evaluate": ["evaluate", "evaluate_external"],
    "predict": ["predict"],
    "demo": ["demo"],
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    monkeypatch.chdir(tmp_path)
    Path("saved_models_ONNX").mkdir()
    calls = Calls()
    for module_name, functions in STAGES.items():
        module = importlib.import_module(f"fvv.stages.{module_name}")
        for function in functions:
            monkeypatch.setattr(module, function, calls.stand_in(getattr(module, function)))
    return calls


def test_options_not_given_leave_the_defaults(calls: Calls) -> None:
    for words in (["prepare"], ["train", "--fold", "0"], ["evaluate"], ["predict"], ["convert"], ["simulate"]):
        assert main(words) == 0
    defaults = Config()
    assert calls.seen["simulate"]["config"] == defaults.simulate
    assert calls.seen["prepare"]["config"] == defaults.prepare
    assert calls.seen["train_fold"]["config"] == defaults.train
    assert calls.seen["convert"]["config"] == defaults.convert
    assert calls.seen["evaluate"]["config"] == defaults.evaluate
    assert calls.seen["predict"]["config"] == defaults.predict


def test_default_folders_are_those_of_the_pipeline(calls: Calls) -> None:
    for words in (["simulate"], ["prepare"], ["train", "--all-folds"], ["convert"], ["evaluate"], ["predict"]):
        main(words)
    store, checkpoints, models = Path("preprocessed_data"), Path("saved_models"), Path("saved_models_ONNX")
    assert calls.seen["simulate"]["output"] == Path("simulated_data")  # Never where real data are looked for.
    assert (calls.seen["prepare"]["input_path"], calls.seen["prepare"]["output_path"]) == (Path("input_data"), store)
    assert (calls.seen["train_all_folds"]["store"], calls.seen["train_all_folds"]["output"]) == (store, checkpoints)
    convert = calls.seen["convert"]
    assert (convert["checkpoints"], convert["store"], convert["output"]) == (checkpoints, store, models)
    evaluate = calls.seen["evaluate"]
    assert (evaluate["store"], evaluate["models"], evaluate["output"]) == (store, models, Path("processed_data"))
    predict = calls.seen["predict"]
    assert (predict["input_path"], predict["models"], predict["output"]) == (Path("input_data"), models, None)


def test_evaluate_takes_a_store_or_examinations_and_refuses_what_belongs_to_the_other(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--external", "held_out", "--b-value", "1100", "--unlisted", "own-person"]) == 0
    seen = calls.seen["evaluate_external"]
    assert (seen["external"], seen["models"]) == (Path("held_out"), Path("saved_models_ONNX"))
    assert seen["config"].preprocess.b_value == 1100
    assert main(["evaluate", "-i", "store"]) == 0
    assert calls.seen["evaluate"]["store"] == Path("store")
    calls.seen.clear()
    for words, told in (
        (["-i", "store", "--external", "held_out"], "--input names a store and --external examinations"),
        (["--unlisted", "own-person"], "--unlisted belongs to --external"),
        (["-i", "store", "--b-value", "900"], "--b-value belongs to --external"),
    ):
        assert main(["evaluate", *words]) == 1
        assert told in capsys.readouterr().err
    assert not calls.seen


def test_external_without_models_takes_those_in_the_package_but_never_calibrates_them(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("saved_models_ONNX").rmdir()
    shipped = shipped_bundle()
    assert main(["evaluate", "--external", "held_out"]) == 0
    assert calls.seen["evaluate_external"]["models"] == shipped
    assert f"no --models given: using the model in the package, {shipped.name}" in capsys.readouterr().err
    assert main(["evaluate", "--external", "held_out", "--calibrate"]) == 0
    assert calls.seen["evaluate_external"]["models"] == Path("saved_models_ONNX")


def test_prepare_options(calls: Calls) -> None:
    main(
        [
            "prepare",
            "-k",
            "3",
            "--valid-proportion",
            "0.1",
            "--profile",
            "reference-v1",
            "--mask-method",
            "given",
            "--resample-rois",
        ]
    )
    config = calls.seen["prepare"]["config"]
    assert (config.kfolds, config.valid_proportion, config.profile) == (3, 0.1, "reference-v1")
    assert config.preprocess.mask_method == "given"
    assert config.preprocess.resample_rois
    assert not config.preprocess.resample_b0


def test_split_file_is_handed_on(calls: Calls) -> None:
    main(["prepare", "--split", "folds.tsv"])
    assert calls.seen["prepare"]["folds"] == Path("folds.tsv")


@pytest.mark.parametrize(
    ("words", "preload", "debug"),
    [
        ([], False, False),
        (["--preload-ram"], True, False),
        (["--debug"], False, True),
        (["--debug", "--preload-ram"], True, True),
        (["--set", "train.debug=yes", "--set", "train.preload_ram=False"], False, True),
    ],
)
def test_training_switches(words: list[str], preload: bool, debug: bool, calls: Calls) -> None:
    assert main(["train", "--fold", "2", *words]) == 0
    config = calls.seen["train_fold"]["config"]
    assert (config.preload_ram, config.debug) == (preload, debug)
    assert calls.seen["train_fold"]["fold"] == 2


def test_train_name_and_project(calls: Calls) -> None:
    main(["train", "--all-folds", "-n", "run7", "--wandb-project", "mine", "--wandb-mode", "disabled", "--epochs", "3"])
    config = calls.seen["train_all_folds"]["config"]
    assert (config.name, config.wandb_project, config.wandb_mode, config.epochs) == ("run7", "mine", "disabled", 3)


def test_convert_takes_one_checkpoint_per_fold(calls: Calls, tmp_path: Path) -> None:
    choices = tmp_path / "chosen.yaml"
    choices.write_text("0: a.ckpt\n1: b.ckpt\n", encoding="utf-8")
    main(["convert", "-n", "run7", "--models-file", str(choices), "--model", "1=other.ckpt"])
    assert calls.seen["convert"]["name"] == "run7"
    assert calls.seen["convert"]["chosen"] == {0: tmp_path / "a.ckpt", 1: Path("other.ckpt")}
    main(["convert"])
    assert not calls.seen["convert"]["chosen"]


@pytest.mark.parametrize("words", [["some/dir"], ["-i", "some/dir"], ["--input", "some/dir"]])
def test_predict_takes_a_folder_either_way(words: list[str], calls: Calls) -> None:
    main(["predict", *words])
    assert calls.seen["predict"]["input_path"] == Path("some/dir")


def test_predict_refuses_two_folders(calls: Calls) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", "a", "-i", "b"])
    assert stop.value.code == 2


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_predict_device(device: str, calls: Calls) -> None:
    main(["predict", "--device", device])
    assert calls.seen["predict"]["config"].compute.device == device


def test_predict_options(calls: Calls) -> None:
    main(["predict", "--cutoff", "0.8", "--b0-index", "0", "--b1000-index", "1", "--overwrite", "-o", "out"])
    config = calls.seen["predict"]["config"]
    assert config.decision.cutoff_ml == 0.8
    assert (config.preprocess.b0_index, config.preprocess.b1000_index) == (0, 1)
    assert config.overwrite
    assert calls.seen["predict"]["output"] == Path("out")


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_one_cutoff_reaches_every_stage(verb: str, calls: Calls, tmp_path: Path) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text("decision: {cutoff_ml: 0.7, prevalence: 0.4}\n", encoding="utf-8")
    main([verb, "-c", str(settings)])
    found = calls.seen[verb]["config"].decision
    assert (found.cutoff_ml, found.prevalence) == (0.7, 0.4)
    assert found.model_fields_set == {"cutoff_ml", "prevalence"}
    main([verb, "-c", str(settings), "--cutoff", "0.9"])
    assert calls.seen[verb]["config"].decision.cutoff_ml == 0.9


def test_settings_written_are_settings_read() -> None:
    config = load_config(overrides={"decision.cutoff_ml": 0.7})
    content = config.model_dump(mode="json")
    assert not set(SHARED) & set(content["evaluate"])
    assert load_config(overrides=content) == config
    assert config.evaluate.decision == config.predict.decision == config.decision


def test_no_setting_takes_infinity_or_nan() -> None:
    """Of every number with a fraction, wherever it stands."""
    found = list(_floats(Config(), ""))
    assert len(found) > 30
    for name in found:
        for value in ("nan", "inf"):
            with pytest.raises(ConfigError, match=name):
                load_config(overrides={name: value})


def _floats(settings: BaseModel, place: str) -> Iterator[str]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        moved = bool(place) and name in SHARED
        if isinstance(value, BaseModel) and not moved:
            yield from _floats(value, f"{place}{name}.")
        elif field.annotation is float:
            yield f"{place}{name}"


def test_file_then_set_then_option(calls: Calls, tmp_path: Path) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text("train: {epochs: 1, name: from_file, seed: 4}\n", encoding="utf-8")
    words = ["train", "--fold", "0", "-c", str(settings), "--set", "train.epochs=2", "--set", "train.seed=5"]
    main([*words, "--epochs", "3"])
    config = calls.seen["train_fold"]["config"]
    assert (config.name, config.seed, config.epochs) == ("from_file", 5, 3)


def test_set_reads_text_numbers_lists_and_null(calls: Calls) -> None:
    given = ["train.max_time=00:10:00:00", "train.learning_rate=1e-3", "train.name=007"]
    given += ["train.network.widths=[8, 16, 24, 32]", "train.preload_ram=yes"]
    main(["train", "--fold", "0", *(word for text in given for word in ("--set", text))])
    config = calls.seen["train_fold"]["config"]
    assert (config.max_time, config.learning_rate, config.name) == ("00:10:00:00", 1e-3, "007")
    assert config.network.widths == (8, 16, 24, 32)
    assert config.preload_ram
    main(["train", "--fold", "0", "--set", "train.max_time=null"])
    assert calls.seen["train_fold"]["config"].max_time is None


def test_demo_has_its_own_settings(calls: Calls) -> None:
    main(["demo", "--cases", "5", "--seed", "9"])
    demo = calls.seen["demo"]
    assert (demo["config"].simulate.cases, demo["config"].prepare.kfolds) == (24, 3)
    assert (demo["cases"], demo["seed"], demo["output"]) == (5, 9, Path("demo_run"))


def test_summary_on_stdout_failures_on_stderr(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.answer = lambda: Result((Failure("Patient_3", "b0.nii.gz: not found"),))
    assert main(["prepare"]) == 1
    said = capsys.readouterr()
    assert said.out == "all is well\n"
    assert said.err == "failed: Patient_3: b0.nii.gz: not found\n"


def test_expected_error_is_one_line(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Result:
        raise InputError("no such folder", file="input_data", hint="see -i")

    calls.answer = fail
    assert main(["verify"]) == 1
    assert capsys.readouterr().err == "error: input_data: no such folder (see -i)\n"


def test_interrupt_says_how_to_go_on(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> Result:
        raise KeyboardInterrupt

    calls.answer = interrupt
    assert main(["prepare"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interrupt_is_silent_about_coroutines_that_it_cut_off(calls: Calls) -> None:
    async def work() -> None: ...

    def interrupt() -> Result:
        _made = work()  # As zarr makes one before it is started.
        raise KeyboardInterrupt

    calls.answer = interrupt
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert main(["prepare"]) == 130
        gc.collect()  # Also of what other tests have left open, of which Python says so.
    assert [str(one.message) for one in said if "coroutine" in str(one.message)] == []


def test_missing_extra_names_what_to_install(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Result:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    calls.answer = fail
    assert main(["train", "--fold", "0"]) == 1
    assert "'.[train]'" in capsys.readouterr().err


def test_a_module_of_ours_that_is_missing_is_a_fault(calls: Calls) -> None:
    def fail() -> Result:
        raise ModuleNotFoundError("No module named 'fvv.nowhere'", name="fvv.nowhere")

    calls.answer = fail
    with pytest.raises(ModuleNotFoundError):
        main(["train", "--fold", "0"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["prepare", "--set", "prepare.kfold=3"], "prepare.kfold"),
        (["prepare", "-k", "1"], "prepare.kfolds"),
        (["prepare", "-c", "nowhere.yaml"], "nowhere.yaml"),
        (["prepare", "--set", "prepare.seed=often"], "prepare.seed"),
        (["convert", "--models-file", "nowhere.yaml"], "nowhere.yaml"),
        (["evaluate", "--set", "evaluate.decision.cutoff_ml=1"], "set decision.cutoff_ml"),
        (["predict", "--set", "predict.decision.minimum_lesion_ml=1"], "set decision.minimum_lesion_ml"),
        (["predict", "--set", "predict.decision=1"], "set decision"),
        (["simulate", "--set", "simulate.workers=2"], "set compute.workers"),
        (["prepare", "--set", "prepare.unlisted=refuse"], "set preprocess.unlisted"),
        (["decide", "results", "--cutoff", "nan"], "decision.cutoff_ml: Input should be a finite number"),
        (["decide", "results", "--cutoff", "inf"], "decision.cutoff_ml: Input should be a finite number"),
        (["decide", "results", "--cutoff=-1"], "decision.cutoff_ml: Input should be greater than 0"),
        (["predict", "--set", "decision.prevalence=1.5"], "decision.prevalence"),
        (["train", "--fold", "0", "--set", "train.loss.brain_weight=nan"], "train.loss.brain_weight"),
    ],
)
def test_wrong_settings_are_one_line(
    words: list[str], told: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["paint"],
        ["train"],
        ["train", "--fold", "0", "--all-folds"],
        ["train", "--fold", "0", "-ram"],
        ["prepare", "-v", "0.1"],
        ["predict", "--inference_dir", "a"],
        ["predict", "a", "b"],
        ["prepare", "-k", "three"],
        ["prepare", "--set", "novalue"],
        ["prepare", "--profile", "other"],
        ["convert", "--model", "best.ckpt"],
        ["predict", "-f", "CPU"],
        ["prepare", "--kfold", "3"],
    ],
)
def test_wrong_usage_exits_with_2(words: list[str], calls: Calls) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert not calls.seen


@pytest.mark.parametrize("verb", STAGES)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args([verb, "--help"])
    assert stop.value.code == 0
    assert "--config" in capsys.readouterr().out


def test_verbose_shows_where_an_error_came_from(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Result:
        raise InputError("no such folder")

    calls.answer = fail
    main(["verify", "--verbose"])
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("error: no such folder\n")
    assert logging.getLogger("fvv").level == logging.DEBUG
    main(["verify"])
    assert logging.getLogger("fvv").level == logging.INFO


def test_truth_law() -> None:
    for yes, no in [("True", "False"), ("yes", "no"), ("1", "0"), ("ON", "off"), ("t", "f")]:
        assert truth(yes) is True
        assert truth(no) is False


def test_demo_settings_load() -> None:
    path = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"
    assert load_config(path).simulate.cases == 24


@pytest.mark.parametrize(("quietly", "said"), [(False, True), (True, False)])
def test_what_python_tidies_after_us_is_no_news(quietly, said):
    """A semaphore that nobody removed: Python's own process removes it, and says so where it may."""
    script = "from multiprocessing import resource_tracker; from fvv.cli import _silence_resource_tracker as quietly;"
    script += "quietly();" if quietly else ""
    script += "resource_tracker.register('/fvv-test-never-made', 'semaphore')"
    # The pipe closes when the last of the processes has ended.
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ("leaked semaphore" in run.stderr) is said
