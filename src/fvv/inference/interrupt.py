"""Ctrl-C while onnxruntime computes: Python handles signals only between two of its own instructions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

Result = TypeVar("Result")

_LOOK_EVERY_S = 0.5
"""On Windows a wait cannot be interrupted: signals are seen between two waits."""
_GRACE_S = 1.0
"""Time to stop; a single operation of a graph cannot be stopped, and is left behind."""


def interruptible(work: Callable[[], Result], stop: Callable[[], None]) -> Result:
    """Do one long piece of native work, and let signals through meanwhile.

    The work runs in a thread of its own while the main thread waits. In any other thread, where no signal arrives, it
    runs as it is.

    Args:
        work: releases Python's lock.
        stop: asks it to end; called if a signal handler raises (Ctrl-C does).
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the work was asked for
            outcome.set_exception(error)

    # A daemon: the process may end although the work does not.
    thread = threading.Thread(target=run, name="onnxruntime", daemon=True)
    try:
        thread.start()
        while not outcome.done():
            wait([outcome], _LOOK_EVERY_S)
    except BaseException:
        stop()
        wait([outcome], _GRACE_S)
        raise
    return outcome.result()
