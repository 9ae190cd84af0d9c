"""What do b0 and b1000 tell of FLAIR visibility, if somebody outlines the stroke? A yardstick for models.

    python experiments/given_outline.py COHORT [COHORT ...]

A cross-validated logistic regression gets contrasts within the reference mask of each stroke: against the mirrored
side, the surroundings and the whole brain. A model has to find the stroke first. Strokes with a P(mismatch) under a
cut-off count as FLAIR-visible throughout; the cut-off is the best one for these very patients, so the last line is too
optimistic.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fvv.analysis.statistics import Bootstrap, auc
from fvv.arrays import BoolArray, FloatArray
from fvv.cohort.examinations import read_cohort
from fvv.cohort.labels import mismatch_labels
from fvv.config import PROFILES, PreprocessConfig
from fvv.data import Channel, Participant, PreparedCase
from fvv.errors import FvvError
from fvv.imaging.adc import signal_scales
from fvv.imaging.geometry import reflected
from fvv.imaging.preprocess import preprocess_case
from fvv.recipes.labelled import read_labelled
from fvv.schemas.summary import Estimate

FOLDS, REPEATS = 8, 3
CUTOFFS = np.arange(0.1, 0.95, 0.05)
FEWEST = 5
"""Voxels of normal brain at the mirrored place; with fewer, the surroundings of the stroke are compared."""
RIM, REACH = 1, 5
"""Voxels: the surroundings begin and end at this distance from the stroke."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One stroke: who has it, the readers' label, mL, FLAIR-visible share, contrasts."""

    person: str
    label: bool | None
    volume_ml: float
    visible_share: float
    contrasts: FloatArray


def contrasts(case: PreparedCase, stroke: BoolArray) -> FloatArray:
    """(10,) logarithms of medians of signal within a stroke over those of normal brain, and of its volume in mL.

    Args:
        case: prepared.
        stroke: (i, j, k) bool, not empty.
    """
    scales = signal_scales(case)
    b0, b1000 = (
        np.log(np.maximum(image.astype(np.float64) * scale.deviation + scale.mean, 1e-3))
        for image, scale in zip((case.b0, case.b1000), scales, strict=True)
    )
    normal = case.brain & ~stroke
    mirrored = reflected(stroke, case.brain | stroke, outside=False) & normal
    near, far = (ndimage.binary_dilation(stroke, iterations=voxels) for voxels in (RIM, REACH))
    around = far & ~near & normal
    around = around if around.sum() >= FEWEST else normal
    mirrored = mirrored if mirrored.sum() >= FEWEST else around

    def over(image: FloatArray, other: BoolArray, percentile: float = 50) -> float:
        return float(np.percentile(image[stroke], percentile) - np.median(image[other]))

    of_b0 = [over(b0, mirrored), over(b0, around), over(b0, normal), over(b0, mirrored, 25), over(b0, mirrored, 75)]
    of_b1000 = [over(b1000, mirrored), over(b1000, normal)]
    of_both = [over(b0 - b1000, mirrored), over(b0 - b1000, normal)]
    return np.array([*of_b0, *of_b1000, *of_both, np.log(stroke.sum() * case.voxel_volume_ml)])


def strokes_of(cohort: Path) -> Iterator[Stroke]:
    """All strokes of a labelled cohort with an outlined FLAIR-visible part; what cannot be read is named and left."""
    found = read_cohort(cohort)
    for participant, place in found.located(found.people):
        try:
            case = read_labelled(place, participant, PreprocessConfig(), finite=True, optional=(Channel.FLAIR_VISIBLE,))
            if (stroke := _stroke(preprocess_case(case, PROFILES["robust-v3"]), participant, cohort)) is not None:
                yield stroke
        except FvvError as error:
            print(f"  left out: {error}")


def _stroke(case: PreparedCase, participant: Participant, cohort: Path) -> Stroke | None:
    if case.stroke is None or case.flair_visible is None or not case.stroke.any():
        return None
    volume_ml = float(case.stroke.sum() * case.voxel_volume_ml)
    share = float(case.flair_visible[case.stroke].mean())
    person = f"{cohort}/{participant.person_id}"
    return Stroke(person, participant.dwi_flair_mismatch, volume_ml, share, contrasts(case, case.stroke))


def mismatch_probability(features: FloatArray, mismatch: BoolArray, persons: np.ndarray) -> FloatArray:
    """(n,) cross-validated P(mismatch), mean of several divisions into folds; a person is in one fold alone."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = [StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed) for seed in range(REPEATS)]
    found = [
        cross_val_predict(model, features, mismatch, cv=one, groups=persons, method="predict_proba")[:, 1]
        for one in folds
    ]
    return np.asarray(np.mean(found, axis=0))


def visible_dice(share: FloatArray, visible: BoolArray) -> FloatArray:
    """(n,) Dice where each stroke is called FLAIR-visible throughout, or not at all; NaN where both masks are empty."""
    return np.where(visible, 2 * share / (1 + share), np.where(share > 0, 0.0, np.nan))


def table(strokes: Sequence[Stroke]) -> str:
    """Three lines: the label, the regression, and what follows from it for the FLAIR-visible part.

    Raises:
        ValueError: too few strokes of one kind.
    """
    share = np.array([one.visible_share for one in strokes])
    labels = mismatch_labels([one.label for one in strokes], share.tolist())
    labelled = np.array([value is not None for value in labels.values], dtype=bool)
    strokes, share = [one for one, use in zip(strokes, labelled, strict=True) if use], share[labelled]
    mismatch = np.array([bool(value) for value in labels.values])[labelled]
    if min(mismatch.sum(), (~mismatch).sum()) < FOLDS:
        found = f"{mismatch.sum()} with and {(~mismatch).sum()} without"
        raise ValueError(f"expected at least {FOLDS} strokes with a mismatch, and as many without; found {found}")
    persons = np.array([one.person for one in strokes])
    volume_ml = np.array([one.volume_ml for one in strokes])
    features = np.array([one.contrasts for one in strokes])
    probability = mismatch_probability(features, mismatch, persons)
    bootstrap = Bootstrap(2000, np.random.default_rng(0))
    cutoff = max(CUTOFFS, key=lambda one: float(np.nanmean(visible_dice(share, probability < one))))
    dice, fvv_ml = visible_dice(share, probability < cutoff), np.where(probability < cutoff, volume_ml, 0.0)
    mean = bootstrap.interval(persons, lambda drawn: float(np.nanmean(dice[drawn])))
    return "\n".join(
        (
            f"{len(strokes)} strokes, {mismatch.sum()} with a mismatch; {labels.source}",
            f"AUC of b0 over its mirrored side {auc(features[:, 0], mismatch):.3f}; of the regression "
            f"{_text(bootstrap.auc(-probability, mismatch, persons))}",
            f"strokes with P(mismatch) under {cutoff:.2f} FLAIR-visible throughout: FLAIR-visible Dice {_text(mean)} "
            f"({np.isfinite(dice).sum()} strokes), AUC of FVV {_text(bootstrap.auc(fvv_ml, mismatch, persons))}",
        )
    )


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f} to {estimate.high:.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cohorts", type=Path, nargs="+", metavar="COHORT", help="labelled examinations, as for `prepare`"
    )
    try:
        print(table([stroke for cohort in parser.parse_args(arguments).cohorts for stroke in strokes_of(cohort)]))
    except (FvvError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
