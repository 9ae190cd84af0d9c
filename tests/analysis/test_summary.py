"""From patients to a cohort: who counts, for what, and under which label."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pytest

from fvv.analysis.patient import PatientResult, jsonable, metric_rows, patient_row
from fvv.analysis.plots import evaluation_plots
from fvv.analysis.report import evaluation_page, extremes, prediction_page
from fvv.analysis.summary import headline, marker_data, summarise_cohort
from fvv.data import Channel, Decision, DecisionState, Failure, Finding, Participant, Prediction, Severity

SHAPE = (16, 16, 6)
SPACING = (2.0, 2.0, 5.0)
VOXEL_ML = 0.02


def line(n: int) -> np.ndarray:
    """A mask of n voxels."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask.ravel()[100 : 100 + n] = True
    return mask


def patient(
    name: str,
    *,
    lesion: int = 100,
    visible: int = 0,
    found: int = 100,
    found_visible: int = 0,
    reader: bool | None = None,
    measured: bool = True,
    person: str | None = None,
    site: str = "",
    fold: int = 0,
) -> PatientResult:
    """A patient whose masks hold so many voxels."""
    truth = dict(zip(Channel, (line(1000), line(lesion), line(visible)), strict=True))
    predicted = dict(zip(Channel, (line(900), line(found), line(found_visible)), strict=True))
    state = DecisionState.MISMATCH_LIKELY if measured else DecisionState.NOT_ASSESSABLE
    return PatientResult.compare(
        Participant(name, person or name, site, reader),
        fold,
        Decision(state, 0.5, (Finding("code", "message", Severity.NOTE),)),
        truth=truth,
        predicted=predicted,
        spacing_mm=SPACING,
        true_ml={channel.label: float(mask.sum()) * VOXEL_ML for channel, mask in truth.items()},
        predicted_ml={channel.label: float(mask.sum()) * VOXEL_ML for channel, mask in predicted.items()},
    )


def cohort() -> list[PatientResult]:
    """Ten mismatches and ten others that the FVV tells apart but for two; one healthy, one not measured."""
    patients = [
        patient(f"mismatch{n}", visible=5, found_visible=2 * n, site="A" if n % 2 else "B", fold=n % 2)
        for n in range(10)
    ]
    patients += [
        patient(f"other{n}", visible=60, found_visible=15 + 8 * n, found=80, site="A" if n % 2 else "B", fold=n % 2)
        for n in range(10)
    ]
    return [*patients, patient("healthy", lesion=0, found=0), patient("unmeasured", visible=50, measured=False)]


def summary_of(patients: list[PatientResult]) -> dict:
    return summarise_cohort(patients, marker_data(patients, 0.2), 0.5, samples=60, seed=0)


def test_a_result_survives_json(rng):
    for result in (patient("p", lesion=0, found=0), patient("q", measured=False, reader=True)):
        text = json.dumps(jsonable(result), allow_nan=False)
        back = PatientResult.from_json(json.loads(text))
        assert jsonable(back) == jsonable(result)
        assert math.isnan(back.metrics["flair_visible"]["dice_coefficient"])
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


def test_every_patient_is_somewhere():
    patients = cohort()
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
    captions = list(evaluation_plots(patients, marker_data(patients, 0.2), summary_of(patients)))
    assert len(captions) == 5
    one_class = [patient("a"), patient("b", person="a")]
    captions = list(evaluation_plots(one_class, marker_data(one_class, 0.2), summary_of(one_class)))
    assert not any("ROC" in caption for caption in captions)


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
    text = prediction_page([unmeasured, measured], [Failure("broken", "no b0")], {"seen": b"png"}, {"models": "3"})
    rows = {
        name: next(line for line in text.splitlines() if f">{name}<" in line) for name in ("lost", "seen", "broken")
    }
    assert "0.070" not in rows["lost"]
    assert rows["lost"].count('<td data-value=""></td>') == 5
    assert "0.200" in rows["seen"]
    assert "no b0" in rows["broken"]
