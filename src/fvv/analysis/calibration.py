"""From a volume to the probability of a mismatch, and how far that can be trusted.

Volumes are (n,) mL, finite; labels (n,) bool; probabilities (n,) 0 to 1.
"""

from __future__ import annotations

import math

import numpy as np
from sklearn.linear_model import LogisticRegression

from fvv.arrays import BoolArray, FloatArray
from fvv.schemas.bundle import Calibration
from fvv.schemas.summary import CohortKind, ReliabilityBin


def fit_calibration(
    fvv_ml: FloatArray, mismatch: BoolArray, pseudo_volume_ml: float, fitted_on: CohortKind = "unknown"
) -> Calibration:
    """Fit P(mismatch) = logistic(intercept + slope log(FVV + pseudo-volume)).

    The targets are Platt's, (n₁ + 1)/(n₁ + 2) and 1/(n₀ + 2) instead of 1 and 0 (Platt 1999, "Probabilistic outputs
    for support vector machines"): the curve stays finite where the classes do not overlap. Between classes that lie
    close it may still be very steep, so no probability beyond those targets is given: 1 of 1 is no certainty.

    Args:
        mismatch: labels, both classes present.
        pseudo_volume_ml: over 0; added to every volume, so that 0 mL has a logarithm.
    """
    positives = int(mismatch.sum())
    highest, lowest = (positives + 1) / (positives + 2), 1 / (mismatch.size - positives + 2)
    target = np.where(mismatch, highest, lowest)
    feature = np.log(fvv_ml + pseudo_volume_ml)
    if np.ptp(feature) < 1e-12:  # One volume for all separates nothing: only the prevalence is known.
        share = float(target.mean())
        intercept, slope, lowest, highest = math.log(share / (1 - share)), 0.0, 0.0, 1.0
    else:
        # A target between 0 and 1 is an examination counted on both sides with its weight.
        model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
        model.fit(
            np.concatenate([feature, feature])[:, None],
            np.repeat([True, False], feature.size),
            sample_weight=np.concatenate([target, 1 - target]),
        )
        intercept, slope = float(model.intercept_[0]), float(model.coef_[0, 0])
    return Calibration(
        intercept=intercept,
        slope=slope,
        pseudo_volume_ml=pseudo_volume_ml,
        lowest=lowest,
        highest=highest,
        fitted_on=fitted_on,
        patients=mismatch.size,
        prevalence=positives / mismatch.size,
    )


def calibration_in_words(calibration: Calibration) -> str:
    """On whom a curve was fitted and for which prevalence it holds."""
    who = {"simulated": "simulated patients, no person", "people": "people", "unknown": "patients of unknown kind"}
    number = "" if calibration.patients is None else f"{calibration.patients} "
    prevalence = (
        "its prevalence is unknown"
        if calibration.prevalence is None
        else f"it holds for a prevalence of {calibration.prevalence:.0%} (another: decision.prevalence)"
    )
    return f"fitted on {number}{who[calibration.fitted_on]}; {prevalence}"


def held_out_probabilities(
    fvv_ml: FloatArray, mismatch: BoolArray, groups: np.ndarray, pseudo_volume_ml: float
) -> FloatArray:
    """P(mismatch) of every examination from a curve fitted on the other groups.

    Args:
        groups: (n,) folds, or persons: no person in two groups.

    Returns:
        (n,) probabilities; NaN where the others hold one class only.
    """
    probabilities = np.full(fvv_ml.size, np.nan)
    for group in np.unique(groups):
        inside = groups == group
        others = mismatch[~inside]
        if 0 < others.sum() < others.size:
            curve = fit_calibration(fvv_ml[~inside], others, pseudo_volume_ml)
            probabilities[inside] = [curve.mismatch_probability(volume) for volume in fvv_ml[inside]]
    return probabilities


def brier_score(probabilities: FloatArray, mismatch: BoolArray) -> float:
    """Mean squared difference of probability and label (doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2)."""
    return float(((probabilities - mismatch) ** 2).mean()) if mismatch.size else math.nan


def reliability(probabilities: FloatArray, mismatch: BoolArray, n_bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Observed share of mismatches in groups of about equal size, sorted by predicted probability.

    Args:
        n_bins: at most this many groups, each of at least five examinations (of fewer: one group).
    """
    order = np.argsort(probabilities, kind="stable")
    return tuple(
        ReliabilityBin(n=part.size, predicted=probabilities[part].mean(), observed=mismatch[part].mean())
        for part in np.array_split(order, max(1, min(n_bins, order.size // 5)))
        if part.size
    )
