"""How well a volume tells mismatch from no mismatch, each number with its interval.

The marker is the FVV and a *low* one means mismatch, the positive class. All intervals are at 95 % unless said.

Every public function checks what it is given (`fvv.analysis.checks`): volumes must be finite, labels bool or 0 and 1,
lengths equal; `StatisticsError`, a ValueError, says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.metrics import average_precision_score
from sklearn.metrics import precision_recall_curve as sklearn_precision_recall_curve
from sklearn.metrics import roc_curve as sklearn_roc_curve

from fvv.analysis.checks import StatisticsError, as_pair, as_values, both_classes, in_range, same_length
from fvv.arrays import BoolArray, FloatArray, IntArray

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; NaN where undefined."""

    value: float
    low: float
    high: float


NOT_DEFINED = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a cut-off achieves: mismatch is predicted where FVV is under it.

    Attributes:
        cutoff_ml: the cut-off.
        true_positive: mismatch, predicted.
        false_positive: no mismatch, but predicted.
        false_negative: mismatch, not predicted.
        true_negative: no mismatch, none predicted.
    """

    cutoff_ml: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def sensitivity(self) -> Estimate:
        """Share of the mismatches that are predicted."""
        return wilson_interval(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> Estimate:
        """Share of the others that are not."""
        return wilson_interval(self.true_negative, self.true_negative + self.false_positive)

    @property
    def positive_predictive_value(self) -> Estimate:
        """Share of the predicted mismatches that are some, at this cohort's prevalence."""
        return wilson_interval(self.true_positive, self.true_positive + self.false_positive)

    @property
    def negative_predictive_value(self) -> Estimate:
        """Share of the others that are none, at this cohort's prevalence."""
        return wilson_interval(self.true_negative, self.true_negative + self.false_negative)

    @property
    def accuracy(self) -> Estimate:
        """Share that is right."""
        right = self.true_positive + self.true_negative
        return wilson_interval(right, right + self.false_positive + self.false_negative)

    @property
    def kappa(self) -> float:
        """Cohen's kappa with the label."""
        return cohen_kappa(
            np.array([[self.true_positive, self.false_negative], [self.false_positive, self.true_negative]])
        )


def wilson_interval(successes: int, trials: int, level: float = LEVEL) -> Estimate:
    """A proportion with Wilson's score interval (doi 10.1080/01621459.1927.10502953); not defined for no trials."""
    if not 0 <= successes <= trials:
        raise StatisticsError(f"expected 0 to {trials} successes, got {successes}")
    in_range(level, "level", 0, 1, ends=False)
    if trials == 0:
        return NOT_DEFINED
    interval = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def cohen_kappa(table: IntArray) -> float:
    """Cohen's kappa (doi 10.1177/001316446002000104).

    Args:
        table: (n, n) counts, rows one rater, columns the other. NaN where chance alone agrees fully (one class only).
    """
    table = np.asarray(table)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not np.isfinite(table).all() or (table < 0).any():
        raise StatisticsError(f"expected a square table of counts, got shape {table.shape}")
    total = float(table.sum())
    if total == 0:
        return math.nan
    observed = float(np.trace(table)) / total
    expected = float(table.sum(axis=0) @ table.sum(axis=1)) / total**2
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def operating_point(fvv_ml: FloatArray, mismatch: BoolArray, cutoff_ml: float) -> OperatingPoint:
    """Count what a cut-off does.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels.
        cutoff_ml: mismatch is predicted under this, not at it.
    """
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    if math.isnan(cutoff_ml):
        raise StatisticsError("cut-off: expected a number of mL, got NaN")
    predicted = fvv_ml < cutoff_ml
    return OperatingPoint(
        cutoff_ml,
        true_positive=int((predicted & mismatch).sum()),
        false_positive=int((predicted & ~mismatch).sum()),
        false_negative=int((~predicted & mismatch).sum()),
        true_negative=int((~predicted & ~mismatch).sum()),
    )


def roc_curve(fvv_ml: FloatArray, mismatch: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Every operating point.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels, both classes present.

    Returns:
        False positive rates, true positive rates, and the largest FVV that counts as mismatch at each (-inf: none).
    """
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    both_classes(mismatch)
    false_positive_rate, true_positive_rate, thresholds = sklearn_roc_curve(mismatch, -fvv_ml, drop_intermediate=False)
    return false_positive_rate, true_positive_rate, -thresholds


def youden_cutoff(fvv_ml: FloatArray, mismatch: BoolArray) -> float:
    """The cut-off with the largest sensitivity + specificity - 1 (Youden 1950), mL.

    It lies half-way between two neighbouring volumes; of several best ones the lowest is taken. Chosen on the data it
    is then judged on, its performance is optimistic.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels, both classes present.
    """
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    false_positive_rate, true_positive_rate, largest = roc_curve(fvv_ml, mismatch)
    return _cutoff_above(float(largest[(true_positive_rate - false_positive_rate).argmax()]), fvv_ml)


def cutoff_at_specificity(fvv_ml: FloatArray, mismatch: BoolArray, specificity: float) -> float:
    """The highest cut-off, so the most sensitive one, that keeps at least this specificity, mL.

    Half-way between two neighbouring volumes, and optimistic, as Youden's.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels, both classes present.
        specificity: 0 to 1.
    """
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    in_range(specificity, "specificity", 0, 1)
    false_positive_rate, _, largest = roc_curve(fvv_ml, mismatch)
    # Rates are counts over counts: a rounding error must not forbid the one that meets it exactly.
    allowed = np.flatnonzero(false_positive_rate <= 1 - specificity + 1e-12)
    return _cutoff_above(float(largest[allowed[-1]]), fvv_ml)


def _cutoff_above(largest_ml: float, fvv_ml: FloatArray) -> float:
    """A cut-off that calls mismatch exactly what is at most this volume."""
    if not np.isfinite(largest_ml):
        return float(fvv_ml.min())
    higher = fvv_ml[fvv_ml > largest_ml]
    return float((largest_ml + higher.min()) / 2) if higher.size else float(np.nextafter(largest_ml, np.inf))


def precision_recall_curve(fvv_ml: FloatArray, mismatch: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Precision (positive predictive value) against recall (sensitivity) over all cut-offs.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels, both classes present.

    Returns:
        Precisions and recalls, recall falling.
    """
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    both_classes(mismatch)
    precision, recall, _ = sklearn_precision_recall_curve(mismatch, -fvv_ml)
    return precision, recall


def average_precision(fvv_ml: FloatArray, mismatch: BoolArray) -> float:
    """Area under the precision-recall curve, a step function; NaN with one class only. Chance gives the prevalence."""
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    if not 0 < mismatch.sum() < mismatch.size:
        return math.nan
    return float(average_precision_score(mismatch, -fvv_ml))


def auc(fvv_ml: FloatArray, mismatch: BoolArray) -> float:
    """Probability that a patient with mismatch has the lower FVV; a tie counts half. NaN with one class only."""
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    positives = int(mismatch.sum())
    negatives = mismatch.size - positives
    if not positives or not negatives:
        return math.nan
    ranks = stats.rankdata(-fvv_ml)
    return float((ranks[mismatch].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def delong_interval(fvv_ml: FloatArray, mismatch: BoolArray, level: float = LEVEL) -> Estimate:
    """AUC with DeLong's interval on the logit scale.

    The variance is DeLong's (doi 10.2307/2531595), computed from mid-ranks (Sun and Xu, doi 10.1109/LSP.2014.2337313).
    On the logit scale the interval stays within 0 and 1 and covers better near 1 (doi 10.1177/0962280207087173).

    Args:
        fvv_ml: (n,) volumes, mL; low means mismatch.
        mismatch: (n,) bool labels.
        level: of confidence.

    Returns:
        Not defined with one class only. The interval alone is not defined when the classes are separated without
        error (the variance is then 0, which is no certainty) or a class has one patient.
    """
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    in_range(level, "level", 0, 1, ends=False)
    area = auc(fvv_ml, mismatch)
    if not 0 < area < 1:
        return Estimate(area, math.nan, math.nan)
    variance = delong_variance(*placements(fvv_ml, mismatch))
    if not variance > 0:
        return Estimate(area, math.nan, math.nan)
    centre = math.log(area / (1 - area))
    margin = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(variance) / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-(centre + side * margin))) for side in (-1, 1))
    return Estimate(area, low, high)


def placements(fvv_ml: FloatArray, mismatch: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Of each patient: the share of the other class that it is on the right side of, ties half.

    Args:
        fvv_ml: (n,) volumes, mL; low means mismatch.
        mismatch: (n,) bool labels, both classes present.

    Returns:
        Those of the mismatches and of the others. The mean of either is the AUC; their variances make DeLong's.
    """
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    both_classes(mismatch)
    positive, negative = -fvv_ml[mismatch], -fvv_ml[~mismatch]
    m, n = positive.size, negative.size
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    of_positive = (ranks[:m] - stats.rankdata(positive)) / n
    of_negative = 1 - (ranks[m:] - stats.rankdata(negative)) / m
    return of_positive, of_negative


def delong_variance(of_positive: FloatArray, of_negative: FloatArray) -> float:
    """Variance of an AUC from its placements, or of a difference of AUCs from theirs; NaN with one in a class."""
    of_positive, of_negative = as_values(of_positive, "placements"), as_values(of_negative, "placements")
    if min(of_positive.size, of_negative.size) < 2:
        return math.nan
    return float(of_positive.var(ddof=1) / of_positive.size + of_negative.var(ddof=1) / of_negative.size)


def repeated(persons: ArrayLike) -> bool:
    """Whether a person occurs twice: the examinations are then not independent of each other."""
    array = np.asarray(persons)
    return bool(np.unique(array).size < array.size)


def bootstrap_intervals(
    persons: np.ndarray,
    statistics: Callable[[IntArray], dict[str, float]],
    *,
    samples: int,
    rng: np.random.Generator,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Percentile bootstrap that draws persons, each with all of his or her examinations (a cluster bootstrap).

    Args:
        persons: (n,) the person behind each examination.
        statistics: from the indices of the drawn examinations to named numbers, NaN where one is not defined.
        samples: draws.
        rng: source of the draws.
        level: of confidence.

    Returns:
        For each name its value over all examinations, and the interval over the draws where it is defined; no
        interval if those are under half of the draws, or of one person, who is the same in every draw.
    """
    persons = np.asarray(persons)
    if persons.ndim != 1 or samples < 1:
        raise StatisticsError(f"expected persons and draws, got shape {persons.shape} and {samples} draws")
    in_range(level, "level", 0, 1, ends=False)
    _, codes = np.unique(persons, return_inverse=True)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    whole = statistics(np.arange(len(persons)))
    if len(members) == 1:
        return {name: Estimate(value, math.nan, math.nan) for name, value in whole.items()}
    drawn = [
        statistics(np.concatenate([members[person] for person in rng.integers(len(members), size=len(members))]))
        for _ in range(samples)
    ]
    return {
        name: _percentile_interval(value, np.array([draw[name] for draw in drawn]), level)
        for name, value in whole.items()
    }


def auc_interval(
    fvv_ml: FloatArray, mismatch: BoolArray, persons: np.ndarray, *, samples: int, rng: np.random.Generator
) -> Estimate:
    """AUC with the interval to read: DeLong's where every person was examined once, else of a bootstrap over persons.

    DeLong's takes examinations for independent: with two of each person it covers the truth in 84 %, with four in 72 %
    (measured by simulation), not in 95 %.

    Args:
        fvv_ml: (n,) volumes, mL; low means mismatch.
        mismatch: (n,) bool labels.
        persons: (n,) the person behind each.
        samples: bootstrap draws.
        rng: source of the draws.

    Returns:
        No interval where the classes are separated without error, as in `delong_interval`.
    """
    fvv_ml, mismatch = as_pair(fvv_ml, mismatch)
    same_length(volumes=fvv_ml, persons=persons)
    delong = delong_interval(fvv_ml, mismatch)
    if not repeated(persons) or not 0 < delong.value < 1:
        return delong

    def area(drawn: IntArray) -> dict[str, float]:
        return {"auc": auc(fvv_ml[drawn], mismatch[drawn])}

    return bootstrap_intervals(persons, area, samples=samples, rng=rng)["auc"]


def _percentile_interval(value: float, draws: FloatArray, level: float) -> Estimate:
    defined = draws[~np.isnan(draws)]
    if math.isnan(value) or 2 * defined.size < draws.size:
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))
