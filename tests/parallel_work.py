"""Work for the processes of tests/system/test_parallel.py, which cannot import a test module."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fvv.errors import InputError


def square(item: int) -> int:
    """The square; 2 is refused."""
    if item == 2:
        raise InputError("no image", examination_id="two")
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


def misbehave(item: str) -> str:
    """Do what the item says, which no worker should survive or expect."""
    match item:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crashed":
            os._exit(3)
        case "memory":
            raise MemoryError("Unable to allocate 7.50 GiB")
        case "endless":
            return misbehave(item) + item
        case "fault":
            return "".join([])[1]
        case "nothing":
            return None  # type: ignore[return-value]
        case "unsendable":
            return lambda: item  # type: ignore[return-value]
        case "exit":
            raise SystemExit(7)
    return item.upper()


def beat(folder: str, name: str) -> None:
    """Say who works on it, then write as long as nobody ends it."""
    Path(folder, f"{name}.process").write_text(str(os.getpid()))
    while True:
        with Path(folder, f"{name}.beats").open("a") as stream:
            stream.write(".")
        time.sleep(0.02)


def end_or_beat(folder: str, name: str) -> None:
    """As `beat`; the item "end" is done at once."""
    if name != "end":
        beat(folder, name)


def die_once(folder: str, item: str) -> str:
    """End the process at the first try of an item that is named so; gives how it was, in capitals."""
    mark = Path(folder, f"{item}.tried")
    if item.startswith("once") and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with Path(folder, f"{item}.done").open("a") as stream:
        stream.write("*")
    return item.upper()


def note_and_wait(folder: str, item: str) -> str:
    """Note where it runs; the first try of "slow" waits to be ended; gives how many tries there were."""
    told = os.environ
    job = "_".join(told[name] for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID") if name in told)
    with Path(folder, f"{item}.tries").open("a") as stream:
        stream.write(f"{told.get('SLURMD_NODENAME') or host()} {job or told.get('SLURM_JOB_ID', '')}\n")
    tries = tries_of(folder, item)
    while item == "slow" and tries == 1:
        time.sleep(0.1)
    return f"{item} {tries}"


def host() -> str:
    """The network namespace of this process."""
    return os.readlink("/proc/self/ns/net")  # noqa: PTH115


def tries_of(folder: str, item: str) -> int:
    """How often an item was begun."""
    place = Path(folder, f"{item}.tries")
    return len(place.read_text().splitlines()) if place.exists() else 0
