"""results.json: published columns, and the same prediction when it is read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from fvv.data import Decision, DecisionState, Finding, Prediction, Severity
from fvv.errors import InputError
from fvv.io.sealed import read_record, write_sealed
from fvv.schemas.results import Answer, PatientResult
from fvv.schemas.run import MadeFrom

MADE_FROM = MadeFrom(software="1", models="2", settings="3", images="4")
PUBLISHED = (
    "Patient", "BrainMaskVoxels", "StrokeBlobVoxels", "FlairVizVoxels", "VoxVolume", "BrainMaskVolume",
    "StrokeBlobVolume", "FlairVizVolume",
)  # fmt: skip
MEASURED = Prediction(
    examination_id="anna",
    decision=Decision(DecisionState.MISMATCH_LIKELY, 3.0, (Finding("few-slices", "8 slices", Severity.NOTE),), 0.1),
    n_models=2,
    voxel_volume_ml=0.1,
    brain_voxels=1000,
    stroke_voxels=30,
    flair_visible_voxels=12.5,
    fvv_per_model_ml=(1.0, 1.5),
    mismatch_probability=0.7,
    calibration_source="people",
    mismatch_prevalence=0.4,
    lesion_adc=(500.0, 400.5, 0.6),
    provider="CPUExecutionProvider",
    models="tiny",
    seconds={"read": 0.25, "network": 1.5},
)
NOTHING = Prediction("berta", Decision(DecisionState.NOT_ASSESSABLE, 3.0), 2, 0.1)


def stored(prediction: Prediction) -> PatientResult:
    made = {"made_from": MADE_FROM, "finished": True, "files": {"a": "b"}}
    return PatientResult(**dict(Answer.of(prediction)), about={"date": "today"}, lesions=(), **made)


@pytest.mark.parametrize("prediction", [MEASURED, NOTHING])
def test_what_is_read_is_what_was_written(prediction: Prediction, tmp_path: Path) -> None:
    write_sealed(tmp_path / "results.json", stored(prediction))
    found = read_record(tmp_path / "results.json", PatientResult)
    assert found == stored(prediction)
    assert found.prediction == prediction


@pytest.mark.parametrize("prediction", [MEASURED, NOTHING])
def test_the_types_of_columns_are_those_of_the_rows(prediction: Prediction) -> None:
    row, types = Answer.of(prediction).row(), Answer.columns()
    assert list(row) == list(types)
    for name, value in row.items():
        assert value is None or isinstance(value, (int, float) if types[name] is float else types[name])


def test_published_columns_come_first_under_their_names() -> None:
    row = Answer.of(MEASURED).row()
    assert tuple(row)[: len(PUBLISHED)] == PUBLISHED
    assert (row["FlairVizVolume"], row["reasons"], row["seconds"]) == (pytest.approx(1.25), "few-slices", 1.75)
    assert "FlairVizVolume_per_model" not in row
    content = stored(MEASURED).model_dump(mode="json", by_alias=True)
    assert {*PUBLISHED, "FlairVizVolume_per_model", "schema_version"} <= content.keys()


def test_what_could_not_be_measured_is_never_zero() -> None:
    row = Answer.of(NOTHING).row()
    assert {row[name] for name in PUBLISHED[1:] if name != "VoxVolume"} == {None}
    assert row["mismatch_probability_source"] is None


@pytest.mark.parametrize("change", [{"extra": 1}, {"Patient": None}, {"schema_version": 99}, {"schema_version": None}])
def test_other_content_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    content = stored(MEASURED).model_dump(mode="json", by_alias=True)
    write_sealed(tmp_path / "results.json", {**content, **change})
    with pytest.raises(InputError, match=r"results\.json"):
        read_record(tmp_path / "results.json", PatientResult)


def test_what_differs_is_said_in_words() -> None:
    other = MadeFrom(software="1", models="other", settings="3", images="other")
    assert MADE_FROM.differences(MADE_FROM) == ()
    assert MADE_FROM.differences(other) == ("other models", "other images")
    assert MADE_FROM.differences(other.with_images("")) == ("other models",)  # Of a whole run.
