"""The statistics refuse what they cannot use, and take labels of any form for what they mean."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from fvv.analysis import agreement, calibration, comparison, metrics, statistics
from fvv.analysis.checks import StatisticsError, as_labels, as_values, as_volumes
from fvv.errors import FvvError, GeometryError

FVV = np.array([0.0, 0.1, 0.4, 0.6, 2.0, 3.0])
LABELS = np.array([True, True, False, True, False, False])
OF_LABELS = {
    "auc": statistics.auc,
    "average_precision": statistics.average_precision,
    "delong_interval": statistics.delong_interval,
    "placements": statistics.placements,
    "roc_curve": statistics.roc_curve,
    "precision_recall_curve": statistics.precision_recall_curve,
    "youden_cutoff": statistics.youden_cutoff,
    "operating_point": lambda fvv, labels: statistics.operating_point(fvv, labels, 0.5),
    "cutoff_at_specificity": lambda fvv, labels: statistics.cutoff_at_specificity(fvv, labels, 0.9),
    "fit_calibration": lambda fvv, labels: calibration.fit_calibration(fvv, labels, 0.1).model_dump(),
    "held_out_probabilities": lambda fvv, labels: calibration.held_out_probabilities(fvv, labels, [0, 1, 2] * 2, 0.1),
    "brier_score": lambda fvv, labels: calibration.brier_score(np.asarray(fvv) / 10, labels),
    "reliability": lambda fvv, labels: calibration.reliability(np.asarray(fvv) / 10, labels),
    "decision_curve": lambda fvv, labels: calibration.decision_curve(np.asarray(fvv) / 10, fvv, labels, 0.5),
    "paired_delong": lambda fvv, labels: comparison.paired_delong(fvv, np.asarray(fvv)[::-1], labels),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.parametrize("kind", [int, np.uint8, float, list])
def test_labels_of_0_and_1_are_the_same_labels(name, kind):
    """`auc` of integer labels was 2.75: they were taken for indices."""
    labels = LABELS.astype(int).tolist() if kind is list else LABELS.astype(kind)
    np.testing.assert_equal(OF_LABELS[name](FVV, labels), OF_LABELS[name](FVV, LABELS))


@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.parametrize(
    ("fvv", "labels", "words"),
    [
        (FVV, [1, 2, 0, 1, 0, 0], "True or False"),
        (FVV, [1.0, math.nan, 0, 1, 0, 0], "True or False"),
        (FVV, [True, None, False, True, False, False], "True or False"),
        (FVV, ["yes"] * 6, "True or False"),
        (FVV, LABELS[:5], "6 volumes, 5 labels|6 probabilities, 5 labels"),
        (FVV, LABELS[:, None], "True or False"),
        (np.where(FVV > 1, math.nan, FVV), LABELS, "2 of 6 that are not"),
        (np.where(FVV > 1, math.inf, FVV), LABELS, "2 of 6 that are not"),
        (FVV[:, None], LABELS, "one number a patient"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(name, fvv, labels, words):
    with pytest.raises(StatisticsError, match=words) as refused:
        OF_LABELS[name](fvv, labels)
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, FvvError)


def test_one_class_is_refused_where_a_curve_is_asked_for():
    for name in ("roc_curve", "precision_recall_curve", "youden_cutoff", "placements", "fit_calibration"):
        with pytest.raises(StatisticsError, match="both classes"):
            OF_LABELS[name](FVV, np.zeros(6, dtype=bool))
    assert math.isnan(statistics.auc(FVV, np.ones(6, dtype=int)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: statistics.wilson_interval(5, 4),
        lambda: statistics.wilson_interval(-1, 4),
        lambda: statistics.cohen_kappa(np.ones((2, 3))),
        lambda: statistics.cohen_kappa(np.array([[1, -1], [0, 2]])),
        lambda: statistics.operating_point(FVV, LABELS, math.nan),
        lambda: statistics.cutoff_at_specificity(FVV, LABELS, 1.5),
        lambda: statistics.bootstrap_intervals(np.arange(3), dict, samples=0, rng=np.random.default_rng(0)),
        lambda: calibration.fit_calibration(FVV, LABELS, 0.0),
        lambda: calibration.fit_calibration(FVV - 1, LABELS, 2.0),
        lambda: calibration.brier_score(FVV, LABELS),
        lambda: calibration.net_benefit(LABELS, LABELS[:3], 0.5),
        lambda: calibration.net_benefit(LABELS, LABELS, 1.0),
        lambda: comparison.compare_right_answers(LABELS, LABELS[:3]),
        lambda: agreement.rank_correlation(FVV, FVV[:3]),
        lambda: agreement.concordance_coefficient(FVV, np.full(6, math.nan)),
        lambda: agreement.intraclass_correlation(np.full((6, 2), math.nan)),
        lambda: agreement.bland_altman(FVV, FVV[:, None]),
    ],
)
def test_other_arguments_are_checked_too(call):
    with pytest.raises(StatisticsError):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.dice_coefficient(np.ones((2, 2, 2)), np.ones((2, 2, 2))),
        lambda: metrics.surface_distances_mm(np.ones((2, 2), bool), np.ones((2, 2), bool), (1.0, 1.0, 1.0)),
        lambda: metrics.surface_distances_mm(np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), (1.0, math.nan, 1.0)),
        lambda: metrics.lesion_sizes(np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), 0.0),
        lambda: metrics.volume_error_ml(-1.0, 2.0),
        lambda: metrics.volume_error_percent(1.0, math.inf),
    ],
)
def test_masks_and_volumes_are_checked(call):
    with pytest.raises(GeometryError):
        call()


def test_no_public_function_of_labels_is_forgotten():
    """A new function with labels as an argument is added to the list above, and so is checked."""
    names = {
        name
        for module in (statistics, calibration, comparison)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and "mismatch" in inspect.signature(function).parameters
    }
    assert names - {"auc_interval", "net_benefit", "optimism"} <= set(OF_LABELS)


def test_the_doors():
    assert as_values([1, 2]).dtype == np.float64
    assert as_labels([]).size == 0
    with pytest.raises(StatisticsError, match="negative"):
        as_volumes([-0.1])
