"""Work for the processes of tests/test_parallel.py, which cannot import a test module."""

from __future__ import annotations

import os
import signal
import time

from fvv.errors import InputError


def square(item: int) -> int:
    """The square; 2 is refused."""
    if item == 2:
        raise InputError("no image", patient="two")
    return item * item


def sleep(seconds: float) -> float:
    """Busy for so long."""
    time.sleep(seconds)
    return seconds


def press_ctrl_c_on_itself(_: int) -> str:
    """As a terminal does, which sends it to every process."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    return "went on"
