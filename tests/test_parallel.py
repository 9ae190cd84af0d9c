"""Work over several processes: results, failures, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from fvv.errors import FvvError
from fvv.parallel import map_items
from parallel_work import press_ctrl_c_on_itself, sleep, square


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
    assert found[2].patient == "two"


def test_ctrl_c_does_not_wait_for_work_under_way() -> None:
    pressed = []

    def press() -> None:
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    done = map_items(sleep, [0.0, 0.0, 600.0, 600.0], workers=2, description="test")
    next(done)
    next(done)
    timer = threading.Timer(0.5, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(done)
    timer.cancel()
    assert time.monotonic() - pressed[0] < 2


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
