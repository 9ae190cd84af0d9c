"""Held-out examinations: what is known of a lesion, and what is only not there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from builders import save, write_onnx, write_patient
from fvv.config import PROFILES, EvaluateConfig, PostprocessConfig
from fvv.data import Channel, DecisionState, Participant, hashed_ids
from fvv.errors import InputError
from fvv.io.bundle import write_manifest
from fvv.io.sealed import SEAL
from fvv.recipes.held_out import read_held_out
from fvv.recipes.publish import EvaluateResult
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.schemas.migrations import CURRENT
from fvv.schemas.patient import PatientRecord
from fvv.schemas.summary import Summary
from fvv.stages.evaluate import evaluate_external
from fvv.stages.report import report
from fvv.system.fingerprint import file_sha256

pytestmark = pytest.mark.usefixtures("plain_evaluations")

CONFIG = EvaluateConfig(bootstrap_samples=20, compute={"threads": 1, "workers": 1})
HEALTHY, STROKE = Participant("p", "p", stroke_free=True), Participant("p", "p")


def examination(folder: Path, *, lesion: bool = False, without: tuple[str, ...] = (), seed: int = 3) -> Path:
    write_patient(folder, np.random.default_rng(seed), lesion=lesion)
    for name in without:
        (folder / f"{name}.nii.gz").unlink()
    return folder


def test_a_missing_roi_means_no_stroke_only_where_that_is_stated(tmp_path: Path) -> None:
    folder = examination(tmp_path / "p", without=("stroke_roi", "flairviz_roi"))
    case = read_held_out(folder, HEALTHY, CONFIG)
    for roi in (case.stroke_roi, case.flair_visible_roi):
        assert roi is not None
        assert not roi.array.any()
    with pytest.raises(InputError, match=r"stroke_roi\.nii\.gz: missing.*stroke_free 1"):
        read_held_out(folder, STROKE, CONFIG)


def test_a_statement_against_the_roi_is_refused(tmp_path: Path) -> None:
    folder = examination(tmp_path / "p", lesion=True)
    with pytest.raises(InputError, match=r"says stroke_free, the ROI holds \d+ voxels"):
        read_held_out(folder, HEALTHY, CONFIG)


def test_a_flair_visible_part_that_nobody_outlined_is_unknown_and_not_empty(tmp_path: Path) -> None:
    folder = examination(tmp_path / "p", lesion=True, without=("flairviz_roi",))
    assert read_held_out(folder, STROKE, CONFIG).flair_visible_roi is None
    nothing = read_held_out(examination(tmp_path / "q", without=("flairviz_roi",)), STROKE, CONFIG).flair_visible_roi
    assert nothing is not None
    assert not nothing.array.any()


def bundle(folder: Path) -> None:
    """One model, trained on nobody here."""
    model = write_onnx(folder / "model1.onnx")
    entry = ModelEntry(file=model.name, sha256=file_sha256(model), trained_on=hashed_ids(["somebody"]))
    manifest = BundleManifest(software="test", run_name="tiny", profile=PROFILES["robust-v1"], models=(entry,))
    write_manifest(folder, manifest)


@pytest.mark.parametrize("persons", ["AB", "AA"])
def test_the_same_images_of_two_persons_count_once(tmp_path: Path, persons: str) -> None:
    for name in ("anna", "copy"):
        examination(tmp_path / "in" / name, lesion=True)
    table = f"participant_id\tpatient_id\nanna\t{persons[0]}\ncopy\t{persons[1]}\n"
    (tmp_path / "in" / "participants.tsv").write_text(table)
    bundle(tmp_path / "models")
    found = evaluate_external(tmp_path / "in", tmp_path / "models", tmp_path / "out", CONFIG)
    doubled = ["copy"] if persons == "AB" else []
    assert [one.examination_id for one in found.failures] == doubled
    assert [one.examination_id for one in found.patients] == ["anna", "copy"][: 2 - len(doubled)]
    assert all("same images as anna, listed as another person" in one.reason for one in found.failures)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> EvaluateResult:
    """Two healthy heads without ROIs, one of them with a bright spot; two strokes, one without a FLAIR reading."""
    folder = tmp_path_factory.mktemp("heads")
    rois = ("stroke_roi", "flairviz_roi")
    examination(folder / "in" / "calm", without=(*rois, "mask"))
    examination(folder / "in" / "alarm", lesion=True, without=(*rois, "mask"), seed=4)
    examination(folder / "in" / "known", lesion=True, seed=5)
    examination(folder / "in" / "unread", lesion=True, without=rois[1:])
    for image in ("b0", "b1000"):
        noise = np.abs(np.random.default_rng(1).normal(0, 10, (64, 64, 10)))
        save(folder / "in" / "noise" / f"{image}.nii.gz", noise)
    rows = "calm\t1\nalarm\t1\nnoise\t1\nknown\t0\nunread\tn/a\n"
    (folder / "in" / "participants.tsv").write_text(f"participant_id\tstroke_free\n{rows}")
    bundle(folder / "models")
    return evaluate_external(folder / "in", folder / "models", folder / "out", CONFIG)


def test_healthy_heads_are_counted_apart_from_strokes(result: EvaluateResult) -> None:
    assert not result.failures
    by_name = {patient.examination_id: patient for patient in result.patients}
    assert by_name["calm"].decision is DecisionState.NO_LESION_FOUND
    assert by_name["calm"].stroke.predicted_volume_ml == 0
    assert by_name["noise"].decision is DecisionState.NOT_ASSESSABLE
    assert math.isnan(by_name["noise"].stroke.predicted_volume_ml)
    false_ml = by_name["alarm"].stroke.predicted_volume_ml
    assert false_ml == pytest.approx(by_name["alarm"].stroke.false_positive_ml, rel=0.05)
    assert false_ml > 1
    found = result.found.stroke_free
    assert found is not None
    assert (found.examinations, found.persons) == (3, 3)
    assert (found.no_lesion_found.successes, found.no_lesion_found.trials) == (1, 2)
    assert found.largest_false_ml == false_ml
    assert found.over_false_limit == 1
    assert result.found.answers.table["no lesion"]["not assessable"] == 1
    assert "stroke-free patients: no lesion found in 50.0 %" in result.summary()
    assert f"largest false-positive stroke {false_ml:.2f} mL" in result.summary()


def test_what_nobody_outlined_is_in_no_number(result: EvaluateResult) -> None:
    unread = next(patient for patient in result.patients if patient.examination_id == "unread")
    assert unread.stroke.dice_coefficient > 0.9
    assert unread.fvv_ml is not None
    assert math.isnan(unread.flair_visible.reference_volume_ml)
    assert math.isnan(unread.flair_visible.dice_coefficient)
    assert result.found.flair_visible.empty_cases["not outlined: there is no reference mask"] == 1
    assert result.found.of(Channel.STROKE).volume.n == 4
    assert result.found.of(Channel.FLAIR_VISIBLE).volume.n == 3
    assert result.found.answers.table["lesion without label"] == {
        state.value: int(state is unread.decision) for state in DecisionState
    }
    assert result.found.marker.excluded == {"no lesion in the reference": 3, "no label": 1, "could not be measured": 0}


def test_the_files_say_it_and_give_it_back(result: EvaluateResult) -> None:
    page = (result.output / "report.html").read_text()
    assert "Stroke-free examinations" in page
    assert "No lesion found" in (result.output / "tables.md").read_text()
    assert "stroke_false_positive_ml" in (result.output / "patients.csv").read_text()
    record = json.loads((result.output / "patients" / "unread.json").read_text())
    assert record["result"]["flair_visible"]["reference_volume_ml"] is None
    assert report(result.output).found.stroke_free == result.found.stroke_free


def test_plain_numbers_of_the_stroke_are_measured_and_compared(result: EvaluateResult) -> None:
    for patient in result.patients:
        found = not math.isnan(patient.stroke.predicted_volume_ml) and patient.stroke.predicted_volume_ml > 0
        assert math.isnan(patient.relative_dwi_iqr) is not found
    volume, uneven, adc = result.found.baselines
    strokes = (volume.overall.mismatch, volume.overall.no_mismatch)
    assert strokes == (result.found.marker.mismatch, result.found.marker.no_mismatch)
    assert (uneven.overall.mismatch, uneven.overall.no_mismatch) == strokes
    assert not adc.low_is_mismatch
    assert "relative_dwi_iqr" in (result.output / "patients.csv").read_text()
    # In words: numbers that are not defined are NaN, which equals nothing (from Python 3.13 on, in dataclasses, too).
    assert repr(report(result.output).found.baselines) == repr(result.found.baselines)


def test_a_summary_of_version_2_has_no_baselines(result: EvaluateResult, tmp_path: Path) -> None:
    content = json.loads((result.output / "summary.json").read_text())
    del content["baselines"], content[SEAL]
    assert Summary.parse(content | {"schema_version": 2}, tmp_path / "summary.json").baselines == ()
    record = json.loads((result.output / "patients" / "calm.json").read_text())
    for name in ("relative_dwi_iqr", "relative_adc"):
        del record["result"][name]
    del record[SEAL]
    old = PatientRecord.parse(record | {"schema_version": 1}, tmp_path / "calm.json")
    assert math.isnan(old.result.relative_dwi_iqr)


def test_a_summary_of_version_3_may_hold_a_limit_that_is_no_more(result: EvaluateResult, tmp_path: Path) -> None:
    content = json.loads((result.output / "summary.json").read_text())
    del content[SEAL]
    today = Summary.parse(content, tmp_path / "summary.json")
    limits = {"minimum_lesion_mm3": 5.0, "core_without_adc_mm3": 10.0}
    for given, expected in ((limits, PostprocessConfig(minimum_lesion_mm3=5.0)), (None, None)):
        settings = content["settings"] | {"postprocess": given}
        old = Summary.parse(content | {"settings": settings, "schema_version": 3}, tmp_path / "summary.json")
        assert old.settings == today.settings.model_copy(update={"postprocess": expected})
    for damaged in (None, [1], {"postprocess": [1]}):
        with pytest.raises(InputError, match="damaged"):
            Summary.parse(content | {"settings": damaged, "schema_version": 3}, tmp_path / "summary.json")


def test_a_summary_of_version_1_states_nothing_of_healthy_heads(result: EvaluateResult, tmp_path: Path) -> None:
    content = json.loads((result.output / "summary.json").read_text())
    del content["stroke_free"], content[SEAL]
    old = Summary.parse(content | {"schema_version": 1}, tmp_path / "summary.json")
    assert old.stroke_free is None
    assert old.schema_version == CURRENT["summary"]
