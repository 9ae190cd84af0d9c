"""Starting a stage in processes of its own, and ending them in every way that processes end."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from chaos.stages import Stage

CTRL_C_S = 2.0
"""Without the time that the process was ready to run and others had the processor."""
WITH_PARENT_S = 60.0
"""Workers whose parent was killed have ended by then."""
STOPPED = "stopped: run the same command again to resume"
KILLS = ("all", "parent SIGKILL", "parent SIGTERM", "parent SIGHUP", "worker SIGKILL")
"""Who gets which signal: the whole process group, or one process alone."""
_WITHOUT_PARENT = re.compile(
    r"Traceback \(most recent call last\):\n(?: +.*\n)*?"
    r" +File \".*/multiprocessing/spawn\.py\".*\n(?: +.*\n)*EOFError: .*\n?"
)
"""What Python says in a worker whose parent is killed while it starts, before any code of the package runs there."""


def start(stage: Stage, folder: Path, workers: int = 1) -> subprocess.Popen[str]:
    """Start the stage's command; it and its workers are a process group."""
    code = "import sys; from fvv.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, *stage.command(workers)]
    return subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def time_to_start(folder: Path) -> float:
    """Seconds that imports take."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import fvv.stages.demo"], cwd=folder, check=True)
    return time.monotonic() - started


def killed_after(stage: Stage, folder: Path, seconds: float, kind: str, rng: random.Random) -> tuple[bool, list[str]]:
    """Whether the stage was met at work, and what was wrong with how it and its workers ended."""
    workers = 2 if kind != "all" else rng.randint(1, 2)
    process = start(stage, folder, workers)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=seconds)
        return False, []
    if kind == "all":
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True, []
    everyone = _descendants(process.pid)
    if kind.startswith("worker"):
        alive = [one for one in everyone if _is_worker(one)]
        if alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(alive).kill()
        said, _ = process.communicate()
        return bool(alive), _judge_survivor(process.returncode, said)
    process.send_signal(getattr(signal, kind.split()[1]))
    _, living = psutil.wait_procs(everyone, timeout=WITH_PARENT_S)
    complaints = [f"{len(living)} workers outlive their parent ({kind})"] if living else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    if "Traceback" in _WITHOUT_PARENT.sub("", said):
        complaints.append(f"traceback after {kind}: {said[-300:]!r}")
    return True, complaints


def _judge_survivor(code: int, said: str) -> list[str]:
    """The parent of a worker that was killed goes on, and lists what the worker had in hand."""
    if "Traceback" in said or code not in {0, 1} or (code == 1 and "failed:" not in said and "error:" not in said):
        return [f"a killed worker: the parent ended with {code}: {said[-300:]!r}"]
    return []


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_worker(process: psutil.Process) -> bool:
    """Not the one that removes what workers leave behind."""
    try:
        return "resource_tracker" not in " ".join(process.cmdline())
    except psutil.Error:
        return False


def interrupted(stage: Stage, folder: Path, seconds: float, workers: int) -> tuple[float, list[str]] | None:
    """Seconds from Ctrl-C to the end, and what was wrong with it; None where the stage had ended before."""
    process = start(stage, folder, workers)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        said, waited = _press_ctrl_c(process)
    else:
        return None
    if process.returncode == 0 or (process.returncode == -signal.SIGINT and STOPPED not in said):
        return None  # It was at its very end, or past it: Python itself was ending.
    complaints = [f"Ctrl-C took {waited:.1f} s"] if waited > CTRL_C_S else []
    if process.returncode != 130 or "Traceback" in said or said.rstrip().splitlines()[-1:] != [STOPPED]:
        complaints.append(f"Ctrl-C ended with {process.returncode}: {said[-300:]!r}")
    return waited, complaints


def _press_ctrl_c(process: subprocess.Popen[str]) -> tuple[str, float]:
    """What the process said, and the seconds until its end."""
    kept_waiting = before = _waited_for_a_processor(process.pid)
    pressed = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            said, _ = process.communicate(timeout=0.05)
            return said, max(0.0, time.monotonic() - pressed - (kept_waiting - before))
        kept_waiting = max(kept_waiting, _waited_for_a_processor(process.pid))


def _waited_for_a_processor(process: int) -> float:
    """Seconds so far that its main thread could have run and others ran (Linux; 0 elsewhere)."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # It has ended, or the system does not say.
        return 0.0
