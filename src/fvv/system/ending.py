"""Signals that end a run: Ctrl-C, and TERM or HUP as a batch system, a service manager or a closed terminal sends."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess, active_children
from types import FrameType

GRACE_S = 10.0
"""The main thread acts on a signal when it is back in Python; one that is not after this long (a model with an endless
loop, for one) is not waited for."""
EXIT_SIGNAL = 128
"""A process ended by a signal has this plus the signal's number as its exit code, as in a shell."""
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
_others: list[frozenset[BaseProcess]] = []
"""For each part of the run that starts workers: the child processes that are none of them."""


@contextmanager
def workers_start_here() -> Iterator[None]:
    """Every child process started from now on is a worker, which `kill_workers` may end."""
    _others.append(frozenset(active_children()))
    try:
        yield
    finally:
        _others.pop()


def kill_workers() -> None:
    """End every worker of this process at once. All writes are atomic, and the next run does again what is lost."""
    if _others:
        for process in set(active_children()) - _others[0]:
            process.kill()


class Ending:
    """Which signal ended this run, if one did."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self.noticed = threading.Event()

    @property
    def exit_code(self) -> int:
        """For the shell; that of Ctrl-C where no signal came and a library ended the run as Ctrl-C does."""
        return EXIT_SIGNAL + (self._signal or signal.SIGINT)

    @property
    def message(self) -> str:
        """For people."""
        other = self._signal if self._signal is not signal.SIGINT else None
        return f"stopped{f' by {other.name}' if other else ''}: run the same command again to resume"

    def begin(self, number: int) -> None:
        """No worker may write after this process has let go of its locks, so they end first."""
        self._signal = self._signal or signal.Signals(number)
        kill_workers()

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Handle a signal, in the main thread."""
        self.noticed.set()
        self.begin(number)
        raise KeyboardInterrupt


@contextmanager
def signals_end_the_run() -> Iterator[Ending]:
    """While this holds, each ending signal kills the workers and raises `KeyboardInterrupt` here.

    Once one has come, the next one after the run ends the process. A signal that is ignored stays so (`nohup`), and one
    that somebody else handles is theirs. Outside the main thread, which alone may handle signals, nothing changes.
    """
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: handler for number in _numbers() if (handler := signal.getsignal(number)) in usual}
    for number in before:
        signal.signal(number, ending)
    try:
        with _last_resort(ending):
            yield ending
    finally:
        # What is left is tidying up, also of libraries: a second Ctrl-C ends it at once, and without a traceback.
        over = ending.noticed.is_set()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if over else handler)


@contextmanager
def _last_resort(ending: Ending) -> Iterator[None]:
    """A thread that ends the process where the main thread cannot: a library keeps it in an endless computation."""
    inbox, outbox = socket.socketpair()
    outbox.settimeout(0)  # What set_wakeup_fd asks for.
    before = signal.set_wakeup_fd(outbox.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_wait_and_end, args=(inbox, ending), daemon=True).start()
    try:
        yield
    finally:
        ending.noticed.set()
        signal.set_wakeup_fd(before)
        outbox.close()  # The thread reads the end, and ends.


def _wait_and_end(inbox: socket.socket, ending: Ending) -> None:
    with inbox:
        while (number := inbox.recv(1)) and number[0] not in _numbers():
            pass
        if number and not ending.noticed.wait(GRACE_S):
            ending.begin(number[0])
            os.write(2, f"{ending.message}\n".encode())
            os._exit(ending.exit_code)
        while inbox.recv(64):  # Somebody must take what further signals send.
            pass


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
