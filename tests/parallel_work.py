"""Work for the processes of tests/test_parallel.py, which cannot import a test module."""

from __future__ import annotations

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
