"""`make model`: every step is a command that fvv has, what tests never trains, and a finished step is not repeated."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fvv.cli.parser import parse
from fvv.config import load_config

VERBS = ["simulate", "prepare", "train", "convert", "evaluate", "simulate", "evaluate", "card", "doctor"]


@pytest.fixture(scope="module")
def recipe(experiment: Callable[[str], ModuleType]) -> ModuleType:
    return experiment("shipped_model")


@pytest.fixture
def commands(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[list[str]]]:
    """The commands that the recipe prints with some options."""

    def printed(*options: str) -> list[list[str]]:
        words = ["shipped_model.py", "--run", str(tmp_path / "run"), "--dry-run", *options]
        monkeypatch.setattr(sys, "argv", words)
        recipe.main()
        return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]

    return printed


def folder(place: Path, names: list[str]) -> str:
    place.mkdir()
    for name in names:
        (place / name).touch()
    return str(place)


def files(command: list[str], key: str) -> set[str]:
    """The names that a command gives to the setting of a list of files."""
    (value,) = (word.partition("=")[2] for word in command if word.startswith(f"simulate.{key}="))
    return set(json.loads(value))


def test_each_step_is_a_command_that_fvv_accepts(commands: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    steps = commands()
    assert [words[1] for words in steps] == VERBS
    for words in (*steps, *commands("--init", "shipped", "--real", "real")):
        assert words[0] == "fvv"
        parse(words[1:])
    assert not (tmp_path / "run").exists()


def test_each_step_takes_what_an_earlier_one_made(commands: Callable[..., list[list[str]]]) -> None:
    made = {Path("real_results")}
    for words in commands("--real", "real_results"):
        step = parse(words[1:])
        asked = {getattr(step, name, None) for name in ("models", "store", "external", "out_of_fold", "cohort", "real")}
        if getattr(step, "external", None) is None and step.verb != "simulate":
            asked.add(getattr(step, "input", None))
        assert asked - {None} <= made, step.verb
        made.add(getattr(step, "output", None))


def test_the_models_are_tested_on_persons_of_another_seed(commands: Callable[..., list[list[str]]]) -> None:
    first, second = (parse(words[1:]) for words in commands() if words[1] == "simulate")
    assert getattr(second, "simulate.seed") != load_config(Path(first.config)).simulate.seed


def test_only_the_evaluation_out_of_fold_calibrates(commands: Callable[..., list[list[str]]]) -> None:
    out_of_fold, external = (parse(words[1:]) for words in commands() if words[1] == "evaluate")
    assert getattr(out_of_fold, "evaluate.calibrate")
    assert "evaluate.calibrate" not in vars(external)
    config = load_config(Path(external.config))
    assert not config.evaluate.calibrate
    assert "never on people" in config.convert.notice


def test_files_that_test_never_train(commands: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    heads = [f"training_seg_{number:02d}.nii.gz" for number in range(1, 21)]
    masks = [f"{number}_lesion.nii.gz" for number in range(1000, 1030)]
    anatomies, lesions = folder(tmp_path / "a", heads), folder(tmp_path / "l", [*masks, "._1000_lesion.nii.gz"])
    train, test = (
        words for words in commands("--anatomies", anatomies, "--lesions", lesions) if words[1] == "simulate"
    )
    assert files(test, "anatomy_files") == set(heads[16:])
    assert files(train, "anatomy_files") == set(heads[:16])
    assert files(test, "lesion_files") == {"1009_lesion.nii.gz", "1019_lesion.nii.gz", "1029_lesion.nii.gz"}
    assert files(train, "lesion_files") | files(test, "lesion_files") == set(masks)
    settings = load_config(overrides=dict(parse(train[1:]).set))
    assert settings.simulate.anatomies == Path(anatomies)


def test_without_files_to_test_on_nothing_starts(commands: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2 files to train on and 0 to test on"):
        commands("--lesions", folder(tmp_path / "l", ["1000_lesion.nii.gz", "1001_lesion.nii.gz", "README.md"]))


def test_real_heads_are_a_cohort_of_their_own_that_is_joined(commands: Callable[..., list[list[str]]]) -> None:
    _, heads, join, prepare, *_ = commands("--heads", "healthy", "--head-cases", "7")
    assert "simulate.heads=healthy" in heads
    assert heads[heads.index("--cases") + 1] == "7"
    assert join[0] == "python"
    assert join[-1] == prepare[prepare.index("-i") + 1]


def test_from_a_bundle_the_training_has_two_phases(commands: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    """Each fold of the second phase goes on from the same fold of the first; the second is converted."""
    options = ("--init", "parent", "--second", "full.yaml", "--name", "new")
    training = [words for words in commands(*options) if words[1] in {"train", "convert"}]
    first, *second, convert = training
    assert [first[first.index(flag) + 1] for flag in ("-n", "--init")] == ["new-phase1", "parent"]
    assert [words[words.index("--fold") + 1] for words in second] == ["0", "1", "2"]
    for fold, words in enumerate(second):
        start = tmp_path / "run" / "saved_models" / "new-phase1" / f"fold_{fold}" / "best.ckpt"
        assert [words[words.index(flag) + 1] for flag in ("-c", "-n", "--init")] == ["full.yaml", "new", str(start)]
    assert [convert[convert.index(flag) + 1] for flag in ("-c", "-n")] == ["full.yaml", "new"]


def test_a_step_that_is_finished_is_skipped_and_one_that_fails_ends_the_run(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made").touch()
    ran = tmp_path / "ran"
    code = f"import pathlib, sys; pathlib.Path({str(ran)!r}).touch(); sys.exit(3)"
    steps = [recipe.Step(("python", "-c", "no python"), tmp_path / "made"), recipe.Step(("python", "-c", code))]
    monkeypatch.setattr(recipe, "steps", lambda _: steps)
    monkeypatch.setattr(sys, "argv", ["shipped_model.py", "--package", str(tmp_path / "package")])
    with pytest.raises(SystemExit) as end:
        recipe.main()
    assert end.value.code == 3
    assert ran.exists()
    assert capsys.readouterr().out.startswith("# done: python -c")
    assert not (tmp_path / "package").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 3), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_leaves_the_end_to_the_command(
    recipe: ModuleType, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ctrl-C reaches a command from the terminal, and it may take a while to end; TERM is passed on."""
    started = tmp_path / "started"

    def send() -> None:
        while not started.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    words = f"import pathlib, sys, time; pathlib.Path({str(started)!r}).touch(); time.sleep(1.5); sys.exit(3)"
    threading.Thread(target=send, daemon=True).start()
    assert recipe._run([sys.executable, "-c", words]) == code


def test_after_conversion_the_first_phase_is_over(commands: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    """`shipped` is then the model that this run has put into the package."""
    bundle = tmp_path / "run" / "bundle" / "bundle.json"
    bundle.parent.mkdir(parents=True)
    bundle.touch()
    (first, *_) = (words for words in commands("--init", "shipped") if "train" in words)
    assert first[:2] == ["#", "done:"]


def test_one_model_is_in_the_package(recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    for name in ("bundle/bundle.json", "bundle/.fvv.lock", "package/old/bundle.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    recipe.ship(tmp_path / "bundle", tmp_path / "package", "new")
    assert [
        path.relative_to(tmp_path / "package").as_posix() for path in sorted((tmp_path / "package").rglob("*"))
    ] == [
        "new",
        "new/bundle.json",
    ]
