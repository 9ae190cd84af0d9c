"""Every variant of the simulator's ablation leaves something out of the model's cohort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")

from fvv.config import load_config


@pytest.fixture(scope="module")
def ablation(experiment: Callable[[str], ModuleType]) -> ModuleType:
    return experiment("ablate_simulator")


def test_full_is_the_models_cohort(ablation: ModuleType) -> None:
    cohort = load_config(ablation.SETTINGS).simulate
    assert ablation.cohort_settings("full", cases=cohort.cases, seed=cohort.seed) == cohort


def test_every_other_variant_changes_one_setting(ablation: ModuleType) -> None:
    full = ablation.cohort_settings("full").model_dump()
    for variant in set(ablation.VARIANTS) - {"full"}:
        changed = ablation.cohort_settings(variant).model_dump()
        assert [name for name in full if full[name] != changed[name]] == list(ablation.VARIANTS[variant])
        assert len(ablation.VARIANTS[variant]) == 1


def test_a_plan_once_made_is_kept(ablation: ModuleType, tmp_path: Path) -> None:
    numbers = {"cases": 9, "test_cases": 5, "train_seed": 1, "test_seed": 2, "slices_per_epoch": 64, "minutes": 1.0}
    options = ablation.argparse.Namespace(output=tmp_path, slices=640, **numbers)
    plan = ablation.make_plan(options)
    assert plan.epochs == 10
    options.slices, options.cases = 64, 20
    assert ablation.make_plan(options) == plan
