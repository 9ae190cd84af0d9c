"""Two models on the same patients: a difference is found where there is one, and not where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cohorts import cohort, patient
from fvv.analysis.comparison import compare_models, exact_mcnemar, paired_delong, sign_flip_test
from fvv.analysis.statistics import auc
from fvv.config import EvaluateConfig
from fvv.errors import FvvError
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import Comparison


def compare(first: list[PatientResult], second: list[PatientResult]) -> Comparison:
    return compare_models(first, second, EvaluateConfig(bootstrap_samples=50), other="m", other_kind="external")


def with_lesion(patient: PatientResult, volume_ml: float) -> PatientResult:
    stroke = patient.stroke.model_copy(update={"reference_volume_ml": volume_ml})
    return patient.model_copy(update={"stroke": stroke})


def test_the_difference_is_that_of_the_aucs_and_changes_sign_with_the_order(rng):
    mismatch = np.arange(90) < 40
    first, second = (rng.normal(np.where(mismatch, 0.0, shift)) for shift in (0.5, 1.5))
    there, back = paired_delong(first, second, mismatch), paired_delong(second, first, mismatch)
    assert there[0].value == pytest.approx(auc(second, mismatch) - auc(first, mismatch))
    assert there[1] == pytest.approx(back[1])
    assert (back[0].low, back[0].high) == pytest.approx((-there[0].high, -there[0].low))
    assert there[1] < 0.05


def test_a_marker_against_itself_and_against_its_unit(rng):
    mismatch = np.arange(50) < 20
    fvv_ml = rng.normal(np.where(mismatch, 0.0, 1.0))
    difference, p_value = paired_delong(fvv_ml, 1000 * fvv_ml, mismatch)
    assert (difference.value, p_value) == (0.0, 1.0)
    assert math.isnan(paired_delong(fvv_ml, fvv_ml, np.ones(50, dtype=bool))[1])


def test_two_equally_good_markers_are_told_apart_in_about_5_of_100_cohorts(rng):
    found = 0
    for _ in range(400):
        mismatch = np.arange(70) < 35
        truth = np.where(mismatch, 0.0, 1.0)
        common = rng.normal(size=70)  # The two markers err alike: they are correlated, as two models are.
        first, second = (truth + common + 0.7 * rng.normal(size=70) for _ in range(2))
        found += paired_delong(first, second, mismatch)[1] < 0.05
    assert 0.02 <= found / 400 <= 0.085


def test_mcnemar_is_a_coin_toss_over_those_where_one_alone_is_right():
    first = np.array([True] * 30 + [True] * 9 + [False] * 2 + [False] * 5)
    second = np.array([True] * 30 + [False] * 9 + [True] * 2 + [False] * 5)
    assert exact_mcnemar(first, second) == pytest.approx(stats.binomtest(2, 11).pvalue)
    assert exact_mcnemar(first, first) == 1.0


def test_a_cohort_against_itself_and_against_a_worse_model():
    patients = cohort()
    same = compare(patients, patients)
    assert same.auc_difference.value == 0.0
    assert same.dice_difference.stroke.value == 0.0
    worse = [patient(one.examination_id, visible=5, found_visible=60) if "mismatch" in one.examination_id else one
             for one in patients]  # fmt: skip
    worse = [
        one.model_copy(
            update={
                "stroke": one.stroke.model_copy(update={"reference_volume_ml": two.stroke.reference_volume_ml}),
                "flair_visible": one.flair_visible.model_copy(
                    update={"reference_volume_ml": two.flair_visible.reference_volume_ml}
                ),
            }
        )
        for one, two in zip(worse, patients, strict=True)
    ]
    found = compare(worse, patients)
    assert found.auc_difference.value > 0
    assert found.only_this_right > found.only_other_right


def test_only_common_patients_are_compared_and_other_truths_are_refused():
    patients = cohort()
    assert compare(patients[3:], patients).patients == len(patients) - 3
    with pytest.raises(FvvError, match="no patient in common"):
        compare(patients, [patient("stranger")])
    other = [with_lesion(patients[0], 99.0), *patients[1:]]
    with pytest.raises(FvvError, match="other reference volumes"):
        compare(patients, other)


def test_a_missed_stroke_is_no_right_answer():
    found = [patient(f"p{n}", visible=0) for n in range(4)] + [patient("other", visible=60, found_visible=60)]
    missed = [patient(f"p{n}", visible=0, found=0) for n in range(4)] + [patient("other", visible=60, found_visible=60)]
    comparison = compare(missed, found)
    assert (comparison.only_other_right, comparison.only_this_right) == (0, 4)


def test_with_repeated_persons_nothing_takes_their_scans_for_independent():
    patients = [one.model_copy(update={"person": f"person{index // 2}"}) for index, one in enumerate(cohort())]
    found = compare(patients, patients)
    assert found.persons_repeat
    assert math.isnan(found.auc_p_value)
    assert found.auc_difference.value == 0.0
    assert found.answers_p_value == 1.0


def test_exchange_within_persons_is_mcnemar_where_each_was_examined_once(rng):
    first = np.array([True] * 30 + [True] * 9 + [False] * 2 + [False] * 5)
    second = np.array([True] * 30 + [False] * 9 + [True] * 2 + [False] * 5)
    p_value = sign_flip_test(first, second, np.arange(46), samples=4000, rng=rng)
    assert p_value == pytest.approx(exact_mcnemar(first, second), abs=0.02)
    # Four copies of every scan say no more than one.
    copies = [np.repeat(answers, 4) for answers in (first, second, np.arange(46))]
    assert sign_flip_test(*copies, samples=4000, rng=rng) == pytest.approx(p_value, abs=0.02)
