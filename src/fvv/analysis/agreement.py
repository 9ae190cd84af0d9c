"""How well two ways to measure one volume agree: (n,) finite mL each, of the same examinations."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from fvv.analysis.statistics import Bootstrap
from fvv.arrays import FloatArray, IntArray
from fvv.schemas.summary import Agreement, RatioAgreement


def bland_altman(first: FloatArray, second: FloatArray, persons: np.ndarray, bootstrap: Bootstrap) -> Agreement:
    """Agreement of two measurements, the first the reference, with intervals over the persons behind each pair."""

    def numbers(chosen: IntArray) -> dict[str, float]:
        one, two = first[chosen], second[chosen]
        return {
            "bias": float((two - one).mean()) if chosen.size else math.nan,
            "concordance": concordance_coefficient(one, two),
            "rank": rank_correlation(one, two),
        }

    lower_limit, upper_limit = limits_of_agreement(first, second)
    return Agreement(
        n=first.size, lower_limit=lower_limit, upper_limit=upper_limit, **bootstrap.intervals(persons, numbers)
    )


def ratio_agreement(
    first_ml: FloatArray, second_ml: FloatArray, pseudo_volume_ml: float, persons: np.ndarray, bootstrap: Bootstrap
) -> RatioAgreement:
    """Bland-Altman agreement of log(volume + pseudo-volume), given as ratios (doi 10.1177/096228029900800204).

    Volumes are not negative, the pseudo-volume is over 0.
    """
    first, second = (np.log(volumes + pseudo_volume_ml) for volumes in (first_ml, second_ml))
    difference = second - first
    lower_limit, upper_limit = (math.exp(limit) for limit in limits_of_agreement(first, second))

    def mean_ratio(chosen: IntArray) -> float:
        return math.exp(difference[chosen].mean()) if chosen.size else math.nan

    return RatioAgreement(
        n=first.size,
        pseudo_volume_ml=pseudo_volume_ml,
        ratio=bootstrap.interval(persons, mean_ratio),
        lower_limit=lower_limit,
        upper_limit=upper_limit,
    )


def limits_of_agreement(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """Mean of second minus first, less and plus 1.96 standard deviations; NaN of fewer than two pairs."""
    difference = second - first
    if difference.size < 2:
        return math.nan, math.nan
    margin = 1.96 * float(difference.std(ddof=1))
    return float(difference.mean()) - margin, float(difference.mean()) + margin


def reference_range_ml(agreement: RatioAgreement, predicted_ml: float) -> tuple[float, float]:
    """Reference volumes, in mL, that go with a predicted one by the limits; NaN where these are not defined."""
    pseudo = agreement.pseudo_volume_ml
    low, high = ((predicted_ml + pseudo) / limit - pseudo for limit in (agreement.upper_limit, agreement.lower_limit))
    return (low if math.isnan(low) else max(low, 0.0)), high


def rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Spearman's correlation; NaN where either does not vary or there are fewer than three pairs."""
    if first.size < 3 or not np.ptp(first) or not np.ptp(second):
        return math.nan
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def concordance_coefficient(first: FloatArray, second: FloatArray) -> float:
    """Lin's concordance correlation coefficient (doi 10.2307/2532051).

    NaN where one of the two does not vary, or there are fewer than three pairs.
    """
    if first.size < 3:
        return math.nan
    # Values that differ by rounding alone do not vary.
    if first.std() * second.std() <= 1e-12 * max(float((first**2).mean()), float((second**2).mean())):
        return math.nan
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    return float(2 * covariance / (first.var() + second.var() + (first.mean() - second.mean()) ** 2))
