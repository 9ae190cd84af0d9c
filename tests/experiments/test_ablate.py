"""The ablation: every variant changes what it says, and a run that is finished is not made again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")

from fvv.config import load_config
from fvv.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
FILES = sorted(FOLDER.glob("ablate*.yaml"))
PLACES = {"anatomies": "a", "lesions": "b", "test_lesions": "c", "heads": "d"}


@pytest.fixture(scope="module")
def ablation(experiment: Callable[[str], ModuleType]) -> ModuleType:
    return experiment("ablate")


def options(tmp_path: Path, variants: str, **changes: Any) -> argparse.Namespace:
    file = tmp_path / "variants.yaml"
    file.write_text(variants)
    usual = {
        "cases": 9,
        "test_cases": 2,
        "slices": 640,
        "slices_per_epoch": 64,
        "seeds": 2,
        "head_cases": 1,
        "place": [],
        "only": None,
    }
    return argparse.Namespace(
        **{"variants": file, "output": tmp_path / "out", "real": ["real=heads"], **usual, **changes}
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_variant_but_the_first_changes_one_thing(ablation: ModuleType, file: Path) -> None:
    sections = ablation.read_variants(file, PLACES)
    (_, whole), *others = sections["variants"].items()
    assert whole == {}
    for name, changes in others:
        settings = {key.removesuffix("_files") for key in changes}
        assert len({key.replace("anatomy", "anatomies") for key in settings}) == 1, name


def test_the_simulators_variants_are_settings_of_today(ablation: ModuleType) -> None:
    sections = ablation.read_variants(FOLDER / "ablate_simulator.yaml", {})
    budget = ablation.Budget(9, 2, 640, 64)
    cohort = load_config(ablation.SETTINGS).simulate
    for name, changes in sections["variants"].items():
        made = ablation.settings_of({}, changes, budget, "x", 1)
        differs = {key for key in type(cohort).model_fields if getattr(made.simulate, key) != getattr(cohort, key)}
        assert differs - {"cases", "seed"} == {key.partition(".")[2] for key in changes}, name
        assert (made.simulate.cases, made.train.epochs, made.train.seed) == (9, 10, 1)


def test_the_variants_of_the_anatomies_are_settings_and_test_heads_never_train(ablation: ModuleType) -> None:
    sections = ablation.read_variants(FOLDER / "ablate_anatomy.yaml", PLACES)
    base, budget = sections["base"][""], ablation.Budget(9, 2, 640, 64, 3)
    made = {name: ablation.settings_of(base, changes, budget, "x", 0) for name, changes in sections["variants"].items()}
    everything, test = made["everything"].simulate, ablation.settings_of(base, sections["test"][""], budget, "t", 9)
    assert everything.heads is not None
    assert test.simulate.heads is None
    assert test.simulate.anatomies == everything.anatomies
    assert not set(test.simulate.anatomy_files) & set(everything.anatomy_files)
    assert test.simulate.lesions != everything.lesions
    shipped = load_config(ablation.SETTINGS.with_name("model_phase1.yaml")).simulate
    copied = {key.removeprefix("simulate.") for key in base} & shipped.model_fields_set
    assert {key: getattr(everything, key) for key in copied} == {key: getattr(shipped, key) for key in copied}
    assert made["everything"].train.network.resolution == "half"
    assert made["full resolution"].train.network.resolution == "full"


def test_a_folder_that_is_not_given_is_asked_for(ablation: ModuleType) -> None:
    with pytest.raises(ConfigError, match="give --place anatomies=DIR"):
        ablation.read_variants(FOLDER / "ablate_anatomy.yaml", {})


def test_finished_runs_are_kept_and_unknown_settings_left_out(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[str] = []

    def run(_: Path, config: Any, tests: Any, name: str, _heads: int) -> dict[str, dict[str, float | None]]:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(name)
        return {which: {"AUC": config.train.seed + 0.5, "stroke Dice": None} for which in tests}

    monkeypatch.setattr(ablation, "run", run)
    monkeypatch.setattr(ablation, "simulate", lambda *_: None)
    asked = options(tmp_path, "variants:\n  full: {}\n  calm: {simulate.distractors: false}\n  odd: {simulate.x: 1}\n")
    with pytest.raises(KeyboardInterrupt):
        ablation.ablate(asked)
    assert made == ["full-seed0", "calm-seed0"]
    assert "odd is left out" in caplog.text
    made.clear()
    lines = ablation.ablate(asked)
    assert made == ["full-seed1", "calm-seed1"]
    assert len(lines) == 4
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| full | 2 | 1.000 (0.500 to 1.500) | 1.000 (0.500 to 1.500) |" in text
    assert "stroke Dice" not in text
    made.clear()
    assert ablation.ablate(options(tmp_path, asked.variants.read_text(), slices=1280, only=["full"]))
    assert made == ["full-seed0", "full-seed1"]


def test_a_line_is_json(ablation: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text(json.dumps({"variant": "a", "seed": 0, "tested": {}}) + "\n")
    assert ablation.read_lines(tmp_path / "runs.jsonl")[0]["variant"] == "a"
    assert ablation.read_lines(tmp_path / "none.jsonl") == []
