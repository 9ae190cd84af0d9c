"""Two readers' masks and labels compared, with 95 % intervals over the persons behind the examinations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fvv.analysis.agreement import bland_altman
from fvv.analysis.statistics import NOT_DEFINED, TAILS, Bootstrap, cohen_kappa, repeated, without_interval
from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.imaging.overlap import Overlap
from fvv.schemas.labels import ChannelAgreement, KappaResult
from fvv.schemas.summary import Estimate


@dataclass(frozen=True, slots=True)
class MaskPair:
    """One channel of one examination by two readers: volumes in mL, and Dice (NaN where both are empty)."""

    first_ml: float
    second_ml: float
    dice_coefficient: float

    @classmethod
    def of(cls, first: BoolArray, second: BoolArray, voxel_volume_ml: float) -> MaskPair:
        """Compare two masks (i, j, k) of one grid."""
        one, two = (float(mask.sum()) * voxel_volume_ml for mask in (first, second))
        return cls(one, two, Overlap.of_masks(first, second).dice_coefficient)


def channel_agreement(pairs: Sequence[MaskPair], persons: np.ndarray, bootstrap: Bootstrap) -> ChannelAgreement:
    """Agreement of two readers on one channel.

    Args:
        pairs: of n examinations.
        persons: (n,) the person behind each.
    """
    of_dice, of_icc, of_volume = bootstrap.spawn(3)
    first, second, dice = (
        np.array([getattr(pair, name) for pair in pairs], dtype=np.float64)
        for name in ("first_ml", "second_ml", "dice_coefficient")
    )
    defined = ~np.isnan(dice)
    mean_dice = of_dice.interval(persons[defined], lambda chosen: _mean(dice[defined][chosen]))
    return ChannelAgreement(
        n=len(pairs),
        n_empty=int((~defined).sum()),
        dice_coefficient=mean_dice,
        intraclass=_icc_over_persons(np.column_stack([first, second]), persons, of_icc),
        volume=bland_altman(first, second, persons, of_volume),
    )


def mismatch_agreement(
    first: Sequence[bool | None], second: Sequence[bool | None], persons: np.ndarray, bootstrap: Bootstrap, source: str
) -> KappaResult:
    """Cohen's kappa of two readers' mismatch labels, where both give one.

    Args:
        first, second: (n,) labels; None: not given.
        persons: (n,) the person behind each.
        source: where the labels come from, in words.
    """
    both = [at for at, pair in enumerate(zip(first, second, strict=True)) if None not in pair]
    one, two = (np.array([labels[at] for at in both], dtype=np.int64) for labels in (first, second))

    def table(chosen: IntArray) -> IntArray:
        counts = np.zeros((2, 2), dtype=np.int64)
        np.add.at(counts, (1 - one[chosen], 1 - two[chosen]), 1)
        return counts

    kappa = bootstrap.interval(persons[both], lambda chosen: cohen_kappa(table(chosen))) if both else NOT_DEFINED
    rows = table(np.arange(len(both))).tolist()
    return KappaResult(n=len(both), counts=rows, kappa=kappa, source=source)


def intraclass_correlation(ratings: FloatArray) -> Estimate:
    """ICC(2,1): two-way random effects, absolute agreement, single measurement, with its 95 % interval.

    Shrout and Fleiss 1979 (doi 10.1037/0033-2909.86.2.420), the interval too; ICC(A,1) of McGraw and Wong 1996 (doi
    10.1037/1082-989X.1.1.30).

    Args:
        ratings: (n, k) measurements of n examinations by k readers.

    Returns:
        Not defined for fewer than three examinations or where they do not differ; no interval at perfect agreement.
    """
    n, k = ratings.shape
    if n < 3 or np.ptp(ratings.mean(axis=1)) <= 1e-12 * max(float(np.abs(ratings).max()), 1e-300):
        return NOT_DEFINED
    of_rows, of_readers = ratings.mean(axis=1), ratings.mean(axis=0)
    residual = ratings - of_rows[:, None] - of_readers[None] + ratings.mean()
    # Mean squares of examinations (rows), readers (columns) and what is left.
    rows, columns = k * float(of_rows.var(ddof=1)), n * float(of_readers.var(ddof=1))
    error = float((residual**2).sum()) / ((n - 1) * (k - 1))
    icc = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    if error <= 1e-12 * rows or icc >= 1:
        return without_interval(icc)
    a, b = k * icc / (n * (1 - icc)), 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    lower, upper = float(stats.f.ppf(TAILS[1], n - 1, freedom)), float(stats.f.ppf(TAILS[1], freedom, n - 1))
    rest = k * columns + (k * n - k - n) * error
    return Estimate(
        icc,
        n * (rows - lower * error) / (lower * rest + n * rows),
        n * (upper * rows - error) / (rest + n * upper * rows),
    )


def _icc_over_persons(ratings: FloatArray, persons: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    """Shrout and Fleiss's interval takes examinations for independent; where a person occurs twice, a bootstrap's."""
    if not repeated(persons):
        return intraclass_correlation(ratings)
    return bootstrap.interval(persons, lambda chosen: intraclass_correlation(ratings[chosen]).value)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else math.nan
