"""Two readers compared: laws, a published example, an interval that covers."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("statsmodels")

from fvv.analysis.readers import MaskPair, channel_agreement, intraclass_correlation, mismatch_agreement
from fvv.analysis.statistics import Bootstrap

SHROUT_AND_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
"""Six targets, four judges: table 2 of doi 10.1037/0033-2909.86.2.420, where ICC(2,1) is 0.29."""


def bootstrap() -> Bootstrap:
    return Bootstrap(100, np.random.default_rng(0))


def test_intraclass_correlation_of_the_published_example() -> None:
    estimate = intraclass_correlation(SHROUT_AND_FLEISS)
    assert round(estimate.value, 2) == 0.29
    # The interval that statistics packages print for this table.
    assert (round(estimate.low, 3), round(estimate.high, 3)) == (0.019, 0.761)


def test_intraclass_correlation_ignores_the_order_of_readers_and_the_unit(rng: np.random.Generator) -> None:
    ratings = rng.normal(10, 4, (30, 1)) + rng.normal(0, 1, (30, 2))
    estimate = intraclass_correlation(ratings)
    for same in (ratings[:, ::-1], 1000 * ratings, ratings + 7):
        assert intraclass_correlation(same).value == pytest.approx(estimate.value)
    # A shift of one reader lowers absolute agreement.
    assert intraclass_correlation(ratings + np.array([0, 3])).value < estimate.value


def test_intraclass_correlation_where_it_says_nothing() -> None:
    assert math.isnan(intraclass_correlation(np.ones((5, 2))).value)
    assert math.isnan(intraclass_correlation(np.ones((2, 2))).value)
    perfect = intraclass_correlation(np.column_stack([np.arange(5.0)] * 2))
    assert perfect.value == pytest.approx(1.0)
    assert math.isnan(perfect.low)


def test_intraclass_interval_covers_in_about_95_of_100_cohorts(rng: np.random.Generator) -> None:
    covered = 0
    for _ in range(300):
        ratings = rng.normal(0, 2, (60, 1)) + rng.normal(0, 1, (60, 2))
        estimate = intraclass_correlation(ratings)
        covered += estimate.low <= 0.8 <= estimate.high
    assert 0.91 <= covered / 300 <= 0.99


def test_a_reader_agrees_with_himself(rng: np.random.Generator) -> None:
    masks = rng.random((6, 5, 5, 3)) < np.linspace(0.0, 0.8, 6)[:, None, None, None]
    pairs = [MaskPair.of(mask, mask, 0.1) for mask in masks]
    found = channel_agreement(pairs, np.arange(6), bootstrap())
    assert (found.n, found.n_empty) == (6, 1)
    assert found.dice_coefficient.value == 1.0
    assert found.intraclass.value == pytest.approx(1.0)
    assert (found.volume.bias.value, found.volume.upper_limit) == (0.0, 0.0)


def test_a_generous_reader_shows_in_bias_and_dice() -> None:
    small, large = np.zeros((2, 10, 10, 4), dtype=bool)
    small[2:5, 2:5, 1], large[2:5, 2:5, 1:3] = True, True
    pairs = [MaskPair.of(small, large, 0.1 * scale) for scale in (1, 2, 3, 4)]
    found = channel_agreement(pairs, np.arange(4), bootstrap())
    assert found.dice_coefficient.value == pytest.approx(2 / 3)
    assert found.volume.bias.value == pytest.approx(0.9 * 2.5)


def test_of_nothing_nothing_is_defined() -> None:
    found = channel_agreement([], np.array([], dtype=int), bootstrap())
    assert found.n == 0
    assert math.isnan(found.dice_coefficient.value)
    assert math.isnan(found.intraclass.value)


def test_kappa_leaves_out_what_one_reader_did_not_label() -> None:
    first, second = [True, True, False, False, None], [True, False, False, False, True]
    found = mismatch_agreement(first, second, np.arange(5), bootstrap(), "test")
    assert (found.n, found.counts) == (4, ((1, 1), (0, 2)))
    assert found.kappa.value == pytest.approx(0.5)
    assert mismatch_agreement([None], [True], np.arange(1), bootstrap(), "test").n == 0
