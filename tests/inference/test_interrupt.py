"""Ctrl-C ends a run of onnxruntime that would never end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import odd_models
from builders import write_patient
from fvv.inference.interrupt import Job, in_groups


def test_jobs_are_done_in_other_threads_and_groups_come_in_order() -> None:
    threads: list[int] = []
    done: list[int] = []

    def job(number: int) -> None:
        threads.append(threading.get_ident())
        done.append(number)

    groups = [[partial(job, 0), partial(job, 1)], [partial(job, 2)], []]
    seen = [set(done) for _ in in_groups(groups, 2, lambda: None)]
    assert len(seen) == 3
    assert {0, 1} <= seen[0]
    assert seen[1] == seen[2] == {0, 1, 2}
    assert threading.get_ident() not in threads


def test_so_many_jobs_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=300)  # Broken, and an error, where the two never meet.
    for _ in in_groups([[lambda: both.wait() and None] * 2], 2, lambda: None):
        pass


def test_the_next_group_is_begun_while_the_caller_looks_at_one_and_no_other() -> None:
    begun = [threading.Event() for _ in range(4)]
    asked = []

    def groups() -> Iterator[list[Job]]:
        for number, event in enumerate(begun):
            asked.append(number)
            yield [event.set]

    for number, _ in enumerate(in_groups(groups(), 1, lambda: None)):
        if number + 1 < len(begun):
            assert begun[number + 1].wait(300)
        assert asked == list(range(min(number + 2, len(begun))))


def test_an_error_of_a_job_is_raised_and_ends_the_others() -> None:
    stopped = threading.Event()
    with pytest.raises(ZeroDivisionError):
        list(in_groups([[lambda: 1 // 0 and None, lambda: stopped.wait() and None]], 2, stopped.set))
    assert stopped.is_set()


def test_of_several_errors_the_first_job_in_order_gives_its_own() -> None:
    failed = threading.Event()

    def later() -> None:
        failed.wait()
        raise LookupError

    def sooner() -> None:
        failed.set()
        raise ZeroDivisionError

    with pytest.raises(LookupError):
        list(in_groups([[later, sooner]], 2, lambda: None))


def test_jobs_that_have_not_begun_when_the_caller_leaves_are_left_out() -> None:
    begun, stopped = threading.Event(), threading.Event()
    done: list[str] = []
    workers: list[threading.Thread] = []

    def first() -> None:
        workers.append(threading.current_thread())
        begun.set()
        stopped.wait()
        done.append("first")

    running = in_groups([[], [first, lambda: done.append("second")]], 1, stopped.set)
    next(running)
    assert begun.wait(300)
    running.close()
    workers[0].join(300)
    assert done == ["first"]


def test_an_error_keeps_nothing_in_memory() -> None:
    workers: list[threading.Thread] = []

    def job(_volume: np.ndarray) -> None:
        workers.append(threading.current_thread())
        raise ZeroDivisionError

    def failing() -> weakref.ref[np.ndarray]:
        volume = np.zeros(3)
        try:
            list(in_groups([[partial(job, volume)]], 1, lambda: None))
        except ZeroDivisionError:
            return weakref.ref(volume)
        raise AssertionError

    gc.disable()
    try:
        kept = failing()
        workers[0].join(300)
        assert kept() is None
    finally:
        gc.enable()


def test_threads_end_where_not_all_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def one_only(thread: threading.Thread) -> None:
        if thread.name == "onnxruntime":
            if started:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", one_only)
    with pytest.raises(RuntimeError, match="new thread"):
        next(in_groups([[lambda: None]], 2, lambda: None))
    started[0].join(300)
    assert not started[0].is_alive()


def test_a_caller_that_leaves_ends_what_was_begun() -> None:
    stopped = threading.Event()
    running = in_groups([[], [lambda: stopped.wait() and None]], 1, stopped.set)
    next(running)
    running.close()
    assert stopped.is_set()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals are sent to the main thread")
def test_an_interrupt_asks_the_work_to_stop() -> None:
    stopped = threading.Event()

    def work() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        stopped.wait()

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # The command line may have set its own.
    try:
        with pytest.raises(KeyboardInterrupt):
            list(in_groups([[work]], 1, stopped.set))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert stopped.is_set()


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a signal")
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_a_prediction_with_a_model_that_never_ends(
    tmp_path: Path, rng: np.random.Generator, workers: int
) -> None:
    for name in ("a", "b"):
        write_patient(tmp_path / "in" / name, rng)
    odd_models.endless(tmp_path / "models" / "model1.onnx")
    words = ["predict", "in", "-m", "models", "-o", "out", "--device", "cpu", "--workers", str(workers)]
    run = subprocess.Popen(
        [sys.executable, "-c", "from fvv.cli import main; raise SystemExit(main())", *words],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stderr is not None
    while "models:" not in (line := run.stderr.readline()):
        assert line, "the run ended before it opened its models"
    time.sleep(4 * workers)  # Most of it is the import of libraries, in a worker.
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=300)
    assert run.returncode == 130
    assert "stopped" in said
    assert "Traceback" not in said
