"""Work as jobs: outcomes, jobs that die, a bounded queue, cancelled and orphaned jobs; a stand-in plays SLURM."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from threading import Timer

import psutil
import pytest

import fvv.system.slurm
from fake_slurm import write_programs
from fvv.config import ClusterConfig, load_config
from fvv.errors import ConfigError, FvvError
from fvv.system.parallel import LongItems, engine, map_items
from fvv.system.slurm import job_states, on_slurm
from fvv.system.slurm_job import LongBatch
from parallel_work import die_once, end_or_beat, misbehave

pytest.importorskip("submitit", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in reads /proc")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterConfig:
    monkeypatch.setenv("PATH", f"{write_programs(tmp_path)}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    for name, seconds in {"_LOOK_S": 0.05, "_ASK_S": 0.2, "_LATE_S": 0.3}.items():
        monkeypatch.setattr(fvv.system.slurm, name, seconds)
    return ClusterConfig(engine="slurm", folder=tmp_path / "fvv_jobs", batch=3, jobs=2)


def _logs(settings: ClusterConfig) -> list[Path]:
    return sorted(settings.folder.glob("*/*_log.out"))


def test_outcomes_are_those_of_this_machine_and_only_logs_stay(settings: ClusterConfig) -> None:
    items = ["a", "b", "fault", "d", "nothing", "unsendable"]
    with engine(settings):
        found = dict(map_items(misbehave, items, workers=None, description="test"))
    assert [found["a"], found["b"], found["d"], found["nothing"]] == ["A", "B", "D", None]
    assert all(isinstance(found[name], FvvError) for name in ("fault", "unsendable"))
    assert len(_logs(settings)) == 2
    assert {file for file in settings.folder.rglob("*") if file.is_file()} == {*_logs(settings)}


def test_a_job_that_dies_is_tried_again_and_nothing_is_done_twice(settings: ClusterConfig, tmp_path: Path) -> None:
    items = ["a", "once", "b", "c", "d", "e"]
    with engine(settings):
        found = dict(map_items(partial(die_once, str(tmp_path)), items, workers=1, description="test"))
    assert found == {item: item.upper() for item in items}
    assert {(tmp_path / f"{item}.done").read_text() for item in items} == {"*"}


def test_an_item_that_ends_every_job_fails_alone_and_names_its_log(settings: ClusterConfig) -> None:
    with engine(settings):
        found = dict(map_items(misbehave, ["a", "killed", "b"], workers=1, description="test"))
    assert (found["a"], found["b"]) == ("A", "B")
    assert "ended 3 times without a result (last: FAILED)" in str(found["killed"])
    assert "_log.out" in str(found["killed"])


def test_jobs_that_all_die_end_the_run(settings: ClusterConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fvv.system.slurm, "_MOST_DEATHS_BEFORE_A_RESULT", 2)
    with engine(settings), pytest.raises(FvvError, match=r"none finished anything.*_log\.out"):
        list(map_items(misbehave, ["killed"] * 9, workers=1, description="test"))


def test_a_job_on_a_node_that_powers_up_is_waited_for(
    settings: ClusterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fvv.system.slurm, "_ASK_S", 0.0)

    def powering_up(name: str) -> dict[str, str]:
        states = job_states(name) or {}
        return {job: "POWER_UP_NODE" if state == "RUNNING" else state for job, state in states.items()}

    monkeypatch.setattr(fvv.system.slurm, "job_states", powering_up)
    with engine(settings):
        assert dict(map_items(misbehave, ["a", "b"], workers=1, description="test")) == {"a": "A", "b": "B"}
    assert len([*(tmp_path / "jobs").glob("*.script")]) == 1


def test_no_more_jobs_than_asked_for_are_in_the_queue(settings: ClusterConfig, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"jobs": 1, "batch": 2})
    with engine(settings):
        for done, _ in enumerate(map_items(misbehave, list("abcdef"), workers=1, description="test"), start=1):
            assert len([*(tmp_path / "jobs").glob("*.script")]) <= 1 + done // 2
    assert len(_logs(settings)) == 3


def test_who_stops_taking_results_cancels_the_jobs(settings: ClusterConfig, tmp_path: Path) -> None:
    done = on_slurm(partial(end_or_beat, str(tmp_path)), ["end", "beat"], settings, description="test")
    next(done)
    _until((tmp_path / "beat.beats").exists)
    done.close()
    _no_more_beats(tmp_path)


def test_jobs_whose_driver_was_killed_are_cancelled_by_the_next_run(settings: ClusterConfig, tmp_path: Path) -> None:
    code = f"""
from functools import partial
from fvv.config import ClusterConfig
from fvv.system.slurm import on_slurm
from parallel_work import beat
settings = ClusterConfig.model_validate_json('''{settings.model_dump_json()}''')
list(on_slurm(partial(beat, {str(tmp_path)!r}), ["beat"], settings, description="test"))
"""
    driver = subprocess.Popen([sys.executable, "-c", code])
    _until((tmp_path / "beat.beats").exists)
    driver.kill()
    driver.wait()
    (orphans,) = settings.folder.iterdir()
    assert list((job_states(orphans.name) or {}).values()) == ["RUNNING"]
    with engine(settings):
        assert list(map_items(misbehave, ["a"], workers=1, description="test")) == [("a", "A")]
    _no_more_beats(tmp_path)
    assert all(file.name.endswith("_log.out") for file in orphans.iterdir())


def test_jobs_of_another_machines_driver_are_left_alone(settings: ClusterConfig, tmp_path: Path) -> None:
    note = settings.folder / "fvv-test-abc" / "driver"
    note.parent.mkdir(parents=True)
    note.write_text(f"not-{socket.gethostname()}")
    fvv.system.slurm.end_orphans(settings.folder)
    assert note.exists()


def test_what_slurm_refuses_is_told(settings: ClusterConfig, tmp_path: Path) -> None:
    (tmp_path / "jobs" / "refuse").touch()
    with engine(settings), pytest.raises(FvvError, match="Invalid account"):
        list(map_items(misbehave, ["a"], workers=1, description="test"))


def test_a_refusal_in_the_middle_is_waited_for(
    settings: ClusterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fvv.system.slurm, "_REFUSED_S", 0.1)
    refuse, settings = tmp_path / "jobs" / "refuse", settings.model_copy(update={"jobs": 1, "batch": 1})
    done = on_slurm(partial(end_or_beat, str(tmp_path)), ["end", "end"], settings, description="test")
    next(done)
    refuse.touch()
    Timer(1.0, refuse.unlink).start()
    assert [item for item, _ in done] == ["end"]


def test_without_slurm_it_is_told(settings: ClusterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with engine(settings), pytest.raises(ConfigError, match="no SLURM here"):
        list(map_items(misbehave, ["a"], workers=1, description="test"))


def test_resources_and_further_directives_are_those_of_the_settings(settings: ClusterConfig, tmp_path: Path) -> None:
    more = {"cores": 4, "memory_gb": 1.5, "gpus": 1, "account": "stroke", "directives": ["qos=long", "exclusive"]}
    settings = load_config(None, {"cluster": {**settings.model_dump(), **more}}).cluster
    long = LongItems(len, nodes=2, tasks=3)
    with engine(settings):
        assert list(map_items(misbehave, ["a"], workers=1, description="test", long=long)) == [("a", "A")]
    script = (tmp_path / "jobs" / "1.script").read_text()
    for directive in (
        *("cpus-per-task=4", "mem=1536M", "gpus-per-node=1", "account=stroke", "qos=long", "exclusive", "requeue"),
        *("time=60", "nodes=2", "ntasks-per-node=3", "signal=USR2@90"),
    ):
        assert f"#SBATCH --{directive}\n" in script


def test_a_job_is_requeued_only_where_it_made_progress(tmp_path: Path) -> None:
    epochs = ["first"]
    batch = LongBatch(len, [(0, "fold")], tmp_path, 20, lambda _: len(epochs), len(epochs))
    epochs.append("second")
    assert isinstance(batch.checkpoint().function, LongBatch)


@pytest.mark.parametrize("handed_in", [False, True])
def test_a_job_without_progress_ends_whatever_catches_errors(tmp_path: Path, *, handed_in: bool) -> None:
    code = """
import signal, sys, time
from pathlib import Path
from fvv.system.slurm_job import LongBatch
batch = LongBatch(len, [(0, "fold")], Path(sys.argv[1]), 20, len, len("fold"))
signal.signal(signal.SIGUSR2, lambda *_: batch.checkpoint())
while True:
    try:
        signal.raise_signal(signal.SIGUSR2)
    except BaseException:
        pass
"""
    outcome = tmp_path / "0.outcome"
    if handed_in:
        outcome.write_bytes(pickle.dumps("its result"))
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], timeout=300, check=False)
    assert ended.returncode == 1
    said = pickle.loads(outcome.read_bytes())
    assert said == "its result" if handed_in else "cluster.time_min" in str(said)


@pytest.mark.parametrize("on", ["slum", "dask://host", "dask://a b:80", "slurm\n"])
def test_an_engine_that_is_none_is_refused(on: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.engine"):
        load_config(None, {"cluster.engine": on})


def _until(check) -> None:
    end = time.monotonic() + 300
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


def _no_more_beats(folder: Path) -> None:
    """The process that wrote them ends; nobody may have taken its exit code."""
    process = int((folder / "beat.process").read_text())

    def ended() -> bool:
        try:
            return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    _until(ended)
