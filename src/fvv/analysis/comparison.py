"""Two models on the same examinations: which is better, and is the difference more than chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fvv.analysis.marker import marker_data
from fvv.analysis.patient import decided_with
from fvv.analysis.statistics import Bootstrap, auc
from fvv.arrays import BoolArray, IntArray
from fvv.config import EvaluateConfig
from fvv.data import Channel, DecisionState
from fvv.errors import FvvError
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import Comparison, Estimate
from fvv.schemas.values import ByChannel


def sign_flip_test(first: BoolArray, second: BoolArray, persons: np.ndarray, bootstrap: Bootstrap) -> float:
    """Two-sided p value of the difference in right answers, by exchanging the two models within persons.

    All examinations of a person are exchanged together. Where every person was examined once, this is McNemar's test.

    Args:
        first: (n,) the first model is right.
        second: (n,) the second is.
        persons: (n,) the person behind each.
        bootstrap: source of the random exchanges.
    """
    if not first.size:
        return math.nan
    _, codes = np.unique(persons, return_inverse=True)
    gains = np.bincount(codes, weights=second.astype(float) - first)
    exchanged = np.array([abs(gains @ bootstrap.rng.choice((-1, 1), gains.size)) for _ in range(bootstrap.samples)])
    return float((1 + (exchanged >= abs(gains.sum())).sum()) / (1 + bootstrap.samples))


def compare_models(
    first: Sequence[PatientResult],
    second: Sequence[PatientResult],
    config: EvaluateConfig,
    *,
    other: str,
    other_kind: str,
) -> Comparison:
    """Second model minus first on the examinations that both were tested on and could measure.

    Args:
        first: results of the other model.
        second: results of this one.

    Raises:
        FvvError: no examination in common, or one whose reference differs between the two evaluations.
    """
    pairs = _common(first, second)
    sides = [list(side) for side in zip(*pairs, strict=True)]
    data = [marker_data(side, config.visible_fraction_label) for side in sides]
    # Both lists are of the same examinations in the same order: those measured by both are compared.
    both = sorted(set(data[0].used.tolist()) & set(data[1].used.tolist()))
    fvv_ml = [np.array([side[index].fvv_ml for index in both], dtype=float) for side in sides]
    mismatch = np.array([data[0].labels[index] for index in both], dtype=bool)
    persons = np.array([pairs[index][0].person_id for index in both])
    # An answer "mismatch likely", and not an FVV under the cut-off: that of a missed stroke is 0 mL.
    likely = [
        np.array([decided_with(side[index], config.decision).decision for index in both])
        == DecisionState.MISMATCH_LIKELY
        for side in sides
    ]
    right = [np.asarray(one, dtype=bool) == mismatch for one in likely]
    on_dice = Bootstrap(config.bootstrap_samples, np.random.default_rng(config.seed))
    on_auc, on_answers = on_dice.spawn(2)

    def auc_gain(drawn: IntArray) -> float:
        return auc(fvv_ml[1][drawn], mismatch[drawn]) - auc(fvv_ml[0][drawn], mismatch[drawn])

    dice = np.array([[[one.of(channel).dice_coefficient for channel in Channel] for one in pair] for pair in pairs])
    gain = dice[:, 1] - dice[:, 0]  # (examinations, channels); NaN where one of the two is undefined.

    def mean_gain(drawn: IntArray) -> dict[str, float]:
        return {
            channel.label: float(np.nanmean(column)) if (~np.isnan(column)).any() else math.nan
            for channel, column in zip(Channel, gain[drawn].T, strict=True)
        }

    everybody = np.array([one.person_id for one, _ in pairs])
    gains = on_dice.intervals(everybody, mean_gain)
    return Comparison(
        other=other,
        other_kind=other_kind,
        patients=len(pairs),
        patients_of_marker=len(both),
        auc_difference=on_auc.interval(persons, auc_gain),
        only_other_right=int((right[0] & ~right[1]).sum()),
        only_this_right=int((right[1] & ~right[0]).sum()),
        answers_p_value=sign_flip_test(right[0], right[1], persons, on_answers),
        dice_difference=ByChannel[Estimate](**gains),
    )


def _common(
    first: Sequence[PatientResult], second: Sequence[PatientResult]
) -> list[tuple[PatientResult, PatientResult]]:
    by_name = {patient.examination_id: patient for patient in second}
    pairs = [(patient, by_name[patient.examination_id]) for patient in first if patient.examination_id in by_name]
    if not pairs:
        raise FvvError("the two evaluations have no patient in common")
    for one, two in pairs:
        volumes = ((one.of(channel).reference_volume_ml, two.of(channel).reference_volume_ml) for channel in Channel)
        same = all(
            math.isclose(here, there, abs_tol=1e-6) or (math.isnan(here) and math.isnan(there))
            for here, there in volumes
        )
        if not same or one.reader_mismatch != two.reader_mismatch:
            raise FvvError(
                "has another label or other reference volumes in the other evaluation",
                examination_id=one.examination_id,
                hint="compare evaluations of one and the same cohort",
            )
    return pairs
