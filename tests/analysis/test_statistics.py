"""Laws, the published operating point, and the definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score, precision_recall_curve, roc_auc_score

from fvv.analysis.statistics import (
    Bootstrap,
    auc,
    average_precision,
    cohen_kappa,
    confusion,
    cutoff_at_specificity,
    delong_interval,
    wilson_interval,
    youden_cutoff,
)


@pytest.fixture
def cohort(rng) -> tuple[np.ndarray, np.ndarray]:
    """FVV in mL, low in mismatch, with ties at 0; labels."""
    mismatch = rng.random(80) < 0.6
    fvv_ml = np.round(np.maximum(rng.normal(np.where(mismatch, 0.3, 2.0), 1.0), 0.0), 1)
    return fvv_ml, mismatch


def test_the_published_operating_point():
    """378 of 537 mismatches and 269 of 307 others: doi 10.1177/23969873251362712."""
    table = np.array([[378, 537 - 378], [307 - 269, 269]])
    assert round(cohen_kappa(table), 3) == 0.535
    for successes, trials, value, low, high in ((378, 537, 70.4, 66, 74), (269, 307, 87.6, 83, 91)):
        estimate = wilson_interval(successes, trials)
        assert round(100 * estimate.value, 1) == value
        assert (round(100 * estimate.low), round(100 * estimate.high)) == (low, high)


def rates(fvv_ml: np.ndarray, mismatch: np.ndarray, cutoff_ml: float) -> tuple[float, float]:
    """Sensitivity and specificity."""
    table = confusion(fvv_ml, mismatch, cutoff_ml)
    return table[0, 0] / table[0].sum(), table[1, 1] / table[1].sum()


def test_auc_is_the_share_of_pairs_in_the_right_order(cohort):
    fvv_ml, mismatch = cohort
    lower = fvv_ml[mismatch][:, None] < fvv_ml[~mismatch][None]
    tied = fvv_ml[mismatch][:, None] == fvv_ml[~mismatch][None]
    assert auc(fvv_ml, mismatch) == pytest.approx((lower + 0.5 * tied).mean())
    assert auc(fvv_ml, mismatch) == pytest.approx(roc_auc_score(mismatch, -fvv_ml))


def test_auc_ignores_the_unit_and_swapping_the_classes_mirrors_it(cohort):
    fvv_ml, mismatch = cohort
    there = delong_interval(fvv_ml, mismatch)
    in_microlitres = delong_interval(1000 * fvv_ml, mismatch)
    back = delong_interval(fvv_ml, ~mismatch)
    assert in_microlitres == there
    assert (back.value, back.low, back.high) == pytest.approx((1 - there.value, 1 - there.high, 1 - there.low))


def test_delong_variance_agrees_with_its_definition(cohort):
    fvv_ml, mismatch = cohort
    kernel = (fvv_ml[mismatch][:, None] < fvv_ml[~mismatch][None]) + 0.5 * (
        fvv_ml[mismatch][:, None] == fvv_ml[~mismatch][None]
    )
    m, n = kernel.shape
    variance = kernel.mean(axis=1).var(ddof=1) / m + kernel.mean(axis=0).var(ddof=1) / n
    area = kernel.mean()
    margin = 1.959964 * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    expected = [1 / (1 + math.exp(-(logit + side))) for side in (-margin, 0.0, margin)]
    estimate = delong_interval(fvv_ml, mismatch)
    assert [estimate.low, estimate.value, estimate.high] == pytest.approx(expected)


def test_delong_interval_covers_the_truth_in_about_95_of_100_cohorts(rng):
    shift = 1.4
    truth = stats.norm.cdf(shift / math.sqrt(2))
    covered = 0
    for _ in range(600):
        mismatch = np.arange(70) < 40
        estimate = delong_interval(rng.normal(np.where(mismatch, 0.0, shift)), mismatch)
        covered += estimate.low <= truth <= estimate.high
    assert 0.92 <= covered / 600 <= 0.98


def test_perfect_separation_has_an_auc_but_no_interval():
    estimate = delong_interval(np.array([0.1, 0.2, 3.0, 4.0]), np.array([True, True, False, False]))
    assert estimate.value == 1.0
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_one_class_has_no_auc():
    estimate = delong_interval(np.array([0.1, 0.2]), np.array([True, True]))
    assert math.isnan(estimate.value)


def test_a_cutoff_counts_what_is_under_it_and_not_what_is_at_it():
    table = confusion(np.array([0.0, 0.5, 0.4, 0.5, 2.0]), np.array([True, True, False, False, False]), 0.5)
    assert table.tolist() == [[1, 1], [1, 2]]


def test_no_cutoff_beats_youdens(cohort):
    fvv_ml, mismatch = cohort

    def index(cutoff_ml: float) -> float:
        return sum(rates(fvv_ml, mismatch, cutoff_ml))

    best = youden_cutoff(fvv_ml, mismatch)
    assert index(best) == pytest.approx(max(index(cutoff) for cutoff in np.linspace(-1, 6, 701)))
    assert best not in fvv_ml


@pytest.mark.parametrize("mismatch", [[True, False], [False, True]])
def test_youden_where_one_side_is_always_best(mismatch):
    fvv_ml, labels = np.array([1.0, 2.0]), np.array(mismatch)
    assert sum(rates(fvv_ml, labels, youden_cutoff(fvv_ml, labels))) == (2.0 if mismatch[0] else 1.0)


def test_kappa_agrees_with_scikit_learn_and_ignores_order(rng):
    first, second = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    table = np.zeros((3, 3), dtype=int)
    np.add.at(table, (first, second), 1)
    assert cohen_kappa(table) == pytest.approx(cohen_kappa_score(first, second))
    assert cohen_kappa(table.T) == pytest.approx(cohen_kappa(table))
    assert cohen_kappa(np.diag([5, 7])) == 1.0
    assert math.isnan(cohen_kappa(np.array([[9, 0], [0, 0]])))
    assert math.isnan(cohen_kappa(np.zeros((2, 2), dtype=int)))


def test_wilson_interval_is_mirrored_and_stays_inside():
    low, high = wilson_interval(3, 20), wilson_interval(17, 20)
    assert (low.low, low.high) == pytest.approx((1 - high.high, 1 - high.low))
    none = wilson_interval(0, 20)
    assert none.low == 0.0
    # With no success in n, the upper end is z^2 / (n + z^2).
    assert none.high == pytest.approx(1.959964**2 / (20 + 1.959964**2))
    assert math.isnan(wilson_interval(0, 0).value)


def mean_of(values: np.ndarray):
    return lambda indices: {"mean": float(values[indices].mean())}


def test_bootstrap_agrees_with_the_standard_error_of_a_mean(rng):
    values = rng.normal(size=200)
    estimate = Bootstrap(1000, rng).intervals(np.arange(200), mean_of(values))["mean"]
    error = values.std() / math.sqrt(200)
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * error, rel=0.15)


def test_one_person_gives_no_interval() -> None:
    """However many examinations: drawing that person again and again would say that nothing can vary."""
    persons, values = np.array(["a", "a"]), np.array([0.7, 0.9])
    estimate = Bootstrap(20, np.random.default_rng(1)).intervals(persons, mean_of(values))["mean"]
    assert estimate.value == pytest.approx(0.8)
    assert np.isnan([estimate.low, estimate.high]).all()


def test_examining_the_same_persons_again_does_not_narrow_the_bootstrap(rng):
    values, persons = rng.normal(size=60), np.array([f"p{n}" for n in range(60)])
    again, persons_again = np.tile(values, 4), np.tile(persons, 4)

    def width(persons: np.ndarray, values: np.ndarray) -> float:
        estimate = Bootstrap(800, np.random.default_rng(1)).intervals(persons, mean_of(values))["mean"]
        return estimate.high - estimate.low

    assert width(persons_again, again) == pytest.approx(width(persons, values))
    assert width(np.arange(240), again) < 0.7 * width(persons, values)


def test_bootstrap_gives_no_interval_to_what_is_mostly_undefined(rng):
    rare = Bootstrap(100, rng).interval(np.arange(4), lambda indices: 1.0 if len(set(indices)) == 4 else math.nan)
    assert rare.value == 1.0
    assert math.isnan(rare.low)


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9, 1.0])
def test_no_cutoff_that_keeps_the_specificity_is_more_sensitive(cohort, wanted):
    fvv_ml, mismatch = cohort
    sensitivity, specificity = rates(fvv_ml, mismatch, cutoff_at_specificity(fvv_ml, mismatch, wanted))
    assert specificity >= wanted
    others = [rates(fvv_ml, mismatch, cutoff) for cutoff in np.linspace(-1, 6, 701)]
    assert sensitivity == max(other for other, kept in others if kept >= wanted)


def test_a_specificity_met_exactly_is_met():
    """Nine of ten others are over the cut-off: the tenth must not be lost to rounding."""
    fvv_ml = np.concatenate([np.array([0.1, 0.2, 5.0]), np.array([0.3]), np.arange(1.0, 10.0)])
    mismatch = np.arange(13) < 3
    assert rates(fvv_ml, mismatch, cutoff_at_specificity(fvv_ml, mismatch, 0.9))[1] == 0.9


def test_average_precision_is_the_area_under_the_steps_and_chance_gives_the_prevalence(cohort, rng):
    fvv_ml, mismatch = cohort
    precision, recall, _ = precision_recall_curve(mismatch, -fvv_ml)
    assert average_precision(fvv_ml, mismatch) == pytest.approx(-(np.diff(recall) * precision[:-1]).sum())
    assert average_precision(np.zeros(80), mismatch) == pytest.approx(mismatch.mean())
    assert average_precision(np.where(mismatch, 0.0, 1.0), mismatch) == 1.0
    assert math.isnan(average_precision(fvv_ml, np.ones(80, dtype=bool)))
