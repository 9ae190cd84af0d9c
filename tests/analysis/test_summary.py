"""From patients to a cohort: who counts, for what, and under which label."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from cohorts import cohort, patient
from fvv.analysis.marker import marker_data
from fvv.analysis.patient import decided_with, metric_rows, patient_row
from fvv.analysis.plots import evaluation_plots
from fvv.analysis.prediction_pages import Entry, prediction_pages
from fvv.analysis.report import evaluation_page
from fvv.analysis.statistics import Bootstrap
from fvv.analysis.summary import REFERENCES, extremes, summarise_answers, summarise_cohort
from fvv.analysis.tables import all_tables
from fvv.config import DecisionConfig, EvaluateConfig
from fvv.data import Channel, Decision, DecisionState, Failure, Prediction
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import CUT_OFF, Findings, Summary

CONFIG = EvaluateConfig(bootstrap_samples=60)


def summary_of(patients: list[PatientResult]) -> Findings:
    return summarise_cohort(patients, marker_data(patients, 0.2), CONFIG)


def full_summary(patients: list[PatientResult], **changes: object) -> Summary:
    values = {
        "evaluation": "out-of-fold",
        "counts": {"evaluated": len(patients)},
        "comparison": None,
        "run": {"models": "m"},
        "settings": CONFIG,
        "models_sha256": {},
        "sources": {},
        "cohort": "unknown",
        "failures": (),
    }
    return Summary(**dict(summary_of(patients)), **{**values, **changes})


def test_a_result_survives_json(rng):
    for result in (
        patient("p", lesion=0, found=0),
        patient("q", measured=False, reader=True),
        patient("r", segmented=False),
    ):
        text = result.model_dump_json()
        back = PatientResult.model_validate_json(text)
        assert "NaN" not in text
        assert (
            back.model_dump_json()
            == text
            == PatientResult.model_validate(result.model_dump(mode="json")).model_dump_json()
        )
        assert math.isnan(back.flair_visible.dice_coefficient)
        assert back.segmented == result.segmented


def test_without_readers_the_visible_fraction_is_the_label():
    patients = [patient("a", visible=19), patient("b", visible=20), patient("c", lesion=0)]
    data = marker_data(patients, 0.2)
    assert data.labels == (True, False, None)
    assert "less than 20 %" in data.label_source
    assert data.excluded == {"no lesion in the reference": 1, "no label": 0, "could not be measured": 0}


def test_readers_labels_win_and_are_never_mixed_with_the_fraction():
    patients = [patient("a", visible=0, reader=False), patient("b", visible=90, reader=True), patient("c", visible=0)]
    data = marker_data(patients, 0.2)
    assert data.labels == (False, True, None)
    assert "readers" in data.label_source
    assert data.excluded["no label"] == 1


def test_a_patient_without_lesion_has_no_label_whatever_the_table_says():
    data = marker_data([patient("a", lesion=0, reader=True), patient("b", reader=True)], 0.2)
    assert data.labels == (None, True)
    assert data.excluded["no lesion in the reference"] == 1


def test_the_unmeasured_are_counted_and_never_taken_for_zero():
    patients = [patient("a", visible=5, measured=False), patient("b", visible=5, found=0)]
    data = marker_data(patients, 0.2)
    assert data.excluded["could not be measured"] == 1
    # A stroke that the model missed was measured: its FVV is 0 mL.
    assert data.fvv_ml.tolist() == [0.0]
    row = patient_row(patients[0], mismatch=True)
    assert row["flair_visible_predicted_ml"] is None
    assert row["mismatch"] == 1
    volumes = {row["metric"]: row["value"] for row in metric_rows(patients[:1]) if row["channel"] == "stroke"}
    assert volumes["predicted_volume_ml"] is None
    assert volumes["volume_error_ml"] is None
    assert volumes["dice_coefficient"] == 1.0
    assert (row["examination_id"], row["person_id"]) == ("a", "a")


def test_who_was_refused_before_any_model_ran_changes_counts_alone():
    seen = [one for one in cohort() if one.examination_id != "unmeasured"]
    refused = patient("refused", lesion=300, visible=50, segmented=False, person="other3", site="A", fold=1)
    assert not refused.segmented
    assert refused.stroke.lesions == refused.flair_visible.lesions == ()
    alone, both = summary_of(seen), summary_of([*seen, refused])
    for channel in Channel:
        before, after = (summary.of(channel).model_dump(mode="json") for summary in (alone, both))
        assert after["empty_cases"].pop("not segmented: quality control refused the images") == 1
        assert after == before
    for value in ("A", "1"):
        before, after = (next(row for row in one.strata if row.value == value) for one in (alone, both))
        assert after.model_dump(mode="json") == {**before.model_dump(mode="json"), "patients": before.patients + 1}
    assert both.marker.excluded["could not be measured"] == 1
    assert "not segmented" in page([*seen, refused])
    assert not any("refused" in names for names in extremes([*seen, refused]).values())


def test_lesions_of_one_person_alone_have_no_interval():
    scans = [patient(name, lesion=100, found=found, person="same") for name, found in (("a", 50), ("b", 0))]
    other = patient("c", lesion=100, found=50, person="other")
    for patients, interval in ((scans, False), ([*scans, other], True)):
        (row,) = [row for row in summary_of(patients).stroke.lesions_by_size if row.found.trials]
        assert row.found.value == row.found.successes / row.found.trials
        assert math.isnan(row.found.low) is not interval


def test_a_cohort_that_was_refused_altogether_has_no_numbers():
    summary = summary_of([patient("a", segmented=False), patient("b", segmented=False)])
    assert math.isnan(summary.stroke.dice_pooled.value)
    assert math.isnan(summary.stroke.dice_mean.value)
    assert summary.stroke.per_patient["dice_coefficient"].defined == 0
    assert summary.stroke.lesions_missed == 0


def test_every_patient_is_somewhere():
    patients = [*cohort(), patient("refused", segmented=False)]
    summary = summary_of(patients)
    marker = summary.marker
    assert marker.mismatch + marker.no_mismatch + sum(marker.excluded.values()) == len(patients)
    for channel in Channel:
        assert sum(summary.of(channel).empty_cases.values()) == len(patients)
    assert sum(row.patients for row in summary.strata if row.stratum == "fold") == len(patients)


def test_pooled_and_mean_dice_are_what_they_say():
    patients = [patient("a", lesion=100, found=50), patient("b", lesion=10, found=10), patient("c", lesion=0, found=0)]
    stroke = summary_of(patients).stroke
    assert stroke.dice_pooled.value == pytest.approx(2 * 60 / (110 + 60))
    assert stroke.dice_mean.value == pytest.approx((100 / 150 + 1) / 2)
    assert stroke.per_patient["dice_coefficient"].defined == 2
    assert stroke.empty_cases == {"both hold voxels": 2, "both empty": 1}
    assert stroke.lesions_detected == 2


def test_a_false_positive_lowers_the_mean():
    right = [patient("a"), patient("b")]
    wrong = [*right, patient("healthy", lesion=0, found=30)]
    values = [summary_of(patients).stroke.dice_mean.value for patients in (right, wrong)]
    assert values == pytest.approx([1.0, 2 / 3])


def test_a_summary_survives_json():
    summary = full_summary(cohort())
    auc = summary.marker.auc
    assert 0.9 < auc.value < 1.0
    assert auc.low < auc.value < auc.high
    point = summary.marker.operating_points[CUT_OFF]
    assert point.true_positive + point.false_negative == 10
    stored = summary.model_dump(mode="json")
    assert Summary.model_validate(stored).model_dump(mode="json") == stored


def test_the_same_seed_gives_the_same_numbers():
    assert summary_of(cohort()).model_dump_json() == summary_of(cohort()).model_dump_json()


def test_one_class_alone_gives_no_auc_and_says_so_on_the_page():
    patients = [patient("a", visible=0), patient("b", visible=1)]
    marker = summary_of(patients).marker
    assert math.isnan(marker.auc.value)
    assert not marker.operating_points
    assert "both classes are needed" in page(patients)


def page(patients: list[PatientResult], **changes: object) -> str:
    values = {"plots": {}, "pictures": {}, "viewer": {}, "methods": ["How it was done."]}
    values |= {name: changes.pop(name) for name in [*values] if name in changes}
    summary = full_summary(patients, **changes)
    tables = all_tables(summary, summary.comparison)
    return evaluation_page(summary, patients, marker_data(patients, 0.2), tables=tables, **values)


def test_the_page_stands_alone_and_escapes_what_comes_from_outside():
    hostile = "<script>alert(1)</script>"
    patients = [*cohort(), patient(hostile, site='"><img src=x>')]
    text = page(patients, failures=(Failure("lost", f"damaged {hostile}"),), plots={"ROC": b"\x89PNG"})
    assert hostile not in text
    assert "<img src=x>" not in text
    assert "&lt;script&gt;" in text
    assert 'src="data:image/png;base64,' in text
    for outside in ("http:", "https:", "//cdn", "src='", 'href="/'):
        assert outside not in text
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert "research use only" in text
    assert text.count("<tr>") > len(patients)


def test_numbers_that_do_not_exist_are_empty_on_the_page():
    text = page([*cohort(), patient("unseen", measured=False, visible=5)])
    row = next(line for line in text.splitlines() if ">unseen<" in line)
    assert not re.search(r"\bnan\b", text)
    assert '<td data-value=""></td>' in row
    assert "not assessable" in row


def test_every_plot_is_drawn_and_the_marker_only_with_two_classes():
    patients = cohort()
    plots = evaluation_plots(patients, marker_data(patients, 0.2), summary_of(patients))
    names = "roc precision_recall fvv_by_label reliability dice bland_altman_flair_visible"
    names += " bland_altman_log_flair_visible bland_altman_stroke bland_altman_log_stroke"
    assert [plot.name for plot in plots] == names.split()
    one_class = [patient("a"), patient("b", person="a")]
    plots = evaluation_plots(one_class, marker_data(one_class, 0.2), summary_of(one_class))
    assert not {"roc", "precision_recall", "reliability"} & {plot.name for plot in plots}


@pytest.mark.parametrize(("n", "each"), [(0, (0, 0)), (1, (1, 0)), (2, (1, 1)), (5, (2, 2)), (9, (3, 3))])
def test_worst_and_best_never_show_a_patient_twice(n, each):
    patients = [patient(f"p{index}", found=10 * (index + 1)) for index in range(n)] + [patient("n", lesion=0, found=0)]
    lowest, highest = extremes(patients).values()
    assert (len(lowest), len(highest)) == each
    assert not set(lowest) & set(highest)
    if n > 1:
        assert lowest[0] == "p0"
        assert highest[0] == f"p{n - 1}"


def prediction_page(predictions: list[Prediction], failures: list[Failure]) -> str:
    entries = [Entry(one, {"Voxels": "2 mm"}, ()) for one in predictions]
    (pieces,) = prediction_pages(entries, failures, {"models": "3"})
    return "".join(pieces)


def test_the_page_of_predictions_never_prints_a_volume_that_was_not_measured():
    unmeasured = Prediction("lost", Decision(DecisionState.NOT_ASSESSABLE, 0.5), 3, 0.01, 5, 6, 7.0)
    measured = Prediction("seen", Decision(DecisionState.MISMATCH_LIKELY, 0.5), 3, 0.01, 99000, 600, 20.0)
    assert "is under the cut-off." in prediction_page([], [Failure("broken", "no b0")])
    text = prediction_page([unmeasured, measured], [Failure("broken", "no b0")])
    rows = {
        name: next(line for line in text.splitlines() if line.startswith("<tr") and f">{name}<" in line)
        for name in ("lost", "seen", "broken")
    }
    assert "0.07" not in text
    assert rows["lost"].count('data-value=""></td>') == 6
    assert "0.20 mL" in rows["seen"]
    assert ">3%<" in rows["seen"]
    assert "no b0" in rows["broken"]


def test_the_page_of_predictions_says_on_whom_the_probability_was_fitted():
    seen = Prediction("seen", Decision(DecisionState.MISMATCH_LIKELY, 0.5), 3, 0.01, 99000, 600, 20.0)
    seen = dataclasses.replace(seen, mismatch_probability=0.78, calibration_source="simulated", mismatch_prevalence=0.3)
    text = prediction_page([seen], [])
    assert "78% at prevalence 30% (simulated)" in next(line for line in text.splitlines() if ">seen<" in line)
    people = dataclasses.replace(seen, calibration_source="people")
    assert "30% (" not in prediction_page([people], [])
    assert "not an uncertainty interval" in text


def test_many_patients_stand_on_several_pages_and_the_table_links_to_each():
    seen = Prediction("seen", Decision(DecisionState.MISMATCH_LIKELY, 0.5), 3, 0.01, 99000, 600, 20.0)
    entries = [Entry(dataclasses.replace(seen, examination_id=f"p{number}"), {}, ()) for number in range(41)]
    first, second = map("".join, prediction_pages(entries, [], {}))
    assert 'href="report_2.html#patient-0">p40<' in first
    assert 'href="report.html#patient-39">p39<' in first
    assert 'id="patients"' not in second
    assert "<h2>p40</h2>" in second


def test_rates_that_do_not_exist_are_said_to_be_not_defined():
    text = page([patient("only", visible=0)])
    assert "not defined" in text
    assert not re.search(r"\bnan\b", text)
    assert "None" not in text


def test_limits_of_agreement_are_given_on_the_log_scale_too():
    text = page(cohort())
    assert "on the log scale" in text
    assert "a predicted FVV of 0.5 mL goes with a reference FVV of" in text


def test_numbers_with_and_without_optimism_stand_on_the_page():
    summary = summary_of(cohort())
    points = summary.marker.operating_points
    assert points[CUT_OFF].corrected is None
    youden = points["Youden"]
    assert youden.corrected.kappa < youden.kappa.value
    assert f"<td>{youden.corrected.kappa:.3f}</td>" in page(cohort())


def test_another_cutoff_changes_the_answer_and_nothing_else():
    one = patient("a", visible=50, found_visible=50)  # An FVV of 1 mL.
    for cutoff, state, code in (
        (0.5, "mismatch unlikely", "fvv-over-cutoff"),
        (2.0, "mismatch likely", "fvv-under-cutoff"),
    ):
        again = decided_with(one, DecisionConfig(cutoff_ml=cutoff))
        assert (again.decision.value, again.reasons[0]) == (state, code)
        same = again.model_copy(update={"decision": one.decision, "reasons": one.reasons})
        assert same.model_dump_json() == one.model_dump_json()
    assert decided_with(one, DecisionConfig(minimum_lesion_ml=500)).decision is DecisionState.NO_LESION_FOUND
    split = one.model_copy(update={"fvv_per_model_ml": (0.3, 0.3, 1.0), "reasons": (*one.reasons, "noise")})
    for cutoff, disagree in ((0.2, False), (0.5, True), (0.9, True), (1.0, True), (2.0, False)):
        reasons = decided_with(split, DecisionConfig(cutoff_ml=cutoff)).reasons
        assert ("models-disagree" in reasons) == disagree
        assert reasons[-1] == "noise"
    unmeasured = patient("b", measured=False)
    assert decided_with(unmeasured, DecisionConfig(cutoff_ml=9)) is unmeasured


def test_every_stratum_holds_everybody_once():
    patients = cohort()
    strata = summary_of(patients).strata
    for kind in ("lesion volume", "FLAIR-visible share", "site", "fold"):
        rows = [row for row in strata if row.stratum == kind]
        assert sum(row.patients for row in rows) == len(patients)
        assert sum(row.mismatch for row in rows) == 10
    assert next(row for row in strata if row.value == "no lesion").patients == 1


def test_lesions_are_counted_by_size_as_found_or_missed():
    patients = [patient("a", lesion=40, found=40), patient("b", lesion=100, found=0), patient("c", lesion=300, found=1)]
    rows = summary_of(patients).stroke.lesions_by_size
    counts = {row.size: (row.found.successes, row.found.trials) for row in rows}
    assert counts["under 1 mL"] == (1, 1)
    assert counts["1 to 5 mL"] == (0, 1)
    assert counts["5 to 20 mL"] == (1, 1)
    assert counts["70 mL or more"] == (0, 0)
    assert math.isnan(rows[-1].found.value)
    assert summary_of(patients).brain.lesions_by_size == ()


def answered_cohort() -> list[PatientResult]:
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
    answered = [decided_with(one, DecisionConfig(cutoff_ml=0.5)) for one in patients]
    place = next(index for index, one in enumerate(answered) if one.examination_id == "beside")
    stroke = answered[place].stroke.model_copy(update={"lesions_detected": 0, "dice_coefficient": 0.0})
    answered[place] = answered[place].model_copy(update={"stroke": stroke})
    return answered


def test_a_missed_stroke_is_no_mismatch_found():
    """Its FVV of 0 mL is under the cut-off: 6 of 7 by the volume, 4 of 7 as answers, 3 for the right lesion."""
    summary = summary_of(answered_cohort())
    rates = summary.answers.rates
    of_volume = summary.marker.operating_points[CUT_OFF].sensitivity
    assert (of_volume.successes, of_volume.trials) == (6, 7)
    assert (rates.sensitivity.successes, rates.sensitivity.trials) == (4, 7)
    assert rates.sensitivity_right_lesion.successes == 3


def test_stroke_free_patients_are_in_the_rates():
    rates = summary_of(answered_cohort()).answers.rates
    counts = {name: (rate.successes, rate.trials) for name, rate in rates}
    assert counts["stroke_free_called_stroke"] == (2, 3)
    assert counts["stroke_free_called_mismatch"] == (1, 3)
    assert counts["specificity"] == (5, 6)
    assert counts["stroke_missed"] == (3, 13)
    assert counts["positive_predictive_value"] == (4, 6)
    assert counts["not_assessable"] == (2, 18)


def test_everybody_is_in_the_table_once():
    patients = answered_cohort()
    table = summary_of(patients).answers.table
    assert sum(sum(row.values()) for row in table.values()) == len(patients)
    assert table["no lesion"] == {
        "mismatch likely": 1, "mismatch unlikely": 1, "no lesion found": 1, "not assessable": 1
    }  # fmt: skip
    assert table["mismatch"]["no lesion found"] == 2
    assert set(table) == set(REFERENCES) - {"lesion without label"}


def test_a_lesion_without_label_has_its_row():
    patients = [patient("labelled", reader=True), patient("not")]
    table = summary_of(patients).answers.table
    assert sum(table["lesion without label"].values()) == 1


def test_rates_of_nobody_are_not_defined_and_said_so():
    summary = summary_of([patient("only", visible=0)])
    assert math.isnan(summary.answers.rates.specificity.value)
    assert "| 0 of 0 | not defined |" in all_tables(summary, None).rates.markdown()


def test_a_person_examined_twice_makes_the_intervals_those_of_persons():
    patients = [
        one.model_copy(update={"person_id": f"person{index // 2}"}) for index, one in enumerate(answered_cohort())
    ]
    summary = summary_of(patients)
    assert summary.marker.persons_repeat
    over_all = all_tables(summary, None).cutoffs
    assert over_all.rows[0][2] == "bootstrap over persons"
    once = summary_of(answered_cohort())
    assert once.marker.auc.value == summary.marker.auc.value
    assert once.marker.auc.low != summary.marker.auc.low
    assert all_tables(once, None).cutoffs.rows[0][2] == "DeLong"


@pytest.mark.parametrize("state", list(DecisionState))
def test_every_answer_has_its_column(state):
    one = patient("a").model_copy(update={"decision": state})
    answers = summarise_answers([one], marker_data([one], 0.2), Bootstrap(5, np.random.default_rng(0)))
    assert answers.table["mismatch"][state.value] == 1
