"""Time and memory of evaluate's measuring, statistics and report on 300 synthetic pairs of labels.

Nothing is predicted: a pair is a reference and masks that a model could predict, 256 x 256 x 30 voxels.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from fvv.analysis.figures import figure_png
from fvv.analysis.patient import measure_patient
from fvv.analysis.plots import dice_figure
from fvv.analysis.viewer import viewer_volumes
from fvv.config import DecisionConfig, EvaluateConfig
from fvv.data import Channel, Decision, Participant
from fvv.imaging.decision import answer
from fvv.io.evaluation import EvaluationFolder, PatientFiles
from fvv.recipes.publish import publish
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import OUT_OF_FOLD, Measured

SHAPE, SPACING_MM = (256, 256, 30), (0.9, 0.9, 5.0)
AFFINE = np.diag([*SPACING_MM, 1.0])


def blob(centre: np.ndarray, radii_mm: np.ndarray) -> np.ndarray:
    """An ellipsoid in mm about a voxel."""
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return sum(
        ((axis - place) * edge / radius) ** 2
        for axis, place, edge, radius in zip(axes, centre, SPACING_MM, radii_mm, strict=True)
    ) < 1  # fmt: skip


def pair(rng: np.random.Generator, number: int) -> tuple[dict[Channel, np.ndarray], dict[Channel, np.ndarray]]:
    """A reference, and the same shifted and roughened."""
    brain = blob(np.array([128, 128, 15]), np.array([66.0, 82.0, 68.0]))
    stroke = np.zeros(SHAPE, dtype=bool)
    for _ in range(rng.integers(1, 4)):
        stroke |= blob(rng.uniform([90, 80, 6], [166, 176, 24]), rng.uniform([3, 3, 7], [22, 22, 26]))
    stroke &= brain
    visible = stroke & (np.arange(SHAPE[1])[None, :, None] > rng.choice([60, 120, 200]))
    reference = dict(zip(Channel, (brain, stroke, visible), strict=True))
    moved = {
        channel: np.roll(mask, rng.integers(-3, 4, 3) * [1, 1, 0], (0, 1, 2)) for channel, mask in reference.items()
    }
    if number % 3 == 0:
        moved[Channel.STROKE] = ndimage.binary_erosion(moved[Channel.STROKE])
    moved[Channel.FLAIR_VISIBLE] = moved[Channel.FLAIR_VISIBLE] & moved[Channel.STROKE]
    return reference, moved


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    rng = np.random.default_rng(0)
    spent: dict[str, float] = {}
    results: list[PatientResult] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = EvaluationFolder(Path(temporary))
        for number in range(n):
            reference, predicted = pair(rng, number)
            result = timed(spent, "measure", partial(compare, number, reference, predicted))
            results.append(result)
            grey = (90 * reference[Channel.BRAIN] + 60 * reference[Channel.STROKE]).astype(np.uint8)
            png = figure_png(dice_figure({}))  # For the picture, which is made while predicting.
            viewer = viewer_volumes(grey, AFFINE, reference, predicted, slice_axis=2)
            files = PatientFiles(AFFINE, None, picture_png=png, viewer=viewer)
            folder.write_patient("", result, files)
        measured = Measured(
            evaluation=OUT_OF_FOLD,
            counts={"evaluated": n, "not assessable": 0, "failed": 0},
            run={"models": "none"},
            models_sha256={},
            sources=dict.fromkeys((one.examination_id for one in results), ""),
            cohort="simulated",
            failures=(),
        )
        timed(spent, "statistics and report", lambda: publish(folder, measured, results, EvaluateConfig()))
        size = (folder.path / "report.html").stat().st_size
    print(
        f"{n} pairs of labels, {SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]} voxels, {EvaluateConfig().bootstrap_samples} draws"
    )
    for name, seconds in {**spent, "together": sum(spent.values())}.items():
        print(f"{name:<24}{seconds:8.1f} s of CPU")
    print(f"{'highest memory':<24}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MB")
    print(f"{'report.html':<24}{size / 1e6:8.1f} MB")


def compare(number: int, reference: dict[Channel, np.ndarray], predicted: dict[Channel, np.ndarray]) -> PatientResult:
    """One patient's result from the masks."""
    ml = np.prod(SPACING_MM) / 1000
    reference_ml, predicted_ml = (
        {channel: float(mask.sum() * ml) for channel, mask in masks.items()} for masks in (reference, predicted)
    )
    config = DecisionConfig()
    state, _ = answer(predicted_ml[Channel.STROKE], predicted_ml[Channel.FLAIR_VISIBLE], config)
    return measure_patient(
        Participant(f"p{number:03}", f"person{number // 2}", f"site{number % 3}"),
        number % 10,
        Decision(state, config.cutoff_ml),
        reference=reference,
        predicted=predicted,
        spacing_mm=SPACING_MM,
        reference_ml=reference_ml,
        predicted_ml=predicted_ml,
    )


def timed(spent: dict[str, float], name: str, work: Callable[[], object]) -> object:
    """Run and add up the CPU time."""
    started = time.process_time()
    result = work()
    spent[name] = spent.get(name, 0.0) + time.process_time() - started
    return result


if __name__ == "__main__":
    main()
