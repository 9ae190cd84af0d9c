"""How well two ways to measure one volume agree: (n,) finite mL each, of the same examinations."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from fvv.analysis.statistics import NOT_DEFINED, TAILS, Z, bootstrap_intervals, repeated, without_interval
from fvv.arrays import FloatArray, IntArray
from fvv.schemas.summary import Agreement, Estimate, RatioAgreement


def bland_altman(first: FloatArray, second: FloatArray) -> Agreement:
    """Agreement of two measurements, each pair taken for independent.

    Args:
        first: reference volumes.
        second: the other ones.
    """
    n = first.size
    difference = second - first
    bias = float(difference.mean()) if n else math.nan
    deviation = float(difference.std(ddof=1)) if n > 1 else math.nan
    margin = float(stats.t.ppf(TAILS[1], n - 1)) * deviation / math.sqrt(n) if n > 1 else math.nan
    return Agreement(
        n=n,
        bias=Estimate(bias, bias - margin, bias + margin),
        lower_limit=bias - 1.96 * deviation,
        upper_limit=bias + 1.96 * deviation,
        concordance=concordance_coefficient(first, second),
        intraclass=intraclass_correlation(np.column_stack([first, second])),
        rank=rank_correlation(first, second),
    )


def agreement_over_persons(
    first: FloatArray, second: FloatArray, persons: np.ndarray, *, samples: int, rng: np.random.Generator
) -> Agreement:
    """`bland_altman`, with intervals that hold where a person was examined more than once.

    Args:
        first: reference volumes.
        second: the other ones.
        persons: the person behind each pair.
        samples: bootstrap draws of persons; none are made where every person was examined once.
        rng: source of the draws.
    """
    agreement = bland_altman(first, second)
    if not repeated(persons):
        return agreement

    def numbers(chosen: IntArray) -> dict[str, float]:
        one, two = first[chosen], second[chosen]
        return {
            "bias": float((two - one).mean()),
            "concordance": concordance_coefficient(one, two).value,
            "intraclass": intraclass_correlation(np.column_stack([one, two])).value,
            "rank": rank_correlation(one, two).value,
        }

    return agreement.model_copy(update=bootstrap_intervals(persons, numbers, samples=samples, rng=rng))


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
        first_ml: reference volumes, not negative.
        second_ml: the other ones, not negative.
        pseudo_volume_ml: over 0.
        persons: the person behind each pair.
        samples: bootstrap draws of persons; none are made where every person was examined once.
        rng: source of the draws.
    """
    first, second = (np.log(volumes + pseudo_volume_ml) for volumes in (first_ml, second_ml))
    on_logs = bland_altman(first, second)
    bias = on_logs.bias
    if repeated(persons):
        bias = bootstrap_intervals(
            persons, lambda chosen: {"bias": float((second - first)[chosen].mean())}, samples=samples, rng=rng
        )["bias"]
    return RatioAgreement(
        n=on_logs.n,
        pseudo_volume_ml=pseudo_volume_ml,
        ratio=Estimate(math.exp(bias.value), math.exp(bias.low), math.exp(bias.high)),
        lower_limit=math.exp(on_logs.lower_limit),
        upper_limit=math.exp(on_logs.upper_limit),
    )


def reference_range_ml(agreement: RatioAgreement, predicted_ml: float) -> tuple[float, float]:
    """Reference volumes, in mL, that go with a predicted one by the limits; NaN where these are not defined."""
    pseudo = agreement.pseudo_volume_ml
    low, high = ((predicted_ml + pseudo) / limit - pseudo for limit in (agreement.upper_limit, agreement.lower_limit))
    return (low if math.isnan(low) else max(low, 0.0)), high


def rank_correlation(first: FloatArray, second: FloatArray) -> Estimate:
    """Spearman's correlation, interval on Fisher's z scale after Bonett and Wright (doi 10.1007/BF02294183).

    Not defined where either does not vary or there are fewer than three pairs; no interval at perfect correlation or
    for three pairs.
    """
    n = first.size
    if n < 3 or not np.ptp(first) or not np.ptp(second):
        return NOT_DEFINED
    rho = float(stats.spearmanr(first, second).statistic)
    if n < 4 or abs(rho) >= 1 - 1e-12:
        return without_interval(rho)
    return _fisher(rho, (1 + rho**2 / 2) / (n - 3))


def concordance_coefficient(first: FloatArray, second: FloatArray) -> Estimate:
    """Lin's concordance correlation coefficient (doi 10.2307/2532051), interval on Fisher's z scale.

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
        return without_interval(ccc)
    # Variance of Fisher's z of the coefficient: Lin 1989, with the correction in Biometrics 2000;56:324-325.
    variance = (
        (1 - correlation**2) * ccc**2 / ((1 - ccc**2) * correlation**2)
        + 2 * ccc**3 * (1 - ccc) * shift_squared / (correlation * (1 - ccc**2) ** 2)
        - ccc**4 * shift_squared**2 / (2 * correlation**2 * (1 - ccc**2) ** 2)
    ) / (n - 2)
    return _fisher(ccc, max(variance, 0.0))


def _fisher(value: float, variance: float) -> Estimate:
    """A correlation with its interval from the variance of its Fisher's z."""
    margin = Z * math.sqrt(variance)
    return Estimate(value, math.tanh(math.atanh(value) - margin), math.tanh(math.atanh(value) + margin))


def intraclass_correlation(ratings: FloatArray) -> Estimate:
    """ICC(A,1): two-way random effects, absolute agreement, one measurement (doi 10.1037/1082-989X.1.1.30).

    It is ICC(2,1) of Shrout and Fleiss (doi 10.1037/0033-2909.86.2.420), interval after theirs.

    Args:
        ratings: (n, k) measurements of n examinations by k methods.

    Returns:
        Not defined for fewer than three examinations or where they do not differ; no interval at perfect agreement.
    """
    n, k = ratings.shape
    if n < 3 or np.ptp(ratings.mean(axis=1)) <= 1e-12 * max(float(np.abs(ratings).max()), 1e-300):
        return NOT_DEFINED
    of_rows, of_methods = ratings.mean(axis=1), ratings.mean(axis=0)
    residual = ratings - of_rows[:, None] - of_methods[None] + ratings.mean()
    # Mean squares of examinations (rows), methods (columns) and what is left.
    rows, columns = k * float(of_rows.var(ddof=1)), n * float(of_methods.var(ddof=1))
    error = float((residual**2).sum()) / ((n - 1) * (k - 1))
    icc = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    if error <= 1e-12 * rows or icc >= 1:
        return without_interval(icc)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    lower, upper = float(stats.f.ppf(TAILS[1], n - 1, freedom)), float(stats.f.ppf(TAILS[1], freedom, n - 1))
    rest = k * columns + (k * n - k - n) * error
    return Estimate(
        icc,
        n * (rows - lower * error) / (lower * rest + n * rows),
        n * (upper * rows - error) / (rest + n * upper * rows),
    )
