"""What the process that leads a run costs per examination: 500 and 5,000 tiny examinations, without any image work.

    python benchmarks/many.py [N ...]

The work on each examination is a stand-in that writes a result of a few numbers, whose time is taken out; what is left
is listing, claiming, collecting and the tables. Times are of the processor: waits for the disk are not in them. Each
size runs in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fvv.stages.predict as stage
from fvv.config import PredictConfig
from fvv.data import Decision, DecisionState, Prediction
from fvv.io.inputs import Examination, find_examinations
from fvv.io.results_folder import StoredResult, made_from_images, write_result
from fvv.io.shipped import shipped_or_refuse
from fvv.stages.gather import gather
from fvv.system.shard import Shard

CONFIG = PredictConfig(compute={"device": "cpu", "workers": 1})


class NoModels:
    """Stands for an ensemble."""

    provider = "none"
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return 1


class Timed:
    """A function that adds up its own time, as a replacement of another one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.seconds += time.process_time() - started

    def cache_clear(self) -> None:
        """As the function that it replaces has it."""


def tiny_result(job: Any, one: Examination) -> StoredResult:
    """The record of an examination of which nothing could be measured."""
    files = job.folder.begin(one)
    prediction = Prediction(one.name, Decision(DecisionState.NOT_ASSESSABLE, 0.5), 1, 0.001, provider="none")
    return write_result(files, prediction, made_from_images(job.made_from, one))


def one_size(n: int) -> None:
    """Print one row."""
    with tempfile.TemporaryDirectory() as name:
        root, models = Path(name), shipped_or_refuse()
        for number in range(n):
            folder = root / "in" / f"p{number:06d}"
            folder.mkdir(parents=True)
            for image in ("b0", "b1000"):
                (folder / f"{image}.nii.gz").write_bytes(b"tiny")
        work, tables = Timed(tiny_result), Timed(stage.write_cohort)
        stage._predict_one, stage.write_cohort = work, tables
        stage._models_of = Timed(lambda *_: (NoModels(), None))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        steps = {}

        def step(name: str, function: Callable[[], Any]) -> None:
            started, inside, written = time.process_time(), work.seconds, tables.seconds
            function()
            spent = time.process_time() - started - (work.seconds - inside) - (tables.seconds - written)
            steps[name] = 1e3 * spent / n

        def run(output: str, shard: Shard | None = None) -> None:
            stage.predict(root / "in", models, root / output, CONFIG, shard=shard)

        step("find", lambda: find_examinations(root / "in"))
        step("lead", lambda: run("out"))
        steps["tables"] = 1e3 * tables.seconds / n
        step("again", lambda: run("out"))
        step("2 shards", lambda: [run("parts", Shard(index, 2)) for index in (1, 2)])
        step("gather", lambda: gather(root / "parts"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cells = "".join(f"{value:>10.2f}" for value in steps.values())
    print(f"{n:>8}{cells}{before / 1024:>10.0f}{peak / 1024:>10.0f}{(peak - before) / n:>10.1f}", flush=True)


def main() -> None:
    """A table: milliseconds per examination of each step, and memory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sizes", nargs="*", type=int, default=[500, 5000])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_size(*options.sizes)
        return
    print("ms of the processor per examination in the leading process; memory before, at its peak, and per examination")
    names = ("find", "lead", "tables", "again", "2 shards", "gather", "MiB", "peak MiB", "KiB each")
    print(f"{'n':>8}" + "".join(f"{name:>10}" for name in names), flush=True)
    for size in options.sizes:
        subprocess.run([sys.executable, __file__, "--one", str(size)], check=True)


if __name__ == "__main__":
    main()
