"""A cut-off chosen on the patients it is judged on: what of its success is luck."""

from __future__ import annotations

import math

import numpy as np

from fvv.analysis.optimism import optimism_corrected
from fvv.analysis.statistics import operating_point, youden_cutoff


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    mismatch = np.arange(n) % 2 == 0
    return np.exp(rng.normal(np.where(mismatch, 0.0, 1.0))), mismatch


def test_the_corrected_index_is_nearer_to_the_truth(rng):
    """At n = 24 Youden's index is far too high where it was chosen."""
    new = draw(rng, 20_000)
    apparent, corrected, true = [], [], []
    for _ in range(40):
        fvv_ml, mismatch = draw(rng, 24)
        found = optimism_corrected(fvv_ml, mismatch, np.arange(24), youden_cutoff, rng=rng, draws=60)
        apparent.append(found["apparent"]["youden_index"])
        corrected.append(found["corrected"]["youden_index"])
        point = operating_point(*new, youden_cutoff(fvv_ml, mismatch))
        true.append(point.sensitivity.value + point.specificity.value - 1)
    assert np.mean(apparent) > np.mean(true) + 0.1
    assert abs(np.mean(corrected) - np.mean(true)) < 0.5 * (np.mean(apparent) - np.mean(true))


def test_apparent_is_what_the_cutoff_achieves_and_nothing_leaves_its_range(rng):
    fvv_ml, mismatch = draw(rng, 40)
    found = optimism_corrected(fvv_ml, mismatch, np.arange(40), youden_cutoff, rng=rng, draws=50)
    point = operating_point(fvv_ml, mismatch, youden_cutoff(fvv_ml, mismatch))
    assert found["apparent"]["sensitivity"] == point.sensitivity.value
    assert found["apparent"]["kappa"] == point.kappa
    assert 0 <= found["corrected"]["sensitivity"] <= 1
    assert set(found["apparent"]) == set(found["corrected"])


def test_where_hardly_a_draw_holds_both_classes_nothing_is_corrected(rng):
    fvv_ml, mismatch = np.array([0.1, 2.0]), np.array([True, False])
    found = optimism_corrected(fvv_ml, mismatch, np.array([1, 1]), youden_cutoff, rng=rng, draws=30)
    assert math.isnan(found["corrected"]["youden_index"])
