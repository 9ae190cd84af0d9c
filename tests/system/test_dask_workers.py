"""A Dask scheduler with two workers, one of which dies (`make cluster-test`)."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from fvv.config import ClusterConfig
from fvv.errors import ConfigError, FvvError
from fvv.system.dask_workers import _in_folder
from fvv.system.parallel import engine, map_items
from parallel_work import die_once, misbehave

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setitem(distributed.config["distributed"]["scheduler"], "allowed-failures", 1)
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            yield cluster


@pytest.fixture
def on(cluster) -> ClusterConfig:
    return ClusterConfig(engine=cluster.scheduler_address.replace("tcp", "dask"))


def test_outcomes_are_those_of_this_machine(on: ClusterConfig) -> None:
    with engine(on):
        found = dict(map_items(misbehave, ["a", "fault", *"bcdefgh"], workers=None, description="test"))
    assert isinstance(found.pop("fault"), FvvError)
    assert found == {name: name.upper() for name in "abcdefgh"}


def test_what_a_dead_worker_had_is_done_by_another(
    on: ClusterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # Relative paths are those of the driver.
    items = ["a", "once", *"bcdef"]
    with engine(on):
        found = dict(map_items(partial(die_once, "."), items, workers=None, description="test"))
    assert found == {item: item.upper() for item in items}
    assert (tmp_path / "once.done").read_text() == "*"


@pytest.mark.parametrize("deaths", [0, 1])
def test_what_ends_every_worker_fails_alone(
    on: ClusterConfig, cluster, deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask blames the items that waited at the same worker, too: the first death is one too many with 0."""
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", deaths)
    with engine(on):
        found = dict(map_items(misbehave, ["killed", *"abcdef"], workers=None, description="test"))
    assert "Dask gave it up" in str(found.pop("killed"))
    assert found == {name: name.upper() for name in "abcdef"}


def test_a_worker_with_several_threads_does_one_thing_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    busy = []

    def work(item: int) -> int:
        busy.append(item)
        time.sleep(0.1)
        assert busy.pop() == item
        return item

    with ThreadPoolExecutor(3) as threads:
        assert [*threads.map(partial(_in_folder, tmp_path, work), range(3))] == [0, 1, 2]


def test_a_scheduler_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(distributed.config["distributed"]["comm"]["timeouts"], "connect", "1s")
    with engine(ClusterConfig(engine="dask://127.0.0.1:9")), pytest.raises(ConfigError, match="no Dask scheduler"):
        list(map_items(misbehave, ["a"], workers=None, description="test"))
