"""What is answered is what is reported."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from cohorts import patient
from fvv.analysis.answers import REFERENCES, answer_lines, summarise_answers
from fvv.analysis.marker import marker_data
from fvv.analysis.paper import paper_tables
from fvv.analysis.patient import PatientResult
from fvv.analysis.summary import headline, summarise_cohort
from fvv.config import DecisionConfig, EvaluateConfig
from fvv.data import DecisionState


def cohort() -> list[PatientResult]:
    """Seven mismatches of which two are missed and one is answered elsewhere in the brain; others; stroke-free."""
    patients = [patient(f"right{n}", visible=0, found=90) for n in range(3)]
    patients += [patient("beside", visible=0, found=90)]
    patients += [patient(f"missed{n}", visible=0, found=0) for n in range(2)]
    patients += [patient("over", visible=0, found_visible=60)]
    patients += [patient(f"other{n}", visible=60, found_visible=60) for n in range(4)]
    patients += [patient("other_missed", visible=60, found=0)]
    patients += [patient("other_likely", visible=60, found_visible=5)]
    patients += [patient("free", lesion=0, found=0), patient("free_likely", lesion=0, found=50)]
    patients += [patient("free_unlikely", lesion=0, found=50, found_visible=50)]
    patients += [patient("unmeasured", visible=0, measured=False), patient("free_unmeasured", lesion=0, measured=False)]
    answered = [one.decided_with(DecisionConfig(cutoff_ml=0.5)) for one in patients]
    place = next(index for index, one in enumerate(answered) if one.participant == "beside")
    stroke = {**answered[place].metrics["stroke"], "lesions_detected": 0, "dice_coefficient": 0.0}
    answered[place] = dataclasses.replace(answered[place], metrics={**answered[place].metrics, "stroke": stroke})
    return answered


def summary_of(patients: list[PatientResult]) -> dict:
    config = EvaluateConfig(bootstrap_samples=60)
    return summarise_cohort(patients, marker_data(patients, 0.2), config)


def test_a_missed_stroke_is_no_mismatch_found():
    """Its FVV of 0 mL is under the cut-off: 6 of 7 by the volume, 4 of 7 as answers, 3 for the right lesion."""
    summary = summary_of(cohort())
    rates = summary["answers"]["rates"]
    of_volume = summary["marker"]["operating_points"]["cut-off"]["sensitivity"]
    assert (of_volume.successes, of_volume.trials) == (6, 7)
    assert (rates["sensitivity"].successes, rates["sensitivity"].trials) == (4, 7)
    assert rates["sensitivity_right_lesion"].successes == 3
    assert headline(summary)["answers_sensitivity"] == pytest.approx(4 / 7)


def test_stroke_free_patients_are_in_the_rates():
    rates = summary_of(cohort())["answers"]["rates"]
    counts = {name: (rate.successes, rate.trials) for name, rate in rates.items()}
    assert counts["stroke_free_called_stroke"] == (2, 3)
    assert counts["stroke_free_called_mismatch"] == (1, 3)
    assert counts["specificity"] == (5, 6)
    assert counts["stroke_missed"] == (3, 13)
    assert counts["positive_predictive_value"] == (4, 6)
    assert counts["not_assessable"] == (2, 18)


def test_everybody_is_in_the_table_once():
    patients = cohort()
    table = summary_of(patients)["answers"]["table"]
    assert sum(sum(row.values()) for row in table.values()) == len(patients)
    assert table["no lesion"] == {
        "mismatch likely": 1, "mismatch unlikely": 1, "no lesion found": 1, "not assessable": 1
    }  # fmt: skip
    assert table["mismatch"]["no lesion found"] == 2
    assert set(table) == set(REFERENCES) - {"lesion without label"}
    lines = answer_lines(summary_of(patients)["answers"])
    assert [line[:12].strip() for line in lines[1:]] == ["mismatch", "no mismatch", "no lesion"]


def test_a_lesion_without_label_has_its_row():
    patients = [patient("labelled", reader=True), patient("not")]
    table = summary_of(patients)["answers"]["table"]
    assert sum(table["lesion without label"].values()) == 1


def test_rates_of_nobody_are_not_defined_and_said_so():
    summary = summary_of([patient("only", visible=0)])
    assert math.isnan(summary["answers"]["rates"]["specificity"].value)
    assert "| 0 of 0 | not defined |" in paper_tables(summary)[1].markdown()


def test_a_person_examined_twice_makes_the_intervals_those_of_persons():
    patients = [dataclasses.replace(one, person=f"person{index // 2}") for index, one in enumerate(cohort())]
    summary = summary_of(patients)
    assert summary["marker"]["persons_repeat"]
    assert summary["answers"]["rates"]["sensitivity"].method == "bootstrap over persons"
    marker = summary["marker"]
    assert marker["auc"] == marker["auc_bootstrap"]
    assert marker["auc_delong"].value == marker["auc"].value
    assert "(Wilson [" in paper_tables(summary)[1].markdown()
    assert "(Wilson [" not in paper_tables(summary_of(cohort()))[1].markdown()
    alone = summary_of(cohort())["marker"]
    assert alone["auc"] == alone["auc_delong"]


@pytest.mark.parametrize("state", list(DecisionState))
def test_every_answer_has_its_column(state):
    one = dataclasses.replace(patient("a"), decision=state.value)
    answers = summarise_answers([one], marker_data([one], 0.2), samples=5, rng=np.random.default_rng(0))
    assert answers["table"]["mismatch"][state.value] == 1
    assert re.search(state.value, answer_lines(answers)[0])
