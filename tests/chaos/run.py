"""Kills every stage at random moments, damages what it wrote, and runs the same command again: `python -m chaos.run`.

A stage is run once undisturbed, for its time and its result. Then, again and again: on an empty output folder it is
started and killed after a random part of that time, some times, and at last left alone. Its files must then be those of
the undisturbed run. SIGKILL goes to the whole process group, or SIGKILL, SIGTERM or SIGHUP to the parent alone, whose
workers must end with it, or SIGKILL to one worker, whose parent must go on. Then Ctrl-C, with one worker and with two:
the process must end within two seconds with one line, and the command must go on where it ended. Then two runs at once.
At last a file of each kind that the stage wrote is damaged: the same command repairs it or refuses in one line.
"""

from __future__ import annotations

import argparse
import importlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from chaos.damage import chosen_damages, damaged_and_again
from chaos.processes import KILLS, interrupted, killed_after, start, time_to_start
from chaos.stages import SETTINGS, STAGES, Stage, contents


@dataclass(slots=True)
class Tally:
    """What happened over all stages."""

    kills: int = 0
    resumes: int = 0
    interrupts: int = 0
    damages: int = 0
    mismatches: list[str] = field(default_factory=list)

    def complain(self, mismatch: str) -> None:
        """Note and print what differs."""
        self.mismatches.append(mismatch)
        print("MISMATCH", mismatch, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per stage and the sums; 1 where anything differed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=5, help="of each stage")
    parser.add_argument("--damages", type=int, default=2, help="of each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="work here and keep it")
    verbs = [stage.verb for stage in STAGES]
    parser.add_argument("--only", nargs="+", choices=verbs, default=verbs, help="these; --folder holds what they read")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Started in the background, it and its children had none.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Under nohup too, or the stages would ignore it.
    importlib.import_module("fvv.stages.demo")  # Once for all the damaged runs, which are forks of this process.
    rng = random.Random(options.seed)  # noqa: S311 - moments, not secrets
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fvv-chaos-") as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
        for stage in STAGES:
            if stage.verb in options.only:
                torment(stage, folder, options.kills, options.damages, rng, tally)
    print(
        f"{tally.kills} kills, {tally.resumes} resumes, {tally.interrupts} Ctrl-C, {tally.damages} damaged files, "
        f"{len(tally.mismatches)} mismatches",
        flush=True,
    )
    return 1 if tally.mismatches else 0


def torment(stage: Stage, folder: Path, kills: int, damages: int, rng: random.Random, tally: Tally) -> None:
    """Kill, resume, damage and compare one stage; its undisturbed result stays for the next stage."""
    started = time.monotonic()
    _finish(stage, folder)
    took = time.monotonic() - started
    output, whole = folder / stage.output, folder / f"{stage.output}.whole"
    output.rename(whole)
    expected = contents(whole)
    # A stage of seconds spends most of them on imports: twice the share of kills falls after those.
    start_s = time_to_start(folder)
    before = (tally.kills, tally.interrupts, tally.damages)
    _kill(stage, folder, expected, (start_s, took), kills, rng, tally)
    slowest = _interrupt(stage, folder, expected, (start_s, took), rng, tally)
    _run_two_at_once(stage, folder, expected, rng, tally)
    for name, damage in chosen_damages(whole, damages, rng):
        tally.damages += 1
        if complaint := damaged_and_again(stage, folder, whole, expected, name, damage):
            tally.complain(f"{stage.verb}: {complaint}")
    shutil.rmtree(output, ignore_errors=True)
    whole.rename(output)
    done = [now - then for now, then in zip((tally.kills, tally.interrupts, tally.damages), before, strict=True)]
    line = f"{stage.verb:<10}{took:7.1f} s undisturbed, {done[0]} kills, {done[1]} Ctrl-C, ended in {slowest:.2f} s"
    line += f" at most, {done[2]} files damaged, {len(expected)} files, {time.monotonic() - started:.0f} s in all"
    print(f"{line}, {len(tally.mismatches)} mismatches so far", flush=True)


def _kill(
    stage: Stage,
    folder: Path,
    expected: dict[str, str],
    times_s: tuple[float, float],
    kills: int,
    rng: random.Random,
    tally: Tally,
) -> None:
    start_s, took = times_s
    kinds = KILLS if stage.workers else KILLS[:2]
    done, tries = 0, 0
    while done < kills and tries < 4 * kills:
        shutil.rmtree(folder / stage.output, ignore_errors=True)
        for _ in range(rng.randint(1, 3)):
            kind, tries = kinds[tries % len(kinds)], tries + 1
            moment = rng.uniform(0, took) if rng.random() < 1 / 3 else rng.uniform(min(start_s, took), took)
            met, complaints = killed_after(stage, folder, moment, kind, rng)
            done += met
            tally.kills += met
            for complaint in complaints:
                tally.complain(f"{stage.verb}: {complaint}")
        _resume_and_compare(stage, folder, expected, rng, tally)


def _interrupt(
    stage: Stage,
    folder: Path,
    expected: dict[str, str],
    times_s: tuple[float, float],
    rng: random.Random,
    tally: Tally,
) -> float:
    """Ctrl-C, twice; gives the longest wait for the end."""
    start_s, took = times_s
    slowest, met = 0.0, 0
    for n in range(6):  # Where the machine has become quicker, the stage may have ended before Ctrl-C.
        if met < 2:
            shutil.rmtree(folder / stage.output, ignore_errors=True)
            moment = rng.uniform(start_s, max(0.8 * took, start_s))
            if found := interrupted(stage, folder, moment, n % 2 + 1):
                met += 1
                slowest = max(slowest, found[0])
                for complaint in found[1]:
                    tally.complain(f"{stage.verb}: {complaint}")
    tally.interrupts += met
    if not met:
        tally.complain(f"{stage.verb}: no Ctrl-C met it at work")
    _resume_and_compare(stage, folder, expected, rng, tally)
    return slowest


def _run_two_at_once(stage: Stage, folder: Path, expected: dict[str, str], rng: random.Random, tally: Tally) -> None:
    """One does the work; the other is refused, or comes late and finds it done."""
    shutil.rmtree(folder / stage.output, ignore_errors=True)
    both = [start(stage, folder), start(stage, folder)]
    for process in both:
        said, _ = process.communicate()
        refused = "another fvv process" in said or "already there" in said
        if "Traceback" in said or (process.returncode and not refused):
            tally.complain(f"{stage.verb}: two at once: {process.returncode}: {said[-300:]!r}")
    _resume_and_compare(stage, folder, expected, rng, tally)


def _finish(stage: Stage, folder: Path) -> None:
    process = start(stage, folder)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{stage.verb} failed: {said}")


def _resume_and_compare(stage: Stage, folder: Path, expected: dict[str, str], rng: random.Random, tally: Tally) -> None:
    process = start(stage, folder, rng.randint(1, 2))
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
