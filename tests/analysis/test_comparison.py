"""Two models on the same patients: a difference is found where there is one, and not where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cohorts import cohort, patient
from fvv.analysis.comparison import compare_models, sign_flip_test
from fvv.analysis.statistics import Bootstrap
from fvv.config import EvaluateConfig
from fvv.errors import FvvError
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import Comparison


def compare(first: list[PatientResult], second: list[PatientResult]) -> Comparison:
    return compare_models(first, second, EvaluateConfig(bootstrap_samples=50), other="m", other_kind="external")


def with_lesion(patient: PatientResult, volume_ml: float) -> PatientResult:
    stroke = patient.stroke.model_copy(update={"reference_volume_ml": volume_ml})
    return patient.model_copy(update={"stroke": stroke})


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


def test_the_auc_difference_changes_sign_with_the_order():
    better, worse = cohort(), [one.model_copy(update={"flair_visible": one.flair_visible.model_copy(
        update={"predicted_volume_ml": 1.0 + number % 3})}) if one.fvv_ml is not None else one
        for number, one in enumerate(cohort())]  # fmt: skip
    there, back = compare(worse, better).auc_difference, compare(better, worse).auc_difference
    assert there.value > 0
    assert there.low < there.value < there.high
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_exchange_within_persons_is_mcnemar_where_each_was_examined_once(rng):
    first = np.array([True] * 30 + [True] * 9 + [False] * 2 + [False] * 5)
    second = np.array([True] * 30 + [False] * 9 + [True] * 2 + [False] * 5)
    p_value = sign_flip_test(first, second, np.arange(46), Bootstrap(4000, rng))
    assert p_value == pytest.approx(stats.binomtest(2, 11).pvalue, abs=0.02)
    # Four copies of every scan say no more than one.
    copies = [np.repeat(answers, 4) for answers in (first, second, np.arange(46))]
    assert sign_flip_test(*copies, Bootstrap(4000, rng)) == pytest.approx(p_value, abs=0.02)
    assert sign_flip_test(first, first, np.arange(46), Bootstrap(100, rng)) == 1.0
