"""The marker: data that is checked once, and a cut-off chosen on the patients it is judged on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fvv.analysis.marker import MarkerData, optimism_corrected, summarise_marker
from fvv.analysis.statistics import Bootstrap, confusion, youden_cutoff
from fvv.config import EvaluateConfig
from fvv.errors import StatisticsError


def data_of(fvv_ml: np.ndarray, mismatch: np.ndarray, persons: np.ndarray) -> MarkerData:
    n = len(fvv_ml)
    return MarkerData(
        "label", tuple(mismatch.tolist()), np.arange(n), fvv_ml, mismatch, persons, (0,) * n, np.ones(n, dtype=bool), {}
    )


@pytest.mark.parametrize("fvv_ml", [[0.1, math.nan], [0.1, math.inf], [0.1, -1.0], [0.1]])
def test_volumes_are_finite_not_negative_and_one_for_each_label(fvv_ml):
    with pytest.raises(StatisticsError, match="expected"):
        data_of(np.array(fvv_ml), np.array([True, False]), np.arange(2))


def test_labels_are_bool():
    with pytest.raises(StatisticsError, match="a label"):
        data_of(np.array([0.1, 0.2]), np.array([1, 0]), np.arange(2))


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    mismatch = np.arange(n) % 2 == 0
    return np.exp(rng.normal(np.where(mismatch, 0.0, 1.0))), mismatch


def youden(fvv_ml: np.ndarray, mismatch: np.ndarray, cutoff_ml: float) -> float:
    table = confusion(fvv_ml, mismatch, cutoff_ml)
    return table[0, 0] / table[0].sum() - table[1, 0] / table[1].sum()


def test_the_corrected_index_is_nearer_to_that_of_new_patients(rng):
    """At n = 24 Youden's index is far too high where it was chosen."""
    new = draw(rng, 20_000)
    apparent, corrected, true = [], [], []
    for _ in range(40):
        fvv_ml, mismatch = draw(rng, 24)
        cutoff_ml = youden_cutoff(fvv_ml, mismatch)
        found = optimism_corrected(data_of(fvv_ml, mismatch, np.arange(24)), youden_cutoff, Bootstrap(60, rng))
        apparent.append(youden(fvv_ml, mismatch, cutoff_ml))
        corrected.append(found.sensitivity + found.specificity - 1)
        true.append(youden(*new, cutoff_ml))
        assert 0 <= found.sensitivity <= 1
    assert np.mean(apparent) > np.mean(true) + 0.1
    assert abs(np.mean(corrected) - np.mean(true)) < 0.5 * (np.mean(apparent) - np.mean(true))


def test_where_hardly_a_draw_holds_both_classes_nothing_is_corrected(rng):
    fvv_ml, mismatch = np.array([0.1, 2.0]), np.array([True, False])
    found = optimism_corrected(data_of(fvv_ml, mismatch, np.array([1, 1])), youden_cutoff, Bootstrap(30, rng))
    assert math.isnan(found.sensitivity)


def test_missed_strokes_are_in_the_auc_and_not_in_the_curve_that_is_never_given_to_them(rng):
    fvv_ml, mismatch = draw(rng, 80)
    few = EvaluateConfig(bootstrap_samples=10)
    alone = summarise_marker(data_of(fvv_ml, mismatch, np.arange(80)), few, Bootstrap(10, rng))
    missed = data_of(np.append(fvv_ml, np.zeros(20)), np.append(mismatch, np.arange(20) < 4), np.arange(100))
    together = summarise_marker(replace(missed, found=np.arange(100) < 80), few, Bootstrap(10, rng))
    assert together.auc.value != alone.auc.value
    assert together.calibration is not None
    assert alone.calibration is not None
    assert together.calibration.curve == alone.calibration.curve
    assert (together.calibration.patients, together.calibration.prevalence) == (80, 0.5)
    nobody = summarise_marker(replace(missed, found=np.zeros(100, dtype=bool)), few, Bootstrap(10, rng))
    assert nobody.calibration is None
