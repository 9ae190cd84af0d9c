"""Two models on the same patients: which is better, and is the difference more than chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from fvv.analysis.checks import as_labels, as_pair, same_length
from fvv.analysis.marker import marker_data
from fvv.analysis.patient import PatientResult
from fvv.analysis.statistics import (
    LEVEL,
    NOT_DEFINED,
    Estimate,
    auc,
    bootstrap_intervals,
    delong_variance,
    placements,
    repeated,
)
from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.config import DecisionConfig
from fvv.data import Channel, DecisionState
from fvv.errors import FvvError


@dataclass(frozen=True, slots=True)
class TestedDifference:
    """A difference of two models with its interval and two-sided p value; NaN where undefined."""

    difference: Estimate
    p_value: float


def paired_delong(
    first_ml: FloatArray, second_ml: FloatArray, mismatch: BoolArray, level: float = LEVEL
) -> TestedDifference:
    """AUC of the second marker minus that of the first, on the same patients (DeLong, doi 10.2307/2531595).

    Args:
        first_ml: (n,) volumes of one model, mL.
        second_ml: (n,) volumes of the other.
        mismatch: (n,) bool labels.
        level: of confidence.

    Returns:
        Not defined with one class only. Equal markers differ by 0 with p = 1.
    """
    first_ml, mismatch = as_pair(first_ml, mismatch)
    second_ml, _ = as_pair(second_ml, mismatch)
    if not 0 < mismatch.sum() < mismatch.size:
        return TestedDifference(NOT_DEFINED, math.nan)
    of_positive, of_negative = (
        there - here
        for here, there in zip(placements(first_ml, mismatch), placements(second_ml, mismatch), strict=True)
    )
    difference, variance = float(of_positive.mean()), delong_variance(of_positive, of_negative)
    if variance == 0 and abs(difference) < 1e-12:
        return TestedDifference(Estimate(0.0, 0.0, 0.0), 1.0)
    if not variance > 0:
        return TestedDifference(Estimate(difference, math.nan, math.nan), math.nan)
    error = math.sqrt(variance)
    margin = float(stats.norm.ppf((1 + level) / 2)) * error
    p_value = 2 * float(stats.norm.sf(abs(difference) / error))
    return TestedDifference(Estimate(difference, difference - margin, difference + margin), p_value)


def compare_right_answers(first: BoolArray, second: BoolArray) -> dict[str, float]:
    """Exact McNemar test of two models' right and wrong answers (doi 10.1007/BF02295996).

    Args:
        first: (n,) bool, the first model is right.
        second: (n,) bool, the second is.

    Returns:
        `only_first_right`, `only_second_right`, `p_value`.
    """
    first, second = as_labels(first, "first"), as_labels(second, "second")
    same_length(first=first, second=second)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    test = mcnemar([[both, only_first], [only_second, neither]], exact=True)
    return {"only_first_right": only_first, "only_second_right": only_second, "p_value": float(test.pvalue)}


def sign_flip_test(
    first: BoolArray, second: BoolArray, persons: np.ndarray, *, samples: int, rng: np.random.Generator
) -> float:
    """Two-sided p value of the difference in right answers, by exchanging the two models within persons.

    McNemar's test takes examinations for independent; here all of a person's are exchanged together.

    Args:
        first: (n,) bool, the first model is right.
        second: (n,) bool, the second is.
        persons: (n,) the person behind each.
        samples: random exchanges.
        rng: source of them.
    """
    first, second = as_labels(first, "first"), as_labels(second, "second")
    same_length(first=first, second=second, persons=persons)
    if not first.size:
        return math.nan
    _, codes = np.unique(persons, return_inverse=True)
    gains = np.bincount(codes, weights=second.astype(float) - first)
    exchanged = np.array([abs(gains @ rng.choice((-1, 1), gains.size)) for _ in range(samples)])
    return float((1 + (exchanged >= abs(gains.sum())).sum()) / (1 + samples))


def _over_persons(
    first_ml: FloatArray,
    second_ml: FloatArray,
    mismatch: BoolArray,
    persons: np.ndarray,
    *,
    samples: int,
    rng: np.random.Generator,
) -> TestedDifference:
    """Difference of the AUCs with an interval over persons; no p value, which DeLong's would not be."""

    def difference(drawn: IntArray) -> dict[str, float]:
        return {"auc": auc(second_ml[drawn], mismatch[drawn]) - auc(first_ml[drawn], mismatch[drawn])}

    return TestedDifference(bootstrap_intervals(persons, difference, samples=samples, rng=rng)["auc"], math.nan)


def compare_models(
    first: Sequence[PatientResult],
    second: Sequence[PatientResult],
    *,
    decision: DecisionConfig,
    visible_fraction: float,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Second model minus first on the patients that both were tested on and could measure.

    Args:
        first: results of one model.
        second: results of the other.
        decision: settings of both models' answers.
        visible_fraction: see `marker_data`.
        samples: bootstrap draws of persons.
        seed: of the bootstrap.

    Raises:
        FvvError: no patient in common, or one that was drawn differently in the two evaluations.
    """
    pairs = _common(first, second)
    data = marker_data([one for one, _ in pairs], visible_fraction)
    other = marker_data([two for _, two in pairs], visible_fraction)
    # Both lists are of the same patients in the same order: those measured by both are compared.
    both = sorted(set(data.used.tolist()) & set(other.used.tolist()))
    first_ml, second_ml = (np.array([pairs[index][side].fvv_ml for index in both], dtype=float) for side in (0, 1))
    mismatch = np.array([data.labels[index] for index in both], dtype=bool)
    persons_of_marker = np.array([pairs[index][0].person for index in both])
    right = tuple(
        np.array([_likely(pairs[index][side], decision) for index in both], dtype=bool) == mismatch for side in (0, 1)
    )
    rng = np.random.default_rng(seed)
    dice_rng, auc_rng, answers_rng = rng, *rng.spawn(2)
    test = paired_delong(first_ml, second_ml, mismatch)
    answers = compare_right_answers(right[0], right[1])
    persons_repeat = repeated(persons_of_marker)
    if persons_repeat:
        test = _over_persons(first_ml, second_ml, mismatch, persons_of_marker, samples=samples, rng=auc_rng)
        answers["p_value"] = sign_flip_test(right[0], right[1], persons_of_marker, samples=samples, rng=answers_rng)
    dice = np.array(
        [[[one.metrics[channel.label]["dice_coefficient"] for channel in Channel] for one in pair] for pair in pairs]
    )
    gain = dice[:, 1] - dice[:, 0]  # (patients, channels); NaN where both masks are empty in one of the two.

    def mean_gain(drawn: IntArray) -> dict[str, float]:
        chosen = gain[drawn]
        return {
            channel.label: float(np.nanmean(column)) if (~np.isnan(column)).any() else math.nan
            for channel, column in zip(Channel, chosen.T, strict=True)
        }

    persons = np.array([one.person for one, _ in pairs])
    return {
        "patients": len(pairs),
        "persons_repeat": persons_repeat,
        "patients_of_marker": len(both),
        "auc_difference": test.difference,
        "auc_p_value": test.p_value,
        "mcnemar": answers,
        "dice_difference": bootstrap_intervals(persons, mean_gain, samples=samples, rng=dice_rng),
    }


def _likely(patient: PatientResult, decision: DecisionConfig) -> bool:
    """Whether the answer is "mismatch likely": a missed stroke, whose FVV is 0 mL, is none."""
    return patient.decided_with(decision).decision == DecisionState.MISMATCH_LIKELY.value


def _common(
    first: Sequence[PatientResult], second: Sequence[PatientResult]
) -> list[tuple[PatientResult, PatientResult]]:
    by_name = {patient.participant: patient for patient in second}
    pairs = [(patient, by_name[patient.participant]) for patient in first if patient.participant in by_name]
    if not pairs:
        raise FvvError("the two evaluations have no patient in common")
    for one, two in pairs:
        same = all(math.isclose(one.true_ml[name], two.true_ml[name], abs_tol=1e-6) for name in one.true_ml)
        if not same or one.reader_mismatch != two.reader_mismatch:
            raise FvvError(
                "has another label or other drawn volumes in the other evaluation",
                patient=one.participant,
                hint="compare evaluations of one and the same cohort",
            )
    return pairs
