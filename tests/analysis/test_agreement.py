"""Two measurements of one volume: laws, a published example, and intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fvv.analysis.agreement import bland_altman, concordance_coefficient, intraclass_correlation, rank_correlation

SHROUT_AND_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
"""Six targets, four judges: table 2 of doi 10.1037/0033-2909.86.2.420, where ICC(2,1) is 0.29."""


def test_bland_altman_of_a_constant_shift():
    first = np.arange(10.0)
    agreement = bland_altman(first, first + 2.0)
    assert agreement.n == 10
    assert (agreement.bias.value, agreement.lower_limit, agreement.upper_limit) == (2.0, 2.0, 2.0)


def test_bland_altman_limits_hold_95_percent_of_normal_differences(rng):
    first = rng.uniform(0, 100, 5000)
    second = first + rng.normal(1.5, 3.0, 5000)
    agreement = bland_altman(first, second)
    assert agreement.bias.low < 1.5 < agreement.bias.high
    assert (agreement.lower_limit, agreement.upper_limit) == pytest.approx((1.5 - 5.88, 1.5 + 5.88), abs=0.3)
    back = bland_altman(second, first)
    assert (back.bias.value, back.lower_limit) == pytest.approx((-agreement.bias.value, -agreement.upper_limit))


def test_agreement_of_one_or_no_pair_is_undefined_not_an_error():
    assert math.isnan(bland_altman(np.array([1.0]), np.array([2.0])).upper_limit)
    assert bland_altman(np.array([]), np.array([])).n == 0


def test_concordance_is_one_only_for_equal_values(rng):
    first = rng.uniform(0, 50, 300)
    assert concordance_coefficient(first, first).value == pytest.approx(1.0)
    shifted = concordance_coefficient(first, first + 5.0).value
    assert shifted == pytest.approx(2 * first.var() / (2 * first.var() + 25.0))
    assert concordance_coefficient(first, -first).value < 0
    assert math.isnan(concordance_coefficient(first, np.full(300, 4.0)).value)


def test_concordance_interval_covers_the_truth_in_about_95_of_100_cohorts(rng):
    truth = 2 * 1.0 / (1.0 + (1.0 + 0.25) + 0.3**2)
    covered = 0
    for _ in range(500):
        first = rng.normal(size=80)
        estimate = concordance_coefficient(first, first + rng.normal(0.3, 0.5, 80))
        covered += estimate.low <= truth <= estimate.high
    assert 0.91 <= covered / 500 <= 0.985


def test_intraclass_correlation_of_the_published_example():
    estimate = intraclass_correlation(SHROUT_AND_FLEISS)
    assert round(estimate.value, 2) == 0.29
    # The interval that statistics packages print for this table.
    assert (round(estimate.low, 3), round(estimate.high, 3)) == (0.019, 0.761)


def test_intraclass_correlation_ignores_the_order_of_methods_and_the_unit(rng):
    ratings = rng.normal(10, 4, (30, 1)) + rng.normal(0, 1, (30, 2))
    estimate = intraclass_correlation(ratings)
    for same in (ratings[:, ::-1], 1000 * ratings, ratings + 7):
        assert intraclass_correlation(same).value == pytest.approx(estimate.value)
    # A shift of one method lowers absolute agreement.
    assert intraclass_correlation(ratings + np.array([0, 3])).value < estimate.value


def test_intraclass_correlation_where_it_says_nothing():
    assert math.isnan(intraclass_correlation(np.ones((5, 2))).value)
    assert math.isnan(intraclass_correlation(np.ones((2, 2))).value)
    perfect = intraclass_correlation(np.column_stack([np.arange(5.0)] * 2))
    assert perfect.value == pytest.approx(1.0)
    assert math.isnan(perfect.low)


def test_intraclass_interval_covers_the_truth_in_about_95_of_100_cohorts(rng):
    truth = 4.0 / (4.0 + 1.0)
    covered = 0
    for _ in range(300):
        ratings = rng.normal(0, 2, (60, 1)) + rng.normal(0, 1, (60, 2))
        estimate = intraclass_correlation(ratings)
        covered += estimate.low <= truth <= estimate.high
    assert 0.91 <= covered / 300 <= 0.99


def test_rank_correlation_sees_order_alone():
    first = np.array([0.0, 0.2, 0.4, 3.0, 9.0, 40.0])
    assert rank_correlation(first, first**3).value == pytest.approx(1)
    assert rank_correlation(first, -first).value == pytest.approx(-1)
    # One neighbouring pair swapped among six: 1 - 6 * 2 / (6 * 35).
    estimate = rank_correlation(first, np.array([0.2, 0.1, 0.4, 3.0, 9.0, 40.0]))
    assert estimate.value == pytest.approx(1 - 12 / 210)
    assert estimate.low < estimate.value < estimate.high < 1


def test_rank_correlation_needs_order():
    assert np.isnan(rank_correlation(np.zeros(5), np.arange(5.0)).value)
    assert np.isnan(rank_correlation(np.arange(2.0), np.arange(2.0)).value)
