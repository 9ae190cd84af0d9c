"""How well two ways of measuring one volume agree. All intervals are at 95 % unless said."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from fvv.analysis.checks import StatisticsError, as_values, as_volumes, same_length
from fvv.analysis.statistics import LEVEL, NOT_DEFINED, Estimate, bootstrap_intervals, repeated
from fvv.arrays import FloatArray, IntArray


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
        over_persons: the intervals are of a bootstrap over persons: someone was examined more than once.
    """

    n: int
    bias: Estimate
    lower_limit: float
    upper_limit: float
    concordance: Estimate
    intraclass: Estimate
    rank: Estimate
    over_persons: bool = False


@dataclass(frozen=True, slots=True)
class RatioAgreement:
    """Agreement on the log scale, as ratios: limits in mL say little of volumes near a cut-off of 0.5 mL.

    Attributes:
        n: pairs.
        pseudo_volume_ml: added to both volumes, so that 0 mL has a logarithm.
        ratio: geometric mean of (second + pseudo-volume) / (first + pseudo-volume), with its interval.
        lower_limit, upper_limit: that ratio's 95 % limits of agreement.
    """

    n: int
    pseudo_volume_ml: float
    ratio: Estimate
    lower_limit: float
    upper_limit: float

    def reference_range_ml(self, predicted_ml: float) -> tuple[float, float]:
        """First volumes, in mL, that go with a second one by the limits; NaN where these are not defined."""
        total = predicted_ml + self.pseudo_volume_ml
        low, high = (total / limit - self.pseudo_volume_ml for limit in (self.upper_limit, self.lower_limit))
        return (low if math.isnan(low) else max(low, 0.0)), high


def bland_altman(first: FloatArray, second: FloatArray, level: float = LEVEL) -> Agreement:
    """Agreement of two measurements of the same patients.

    Args:
        first: (n,) reference, say the drawn volume.
        second: (n,) the other, in the same unit.
        level: of confidence.

    Raises:
        StatisticsError: the two differ in length, or a volume is not finite.
    """
    first, second = _pairs(first, second)
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


def agreement_over_persons(
    first: FloatArray, second: FloatArray, persons: np.ndarray, *, samples: int, rng: np.random.Generator
) -> Agreement:
    """`bland_altman`, with intervals that hold where a person was examined more than once.

    Args:
        first: (n,) reference, mL.
        second: (n,) the other, mL.
        persons: (n,) the person behind each pair.
        samples: bootstrap draws of persons; none are made where every person was examined once.
        rng: source of the draws.
    """
    first, second = _pairs(first, second)
    same_length(pairs=first, persons=persons)
    agreement = bland_altman(first, second)
    if not repeated(persons):
        return agreement

    def numbers(drawn: IntArray) -> dict[str, float]:
        one, two = first[drawn], second[drawn]
        return {
            "bias": float((two - one).mean()),
            "concordance": concordance_coefficient(one, two).value,
            "intraclass": intraclass_correlation(np.column_stack([one, two])).value,
            "rank": rank_correlation(one, two).value,
        }

    found = bootstrap_intervals(persons, numbers, samples=samples, rng=rng)
    return replace(
        agreement,
        bias=found["bias"],
        concordance=found["concordance"],
        intraclass=found["intraclass"],
        rank=found["rank"],
        over_persons=True,
    )


def ratio_agreement(
    first_ml: FloatArray,
    second_ml: FloatArray,
    pseudo_volume_ml: float,
    persons: np.ndarray,
    *,
    samples: int,
    rng: np.random.Generator,
) -> RatioAgreement:
    """Bland-Altman agreement of log(volume + pseudo-volume), given as ratios (doi 10.1177/096228029900800204).

    Args:
        first_ml: (n,) reference volumes, mL, not negative.
        second_ml: (n,) the others, mL, not negative.
        pseudo_volume_ml: over 0.
        persons: (n,) the person behind each pair.
        samples: bootstrap draws of persons; none are made where every person was examined once.
        rng: source of the draws.
    """
    if not pseudo_volume_ml > 0:
        raise StatisticsError(f"pseudo-volume: expected over 0 mL, got {pseudo_volume_ml!r}")
    logs = (np.log(as_volumes(volumes) + pseudo_volume_ml) for volumes in (first_ml, second_ml))
    on_logs = bland_altman(*logs)
    bias = on_logs.bias
    if repeated(persons):
        same_length(pairs=first_ml, persons=persons)
        difference = np.log(as_volumes(second_ml) + pseudo_volume_ml) - np.log(as_volumes(first_ml) + pseudo_volume_ml)

        def mean(drawn: IntArray) -> dict[str, float]:
            return {"bias": float(difference[drawn].mean())}

        bias = bootstrap_intervals(persons, mean, samples=samples, rng=rng)["bias"]
    return RatioAgreement(
        on_logs.n,
        pseudo_volume_ml,
        Estimate(math.exp(bias.value), math.exp(bias.low), math.exp(bias.high)),
        math.exp(on_logs.lower_limit),
        math.exp(on_logs.upper_limit),
    )


def _pairs(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    checked = as_values(first, "first measurements"), as_values(second, "second measurements")
    if checked[0].size != checked[1].size:
        raise StatisticsError(f"expected pairs of measurements, got {checked[0].size} and {checked[1].size}")
    return checked


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
    first, second = _pairs(first, second)
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
    first, second = _pairs(first, second)
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
    ratings = np.asarray(ratings, dtype=float)
    if ratings.ndim != 2 or ratings.shape[1] < 2 or not np.isfinite(ratings).all():
        raise StatisticsError(f"expected finite ratings of n patients by k methods, got shape {ratings.shape}")
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
