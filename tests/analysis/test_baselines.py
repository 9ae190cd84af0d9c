"""The FVV beside plain numbers of the stroke: paired differences, within sizes, and what is said of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cohorts import cohort, patient
from fvv.analysis.baselines import LEAST_OF_A_CLASS, baselines_in_words, summarise_baselines
from fvv.analysis.marker import marker_data
from fvv.analysis.statistics import Bootstrap, auc, delong_difference
from fvv.analysis.summary import VOLUME_NAMES, size_groups
from fvv.analysis.tables import baselines_table
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import Baseline


def baselines_of(patients: list[PatientResult], samples: int = 40) -> tuple[Baseline, ...]:
    bootstrap = Bootstrap(samples, np.random.default_rng(0))
    groups = size_groups(patients)
    return summarise_baselines(patients, marker_data(patients, 0.2), groups, VOLUME_NAMES, bootstrap)


def naive_difference(first: np.ndarray, second: np.ndarray, mismatch: np.ndarray) -> tuple[float, float]:
    """AUC difference and DeLong's variance, pair by pair, from the definition."""
    kernel = [
        np.array([[1.0 * (x < y) + 0.5 * (x == y) for y in marker[~mismatch]] for x in marker[mismatch]])
        for marker in (first, second)
    ]
    m, n = kernel[0].shape
    rows, columns = (np.cov([one.mean(axis=axis) for one in kernel]) for axis in (1, 0))
    covariance = rows / m + columns / n
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return kernel[0].mean() - kernel[1].mean(), variance


def drawn(rng: np.random.Generator, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mismatch = rng.random(n) < 0.5
    return np.round(rng.normal(size=n) - mismatch, 1), np.round(rng.normal(size=n) - 0.3 * mismatch, 1), mismatch


def test_the_difference_is_delongs(rng: np.random.Generator) -> None:
    first, second, mismatch = drawn(rng)
    expected, variance = naive_difference(first, second, mismatch)
    found = delong_difference(first, second, mismatch, np.zeros(len(first), dtype=int))
    assert found.value == pytest.approx(expected) == auc(first, mismatch) - auc(second, mismatch)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * math.sqrt(variance), rel=1e-5)


def test_within_strata_only_pairs_of_one_stratum_count(rng: np.random.Generator) -> None:
    first, second, mismatch = drawn(rng)
    strata = np.arange(len(first)) % 3
    shifted = first + 100.0 * strata
    found = delong_difference(shifted, second, mismatch, strata)
    assert found == delong_difference(first, second, mismatch, strata)
    parts = [naive_difference(first[strata == s], second[strata == s], mismatch[strata == s]) for s in range(3)]
    pairs = np.array([mismatch[strata == s].sum() * (~mismatch[strata == s]).sum() for s in range(3)])
    assert found.value == pytest.approx(float(pairs @ [part[0] for part in parts]) / pairs.sum())


@pytest.mark.parametrize("swap", [False, True])
def test_a_marker_against_itself_differs_by_nothing_and_the_order_is_the_sign(
    rng: np.random.Generator, swap: bool
) -> None:
    first, second, mismatch = drawn(rng)
    strata = np.zeros(len(first), dtype=int)
    same = delong_difference(first, first, mismatch, strata)
    assert same.value == 0
    assert math.isnan(same.low)
    one, other = (second, first) if swap else (first, second)
    there, back = delong_difference(one, other, mismatch, strata), delong_difference(other, one, mismatch, strata)
    assert (there.value, there.low) == pytest.approx((-back.value, -back.high))


def test_the_interval_holds_no_difference_in_nineteen_of_twenty_cohorts(rng: np.random.Generator) -> None:
    strata, hits = np.arange(120) % 2, 0
    for _ in range(300):
        mismatch = rng.random(120) < 0.5
        size = rng.normal(size=120)
        first, second = (size + rng.normal(size=120) - mismatch for _ in range(2))
        found = delong_difference(first, second, mismatch, strata)
        hits += found.low <= 0 <= found.high
    assert 0.91 < hits / 300 < 0.985


def test_where_persons_repeat_the_interval_is_over_persons(rng: np.random.Generator) -> None:
    first, second, mismatch = drawn(rng)
    strata, alone = np.zeros(len(first), dtype=int), np.arange(len(first))
    bootstrap = Bootstrap(200, rng)
    once = bootstrap.auc_difference(first, second, mismatch, alone, strata)
    twice = bootstrap.auc_difference(*(np.tile(one, 2) for one in (first, second, mismatch, alone, strata)))
    assert once == delong_difference(first, second, mismatch, strata)
    assert twice.value == pytest.approx(once.value)
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.3)


def test_of_a_cohort_the_fvv_is_compared_with_each_baseline_on_the_same_examinations() -> None:
    patients = [one.model_copy(update={"relative_adc": 0.5 + 0.01 * n}) for n, one in enumerate(cohort())]
    volume, uneven, adc = baselines_of(patients)
    assert (volume.overall.mismatch, volume.overall.no_mismatch) == (10, 10)
    assert volume.overall.difference.value == pytest.approx(volume.overall.fvv.value - volume.overall.baseline.value)
    # Mismatches come first in the cohort, with a low ADC, and a high one is taken for mismatch.
    assert adc.overall.baseline.value == 0.0
    assert (uneven.overall.mismatch, uneven.overall.no_mismatch) == (0, 0)
    assert math.isnan(uneven.overall.difference.value)


def test_a_missed_stroke_has_nothing_to_compare() -> None:
    patients = [*cohort(), patient("missed", visible=0, found=0)]
    assert baselines_of(patients)[0].overall.mismatch == 10


def test_a_size_with_too_few_of_a_class_is_not_compared() -> None:
    patients = cohort() + [patient(f"small{n}", lesion=20, found=15 + n, visible=0) for n in range(20)]
    volume = baselines_of(patients)[0]
    sizes = {pair.size: pair for pair in volume.by_size}
    assert (sizes["under 1 mL"].mismatch, sizes["under 1 mL"].no_mismatch) == (20, 0)
    assert math.isnan(sizes["under 1 mL"].difference.value)
    assert sizes["1 to 5 mL"].no_mismatch >= LEAST_OF_A_CLASS
    assert volume.within_sizes == sizes["1 to 5 mL"].difference
    rows = {row[0]: row for row in baselines_table([volume]).rows}
    assert rows["stroke volume: under 1 mL"][-1] == "too few"
    assert "stroke volume: 70 mL or more" not in rows


def sized(n: int, *, by_size_alone: bool) -> list[PatientResult]:
    """Small strokes are mismatches, large ones are not, and within a size there is chance, or the FVV alone knows."""
    rng, patients = np.random.default_rng(3), []
    for number in range(n):
        large = number % 2 == 1
        mismatch = bool(rng.random() < (0.2 if large else 0.8))
        voxels = int(rng.integers(300, 600) if large else rng.integers(60, 200))
        shown = voxels // 10 if by_size_alone else int(voxels * (0.05 if mismatch else 0.5) * rng.uniform(0.2, 5))
        visible = 0 if mismatch else voxels
        patients.append(
            patient(f"p{number}", lesion=voxels, visible=visible, found=voxels, found_visible=min(shown, voxels))
        )
    return patients


def test_a_volume_that_follows_the_size_is_not_called_better() -> None:
    """The FVV is a tenth of the stroke: its AUC is good, and within sizes it is worth what the volume is."""
    volume, *_ = baselines_of(sized(160, by_size_alone=True))
    assert volume.overall.fvv.value > 0.75
    text = baselines_in_words([volume])
    assert text.startswith("Among strokes of similar size, the FVV is not shown to be better than: stroke volume (")


def test_a_volume_that_knows_more_is_called_better() -> None:
    volume, *rest = baselines_of(sized(160, by_size_alone=False))
    assert volume.within_sizes.low > 0
    text = baselines_in_words([volume, *rest])
    assert "the AUC of the FVV is higher than that of: stroke volume (+" in text
    assert "Too few examinations for a comparison" in text
    assert baselines_in_words(()) == ""
