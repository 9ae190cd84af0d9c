"""Kills every stage at random moments, runs the same command again, and compares: `python -m chaos.run`.

A stage is run once undisturbed, for its time and its result. Then, again and again: on an empty output folder it is
started, killed after a random part of that time (SIGKILL to the whole process group), started and killed again some
times, and at last left alone. Its files must then be those of the undisturbed run. After that, Ctrl-C: the process must
end within two seconds with one line, and the command must go on where it ended.
"""

from __future__ import annotations

import argparse
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
STOPPED = "stopped: the same command goes on where this one ended"


@dataclass(slots=True)
class Tally:
    """What happened over all stages."""

    kills: int = 0
    resumes: int = 0
    interrupts: int = 0
    mismatches: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per stage and the sums; 1 where anything differed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=6, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="work here and keep it")
    options = parser.parse_args(argv)
    rng = random.Random(options.seed)  # noqa: S311 - moments, not secrets
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fvv-chaos-") as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
        for stage in STAGES:
            torment(stage, folder, options.kills, rng, tally)
    for mismatch in tally.mismatches:
        print("MISMATCH", mismatch)
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
            if _killed_after(stage, folder, moment):
                done += 1
                tally.kills += 1
        _resume_and_compare(stage, folder, expected, tally)
    slowest, before = 0.0, tally.interrupts
    for _ in range(8):  # Where the machine has become quicker, the stage may have ended before Ctrl-C.
        if tally.interrupts < before + 2:
            shutil.rmtree(output, ignore_errors=True)
            moment = rng.uniform(start_s, max(0.8 * took, start_s))
            slowest = max(slowest, _interrupted(stage, folder, moment, tally))
    _resume_and_compare(stage, folder, expected, tally)
    shutil.rmtree(output)
    whole.rename(output)
    interrupts = f"{tally.interrupts - before} Ctrl-C, ended in {slowest:.1f} s at most"
    line = f"{stage.verb:<10}{took:7.1f} s undisturbed, {done} kills, {interrupts}, {len(expected)} files"
    print(f"{line}, {len(tally.mismatches)} mismatches so far", flush=True)


def _start(stage: Stage, folder: Path) -> subprocess.Popen[str]:
    start = "import sys; from fvv.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", start, *stage.words, "-c", "settings.yaml"]
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


def _killed_after(stage: Stage, folder: Path, seconds: float) -> bool:
    process = _start(stage, folder)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def _interrupted(stage: Stage, folder: Path, seconds: float, tally: Tally) -> float:
    """Seconds from Ctrl-C to the end; 0 where the stage had ended before."""
    process = _start(stage, folder)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        pressed = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate()
    else:
        return 0.0
    waited = time.monotonic() - pressed
    tally.interrupts += 1
    if process.returncode == 0:  # It was at its very end.
        return 0.0
    if waited > CTRL_C_S:
        tally.mismatches.append(f"{stage.verb}: Ctrl-C took {waited:.1f} s")
    if process.returncode != 130 or "Traceback" in said or said.rstrip().splitlines()[-1:] != [STOPPED]:
        tally.mismatches.append(f"{stage.verb}: Ctrl-C ended with {process.returncode}: {said[-300:]!r}")
    return waited


def _resume_and_compare(stage: Stage, folder: Path, expected: dict[str, str], tally: Tally) -> None:
    process = _start(stage, folder)
    said, _ = process.communicate()
    tally.resumes += 1
    if process.returncode and "already there" not in said:
        tally.mismatches.append(f"{stage.verb}: the same command failed: {said[-300:]!r}")
        return
    found = contents(folder / stage.output)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            what = "missing" if name not in found else "left over" if name not in expected else "other content"
            tally.mismatches.append(f"{stage.verb}: {name}: {what}")


if __name__ == "__main__":
    sys.exit(main())
