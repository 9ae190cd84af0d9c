"""P(mismatch): known curves, held-out groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from fvv.analysis.calibration import (
    brier_score,
    fit_calibration,
    held_out_probabilities,
    reliability,
)


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Volumes whose P(mismatch) is logistic(-1 - 1.5 ln(FVV + 0.1)), and labels."""
    fvv_ml = np.exp(rng.normal(-0.5, 1.5, n))
    probability = 1 / (1 + np.exp(1 + 1.5 * np.log(fvv_ml + 0.1)))
    return fvv_ml, rng.random(n) < probability


def test_the_curve_that_made_the_labels_is_found(rng):
    curve = fit_calibration(*draw(rng, 20000), pseudo_volume_ml=0.1)
    assert (curve.intercept, curve.slope) == pytest.approx((-1.0, -1.5), abs=0.08)
    assert curve.mismatch_probability(0.0) > curve.mismatch_probability(1.0) > curve.mismatch_probability(50.0)
    assert curve.mismatch_probability(1.0) == pytest.approx(1 / (1 + math.exp(1 + 1.5 * math.log(1.1))), abs=0.02)


def test_classes_that_do_not_overlap_give_a_finite_curve():
    curve = fit_calibration(np.array([0.0, 0.1, 5.0, 9.0]), np.array([True, True, False, False]), 0.1)
    # Platt's targets: two mismatches of two are 3/4, not certainty.
    assert 0.6 < curve.mismatch_probability(0.0) < 0.9
    assert 0.1 < curve.mismatch_probability(9.0) < 0.4


def test_nearly_one_volume_gives_no_certainty_and_no_overflow():
    fvv_ml = np.array([0.5, 0.50000001, 0.50001, 0.50002])
    curve = fit_calibration(fvv_ml, np.array([True, True, False, False]), 0.1)
    assert curve.slope < -1000
    probabilities = [curve.mismatch_probability(volume) for volume in (0.0, 0.5, 0.50001, 60.0, 1e6)]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[0] == pytest.approx(3 / 4)
    assert probabilities[-1] == pytest.approx(1 / 4)


def test_one_volume_for_all_gives_the_prevalence():
    curve = fit_calibration(np.zeros(4), np.array([True, True, True, False]), 0.1)
    assert curve.slope == 0.0
    assert curve.mismatch_probability(3.0) == pytest.approx((3 * 4 / 5 + 1 / 3) / 4)


def test_a_patient_does_not_touch_the_curve_it_is_judged_by(rng):
    fvv_ml, mismatch = draw(rng, 60)
    groups = np.arange(60) % 3
    before = held_out_probabilities(fvv_ml, mismatch, groups, 0.1)
    changed = mismatch.copy()
    changed[groups == 1] = ~changed[groups == 1]
    after = held_out_probabilities(fvv_ml, changed, groups, 0.1)
    assert np.array_equal(before[groups == 1], after[groups == 1])
    assert not np.allclose(before[groups == 0], after[groups == 0])


def test_what_cannot_be_held_out_has_no_probability():
    mismatch = np.array([True, True, False, False])
    probabilities = held_out_probabilities(np.arange(4.0), mismatch, np.array([0, 0, 1, 1]), 0.1)
    assert np.isnan(probabilities).all()


def test_brier_score_agrees_with_scikit_learn(rng):
    probabilities, mismatch = rng.random(50), rng.random(50) < 0.4
    assert brier_score(probabilities, mismatch) == pytest.approx(brier_score_loss(mismatch, probabilities))


def test_reliability_counts_everybody_once_in_rising_groups(rng):
    probabilities = rng.random(103)
    mismatch = rng.random(103) < probabilities
    bins = reliability(probabilities, mismatch)
    assert sum(one.n for one in bins) == 103
    assert sum(one.n * one.observed for one in bins) == pytest.approx(mismatch.sum())
    assert [one.predicted for one in bins] == sorted(one.predicted for one in bins)
    assert len(reliability(probabilities[:7], mismatch[:7])) == 1
