"""Two measurements of one volume: laws, and intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fvv.analysis.agreement import bland_altman, concordance_coefficient, limits_of_agreement, rank_correlation
from fvv.analysis.statistics import Bootstrap
from fvv.schemas.summary import Agreement


def agreement(first: np.ndarray, second: np.ndarray, samples: int = 100) -> Agreement:
    return bland_altman(first, second, np.arange(first.size), Bootstrap(samples, np.random.default_rng(0)))


def test_bland_altman_of_a_constant_shift():
    first = np.arange(10.0)
    found = agreement(first, first + 2.0)
    assert found.n == 10
    assert (found.bias.value, found.lower_limit, found.upper_limit) == (2.0, 2.0, 2.0)
    # That no draw differs is no certainty.
    assert math.isnan(found.bias.low)


def test_bland_altman_limits_hold_95_percent_of_normal_differences(rng):
    first = rng.uniform(0, 100, 5000)
    second = first + rng.normal(1.5, 3.0, 5000)
    found = agreement(first, second)
    assert found.bias.low < 1.5 < found.bias.high
    assert (found.lower_limit, found.upper_limit) == pytest.approx((1.5 - 5.88, 1.5 + 5.88), abs=0.3)
    assert limits_of_agreement(second, first) == pytest.approx((-found.upper_limit, -found.lower_limit))


def test_agreement_of_one_or_no_pair_is_undefined_not_an_error():
    assert math.isnan(agreement(np.array([1.0]), np.array([2.0])).upper_limit)
    assert agreement(np.array([]), np.array([])).n == 0


def test_concordance_is_one_only_for_equal_values(rng):
    first = rng.uniform(0, 50, 300)
    assert concordance_coefficient(first, first) == pytest.approx(1.0)
    shifted = concordance_coefficient(first, first + 5.0)
    assert shifted == pytest.approx(2 * first.var() / (2 * first.var() + 25.0))
    assert concordance_coefficient(first, -first) < 0
    assert math.isnan(concordance_coefficient(first, np.full(300, 4.0)))


def test_concordance_interval_covers_the_true_value(rng):
    true = 2 * 1.0 / (1.0 + (1.0 + 0.25) + 0.3**2)
    covered = 0
    for _ in range(100):
        first = rng.normal(size=80)
        estimate = agreement(first, first + rng.normal(0.3, 0.5, 80), samples=200).concordance
        covered += estimate.low <= true <= estimate.high
    assert covered >= 85


def test_rank_correlation_sees_order_alone():
    first = np.array([0.0, 0.2, 0.4, 3.0, 9.0, 40.0])
    assert rank_correlation(first, first**3) == pytest.approx(1)
    assert rank_correlation(first, -first) == pytest.approx(-1)
    # One neighbouring pair swapped among six: 1 - 6 * 2 / (6 * 35).
    assert rank_correlation(first, np.array([0.2, 0.1, 0.4, 3.0, 9.0, 40.0])) == pytest.approx(1 - 12 / 210)


def test_rank_correlation_needs_order():
    assert np.isnan(rank_correlation(np.zeros(5), np.arange(5.0)))
    assert np.isnan(rank_correlation(np.arange(2.0), np.arange(2.0)))
