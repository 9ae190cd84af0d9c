"""`make model`: every line is a command that exists, and takes what an earlier line has made."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fvv.cli import build_parser
from fvv.config import load_config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """The lines of the recipe, not run."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    words = ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", "model", "BIN=here", "REAL=real_results"]
    printed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return printed.replace("\\\n", " ").splitlines()


@pytest.fixture(scope="module")
def steps(lines: list[str]) -> list[argparse.Namespace]:
    """The commands of the recipe, parsed but not run."""
    commands = [line.partition("here/fvv ")[2] for line in lines if "here/fvv " in line]
    return [build_parser().parse_args(shlex.split(command)) for command in commands]


def test_every_step_takes_what_an_earlier_one_made(steps: list[argparse.Namespace]) -> None:
    assert [step.verb for step in steps] == [
        "simulate", "prepare", "train", "convert", "evaluate", "simulate", "evaluate", "card", "doctor",
    ]  # fmt: skip
    made = {Path("real_results")}
    for step in steps:
        named = ("models", "store", "external", "out_of_fold", "cohort", "real")
        asked = {getattr(step, name, None) for name in named}
        if getattr(step, "external", None) is None and step.verb != "simulate":
            asked.add(getattr(step, "input", None))
        assert asked - {None} <= made, step.verb
        made.add(getattr(step, "output", None))


def test_one_model_is_shipped_whatever_was_before(lines: list[str], tmp_path: Path) -> None:
    old = (tmp_path / "src/fvv/models/earlier-name", tmp_path / "build/lib/fvv/models/earlier-name")
    for folder in (*old, tmp_path / "model_run/bundle"):
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_text("{}")
    subprocess.run(["/bin/sh", "-c", lines[-1]], cwd=tmp_path, check=True)
    assert [path.name for path in (tmp_path / "src/fvv/models").iterdir()] == ["simulated-v3"]
    assert (tmp_path / "src/fvv/models/simulated-v3/bundle.json").exists()
    assert not any(folder.exists() for folder in old)


def test_the_models_are_tested_on_persons_of_another_seed(steps: list[argparse.Namespace]) -> None:
    first, second = (step for step in steps if step.verb == "simulate")
    assert getattr(second, "simulate.seed") != load_config(ROOT / first.config).simulate.seed


def test_only_the_evaluation_out_of_fold_calibrates(steps: list[argparse.Namespace]) -> None:
    out_of_fold, external = (step for step in steps if step.verb == "evaluate")
    assert getattr(out_of_fold, "evaluate.calibrate")
    assert "evaluate.calibrate" not in vars(external)
    config = load_config(ROOT / external.config)
    assert not config.evaluate.calibrate
    assert "never on people" in config.convert.notice
