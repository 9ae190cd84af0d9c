"""How well two ways of measuring one volume agree. All intervals are at 95 % unless said."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fvv.analysis.statistics import LEVEL, NOT_DEFINED, Estimate
from fvv.arrays import FloatArray
from fvv.errors import FvvError


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two ways of measuring one thing: Bland and Altman (doi 10.1016/S0140-6736(86)90837-8).

    Attributes:
        n: pairs.
        bias: mean of second minus first, with its t interval.
        lower_limit: bias - 1.96 SD of the differences.
        upper_limit: bias + 1.96 SD.
        concordance: Lin's coefficient (doi 10.2307/2532051) with his interval on Fisher's z scale.
        intraclass: intraclass correlation of single measurements, absolute agreement.
        rank: Spearman's correlation.
    """

    n: int
    bias: Estimate
    lower_limit: float
    upper_limit: float
    concordance: Estimate
    intraclass: Estimate
    rank: Estimate


def bland_altman(first: FloatArray, second: FloatArray, level: float = LEVEL) -> Agreement:
    """Agreement of two measurements of the same patients.

    Args:
        first: (n,) reference, say the drawn volume.
        second: (n,) the other, in the same unit.
        level: of confidence.

    Raises:
        FvvError: the two differ in length.
    """
    if first.shape != second.shape:
        raise FvvError(f"expected pairs of measurements, got {first.size} and {second.size}")
    n = first.size
    difference = second - first
    bias = float(difference.mean()) if n else math.nan
    deviation = float(difference.std(ddof=1)) if n > 1 else math.nan
    margin = float(stats.t.ppf((1 + level) / 2, n - 1)) * deviation / math.sqrt(n) if n > 1 else math.nan
    return Agreement(
        n=n,
        bias=Estimate(bias, bias - margin, bias + margin),
        lower_limit=bias - 1.96 * deviation,
        upper_limit=bias + 1.96 * deviation,
        concordance=concordance_coefficient(first, second, level),
        intraclass=intraclass_correlation(np.column_stack([first, second]), level),
        rank=rank_correlation(first, second, level),
    )


def rank_correlation(first: FloatArray, second: FloatArray, level: float = LEVEL) -> Estimate:
    """Spearman's correlation, interval on Fisher's z scale after Bonett and Wright (doi 10.1007/BF02294183).

    Args:
        first: (n,) measurements.
        second: (n,) measurements of the same patients.
        level: of confidence.

    Returns:
        Not defined where either does not vary or there are fewer than three pairs; no interval at perfect correlation
        or for three pairs.
    """
    n = first.size
    if n < 3 or not np.ptp(first) or not np.ptp(second):
        return NOT_DEFINED
    rho = float(stats.spearmanr(first, second).statistic)
    if n < 4 or abs(rho) >= 1 - 1e-12:
        return Estimate(rho, math.nan, math.nan)
    margin = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Estimate(rho, math.tanh(math.atanh(rho) - margin), math.tanh(math.atanh(rho) + margin))


def concordance_coefficient(first: FloatArray, second: FloatArray, level: float = LEVEL) -> Estimate:
    """Lin's concordance correlation coefficient (doi 10.2307/2532051), interval on Fisher's z scale.

    Args:
        first: (n,) measurements.
        second: (n,) measurements of the same patients.
        level: of confidence.

    Returns:
        Not defined where neither varies or there are fewer than three pairs; no interval at perfect correlation.
    """
    n = first.size
    if n < 3:
        return NOT_DEFINED
    spread, shift = float(first.std() * second.std()), float(first.mean() - second.mean())
    whole = float(first.var() + second.var()) + shift**2
    # Values that differ by rounding alone do not vary.
    if spread <= 1e-12 * max(float((first**2).mean()), float((second**2).mean())):
        return NOT_DEFINED
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    ccc, correlation, shift_squared = 2 * covariance / whole, covariance / spread, shift**2 / spread
    if abs(ccc) >= 1 or abs(correlation) >= 1 - 1e-12 or ccc == 0:
        return Estimate(ccc, math.nan, math.nan)
    # Variance of Fisher's z of the coefficient: Lin 1989, with the correction in Biometrics 2000;56:324-325.
    variance = (
        (1 - correlation**2) * ccc**2 / ((1 - ccc**2) * correlation**2)
        + 2 * ccc**3 * (1 - ccc) * shift_squared / (correlation * (1 - ccc**2) ** 2)
        - ccc**4 * shift_squared**2 / (2 * correlation**2 * (1 - ccc**2) ** 2)
    ) / (n - 2)
    margin = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(max(variance, 0.0))
    return Estimate(ccc, math.tanh(math.atanh(ccc) - margin), math.tanh(math.atanh(ccc) + margin))


def intraclass_correlation(ratings: FloatArray, level: float = LEVEL) -> Estimate:
    """ICC(A,1): two-way random effects, absolute agreement, one measurement (doi 10.1037/1082-989X.1.1.30).

    It is ICC(2,1) of Shrout and Fleiss (doi 10.1037/0033-2909.86.2.420), interval after theirs.

    Args:
        ratings: (n, k) measurements of n patients by k methods.
        level: of confidence.

    Returns:
        Not defined for fewer than three patients or where patients do not differ; no interval at perfect agreement.
    """
    n, k = ratings.shape
    if n < 3 or np.ptp(ratings.mean(axis=1)) <= 1e-12 * max(float(np.abs(ratings).max()), 1e-300):
        return NOT_DEFINED
    of_patients, of_methods = ratings.mean(axis=1), ratings.mean(axis=0)
    residual = ratings - of_patients[:, None] - of_methods[None] + ratings.mean()
    # Mean squares of patients (rows), methods (columns) and what is left.
    rows, columns = k * float(of_patients.var(ddof=1)), n * float(of_methods.var(ddof=1))
    error = float((residual**2).sum()) / ((n - 1) * (k - 1))
    icc = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    if error <= 1e-12 * rows or icc >= 1:
        return Estimate(icc, math.nan, math.nan)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    share = (1 + level) / 2
    lower, upper = float(stats.f.ppf(share, n - 1, freedom)), float(stats.f.ppf(share, freedom, n - 1))
    rest = k * columns + (k * n - k - n) * error
    return Estimate(
        icc,
        n * (rows - lower * error) / (lower * rest + n * rows),
        n * (upper * rows - error) / (rest + n * upper * rows),
    )
