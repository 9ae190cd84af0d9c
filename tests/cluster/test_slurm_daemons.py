"""SLURM on this machine: a node goes, a job is cancelled or timed out, two nodes share a fold (`make cluster-test`)."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cluster.slurm import Slurm, missing, until
from fvv.config import ClusterConfig
from fvv.data import FoldPlan, FoldRow, Role
from fvv.errors import FvvError
from fvv.io.folds import write_folds
from fvv.stages.train import train_fold
from fvv.system.parallel import LongItems, engine, map_items
from parallel_work import note_and_wait, tries_of
from store_builders import TINY, write_store

pytest.importorskip("submitit", reason="the extra `cluster` is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"not here: {', '.join(missing())} (apt-get install slurm-wlm munge)"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with Slurm(tmp_path_factory.mktemp("slurm") / "daemons") as slurm, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setattr("fvv.system.slurm._ASK_S", 2.0)  # SLURM serves nobody else here.
        yield slurm


@pytest.fixture
def settings(tmp_path: Path) -> ClusterConfig:
    return ClusterConfig(engine="slurm", folder=tmp_path / "fvv_jobs", jobs=2, batch=2, memory_gb=1)


def _when_slow_runs(folder: Path, act) -> None:
    """Act, in another thread, once the item "slow" is under way."""

    def wait_and_act() -> None:
        until(lambda: tries_of(str(folder), "slow"), "the slow item")
        act((folder / "slow.tries").read_text().split())

    threading.Thread(target=wait_and_act).start()


def test_a_node_that_goes_loses_nothing(slurm: Slurm, settings: ClusterConfig, tmp_path: Path) -> None:
    _when_slow_runs(tmp_path, lambda tried: slurm.stop_node(tried[0]))
    with engine(settings):
        found = dict(
            map_items(partial(note_and_wait, str(tmp_path)), ["a", "slow", "b"], workers=1, description="node")
        )
    assert found == {"a": "a 1", "slow": "slow 2", "b": "b 1"}
    first, _, second, _ = (tmp_path / "slow.tries").read_text().split()
    assert second != first
    slurm.start_node(first)
    until(lambda: first in slurm.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split(), "the node")


def test_a_cancelled_job_is_tried_again(slurm: Slurm, settings: ClusterConfig, tmp_path: Path) -> None:
    _when_slow_runs(tmp_path, lambda tried: slurm.ask("scancel", tried[1]))
    with engine(settings):
        found = dict(map_items(partial(note_and_wait, str(tmp_path)), ["a", "slow", "b"], workers=1, description="end"))
    assert found == {"a": "a 1", "slow": "slow 2", "b": "b 1"}
    assert not slurm.jobs()


def test_two_nodes_train_one_fold(
    slurm: Slurm, settings: ClusterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # The nodes have names that nothing resolves.
    write_store(tmp_path / "store")
    sides = (Role.TEST, Role.TEST, Role.VALID, Role.VALID, Role.TRAIN, Role.TRAIN)
    rows = (FoldRow(f"secret_{k}", f"person-{k}", (side, sides[k - 2])) for k, side in enumerate(sides))
    write_folds(tmp_path / "store" / "folds.tsv", FoldPlan(tuple(rows)))
    config = TINY.model_copy(update={"nodes": 2, "epochs": 1, "device": "cpu"})
    with engine(settings.model_copy(update={"memory_gb": 4})):
        result = train_fold(tmp_path / "store", tmp_path / "models", 0, config)
    assert result.complete
    assert result.epochs == 1
    starts = [file.read_text().partition("node=")[2][:4] for file in settings.folder.glob("fvv-train-*/*_log.out")]
    assert sorted(starts) == ["0(2)", "1(2)"]


@pytest.mark.parametrize("advances", [True, False])
def test_a_long_item_is_requeued_at_its_time_limit_where_it_advances(
    slurm: Slurm, settings: ClusterConfig, tmp_path: Path, advances: bool
) -> None:
    _when_slow_runs(tmp_path, lambda tried: slurm.ask("scancel", "--signal=USR2", tried[1]))
    long = LongItems(partial(tries_of, str(tmp_path if advances else tmp_path / "nowhere")))
    with engine(settings):
        found = dict(
            map_items(partial(note_and_wait, str(tmp_path)), ["slow"], workers=1, description="long", long=long)
        )
    if advances:
        assert found == {"slow": "slow 2"}
        first, second = (line.split()[1] for line in (tmp_path / "slow.tries").read_text().splitlines())
        assert first == second  # The same job.
    else:
        assert isinstance(found["slow"], FvvError)
        assert "before any progress" in str(found["slow"])
