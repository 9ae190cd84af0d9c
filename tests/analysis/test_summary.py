"""From patients to a cohort: who counts, for what, and under which label."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest

from cohorts import cohort, patient
from fvv.analysis.marker import marker_data
from fvv.analysis.patient import PatientResult, SingleModelResult, jsonable, metric_rows, patient_row
from fvv.analysis.plots import evaluation_plots
from fvv.analysis.report import evaluation_page, extremes, prediction_page
from fvv.analysis.summary import headline, summarise_cohort
from fvv.config import DecisionConfig, EvaluateConfig
from fvv.data import Channel, Decision, DecisionState, Failure, Prediction


def summary_of(patients: list[PatientResult]) -> dict:
    return summarise_cohort(patients, marker_data(patients, 0.2), EvaluateConfig(bootstrap_samples=60))


def test_a_result_survives_json(rng):
    for result in (
        patient("p", lesion=0, found=0),
        patient("q", measured=False, reader=True),
        patient("r", segmented=False),
    ):
        text = json.dumps(jsonable(result), allow_nan=False)
        back = PatientResult.from_json(json.loads(text))
        assert jsonable(back) == jsonable(result)
        assert math.isnan(back.metrics["flair_visible"]["dice_coefficient"])
        assert back.segmented == result.segmented
        assert dataclasses.replace(back, metrics={}) == dataclasses.replace(result, metrics={})


def test_without_readers_the_drawn_fraction_is_the_label():
    patients = [patient("a", visible=19), patient("b", visible=20), patient("c", lesion=0)]
    data = marker_data(patients, 0.2)
    assert data.labels == (True, False, None)
    assert "less than 20 %" in data.label_source
    assert data.excluded == {"no lesion drawn": 1, "no label": 0, "could not be measured": 0}


def test_readers_labels_win_and_are_never_mixed_with_the_fraction():
    patients = [patient("a", visible=0, reader=False), patient("b", visible=90, reader=True), patient("c", visible=0)]
    data = marker_data(patients, 0.2)
    assert data.labels == (False, True, None)
    assert "readers" in data.label_source
    assert data.excluded["no label"] == 1


def test_a_patient_without_lesion_has_no_label_whatever_the_table_says():
    data = marker_data([patient("a", lesion=0, reader=True), patient("b", reader=True)], 0.2)
    assert data.labels == (None, True)
    assert data.excluded["no lesion drawn"] == 1


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


def test_who_was_refused_before_any_model_ran_changes_counts_alone():
    seen = [one for one in cohort() if one.participant != "unmeasured"]
    refused = patient("refused", lesion=300, visible=50, segmented=False, person="other3", site="A", fold=1)
    assert not refused.segmented
    assert refused.lesions == {"stroke": (), "flair_visible": ()}
    alone, both = summary_of(seen), summary_of([*seen, refused])
    for channel in Channel:
        before, after = (summary["segmentation"][channel.label] for summary in (alone, both))
        counted = after["empty_cases"].pop("not segmented: quality control refused the images")
        assert counted == 1
        assert after == before
    assert jsonable(both["lesions_by_size"]) == jsonable(alone["lesions_by_size"])
    for value in ("A", "1"):
        before, after = (next(row for row in one["strata"] if row["value"] == value) for one in (alone, both))
        assert after == {**before, "patients": before["patients"] + 1}
    assert both["marker"]["excluded"]["could not be measured"] == 1
    assert "not segmented" in page([*seen, refused])
    assert not any("refused" in names for names in extremes([*seen, refused]).values())


def test_lesions_of_one_person_alone_have_no_interval():
    scans = [patient(name, lesion=100, found=found, person="same") for name, found in (("a", 50), ("b", 0))]
    other = patient("c", lesion=100, found=50, person="other")
    for patients, interval in ((scans, False), ([*scans, other], True)):
        (row,) = [row for row in summary_of(patients)["lesions_by_size"]["stroke"] if row["drawn"]]
        assert row["share_found"].value == row["found"] / row["drawn"]
        assert math.isnan(row["share_found"].low) is not interval


def test_a_cohort_that_was_refused_altogether_has_no_numbers():
    summary = summary_of([patient("a", segmented=False), patient("b", segmented=False)])
    stroke = summary["segmentation"]["stroke"]
    assert math.isnan(stroke["dice_pooled"].value)
    assert math.isnan(stroke["dice_mean"].value)
    assert stroke["per_patient"]["dice_coefficient"]["defined"] == 0
    assert stroke["lesions"]["missed"] == 0


def test_every_patient_is_somewhere():
    patients = [*cohort(), patient("refused", segmented=False)]
    summary = summary_of(patients)
    marker = summary["marker"]
    assert marker["mismatch"] + marker["no_mismatch"] + sum(marker["excluded"].values()) == len(patients)
    for channel in Channel:
        assert sum(summary["segmentation"][channel.label]["empty_cases"].values()) == len(patients)
    assert sum(row["patients"] for row in summary["strata"] if row["stratum"] == "fold") == len(patients)
    assert sum(summary["decisions"].values()) == len(patients)


def test_pooled_and_mean_dice_are_what_they_say():
    patients = [patient("a", lesion=100, found=50), patient("b", lesion=10, found=10), patient("c", lesion=0, found=0)]
    stroke = summary_of(patients)["segmentation"]["stroke"]
    assert stroke["dice_pooled"].value == pytest.approx(2 * 60 / (110 + 60))
    assert stroke["dice_mean"].value == pytest.approx((100 / 150 + 1) / 2)
    assert stroke["per_patient"]["dice_coefficient"]["defined"] == 2
    assert stroke["empty_cases"] == {"both hold voxels": 2, "both empty": 1}
    assert stroke["lesions"]["detected"] == 2


def test_a_false_alarm_lowers_the_mean():
    right = [patient("a"), patient("b")]
    wrong = [*right, patient("healthy", lesion=0, found=30)]
    values = [summary_of(patients)["segmentation"]["stroke"]["dice_mean"].value for patients in (right, wrong)]
    assert values == pytest.approx([1.0, 2 / 3])


def test_headline_and_summary_agree_and_go_to_json():
    patients = cohort()
    summary = summary_of(patients)
    numbers = headline(summary)
    assert numbers["auc"] == summary["marker"]["auc"].value
    assert 0.9 < numbers["auc"] < 1.0
    point = summary["marker"]["operating_points"]["cut-off"]
    assert numbers["kappa"] == point["kappa"].value
    assert point["true_positive"] + point["false_negative"] == 10
    assert numbers["auc_low"] < numbers["auc"] < numbers["auc_high"]
    json.dumps(jsonable({"headline": numbers, **summary}), allow_nan=False)


def test_the_same_seed_gives_the_same_numbers():
    assert jsonable(summary_of(cohort())) == jsonable(summary_of(cohort()))


def test_one_class_alone_gives_no_auc_and_says_so_on_the_page():
    patients = [patient("a", visible=0), patient("b", visible=1)]
    summary = summary_of(patients)
    assert math.isnan(headline(summary)["auc"])
    assert math.isnan(headline(summary)["kappa"])
    assert "Both classes are needed" in page(patients)


def page(patients: list[PatientResult], **changes: object) -> str:
    data, summary = marker_data(patients, 0.2), summary_of(patients)
    values = {
        "plots": {},
        "pictures": {},
        "counts": {"evaluated": len(patients)},
        "failures": [],
        "run": {"models": "m"},
        "kind": "out-of-fold",
        "viewer": {},
        "methods": ["How it was done."],
    }
    return evaluation_page(summary, patients, data, **{**values, **changes})


def test_the_page_stands_alone_and_escapes_what_comes_from_outside():
    hostile = "<script>alert(1)</script>"
    patients = [*cohort(), patient(hostile, site='"><img src=x>')]
    text = page(patients, failures=[Failure("lost", f"damaged {hostile}")], plots={"ROC": b"\x89PNG"})
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
    names = "roc precision_recall fvv_by_label reliability decision_curve dice bland_altman_flair_visible"
    names += " bland_altman_log_flair_visible bland_altman_stroke bland_altman_log_stroke"
    assert [plot.name for plot in plots] == names.split()
    one_class = [patient("a"), patient("b", person="a")]
    plots = evaluation_plots(one_class, marker_data(one_class, 0.2), summary_of(one_class))
    assert not {"roc", "precision_recall", "reliability", "decision_curve"} & {plot.name for plot in plots}


@pytest.mark.parametrize(("n", "each"), [(0, (0, 0)), (1, (1, 0)), (2, (1, 1)), (5, (2, 2)), (9, (3, 3))])
def test_worst_and_best_never_show_a_patient_twice(n, each):
    patients = [patient(f"p{index}", found=10 * (index + 1)) for index in range(n)] + [patient("n", lesion=0, found=0)]
    lowest, highest = extremes(patients).values()
    assert (len(lowest), len(highest)) == each
    assert not set(lowest) & set(highest)
    if n > 1:
        assert lowest[0] == "p0"
        assert highest[0] == f"p{n - 1}"


def test_the_page_of_predictions_never_prints_a_volume_that_was_not_measured():
    unmeasured = Prediction("lost", Decision(DecisionState.NOT_ASSESSABLE, 0.5), 3, 0.01, 5, 6, 7.0)
    measured = Prediction("seen", Decision(DecisionState.MISMATCH_LIKELY, 0.5), 3, 0.01, 99000, 600, 20.0)
    assert "is under the cut-off." in prediction_page([], [Failure("broken", "no b0")], {}, {"models": "3"})
    text = prediction_page([unmeasured, measured], [Failure("broken", "no b0")], {"seen": b"png"}, {"models": "3"})
    rows = {
        name: next(line for line in text.splitlines() if f">{name}<" in line) for name in ("lost", "seen", "broken")
    }
    assert "0.070" not in rows["lost"]
    assert rows["lost"].count('<td data-value=""></td>') == 5
    assert "0.200" in rows["seen"]
    assert "no b0" in rows["broken"]


def test_the_page_of_predictions_says_on_whom_the_probability_was_fitted():
    seen = Prediction("seen", Decision(DecisionState.MISMATCH_LIKELY, 0.5), 3, 0.01, 99000, 600, 20.0)
    seen = dataclasses.replace(seen, mismatch_probability=0.78, calibration_source="simulated", mismatch_prevalence=0.3)
    text = prediction_page([seen], [], {}, {"models": "3"})
    assert "78% at prevalence 30% (simulated)" in next(line for line in text.splitlines() if ">seen<" in line)
    people = dataclasses.replace(seen, calibration_source="people")
    assert "30% (" not in prediction_page([people], [], {}, {"models": "3"})
    assert "no uncertainty interval" in text


def test_rates_that_do_not_exist_are_said_to_be_not_defined():
    text = page([patient("only", visible=0)])
    assert "not defined" in text
    assert not re.search(r"\bnan\b", text)
    assert "None" not in text


def test_limits_of_agreement_are_given_on_the_log_scale_too():
    text = page(cohort())
    assert "on the log scale" in text
    assert "a predicted FVV of 0.5 mL goes with a drawn one of" in text


def test_optimism_is_taken_off_and_both_numbers_stand_on_the_page():
    summary = summary_of(cohort())
    points = summary["marker"]["operating_points"]
    assert points["cut-off"]["optimism"] is None
    found = points["Youden"]["optimism"]
    assert found["corrected"]["youden_index"] < found["apparent"]["youden_index"]
    assert f"{found['apparent']['youden_index']:.3f}, {found['corrected']['youden_index']:.3f}" in page(cohort())


def test_another_cutoff_makes_the_answer_anew_and_touches_nothing_else():
    one = patient("a", visible=50, found_visible=50)  # An FVV of 1 mL.
    for cutoff, state, code in (
        (0.5, "mismatch unlikely", "fvv-over-cutoff"),
        (2.0, "mismatch likely", "fvv-under-cutoff"),
    ):
        again = one.decided_with(DecisionConfig(cutoff_ml=cutoff))
        assert (again.decision, again.reasons[0]) == (state, code)
        same = dataclasses.replace(again, decision=one.decision, reasons=one.reasons)
        assert jsonable(same) == jsonable(one)
    assert one.decided_with(DecisionConfig(minimum_lesion_ml=500)).decision == "no lesion found"
    unmeasured = patient("b", measured=False)
    assert unmeasured.decided_with(DecisionConfig(cutoff_ml=9)) is unmeasured


def test_every_stratum_holds_everybody_once():
    patients = cohort()
    strata = summary_of(patients)["strata"]
    for kind in ("lesion volume", "FLAIR-visible share", "site", "fold"):
        rows = [row for row in strata if row["stratum"] == kind]
        assert sum(row["patients"] for row in rows) == len(patients)
        assert sum(row["mismatch"] for row in rows) == 10
    assert next(row for row in strata if row["value"] == "no lesion")["patients"] == 1


def test_lesions_are_counted_by_size_as_found_or_missed():
    patients = [patient("a", lesion=40, found=40), patient("b", lesion=100, found=0), patient("c", lesion=300, found=1)]
    rows = summary_of(patients)["lesions_by_size"]["stroke"]
    counts = {row["size"]: (row["drawn"], row["found"], row["missed"]) for row in rows}
    assert counts["under 1 mL"] == (1, 1, 0)
    assert counts["1 to 5 mL"] == (1, 0, 1)
    assert counts["5 to 20 mL"] == (1, 1, 0)
    assert counts["70 mL or more"] == (0, 0, 0)
    assert math.isnan(rows[-1]["share_found"].value)


def test_only_patients_whose_dice_all_of_them_have_are_compared():
    """Where nothing is drawn, who marks nothing has no Dice, and who marks a voxel has 0."""
    patients = []
    for number in range(10):
        visible = 50 if number < 5 else 0
        one = patient(f"p{number}", lesion=100, visible=visible, found=visible)
        empty = one.metrics["flair_visible"]["dice_coefficient"]
        worse = {**{channel: values["dice_coefficient"] for channel, values in one.metrics.items()}}
        alone = (SingleModelResult(0.1, {**worse, "flair_visible": 0.0 if number >= 5 else empty}),)
        patients.append(dataclasses.replace(one, fold=None, single_models=alone))
    gain = summary_of(patients)["single_models"]["numbers"]["flair_visible_dice_mean"]
    assert gain["difference"].value == 0


def test_an_ensemble_is_compared_with_its_models_alone():
    patients = [
        dataclasses.replace(
            one,
            fold=None,
            single_models=tuple(
                SingleModelResult(one.fvv_ml + shift, dict.fromkeys(one.metrics, 0.5)) for shift in (0.0, 0.8)
            ),
        )
        for one in cohort()
        if one.fvv_ml is not None
    ]
    summary = summary_of(patients)
    gain = summary["single_models"]
    assert gain["models"] == 2
    dice = gain["numbers"]["stroke_dice_mean"]
    assert (dice["single"], dice["lowest"], dice["highest"]) == (0.5, 0.5, 0.5)
    assert dice["difference"].value == pytest.approx(dice["ensemble"] - 0.5)
    # A shift of every volume changes no rank, but the answers at the cut-off.
    assert gain["numbers"]["auc"]["difference"].value == pytest.approx(0.0)
    assert gain["numbers"]["kappa"]["lowest"] < gain["numbers"]["kappa"]["highest"]
    assert gain["youden_cutoff_single_ml"] == pytest.approx(gain["youden_cutoff_ml"] + 0.4)
    assert summary["marker"]["calibration"]["held_out_by"] == "person"
    assert "against its 2 models alone" in page(patients, kind="external")
    refused = patient("a first by name", segmented=False)
    assert jsonable(summary_of([refused, *patients])["single_models"]) == jsonable(gain)
    assert summary_of([refused])["single_models"] is None
    assert summary_of(cohort())["single_models"] is None
