"""The mean of the weights at the start and at the end of a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fvv.io.store import CaseStore
from fvv.stages.train import train_fold
from fvv.training.checkpoint import read_checkpoint
from store_builders import TINY, write_store

pytestmark = pytest.mark.usefixtures("plain_trainings")

QUICK = TINY.model_copy(update={"epochs": 1, "slices_per_epoch": 8, "figures_every_epochs": 99})


@pytest.fixture(scope="module")
def script(experiment: Callable[[str], ModuleType]) -> ModuleType:
    return experiment("average_weights")


def test_the_mean_of_the_start_and_the_end(tmp_path: Path, script: ModuleType) -> None:
    write_store(tmp_path / "store")
    store = CaseStore.open(tmp_path / "store")
    first = train_fold(tmp_path / "store", tmp_path / "models", 0, QUICK).folder / "last.ckpt"
    tuned = QUICK.model_copy(update={"name": "tuned", "init": str(first), "init_learning_rate": 0.01})
    last = train_fold(tmp_path / "store", tmp_path / "models", 0, tuned).folder / "last.ckpt"
    script.average_run(store, last.parents[1], tmp_path / "models" / "mean")
    mean = read_checkpoint(tmp_path / "models" / "mean" / "fold_0" / "last.ckpt")
    mean.build()
    before, after = read_checkpoint(first).weights, read_checkpoint(last).weights
    convolutions = [name for name in before if name.endswith("weight") and before[name].ndim == 4]
    assert convolutions
    for name in convolutions:
        torch.testing.assert_close(mean.weights[name], (before[name] + after[name]) / 2)
        assert not torch.equal(before[name], after[name])
    assert read_checkpoint(last).weights.keys() == mean.weights.keys()
    with pytest.raises(SystemExit, match="is there already"):
        script.average_run(store, last.parents[1], tmp_path / "models" / "mean")


def test_a_run_from_random_weights_has_no_mean(tmp_path: Path, script: ModuleType) -> None:
    write_store(tmp_path / "store")
    run = train_fold(tmp_path / "store", tmp_path / "models", 0, QUICK).folder.parent
    with pytest.raises(SystemExit, match=r"started from weights \(train\.init\)"):
        script.average_run(CaseStore.open(tmp_path / "store"), run, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
