"""Intervals where persons were examined more than once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fvv.analysis.agreement import bland_altman, ratio_agreement, reference_range_ml
from fvv.analysis.statistics import Bootstrap, auc, delong_interval, wilson_interval


def two_scans(rng: np.random.Generator, n: int, scans: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Volumes, labels and persons: of each person `scans` examinations that are much alike."""
    mismatch = np.arange(n) % 2 == 0
    own = rng.normal(np.where(mismatch, 0.0, 1.2))
    persons = np.repeat(np.arange(n), scans)
    return own[persons] + rng.normal(0, 0.3, n * scans), mismatch[persons], persons


def test_auc_over_persons_covers_where_delong_does_not(rng):
    """Four scans a person: DeLong's interval covered the truth in 72 of 100 cohorts."""
    truth = auc(*two_scans(rng, 40_000, 1)[:2])
    covered = {"headline": 0, "delong": 0}
    for _ in range(120):
        fvv_ml, mismatch, persons = two_scans(rng, 40)
        headline = Bootstrap(120, rng).auc(fvv_ml, mismatch, persons)
        delong = delong_interval(fvv_ml, mismatch)
        assert headline.value == delong.value
        covered["headline"] += headline.low <= truth <= headline.high
        covered["delong"] += delong.low <= truth <= delong.high
    assert covered["headline"] >= 0.85 * 120
    assert covered["delong"] <= 0.82 * 120


def test_with_one_scan_a_person_nothing_changes(rng):
    fvv_ml, mismatch, persons = two_scans(rng, 60, 1)
    assert Bootstrap(10, rng).auc(fvv_ml, mismatch, persons) == delong_interval(fvv_ml, mismatch)
    share = Bootstrap(10, rng).share(mismatch, persons)
    wilson = wilson_interval(30, 60)
    assert (share.value, share.low, share.high) == (0.5, wilson.low, wilson.high)


def test_a_share_of_repeated_scans_is_as_wide_as_one_of_persons(rng):
    """Four equal scans of each person say no more than one."""
    persons = np.repeat(np.arange(40), 4)
    success = np.repeat(np.arange(40) < 28, 4)
    share = Bootstrap(2000, rng).share(success, persons)
    once = wilson_interval(28, 40)
    assert (share.value, share.successes, share.trials) == (0.7, 112, 160)
    assert share.high - share.low == pytest.approx(once.high - once.low, rel=0.15)
    independent = wilson_interval(112, 160)
    assert independent.high - independent.low < 0.6 * (share.high - share.low)


def test_a_share_of_all_or_none_is_no_certainty(rng):
    persons = np.repeat(np.arange(10), 3)
    every = Bootstrap(50, rng).share(np.ones(30, dtype=bool), persons)
    assert (every.value, every.low, every.high) == (1.0, wilson_interval(10, 10).low, wilson_interval(10, 10).high)
    assert Bootstrap(50, rng).share(np.zeros(30, dtype=bool), persons).high == wilson_interval(0, 10).high


@pytest.mark.parametrize("success", [[True, False], [True, True, False]])
def test_a_share_that_is_the_same_in_all_persons_has_no_interval(rng, success):
    share = Bootstrap(50, rng).share(np.tile(success, 10), np.repeat(np.arange(10), len(success)))
    assert share.value == np.mean(success)
    assert math.isnan(share.low)
    assert math.isnan(share.high)


def test_nobody_and_one_person(rng):
    nobody = Bootstrap(5, rng).share(np.zeros(0, dtype=bool), np.zeros(0))
    assert math.isnan(nobody.value)
    one = Bootstrap(5, rng).share(np.array([True, False]), np.array(["a", "a"]))
    assert one.value == 0.5
    assert math.isnan(one.low)


def test_a_perfect_auc_has_no_interval_in_either_way():
    perfect = Bootstrap(5, np.random.default_rng(0)).auc(
        np.array([0.0, 0.0, 1.0, 1.0]), np.array([True, True, False, False]), np.array([1, 1, 2, 2])
    )
    assert perfect.value == 1.0
    assert math.isnan(perfect.low)


def test_agreement_over_persons_is_wider(rng):
    persons = np.repeat(np.arange(30), 4)
    first = np.repeat(rng.uniform(0, 50, 30), 4)
    second = np.maximum(first + np.repeat(rng.normal(0, 5, 30), 4), 0.0)
    over = bland_altman(first, second, persons, Bootstrap(300, rng))
    plain = bland_altman(first, second, np.arange(120), Bootstrap(300, rng))
    assert (over.bias.value, over.rank.value) == pytest.approx((plain.bias.value, plain.rank.value))
    assert over.bias.high - over.bias.low > 1.5 * (plain.bias.high - plain.bias.low)


def test_agreement_as_ratios(rng):
    """Twice the volume everywhere is a ratio of 2, whatever the volume."""
    first = rng.uniform(0.2, 50, 200)
    ratio = ratio_agreement(first, 2 * first + 0.1, 0.1, np.arange(200), Bootstrap(10, rng))
    assert (ratio.ratio.value, ratio.lower_limit, ratio.upper_limit) == pytest.approx((2.0, 2.0, 2.0))
    assert reference_range_ml(ratio, 0.5) == pytest.approx((0.2, 0.2))
    noisy = ratio_agreement(first, first * np.exp(rng.normal(0, 0.5, 200)), 0.1, np.arange(200), Bootstrap(10, rng))
    low, high = reference_range_ml(noisy, 0.5)
    assert 0 <= low < 0.5 < high < 2.0
    empty = ratio_agreement(np.array([]), np.array([]), 0.1, np.array([]), Bootstrap(10, rng))
    assert math.isnan(empty.upper_limit)
    assert math.isnan(reference_range_ml(empty, 0.5)[0])
