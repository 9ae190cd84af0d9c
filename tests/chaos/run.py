"""Kills every stage at random moments, runs the same command again, and compares: `python -m chaos.run`.

A stage is run once undisturbed, for its time and its result. Then, again and again: on an empty output folder it is
started, killed after a random part of that time (SIGKILL to the whole process group), started and killed again some
times, and at last left alone. Its files must then be those of the undisturbed run, which had one worker: every start
draws anew whether one or two share the work. After that, Ctrl-C, with one worker and with two: the process must end
within two seconds with one line, and the command must go on where it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from chaos.stages import SETTINGS, STAGES, Stage, contents

CTRL_C_S = 2.0
"""Without the time that the process was ready to run and others had the processor."""
STOPPED = "stopped: the same command goes on where this one ended"


@dataclass(slots=True)
class Tally:
    """What happened over all stages."""

    kills: int = 0
    resumes: int = 0
    interrupts: int = 0
    mismatches: list[str] = field(default_factory=list)

    def complain(self, mismatch: str) -> None:
        """Note and print what differs."""
        self.mismatches.append(mismatch)
        print("MISMATCH", mismatch, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per stage and the sums; 1 where anything differed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=6, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="work here and keep it")
    verbs = [stage.verb for stage in STAGES]
    parser.add_argument("--only", nargs="+", choices=verbs, default=verbs, help="these; --folder holds what they read")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Started in the background, it and its children had none.
    rng = random.Random(options.seed)  # noqa: S311 - moments, not secrets
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fvv-chaos-") as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
        for stage in STAGES:
            if stage.verb in options.only:
                torment(stage, folder, options.kills, rng, tally)
    print(
        f"{tally.kills} kills, {tally.resumes} resumes, {tally.interrupts} Ctrl-C, {len(tally.mismatches)} mismatches",
        flush=True,
    )
    return 1 if tally.mismatches else 0


def torment(stage: Stage, folder: Path, kills: int, rng: random.Random, tally: Tally) -> None:
    """Kill, resume and compare one stage; its undisturbed result stays for the next stage."""
    started = time.monotonic()
    _finish(stage, folder)
    took = time.monotonic() - started
    output, whole = folder / stage.output, folder / f"{stage.output}.whole"
    output.rename(whole)
    expected = contents(whole)
    # A stage of seconds spends most of them on imports: twice the share of kills falls after those.
    start_s = _time_to_start(folder)
    done = 0
    while done < kills:
        shutil.rmtree(output, ignore_errors=True)
        for _ in range(rng.randint(1, 3)):
            moment = rng.uniform(0, took) if rng.random() < 1 / 3 else rng.uniform(min(start_s, took), took)
            if _killed_after(stage, folder, moment, rng.randint(1, 2)):
                done += 1
                tally.kills += 1
        _resume_and_compare(stage, folder, expected, rng, tally)
    slowest, before = 0.0, tally.interrupts
    for n in range(6):  # Where the machine has become quicker, the stage may have ended before Ctrl-C.
        if tally.interrupts < before + 2:
            shutil.rmtree(output, ignore_errors=True)
            moment = rng.uniform(start_s, max(0.8 * took, start_s))
            slowest = max(slowest, _interrupted(stage, folder, moment, n % 2 + 1, tally))
    _resume_and_compare(stage, folder, expected, rng, tally)
    if tally.interrupts == before:
        tally.complain(f"{stage.verb}: no Ctrl-C met it at work")
    shutil.rmtree(output)
    whole.rename(output)
    interrupts = f"{tally.interrupts - before} Ctrl-C, ended in {slowest:.2f} s at most"
    line = f"{stage.verb:<10}{took:7.1f} s undisturbed, {done} kills, {interrupts}, {len(expected)} files"
    print(f"{line}, {len(tally.mismatches)} mismatches so far", flush=True)


def _start(stage: Stage, folder: Path, workers: int = 1) -> subprocess.Popen[str]:
    start = "import sys; from fvv.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", start, *stage.command(workers)]
    return subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def _finish(stage: Stage, folder: Path) -> None:
    process = _start(stage, folder)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{stage.verb} failed: {said}")


def _time_to_start(folder: Path) -> float:
    started = time.monotonic()
    code = "import fvv.stages.demo"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    return time.monotonic() - started


def _killed_after(stage: Stage, folder: Path, seconds: float, workers: int) -> bool:
    process = _start(stage, folder, workers)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def _interrupted(stage: Stage, folder: Path, seconds: float, workers: int, tally: Tally) -> float:
    """Seconds from Ctrl-C to the end; 0 where the stage had ended before."""
    process = _start(stage, folder, workers)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        said, waited = _press_ctrl_c(process)
    else:
        return 0.0
    if process.returncode == 0 or (process.returncode == -signal.SIGINT and STOPPED not in said):
        return 0.0  # It was at its very end, or past it: Python itself was ending.
    tally.interrupts += 1
    if waited > CTRL_C_S:
        tally.complain(f"{stage.verb}: Ctrl-C took {waited:.1f} s")
    if process.returncode != 130 or "Traceback" in said or said.rstrip().splitlines()[-1:] != [STOPPED]:
        tally.complain(f"{stage.verb}: Ctrl-C ended with {process.returncode}: {said[-300:]!r}")
    return waited


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


def _resume_and_compare(stage: Stage, folder: Path, expected: dict[str, str], rng: random.Random, tally: Tally) -> None:
    process = _start(stage, folder, rng.randint(1, 2))
    said, _ = process.communicate()
    tally.resumes += 1
    if process.returncode and "already there" not in said:
        tally.complain(f"{stage.verb}: the same command failed: {said[-300:]!r}")
        return
    found = contents(folder / stage.output)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            what = "missing" if name not in found else "left over" if name not in expected else "other content"
            tally.complain(f"{stage.verb}: {name}: {what}")


if __name__ == "__main__":
    sys.exit(main())
