"""What was answered against what is so: the four answers, as `predict` gives them, for every kind of examination.

The FVV of a missed stroke is 0 mL, which is under any cut-off; its answer is "no lesion found", which is no mismatch
found. Rates of the volume (`fvv.analysis.marker`) and rates of the answers are therefore two things.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fvv.analysis.marker import MarkerData
from fvv.analysis.patient import PatientResult
from fvv.analysis.shares import share_of
from fvv.data import Channel, DecisionState

REFERENCES = ("mismatch", "no mismatch", "lesion without label", "no lesion")
"""Kinds of examination, by the reference."""
_KIND_OF_LABEL = {True: "mismatch", False: "no mismatch", None: "lesion without label"}
RATES = {
    "sensitivity": "sensitivity of the answers: mismatches answered 'mismatch likely'",
    "sensitivity_right_lesion": "the same, where the predicted stroke touches the reference lesion",
    "specificity": "specificity of the answers: lesions without mismatch not answered 'mismatch likely'",
    "positive_predictive_value": "of the answers 'mismatch likely', those of a mismatch; stroke-free patients count",
    "stroke_missed": "strokes answered 'no lesion found'",
    "stroke_free_called_stroke": "stroke-free patients called stroke",
    "stroke_free_called_mismatch": "stroke-free patients answered 'mismatch likely'",
    "not_assessable": "examinations answered 'not assessable', of all",
}
"""Name of each rate and what it is; all but the last are of the examinations that could be assessed."""


def summarise_answers(
    patients: Sequence[PatientResult], data: MarkerData, *, samples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The table of the answers and their rates.

    Args:
        patients: all of them.
        data: labels of the same patients.
        samples: bootstrap draws of persons, where someone was examined twice.
        rng: of the bootstrap.

    Returns:
        `table`: reference kind to answer to number of examinations, all of them; `rates`: a `Share` for each of
        `RATES`, not defined where nobody is concerned.
    """
    kinds = [
        "no lesion" if math.isnan(patient.true_visible_fraction) else _KIND_OF_LABEL[label]
        for patient, label in zip(patients, data.labels, strict=True)
    ]
    answers = [patient.decision for patient in patients]
    table = {kind: {state.value: 0 for state in DecisionState} for kind in REFERENCES}
    for kind, answer in zip(kinds, answers, strict=True):
        table[kind][answer] += 1
    if not any(table["lesion without label"].values()):
        del table["lesion without label"]

    states = np.array(answers)
    assessed = states != DecisionState.NOT_ASSESSABLE.value
    likely = states == DecisionState.MISMATCH_LIKELY.value
    called = likely | (states == DecisionState.MISMATCH_UNLIKELY.value)
    detected = [patient.metrics[Channel.STROKE.label]["lesions_detected"] > 0 for patient in patients]
    touches = np.array(detected, dtype=bool)
    mismatch, other, unlabelled, none = (np.array(kinds) == kind for kind in REFERENCES)
    rates = {
        "sensitivity": (likely, mismatch & assessed),
        "sensitivity_right_lesion": (likely & touches, mismatch & assessed),
        "specificity": (~likely, other & assessed),
        "positive_predictive_value": (mismatch, likely & ~unlabelled),
        "stroke_missed": (~called, (mismatch | other | unlabelled) & assessed),
        "stroke_free_called_stroke": (called, none & assessed),
        "stroke_free_called_mismatch": (likely, none & assessed),
        "not_assessable": (~assessed, np.ones_like(assessed)),
    }
    persons = np.array([patient.person for patient in patients])
    return {
        "table": table,
        "rates": {
            name: share_of(success[among], persons[among], samples=samples, rng=rng)
            for name, (success, among) in rates.items()
        },
    }


def answer_lines(answers: Mapping[str, Any]) -> list[str]:
    """The table as lines of plain text, aligned.

    Args:
        answers: from `summarise_answers`.
    """
    states = [state.value for state in DecisionState]
    lines = [f"{'reference':<22}" + "".join(f"{state:>20}" for state in states)]
    lines += [
        f"{kind:<22}" + "".join(f"{row[state]:>20}" for state in states) for kind, row in answers["table"].items()
    ]
    return lines
