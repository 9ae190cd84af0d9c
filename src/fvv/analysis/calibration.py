"""From a volume to the probability of a mismatch, how far that can be trusted, and what acting on it is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from fvv.analysis.checks import (
    StatisticsError,
    as_labels,
    as_pair,
    as_values,
    as_volumes,
    both_classes,
    in_range,
    same_length,
)
from fvv.arrays import BoolArray, FloatArray
from fvv.schemas.bundle import Calibration


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Patients with a similar predicted probability.

    Attributes:
        n: how many.
        predicted: their mean predicted probability.
        observed: the share that has a mismatch.
    """

    n: int
    predicted: float
    observed: float


def fit_calibration(fvv_ml: FloatArray, mismatch: BoolArray, pseudo_volume_ml: float) -> Calibration:
    """Fit P(mismatch) = logistic(intercept + slope log(FVV + pseudo-volume)).

    The targets are Platt's, (n₁ + 1)/(n₁ + 2) and 1/(n₀ + 2) in place of 1 and 0 (Platt 1999, "Probabilistic outputs
    for support vector machines"): the curve stays finite where the classes do not overlap. Between classes that lie
    close it may be as steep as one likes, so no probability beyond those targets is given: 1 of 1 is no certainty.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels, both classes present.
        pseudo_volume_ml: added to every volume, so that 0 mL has a logarithm.
    """
    fvv_ml, mismatch = as_pair(as_volumes(fvv_ml), mismatch)
    both_classes(mismatch)
    if not (pseudo_volume_ml > 0 and math.isfinite(pseudo_volume_ml)):
        raise StatisticsError(f"pseudo-volume: expected over 0 mL, got {pseudo_volume_ml!r}")
    positives = int(mismatch.sum())
    negatives = mismatch.size - positives
    highest, lowest = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    target = np.where(mismatch, highest, lowest)
    feature = np.log(fvv_ml + pseudo_volume_ml)
    about: dict[str, Any] = {"patients": mismatch.size, "prevalence": positives / mismatch.size}
    if np.ptp(feature) < 1e-12:  # One volume for all tells nothing apart: only the prevalence is known.
        share = float(target.mean())
        return Calibration(
            intercept=math.log(share / (1 - share)), slope=0.0, pseudo_volume_ml=pseudo_volume_ml, **about
        )
    # A target between 0 and 1 is a patient counted on both sides with its weight.
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(
        np.concatenate([feature, feature])[:, None],
        np.repeat([True, False], feature.size),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    return Calibration(
        intercept=float(model.intercept_[0]),
        slope=float(model.coef_[0, 0]),
        pseudo_volume_ml=pseudo_volume_ml,
        lowest=lowest,
        highest=highest,
        **about,
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
    """P(mismatch) of every patient from a curve fitted on the other groups.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels.
        groups: (n,) folds, or persons: no person in two groups.
        pseudo_volume_ml: see `fit_calibration`.

    Returns:
        (n,) probabilities; NaN where the others hold one class only.
    """
    fvv_ml, mismatch = as_pair(as_volumes(fvv_ml), mismatch)
    groups = np.asarray(groups)
    same_length(volumes=fvv_ml, groups=groups)
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
    probabilities, mismatch = _probabilities(probabilities, mismatch)
    return float(((probabilities - mismatch) ** 2).mean()) if mismatch.size else math.nan


def reliability(probabilities: FloatArray, mismatch: BoolArray, n_bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Observed share of mismatches in groups of patients of about equal size, sorted by predicted probability.

    Args:
        probabilities: (n,) predicted.
        mismatch: (n,) bool labels.
        n_bins: at most this many groups, each of at least five patients (fewer patients: one group).
    """
    probabilities, mismatch = _probabilities(probabilities, mismatch)
    if n_bins < 1:
        raise StatisticsError(f"expected at least one group, got {n_bins}")
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, max(1, min(n_bins, order.size // 5)))
    return tuple(
        ReliabilityBin(part.size, float(probabilities[part].mean()), float(mismatch[part].mean()))
        for part in parts
        if part.size
    )


def net_benefit(called: BoolArray, mismatch: BoolArray, threshold: float) -> float:
    """True positives less false positives at their exchange rate, per patient (doi 10.1177/0272989X06295361).

    Args:
        called: (n,) bool, treated as mismatch.
        mismatch: (n,) bool labels.
        threshold: probability of mismatch from which treating is worth its risk; false positives weigh t / (1 - t).
    """
    called, mismatch = as_labels(called, "called"), as_labels(mismatch)
    same_length(called=called, labels=mismatch)
    in_range(threshold, "threshold", 0, 1, ends=False)
    if not mismatch.size:
        return math.nan
    right, wrong = int((called & mismatch).sum()), int((called & ~mismatch).sum())
    return (right - wrong * threshold / (1 - threshold)) / mismatch.size


def decision_curve(
    probabilities: FloatArray, fvv_ml: FloatArray, mismatch: BoolArray, cutoff_ml: float
) -> dict[str, list[float]]:
    """Net benefit of four policies over threshold probabilities from 0.05 to 0.95.

    Args:
        probabilities: (n,) P(mismatch), held out.
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels.
        cutoff_ml: of the policy that calls mismatch where FVV is under it, whatever the threshold.

    Returns:
        `threshold`, and the net benefit of `calibrated` (called where P is at least the threshold), `cutoff`, `all`
        (treat everybody); treating nobody is 0.
    """
    probabilities, mismatch = _probabilities(probabilities, mismatch)
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    thresholds = [round(0.05 * step, 2) for step in range(1, 20)]
    everybody = np.ones(mismatch.size, dtype=bool)
    return {
        "threshold": thresholds,
        "calibrated": [net_benefit(probabilities >= threshold, mismatch, threshold) for threshold in thresholds],
        "cutoff": [net_benefit(fvv_ml < cutoff_ml, mismatch, threshold) for threshold in thresholds],
        "all": [net_benefit(everybody, mismatch, threshold) for threshold in thresholds],
    }


def _probabilities(probabilities: FloatArray, mismatch: BoolArray) -> tuple[FloatArray, BoolArray]:
    checked = as_values(probabilities, "probabilities"), as_labels(mismatch)
    same_length(probabilities=checked[0], labels=checked[1])
    if ((checked[0] < 0) | (checked[0] > 1)).any():
        raise StatisticsError("probabilities: expected 0 to 1")
    return checked
