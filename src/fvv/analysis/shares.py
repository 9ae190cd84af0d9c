"""Shares of examinations with intervals that hold where a person was examined more than once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fvv.analysis.checks import StatisticsError, as_labels, same_length
from fvv.analysis.statistics import LEVEL, repeated, wilson_interval

_NUMBERS_AT_ONCE = 2**20
"""Drawn persons held in memory together."""
WILSON, BOOTSTRAP = "Wilson", "bootstrap over persons"


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its interval; NaN where undefined.

    Attributes:
        value: successes / trials.
        low, high: the interval to read: Wilson's where every person was examined once, else over persons.
        successes, trials: examinations.
        wilson_low, wilson_high: Wilson's interval, which takes examinations of one person for independent.
        method: of `low` and `high`.
    """

    value: float
    low: float
    high: float
    successes: int
    trials: int
    wilson_low: float
    wilson_high: float
    method: str


def share_of(
    success: ArrayLike, persons: ArrayLike, *, samples: int, rng: np.random.Generator, level: float = LEVEL
) -> Share:
    """The share of examinations with a property.

    Where a person occurs twice the interval is that of a percentile bootstrap which draws persons, each with all of
    their examinations. Where every draw gives the same share (none or all), it is Wilson's with each person counted
    once: that nothing varied is no certainty.

    Args:
        success: (n,) bool, whether each examination has the property.
        persons: (n,) the person behind each examination.
        samples: bootstrap draws.
        rng: source of the draws.
        level: of confidence.

    Returns:
        Not defined for no examination; no interval where all are of one person.

    Raises:
        StatisticsError: no bool, or lengths that differ.
    """
    flags, who = as_labels(success, "success"), np.asarray(persons)
    same_length(successes=flags, persons=who)
    if samples < 1:
        raise StatisticsError(f"expected at least one bootstrap draw, got {samples}")
    wilson = wilson_interval(int(flags.sum()), flags.size, level)
    low, high, method = wilson.low, wilson.high, WILSON
    if repeated(who):
        method = BOOTSTRAP
        low, high = _over_persons(flags, who, samples, rng, level)
    return Share(wilson.value, low, high, int(flags.sum()), flags.size, wilson.low, wilson.high, method)


def _over_persons(
    flags: np.ndarray, persons: np.ndarray, samples: int, rng: np.random.Generator, level: float
) -> tuple[float, float]:
    _, codes = np.unique(persons, return_inverse=True)
    trials = np.bincount(codes)
    successes = np.bincount(codes, weights=flags)
    n = trials.size
    if n < 2:
        return math.nan, math.nan
    shares = np.empty(samples)
    at_once = max(1, _NUMBERS_AT_ONCE // n)
    for start in range(0, samples, at_once):
        drawn = rng.integers(n, size=(min(at_once, samples - start), n))
        shares[start : start + len(drawn)] = successes[drawn].sum(axis=1) / trials[drawn].sum(axis=1)
    if np.ptp(shares) == 0:
        each_once = wilson_interval(n if flags.all() else 0, n, level)
        return each_once.low, each_once.high
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
