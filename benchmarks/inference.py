"""Speed and memory of prediction on this machine, side by side with the reference's network and median filters.

    python benchmarks/inference.py [--threads 2] [--quick]

One run, everything interleaved, so that a slow minute of the machine hits all rows alike. The patient is synthetic; the
networks have the real architecture, with weights chosen so that they predict the brain and what is bright in it. Last
comes `fvv predict` as a user starts it, from the start of the process to its last file, with ten folds and with the
model in the package. Processor time is printed beside wall time: on a busy machine only the first can be trusted.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
import psutil
from scipy import ndimage

from fvv.analysis.heatmap import grey_scale, heatmap_rgb
from fvv.analysis.sheet import synthesis_png
from fvv.analysis.windows import reader_images
from fvv.arrays import UInt8Array
from fvv.config import PROFILES, PredictConfig
from fvv.data import Case, Prediction
from fvv.imaging.fusion import fuse_folds
from fvv.imaging.geometry import plan_grid, restore_to_native, slice_axis
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle
from fvv.io.case import read_case
from fvv.io.result_files import files_in_folder, write_heatmap, write_images
from fvv.io.shipped import shipped_bundle
from fvv.recipes.examine import Settings, examine
from fvv.stages.predict import predict

FOLDS, SLICES = 10, 30
REFERENCE_SLICES = 4
"""The reference takes about 0.2 s a slice: a few are enough, and are scaled up."""
PROFILE = PROFILES["robust-v1"]
Result = TypeVar("Result")


@dataclass
class Row:
    """Wall and processor seconds of every repetition, and the peak of resident memory while it ran (MB)."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    def run(self, work: Callable[[], Result]) -> Result:
        process, done = psutil.Process(), threading.Event()

        def watch() -> None:
            while not done.is_set():
                self.peak_mb = max(self.peak_mb, process.memory_info().rss / 2**20)
                done.wait(0.005)

        watcher = threading.Thread(target=watch)
        watcher.start()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            result = work()
        finally:
            self.wall.append(time.perf_counter() - wall)
            self.cpu.append(time.process_time() - cpu)
            done.set()
            watcher.join()
        return result


def write_patient(folder: Path, slices: int, seed: int = 0) -> None:
    """A synthetic head, 256 x 256 voxels of 0.9 mm, brain 1.2 L, with ventricles, a lesion and noise; 15 cm tall."""
    rng = np.random.default_rng(seed)
    x, y, z = np.ogrid[-1:1:256j, -1:1:256j, -1 : 1 : slices * 1j]
    brain = (x / 0.6) ** 2 + (y / 0.72) ** 2 + (z / 0.95) ** 2 <= 1
    ventricles = (np.abs(x) / 0.12) ** 2 + (y / 0.25) ** 2 + (z / 0.3) ** 2 <= 1
    lesion = ((x - 0.3) / 0.14) ** 2 + (y / 0.18) ** 2 + (z / 0.3) ** 2 <= 1
    b0 = 20 + 480 * brain + 900 * ventricles + 150 * (lesion & (y > 0))
    b1000 = 15 + 205 * brain - 130 * ventricles + 260 * lesion
    folder.mkdir(parents=True)
    affine = np.diag([0.9, 0.9, 150 / slices, 1.0])
    for name, image in (("b0", b0), ("b1000", b1000)):
        noisy = np.abs(image * (1 + 0.04 * np.sin(9 * x) * np.cos(8 * y)) + rng.normal(0, 9, image.shape))
        nib.save(nib.Nifti1Image(noisy.astype(np.int16), affine), folder / f"{name}.nii.gz")


def steps_table(bundle: ModelBundle, patient: Path, work: Path, threads: int, repeats: int) -> Row:
    """One patient, step by step, against the reference; gives the reference's cost of ten folds, as far as measured."""
    config = PredictConfig(compute={"device": "cpu", "threads": threads})
    opened = OnnxEnsemble.from_bundle(bundle, device="cpu", threads=threads)
    reference = OnnxEnsemble([work / "models" / "reference.onnx"], PROFILE, device="cpu", threads=threads)
    output = work / "all"
    case = read_case(patient, config.preprocess, labelled=False)
    found = answer_of(case, opened, config, bundle)
    rows: dict[str, Row] = {}

    def run(name: str, task: Callable[[], Result]) -> Result:
        return rows.setdefault(name, Row()).run(task)

    def one_round() -> str:
        run("read", partial(read_case, patient, config.preprocess, labelled=False))
        run("preparation, reference-v1", partial(preprocess_case, case, PROFILES["reference-v1"]))
        for image in (case.b0.array, case.b1000.array):
            run("(the reference's median filters, one of two images)", partial(median_filters, image))
        prepared = run("preparation, robust-v1", partial(preprocess_case, case, PROFILE))
        padded = network_input(prepared, 3)
        masks = run("network", partial(opened.masks, padded))
        run("reference", partial(reference.logits, padded[:, : REFERENCE_SLICES + 6]))
        fused = run("fusion", partial(fuse_folds, np.moveaxis(masks, 2, 4)))
        for mask in (fused.brain, fused.stroke):
            run("back to the native grid, a mask", partial(restore_to_native, mask, prepared.grid))
        run("examination as read to answer", partial(answer_of, case, opened, config, bundle))
        heatmap = run("heatmap", lambda: heatmap_of(case, found))
        run("synthesis picture", lambda: picture_of(case, found))
        files = files_in_folder(output / "written")
        (output / "written").mkdir(parents=True, exist_ok=True)
        run("writing", lambda: (write_images(files, case, found), write_heatmap(files, case, heatmap)))
        # A new folder: finished results are kept, with --overwrite too where they are those of the same models.
        whole = Path(tempfile.mkdtemp(dir=work))
        result = run("all, files to files", partial(predict, patient, bundle.path, whole, config))
        of_which = json.loads(next(whole.rglob("results.json")).read_text())["seconds"]
        return f"{result.summary().splitlines()[0]}; of the wall: {of_which}"

    one_round()  # Warms caches and memory up.
    rows.clear()
    for _ in range(repeats):
        answer = one_round()
    print(f"\n{FOLDS} folds, {SLICES} slices, {threads} threads, best of {repeats}\n{answer}")
    print(f"{'step':<52}{'wall s':>9}{'CPU s':>9}{'peak MB':>10}")
    for name, row in rows.items():
        if name != "reference":
            print(f"{name:<52}{min(row.wall):>9.2f}{min(row.cpu):>9.2f}{row.peak_mb:>10.0f}")

    print(f"\nnetwork against {(work / 'models' / 'reference.txt').read_text()}")
    print(f"{'network':<34}{'wall s':>9}{'CPU s':>9}{'ms/slice':>10}{'x faster':>10}{'by CPU':>8}")
    scale = FOLDS * SLICES / REFERENCE_SLICES
    slow = min(rows["reference"].wall) * scale, min(rows["reference"].cpu) * scale
    ours = min(rows["network"].wall), min(rows["network"].cpu)
    for name, wall, cpu in [("the reference's, scaled up", *slow), ("ours", *ours)]:
        per_slice = 1000 * wall / FOLDS / SLICES
        print(f"{name:<34}{wall:>9.2f}{cpu:>9.2f}{per_slice:>10.1f}{slow[0] / wall:>10.1f}{slow[1] / cpu:>8.1f}")
    filters = rows["(the reference's median filters, one of two images)"]
    return Row([slow[0] + 2 * min(filters.wall)], [slow[1] + 2 * min(filters.cpu)])


def whole_table(bundle: ModelBundle, patient: Path, work: Path, *, threads: int, repeats: int, reference: Row) -> None:
    """`fvv predict` in a process of its own, from its start to its last file, beside the reference's cost."""
    shipped = shipped_bundle()
    models = {f"{FOLDS} folds": bundle.path, **({shipped.name: shipped} if shipped else {})}
    rows = {name: Row() for name in models}
    steps: dict[str, dict[str, float]] = {}
    # Started by a small process, whose peak memory is less than theirs.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as starter:
        for number in range(repeats + 1):  # The first fills caches.
            for name, folder in models.items():
                output = work / f"whole_{number}_{name}"
                wall, cpu, peak_mb = starter.submit(started, patient, folder, output, threads).result()
                if number and (not rows[name].wall or wall < min(rows[name].wall)):
                    run = json.loads((output / "run.json").read_text())["seconds"]
                    of_patient = json.loads(next(output.rglob("results.json")).read_text())["seconds"]
                    around = run - sum(of_patient.values())
                    steps[name] = {"start and end": wall - run, **of_patient, "models, last files": around}
                if number:
                    rows[name].wall.append(wall)
                    rows[name].cpu.append(cpu)
                    rows[name].peak_mb = max(rows[name].peak_mb, peak_mb)
    print(f"\n{'process start to last file':<34}{'wall s':>9}{'CPU s':>9}{'peak MB':>10}{'x faster':>10}{'by CPU':>8}")
    print(f"{'reference, network and filters':<34}{reference.wall[0]:>9.2f}{reference.cpu[0]:>9.2f}")
    for name, row in rows.items():
        faster = reference.wall[0] / min(row.wall), reference.cpu[0] / min(row.cpu)
        numbers = f"{min(row.wall):>9.2f}{min(row.cpu):>9.2f}{row.peak_mb:>10.0f}{faster[0]:>10.1f}{faster[1]:>8.1f}"
        print(f"{name:<34}{numbers}")
    for name, of_which in steps.items():
        print(f"{name}: of the wall " + ", ".join(f"{step} {seconds:.2f}" for step, seconds in of_which.items()))


def started(patient: Path, models: Path, output: Path, threads: int) -> tuple[float, float, float]:
    """Wall and processor seconds of `fvv predict`, and its peak memory (MB)."""
    command = [sys.executable, "-m", "fvv", "predict", patient, "-m", models, "-o", output, "--threads", str(threads)]
    wall = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"fvv predict ended with status {status}")
    return time.perf_counter() - wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def median_filters(image: np.ndarray) -> None:
    """What dipy's `median_otsu` does first, four passes of radius 1: nearly all of the reference's preparation."""
    for _ in range(4):
        image = ndimage.median_filter(image, size=3)


def answer_of(case: Case, ensemble: OnnxEnsemble, config: PredictConfig, bundle: ModelBundle) -> Prediction:
    """What `fvv predict` does between reading and drawing."""
    return examine(case, ensemble, Settings.of(bundle.profile, config, bundle.manifest)).prediction


def picture_of(case: Case, prediction: Prediction) -> bytes:
    """The reader's picture."""
    return synthesis_png(reader_images(case, prediction), case.b1000.affine, prediction, (), {})


def heatmap_of(case: Case, found: Prediction) -> UInt8Array:
    return heatmap_rgb(
        grey_scale(case.b1000.array, np.asarray(found.brain)),
        np.asarray(found.brain),
        np.asarray(found.stroke),
        np.asarray(found.flair_visible_votes),
        found.n_models,
        slice_axis=slice_axis(plan_grid(case.b1000)),
    )


def measure_alone(patient: Path, models: Path, output: Path, threads: int, send: Any) -> None:
    """Peak resident memory (MB) and seconds of one patient in a process of its own."""
    logging.disable()
    wall = time.perf_counter()
    predict(patient, models, output, PredictConfig(compute={"device": "cpu", "threads": threads}))
    send.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter() - wall))


def memory_table(bundle: ModelBundle, work: Path, threads: int) -> None:
    print(f"\n{'slices':<10}{'peak MB':>9}{'against 30':>12}{'wall s':>9}   (a process each, files to files)")
    first = 0.0
    for slices in (30, 120, 180):
        patient = work / f"slices_{slices}"
        write_patient(patient, slices)
        receive, send = multiprocessing.Pipe()
        arguments = (patient, bundle.path, work / f"out_{slices}", threads, send)
        process = multiprocessing.get_context("spawn").Process(target=measure_alone, args=arguments)
        process.start()
        peak, wall = receive.recv()
        process.join()
        first = first or peak
        print(f"{slices:<10}{peak:>9.0f}{peak / first:>12.2f}{wall:>9.1f}")


def cohort_table(bundle: ModelBundle, work: Path, threads: int, patients: int) -> None:
    config = PredictConfig(compute={"device": "cpu", "threads": threads})
    for number in range(patients):
        write_patient(work / "cohort" / f"p{number:02}", SLICES, seed=number)
    one, all_of_them = Row(), Row()
    one.run(lambda: predict(work / "cohort" / "p00", bundle.path, work / "cohort_one", config))
    all_of_them.run(lambda: predict(work / "cohort", bundle.path, work / "cohort_all", config))
    print(f"\n{'patients in one call':<24}{'wall s':>9}{'CPU s':>9}{'peak MB':>10}")
    for name, row in (("1", one), (str(patients), all_of_them)):
        print(f"{name:<24}{row.wall[0]:>9.1f}{row.cpu[0]:>9.1f}{row.peak_mb:>10.0f}")
    print(f"ratio {all_of_them.wall[0] / one.wall[0]:.1f} by wall, {all_of_them.cpu[0] / one.cpu[0]:.1f} by CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one repetition, four patients")
    parser.add_argument("--patient", type=Path, help="folder with b0 and b1000, instead of the synthetic patient")
    options = parser.parse_args()
    load = psutil.getloadavg()[0]
    print(f"{psutil.cpu_count()} cores, load before the run {load:.1f}{'' if load < 1 else ' (the machine is busy)'}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        patient = options.patient or work / "patient"
        if options.patient is None:
            write_patient(patient, SLICES)
        # In a process of its own: PyTorch's memory would count as ours.
        maker = Path(__file__).with_name("make_models.py")
        subprocess.run([sys.executable, maker, work / "models"], check=True)
        bundle = ModelBundle.open(work / "models")
        repeats = 1 if options.quick else 3
        memory_table(bundle, work, options.threads)  # First: a process starts with the peak of the one that starts it.
        reference = steps_table(bundle, patient, work, options.threads, repeats)
        whole_table(bundle, patient, work, threads=options.threads, repeats=repeats, reference=reference)
        cohort_table(bundle, work, options.threads, patients=4 if options.quick else 20)


if __name__ == "__main__":
    main()
