"""Processor time and memory of `prepare` and `evaluate` for one examination, as cohorts grow: straight lines?

    python benchmarks/scaling.py [--examinations 4 8 16]

Simulates one head, copies it with noise of its own for every examination and person, prepares it, and evaluates the
model in the package on it as external patients, every size and stage in a process of its own, one worker, no pictures.
For each stage a line is fitted, seconds = start + examinations x seconds of one; "off the line" is the largest
distance from it. Where the peak memory of the largest cohort is that of the smallest, nothing is held in memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from fvv.config import EvaluateConfig, PrepareConfig, SimulateConfig
from fvv.data import Volume
from fvv.io.nifti import read_volume, write_volume
from fvv.io.shipped import shipped_or_refuse
from fvv.stages.evaluate import evaluate_external
from fvv.stages.prepare import prepare
from fvv.stages.simulate import simulate

ONE_AFTER_ANOTHER = {"workers": 1, "threads": 1}


def write_cohort(folder: Path, head: Path, n: int) -> None:
    """So many copies of a head, each with noise of its own; every one is another person."""
    rng = np.random.default_rng(0)
    images = {path.name: read_volume(path) for path in sorted(head.glob("*.nii.gz")) if path.name != "flair.nii.gz"}
    for number in range(n):
        for name, image in images.items():
            array = image.array
            if name in {"b0.nii.gz", "b1000.nii.gz"}:
                array = np.abs(array + rng.normal(0.0, 0.005 * array.std(), array.shape))
            write_copy(folder / f"p{number:04}" / name, Volume(array, image.affine))


def write_cohorts(place: Path, sizes: list[int]) -> None:
    """Simulate a head, and copy it into a cohort of each size."""
    simulate(place / "head", SimulateConfig(cases=1, seed=1, stroke_free_share=0.0, skull_stripped_share=0.0))
    head = next(path.parent for path in (place / "head").rglob("b0.nii.gz"))
    for n in sizes:
        write_cohort(place / f"cohort{n}", head, n)


def write_copy(path: Path, image: Volume) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, image.array.astype(np.float32), image.affine)


def prepared(cohort: Path, folder: Path) -> None:
    prepare(cohort, folder / "store", PrepareConfig(kfolds=2, compute=ONE_AFTER_ANOTHER))


def evaluated(cohort: Path, folder: Path) -> None:
    config = EvaluateConfig(heatmaps=False, compute=ONE_AFTER_ANOTHER)
    evaluate_external(cohort, shipped_or_refuse(), folder / "evaluated", config)


def used(stage: Callable[[Path, Path], None], cohort: Path, folder: Path) -> tuple[float, float]:
    """Processor seconds and peak memory (MB) of a stage, in the process that runs it."""
    stage(cohort, folder)
    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_utime + found.ru_stime, found.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examinations", type=int, nargs="+", default=[4, 8, 16])
    sizes = sorted(parser.parse_args().examinations)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        # Apart: a process starts with the peak memory of the one that starts it.
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            pool.submit(write_cohorts, place, sizes).result()
        for stage in (prepared, evaluated):
            seconds, memory = [], []
            for n in sizes:
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    spent, peak = pool.submit(used, stage, place / f"cohort{n}", place / f"out{n}").result()
                seconds.append(spent)
                memory.append(peak)
                print(f"{stage.__name__:<10}{n:6} examinations {spent:8.1f} s of CPU, peak {peak:6.0f} MB", flush=True)
            print(
                f"{stage.__name__:<10}{line(sizes, seconds)}; memory {memory[-1] / memory[0]:.2f} times the smallest's"
            )


def line(sizes: list[int], seconds: list[float]) -> str:
    """The line through the points, in words."""
    each, start = np.polyfit(sizes, seconds, 1)
    off = float(np.abs(np.polyval([each, start], sizes) - seconds).max())
    return f"{start:6.1f} s + {each:.2f} s an examination, {off:.1f} s off the line"


if __name__ == "__main__":
    main()
