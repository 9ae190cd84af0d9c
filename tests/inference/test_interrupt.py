"""Ctrl-C ends a run of onnxruntime that would never end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import odd_models
from builders import write_patient
from fvv.inference.interrupt import interruptible


def test_work_is_done_and_its_errors_come_through() -> None:
    assert interruptible(threading.get_ident, lambda: None) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, lambda: None)


def test_in_another_thread_nothing_more_is_started() -> None:
    found: list[bool] = []

    def ask() -> None:
        found.append(interruptible(threading.get_ident, lambda: None) == threading.get_ident())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [True]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals are sent to the main thread")
def test_an_interrupt_asks_the_work_to_stop() -> None:
    stopped = threading.Event()

    def work() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        stopped.wait()

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # The command line may have set its own.
    try:
        with pytest.raises(KeyboardInterrupt):
            interruptible(work, stopped.set)
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
