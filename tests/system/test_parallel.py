"""Work over several processes: results, failures, workers that die, parents that end, and Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

import fvv.system.parallel
from fvv.errors import FvvError, UnexpectedError
from fvv.system.parallel import attempt, map_items
from parallel_work import beat, misbehave, press_ctrl_c_on_itself, sleep, square

PATIENCE_S = 300.0
"""For what comes within a second on an idle machine; only a run that hangs takes so long."""


@pytest.fixture(autouse=True)
def _ctrl_c_counts():
    """A shell that starts the tests in the background lets them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_gives_its_result_or_its_error(workers: int) -> None:
    found = dict(map_items(square, [1, 2, 3], workers=workers, description="test"))
    assert (found[1], found[3]) == (1, 9)
    assert isinstance(found[2], FvvError)
    assert found[2].examination_id == "two"


def test_ctrl_c_does_not_wait_for_work_under_way(tmp_path: Path) -> None:
    """The work never ends: a run that waited for it would not end either."""

    workers: list[psutil.Process] = []

    def press() -> None:
        workers.extend(psutil.Process(int(_soon(tmp_path / f"{one}.process"))) for one in "ab")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(map_items(partial(beat, str(tmp_path)), ["a", "b"], workers=2, description="test"))
    thread.join()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert not [process for process in alive if not _is_zombie(process)]


class Pressing(list):
    """Work whose second item comes with Ctrl-C: it is being handed to the processes at that moment."""

    def __iter__(self):
        yield self[0]
        os.kill(os.getpid(), signal.SIGINT)
        yield from self[1:]


def test_ctrl_c_while_work_is_handed_out_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(map_items(sleep, Pressing([0.0] * 4), workers=2, description="test"))


def test_workers_leave_ctrl_c_to_the_process_that_ends_them() -> None:
    found = dict(map_items(press_ctrl_c_on_itself, [1, 2], workers=2, description="test"))
    assert found == {1: "went on", 2: "went on"}


@pytest.mark.parametrize(("how", "told"), [("killed", "SIGKILL"), ("crashed", "exit code 3")])
def test_a_dead_worker_fails_its_item_alone(how: str, told: str) -> None:
    items = [*"abc", how, *"defghij", f"{how}"]  # Many more wait than there are workers.
    found = list(map_items(misbehave, items, workers=2, description="test"))
    failed = [outcome for item, outcome in found if item == how]
    assert sorted(outcome for item, outcome in found if item != how) == list("ABCDEFGHIJ")
    assert len(failed) == 2
    assert all(isinstance(error, FvvError) and told in str(error) for error in failed)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("memory", "memory ran out: Unable to allocate 7.50 GiB"),
        ("endless", "RecursionError"),
        ("fault", "IndexError: string index out of range"),
    ],
)
def test_whatever_an_item_raises_is_its_failure(item: str, told: str, workers: int) -> None:
    found = dict(map_items(misbehave, ["a", item, "b", "c"], workers=workers, description="test"))
    assert isinstance(found[item], FvvError)
    assert told in str(found[item])
    assert [found[one] for one in "abc"] == list("ABC")


def test_nothing_is_a_result() -> None:
    assert dict(map_items(misbehave, ["a", "nothing"], workers=2, description="test")) == {"a": "A", "nothing": None}


def test_a_result_that_cannot_be_sent_is_a_failure() -> None:
    found = dict(map_items(misbehave, ["a", "unsendable"], workers=2, description="test"))
    assert isinstance(found["unsendable"], FvvError)
    assert found["a"] == "A"


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_meant_for_the_whole_run_goes_through(workers: int) -> None:
    with pytest.raises(SystemExit):
        list(map_items(misbehave, ["a", "exit"], workers=workers, description="test"))


def test_an_unexpected_error_asks_to_be_reported_and_shows_its_place(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("fvv").propagate = True
    with caplog.at_level(logging.DEBUG, "fvv"):
        error = attempt(misbehave, "fault")
    assert isinstance(error, UnexpectedError)
    assert "please report" in str(error)
    assert "Traceback" in caplog.text


def test_an_error_of_the_system_names_its_file(tmp_path: Path) -> None:
    error = attempt((tmp_path / "nowhere").read_bytes)
    assert str(error) == f"{tmp_path / 'nowhere'}: No such file or directory"


def test_workers_that_never_do_anything_are_not_started_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fvv.system.parallel, "_MOST_DEATHS", 3)
    found = list(map_items(misbehave, ["crashed"] * 50, workers=2, description="test"))
    assert len(found) == 50
    assert sum("none finished anything" in str(outcome) for _, outcome in found) > 40


SCRIPT = """
import sys
from functools import partial
from fvv.system.ending import signals_end_the_run
from fvv.system.parallel import map_items
from parallel_work import beat
if __name__ == "__main__":
    with signals_end_the_run() as ending:
        try:
            list(map_items(partial(beat, sys.argv[1]), ["a", "b", "c"], workers=2, description="test"))
        except KeyboardInterrupt:
            print(ending.message)
            sys.exit(ending.exit_code)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"])
def test_workers_end_with_their_parent(name: str, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        workers = [psutil.Process(int(_soon(tmp_path / f"{one}.process"))) for one in "ab"]
        parent.send_signal(signal.Signals[name])
        said, _ = parent.communicate(timeout=PATIENCE_S)
    finally:
        parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert not [process for process in alive if not _is_zombie(process)]
    if name != "SIGKILL":
        assert parent.returncode == 128 + signal.Signals[name]
        assert said.count("\n") == 1


def _is_zombie(process: psutil.Process) -> bool:
    """Ended, while nobody has taken its exit code."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _soon(file: Path) -> str:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if file.exists() and (text := file.read_text()):
            return text
        time.sleep(0.05)
    raise AssertionError(f"{file.name} was not written")
