"""What a cut-off achieves that was chosen on the patients it is judged on, with its optimism taken off."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fvv.analysis.checks import as_pair, both_classes, same_length
from fvv.analysis.statistics import bootstrap_intervals, cohen_kappa
from fvv.arrays import BoolArray, FloatArray, IntArray

DRAWS = 400
"""Bootstrap draws behind a mean, which needs fewer than the ends of an interval do."""
_RANGES = {"sensitivity": 0.0, "specificity": 0.0, "kappa": -1.0, "youden_index": -1.0}
"""Lowest value of each measure; the highest is 1."""


def optimism_corrected(
    fvv_ml: FloatArray,
    mismatch: BoolArray,
    persons: np.ndarray,
    choose: Callable[[FloatArray, BoolArray], float],
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> dict[str, dict[str, float]]:
    """Bootstrap correction of the optimism (Harrell et al. 1996, doi 10.1002/(SICI)1097-0258(19960229)15:4<361).

    In each draw of persons a cut-off is chosen; how much better it does on the draw than on all patients is optimism,
    whose mean is taken off the apparent value.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels, both classes present.
        persons: (n,) the person behind each.
        choose: from volumes and labels to a cut-off, mL.
        rng: source of the draws.
        draws: how many.

    Returns:
        `apparent` and `corrected`: sensitivity, specificity, Cohen's kappa and Youden's index (sensitivity +
        specificity - 1) each; corrected is NaN where hardly a draw holds both classes.
    """
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    both_classes(mismatch)
    same_length(volumes=fvv_ml, persons=persons)
    apparent = _measures(fvv_ml, mismatch, choose(fvv_ml, mismatch))
    gains: list[list[float]] = []

    def learn(drawn: IntArray) -> dict[str, float]:
        labels = mismatch[drawn]
        if 0 < labels.sum() < labels.size:
            cutoff_ml = choose(fvv_ml[drawn], labels)
            here, there = _measures(fvv_ml[drawn], labels, cutoff_ml), _measures(fvv_ml, mismatch, cutoff_ml)
            gains.append([here[name] - there[name] for name in _RANGES])
        return {}

    bootstrap_intervals(persons, learn, samples=draws, rng=rng)
    known = gains[1:]  # The first call is on all patients, where nothing is gained.
    optimism = np.nanmean(known, axis=0) if 2 * len(known) >= draws else np.full(len(_RANGES), math.nan)
    corrected = {
        name: float(np.clip(apparent[name] - gain, _RANGES[name], 1.0))
        for name, gain in zip(_RANGES, optimism, strict=True)
    }
    return {"apparent": apparent, "corrected": corrected}


def _measures(fvv_ml: FloatArray, mismatch: BoolArray, cutoff_ml: float) -> dict[str, float]:
    under = fvv_ml < cutoff_ml
    positive, negative = int(mismatch.sum()), int((~mismatch).sum())
    right, wrong = int((under & mismatch).sum()), int((under & ~mismatch).sum())
    sensitivity, specificity = right / positive, 1 - wrong / negative
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "kappa": cohen_kappa(np.array([[right, positive - right], [wrong, negative - wrong]])),
        "youden_index": sensitivity + specificity - 1,
    }
