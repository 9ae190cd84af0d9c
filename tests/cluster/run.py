"""The pipeline as jobs of a SLURM on this machine, then faults: `python -m cluster.run`.

Every stage runs on this machine and, at the same time, as jobs, and the files must be the same where the documentation
promises it; of `convert`, which has no jobs, one result serves both.
Then predictions with a job cancelled, a node that goes, a driver that is killed and started again, and Ctrl-C; and a
fold whose job reaches its time limit. What was finished before a fault must not be made again.
"""

from __future__ import annotations

import argparse
import atexit
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import yaml

from chaos.processes import STOPPED
from chaos.stages import SETTINGS, STAGES, Stage, contents
from cluster.slurm import Slurm, kill, missing, until

ASK_S = 2.0
"""Seconds between two questions to SLURM, which serves nobody else here."""
CLUSTER = {"batch": 2, "jobs": 2, "memory_gb": 2, "time_min": 10}
FAULTS = ("cancelled", "driver", "requeue", "node", "ctrl-c")
BY_VERB = {stage.verb: stage for stage in STAGES}


class Trial:
    """Runs stages in one folder, and keeps what was wrong."""

    def __init__(self, folder: Path, slurm: Slurm) -> None:
        self.folder, self.slurm = folder, slurm
        self.wrong: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump({**SETTINGS, "cluster": CLUSTER}))

    def start(self, stage: Stage, on: str) -> subprocess.Popen[str]:
        """Start a stage."""
        asks = f"from fvv.system import slurm; slurm._ASK_S = {ASK_S}"
        code = f"import sys; from fvv.cli import main; {asks}; sys.exit(main())"
        words = [sys.executable, "-c", code, *stage.command(1), "--set", f"cluster.engine={on}"]
        pipe = subprocess.PIPE
        environment = {**self.slurm.environment, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            words, cwd=self.folder, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment
        )
        atexit.register(process.kill)  # However this program ends.
        return process

    def end(self, process: subprocess.Popen[str], *, code: int = 0) -> str:
        """Wait for its end; gives what it said."""
        said, _ = process.communicate(timeout=3600)
        if process.returncode != code or "Traceback" in said:
            self.complain(f"ended with {process.returncode}: {said[-1500:]}")
        return said

    def complain(self, wrong: str) -> None:
        """Note and print what is wrong."""
        self.wrong.append(wrong)
        print("WRONG", wrong, flush=True)

    def compare(self, stage: Stage, with_: dict[str, str]) -> str:
        """Complain of files that are not the same; gives how many are."""
        found = contents(self.folder / stage.output)
        differing = sorted(name for name in {*found, *with_} if found.get(name) != with_.get(name))
        if differing:
            self.complain(f"{stage.verb}: {len(differing)} files differ: {differing[:5]}")
        return f"{len(found) - len(differing)} files the same"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each stage and fault; 1 where anything was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=FAULTS, help="only these")
    parser.add_argument("--folder", type=Path, help="work here and keep it")
    options = parser.parse_args(argv)
    lacking = [*missing(), *(name for name in ("submitit",) if find_spec(name) is None)]
    if lacking:
        print(f"skipped: not here: {', '.join(lacking)} (apt-get install slurm-wlm munge; pip install '.[cluster]')")
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Started in the background, its children had none.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # The daemons end with it.
    with tempfile.TemporaryDirectory(prefix="fvv-slurm-") as name:
        folder = options.folder or Path(name)
        with Slurm(Path(name) / "slurm") as slurm:
            local, jobs = Trial(folder / "local", slurm), Trial(folder / "jobs", slurm)
            expected = {stage.verb: both_ways(stage, local, jobs) for stage in STAGES}
            for fault in options.faults:
                started = time.monotonic()
                said = FAULT[fault](jobs, expected)
                print(f"{fault:<10}{time.monotonic() - started:>6.0f} s  {said}", flush=True)
            if slurm.jobs():
                jobs.complain(f"jobs are left: {slurm.jobs()}")
    wrong = [*local.wrong, *jobs.wrong]
    print(f"{len(STAGES)} stages, {len(options.faults)} faults, {len(wrong)} wrong", flush=True)
    return 1 if wrong else 0


def both_ways(stage: Stage, local: Trial, jobs: Trial) -> dict[str, str]:
    """A stage on this machine and as jobs; gives what its files hold."""
    started = time.monotonic()
    here, there = local.start(stage, "local"), None if stage.verb == "convert" else jobs.start(stage, "slurm")
    local.end(here)
    if there is None:
        shutil.copytree(local.folder / stage.output, jobs.folder / stage.output)
    else:
        jobs.end(there)
    expected = contents(local.folder / stage.output)
    same = jobs.compare(stage, expected)
    print(f"{stage.verb:<10}{time.monotonic() - started:>6.0f} s  {same}", flush=True)
    return expected


def _predict_until_one_is_done(jobs: Trial) -> tuple[subprocess.Popen[str], dict[Path, int]]:
    """Start a prediction; gives it, and what is finished, while a job is under way."""
    shutil.rmtree(jobs.folder / "predictions")
    process = jobs.start(BY_VERB["predict"], "slurm")
    until(lambda: _finished(jobs) and jobs.slurm.jobs(running=True), "a first result")
    return process, _finished(jobs)


def _finished(jobs: Trial) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in (jobs.folder / "predictions").glob("*/results.json")}


def _judge(jobs: Trial, expected: dict[str, dict[str, str]], before: dict[Path, int]) -> str:
    """Nothing lost, nothing twice."""
    same = jobs.compare(BY_VERB["predict"], expected["predict"])
    now = _finished(jobs)
    if again := [file.parent.name for file, when in before.items() if now.get(file) != when]:
        jobs.complain(f"made twice: {again}")
    return f"{len(before)} of {len(now)} results were there before and stayed, {same}"


def cancelled(jobs: Trial, expected: dict[str, dict[str, str]]) -> str:
    """Cancel a running job: what it had not finished is tried again."""
    process, before = _predict_until_one_is_done(jobs)
    running = jobs.slurm.jobs(running=True)
    jobs.slurm.ask("scancel", running[0][0])
    said = jobs.end(process)
    tries = said.count("ended without a result (CANCELLED)")
    return f"{tries} job cancelled and tried again; {_judge(jobs, expected, before)}"


def node(jobs: Trial, expected: dict[str, dict[str, str]]) -> str:
    """Cut the power of a node with a running job, and bring it back."""
    process, before = _predict_until_one_is_done(jobs)
    name = jobs.slurm.jobs(running=True)[0][1]
    jobs.slurm.stop_node(name)
    said = jobs.end(process)
    jobs.slurm.start_node(name)
    until(lambda: name in jobs.slurm.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split(), "the node")
    return f"{said.count('(NODE_FAIL)')} job lost with {name}; {_judge(jobs, expected, before)}"


def driver(jobs: Trial, expected: dict[str, dict[str, str]]) -> str:
    """Kill the driver, and give its command again."""
    process, before = _predict_until_one_is_done(jobs)
    kill(process)
    said = jobs.end(jobs.start(BY_VERB["predict"], "slurm"))
    ended = "ending the jobs of a run whose driver was killed" in said
    return f"{'its jobs were ended' if ended else 'it had no jobs left'}; {_judge(jobs, expected, before)}"


def interrupted(jobs: Trial, expected: dict[str, dict[str, str]]) -> str:
    """Press Ctrl-C: no job is left; give the command again."""
    process, before = _predict_until_one_is_done(jobs)
    process.send_signal(signal.SIGINT)
    if not jobs.end(process, code=130).rstrip().endswith(STOPPED):
        jobs.complain("no last line after Ctrl-C")
    if left := jobs.slurm.jobs():
        jobs.complain(f"jobs after Ctrl-C: {left}")
    jobs.end(jobs.start(BY_VERB["predict"], "slurm"))
    return f"no jobs left; {_judge(jobs, expected, before)}"


def requeue(jobs: Trial, expected: dict[str, dict[str, str]]) -> str:
    """Send the signal of the time limit to the folds after the first epoch of each: their jobs are requeued and resume.

    A fold that has no epoch yet would fail, as it should: its next job would get no further.
    """
    stage = BY_VERB["train"]
    shutil.rmtree(jobs.folder / stage.output)
    process = jobs.start(stage, "slurm")
    until(
        lambda: len([*(jobs.folder / stage.output).glob("*/fold_*/last.ckpt")]) == SETTINGS["prepare"]["kfolds"],
        "a first epoch of each",
    )
    for job, _ in jobs.slurm.jobs(running=True):
        jobs.slurm.ask("scancel", "--signal=USR2", job)
    jobs.end(process)
    logs = [file.read_text() for file in (jobs.folder / "fvv_jobs").glob("fvv-train-*/*.out")]
    times = sum(text.count("Requeued job") for text in logs)
    starts = [part for text in logs for part in text.split("Starting with JobEnvironment")[2:]]
    resumed = sum(", epoch 1 of" not in part for part in starts)
    return f"{times} jobs requeued, {resumed} resumed; {jobs.compare(stage, expected['train'])}"


FAULT = {"cancelled": cancelled, "driver": driver, "requeue": requeue, "node": node, "ctrl-c": interrupted}


if __name__ == "__main__":
    sys.exit(main())
