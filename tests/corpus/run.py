"""Runs the corpus: `python -m corpus.run`. Each variant in a process of its own, with bounds on memory and time."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil

from corpus import (
    acquisitions,
    attacks,
    cohorts,
    dicom,
    doors,
    evaluations,
    folders,
    images,
    models,
    results,
    rois,
    tables,
    training,
)
from corpus.base import make_base
from corpus.registry import NEEDS_TORCH, OUTCOMES, Place, Variant
from fvv.cli import main as fvv_main
from fvv.stages import demo  # noqa: F401 - loads every stage, once for all the children
from fvv.system.parallel import core_count

MEMORY = 4 * 2**30
"""Bytes a process may hold; where torch is loaded, which maps much it never uses, only what is held is judged."""
CPU_SECONDS, IDLE_SECONDS = 60, 60
"""A variant hangs where it computes for longer than the first, or does nothing for as long as the second. Time by the
clock says nothing on a machine that others use."""
NOBODY = 65534
MODULES = (
    images,
    rois,
    acquisitions,
    folders,
    tables,
    cohorts,
    models,
    dicom,
    doors,
    evaluations,
    results,
    training,
    attacks,
)


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one variant."""

    outcome: str
    complaint: str
    cpu_seconds: float
    memory_mb: float


def all_variants() -> tuple[Variant, ...]:
    """Every variant, by its unique name."""
    found = [variant for module in MODULES for variant in module.variants()]
    names = [variant.name for variant in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"names used twice: {sorted(twice)}")
    if unknown := {variant.outcome for variant in found} - set(OUTCOMES):
        raise ValueError(f"unknown outcomes: {unknown}")
    return tuple(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per variant; 1 where one did not come out as expected."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="every Nth variant only")
    parser.add_argument("--only", default="", help="variants whose name holds this")
    parser.add_argument("--no-torch", action="store_true", help="leave out training and conversion")
    parser.add_argument("--jobs", type=int, default=core_count(), metavar="N", help="processes that share the work")
    options = parser.parse_args(argv)
    chosen = [
        variant
        for variant in all_variants()
        if options.only in variant.name and not (options.no_torch and variant.verb in NEEDS_TORCH)
    ][:: options.sample]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fvv-corpus-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with_torch = any(variant.verb in NEEDS_TORCH for variant in chosen)
        if with_torch:
            importlib.import_module("fvv.training.fit")
        _apart(lambda: make_base(folder / "base", with_torch=with_torch))
        runs = _run_all(chosen, folder, options.jobs)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_seconds = sum(one.ru_utime + one.ru_stime for one in used)
    for what, unit in (("cpu_seconds", "s of processor"), ("memory_mb", "MB")):
        name, most = max(((name, getattr(run, what)) for name, run in runs.items()), key=lambda found: found[1])
        print(f"most {unit}: {most:.0f} ({name})")
    wrong = sum(bool(run.complaint) for run in runs.values()) + len(chosen) - len(runs)
    took = f"{cpu_seconds:.0f} s of processor, {time.monotonic() - started:.0f} s by the clock"
    print(f"{len(chosen)} variants, {wrong} not as expected, {took}")
    return 1 if wrong else 0


def _run_all(chosen: Sequence[Variant], folder: Path, jobs: int) -> dict[str, Run]:
    """Every variant in one of so many processes; prints a line for each."""

    def run_share(job: int) -> None:
        runs = {}
        for number, variant in list(enumerate(chosen))[job::jobs]:
            run = runs[variant.name] = run_variant(variant, folder / str(number), folder / "base")
            actual = run.outcome if not run.complaint else f"{run.outcome} !! {run.complaint}"
            mark = "ok" if not run.complaint else "NOT"
            print(f"{mark:<4}{variant.name:<46}expected {variant.expected:<42}{actual}", flush=True)
        found = {name: asdict(run) for name, run in runs.items()}
        (folder / f"runs-{job}.json").write_text(json.dumps(found))

    _apart(*(partial(run_share, job) for job in range(jobs)))
    files = [folder / f"runs-{job}.json" for job in range(jobs)]
    return {name: Run(**run) for file in files for name, run in json.loads(file.read_text()).items()}


def run_variant(variant: Variant, root: Path, base: Path) -> Run:
    """Build, run and judge one variant."""
    root.mkdir()
    place = Place(root, base)
    words = variant.build(place)
    if variant.as_user and os.geteuid() == 0:
        _give_away(root)
    before = fingerprints(root)
    code, cpu_seconds, held_mb, said = _in_child(variant, words, root)
    outcome = _outcome(code, said)
    complaint = _judge(variant, outcome, said, place, before)
    if held_mb * 2**20 > MEMORY:
        complaint = f"held {held_mb:.0f} MB"
    _delete(root)
    return Run(outcome, complaint, cpu_seconds, held_mb)


def fingerprints(root: Path) -> dict[str, str]:
    """Hash of every file under a folder, and where every link leads."""
    found = {}
    for folder, subfolders, files in os.walk(root):
        for name in (*subfolders, *files):
            path = Path(folder) / name
            key = str(path.relative_to(root))
            if name.endswith(".fvv.lock"):  # Says only that somebody writes here.
                continue
            if path.is_symlink():
                found[key] = str(path.readlink())
            elif path.is_file() and path.stat().st_size < 2**28:
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[key] = "special" if not path.is_dir() else "folder"
    return found


def _apart(*works: Callable[[], None]) -> None:
    """Do each in a child of its own: threads that it leaves behind would not survive the next fork."""
    children = []
    for work in works:
        child = os.fork()
        if child == 0:
            try:
                work()
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    if any(ends):
        raise SystemExit("the corpus itself failed")


def _in_child(variant: Variant, words: list[str], root: Path) -> tuple[int | None, float, float, str]:
    """Exit code (None: it hung and was killed), seconds of processor, memory held in MB, and all that was printed."""
    output = root.parent / f"{root.name}.said"
    child = os.fork()
    if child == 0:
        _be_the_child(variant, words, root, output)
    process = psutil.Process(child)
    busy_s, busy_at, looked_at, hung = 0.0, time.monotonic(), time.monotonic(), False
    while True:
        done, how, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.005)
        if (now := time.monotonic()) > looked_at + 1:
            looked_at, found_s = now, _cpu_seconds(process)
            if found_s > busy_s:
                busy_s, busy_at = found_s, now
            if busy_s > CPU_SECONDS or now > busy_at + IDLE_SECONDS:
                hung = True
                os.kill(child, signal.SIGKILL)
    code = None if hung else os.waitstatus_to_exitcode(how)
    return code, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, output.read_text(errors="replace")


def _cpu_seconds(process: psutil.Process) -> float:
    """Of a process and those that it started, so far."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # It ended meanwhile.
            total += sum(one.cpu_times()[:2])
    return total


def _be_the_child(variant: Variant, words: list[str], root: Path, output: Path) -> None:
    code = 99
    try:
        stream = os.open(output, os.O_CREAT | os.O_WRONLY, 0o666)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        os.chdir(root)
        if variant.verb not in NEEDS_TORCH:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if variant.file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (variant.file_limit,) * 2)
        if variant.as_user and os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        os.environ["WANDB_MODE"] = "disabled"
        try:
            code = fvv_main(words)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 98
    except BaseException:  # noqa: BLE001 - the judge must see whatever comes
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _outcome(code: int | None, said: str) -> str:
    if code is None:
        return "hung"
    if "Traceback (most recent call last)" in said:
        return f"traceback: {said.strip().splitlines()[-1][:150]}"
    if code < 0:
        return f"killed by signal {-code}"
    lines = said.splitlines()
    for kind, start in (("error", "error: "), ("failure", "failed: "), ("usage", "fvv")):
        found = [line for line in lines if line.startswith(start) and (kind != "usage" or "error:" in line)]
        if found and code == (2 if kind == "usage" else 1):
            return f"{kind}: {found[0].removeprefix(start)}"
    return f"success: {' / '.join(lines)}" if code == 0 else f"exit {code}: {said[-200:]}"


def _judge(variant: Variant, outcome: str, said: str, place: Place, before: dict[str, str]) -> str:
    """What is wrong with the way it went; empty where nothing is."""
    kind = {"warning": "success", "not assessable": "success"}.get(variant.outcome, variant.outcome)
    wanted = "not assessable" if variant.outcome == "not assessable" else variant.says
    if not outcome.startswith(f"{kind}:"):
        return "another outcome"
    if wanted not in said or variant.says not in said:
        return f"does not say {wanted!r}"
    if kind == "error" and outcome.count("\n"):
        return "more than one line"
    after = fingerprints(place.root)
    mine = (place.out.name, *variant.writes)
    ours = {name: digest for name, digest in before.items() if name.partition("/")[0] not in mine}
    for name, digest in ours.items():
        if after.get(name) != digest:
            return f"changed or removed {name}"
    if new := [name for name in set(after) - set(before) if name.partition("/")[0] not in mine]:
        return f"wrote {sorted(new)[0]} outside its output folder"
    if left := [name for name in after if ".partial-" in name]:
        return f"left {left[0]} behind"
    try:
        if variant.also is not None:
            variant.also(place)
    except (AssertionError, OSError, KeyError, ValueError) as error:
        return f"what it left is wrong: {' '.join(str(error).split())[:200] or type(error).__name__}"
    return ""


def _give_away(root: Path) -> None:
    for folder, subfolders, files in os.walk(root):
        for name in (*subfolders, *files):
            os.chown(Path(folder) / name, NOBODY, NOBODY, follow_symlinks=False)
    os.chown(root, NOBODY, NOBODY)


def _delete(root: Path) -> None:
    for folder, subfolders, _ in os.walk(root):
        for name in subfolders:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755)
    shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(main())
