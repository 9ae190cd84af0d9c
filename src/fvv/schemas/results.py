"""results.json, and the row of results.csv in it. Column names of the publication are fixed: they are aliases here."""

from __future__ import annotations

import statistics
from dataclasses import fields
from typing import ClassVar, get_args

from pydantic import ConfigDict, Field, JsonValue

from fvv import __version__
from fvv.data import Channel, Decision, DecisionState, Finding, Prediction
from fvv.names import plain
from fvv.schemas.base import FileModel
from fvv.schemas.lesions import Lesion
from fvv.schemas.migrations import CURRENT
from fvv.schemas.run import MadeFrom
from fvv.schemas.values import Shown, Stored

_UNITS = {"volumes": "mL", "voxels": "of the 256 x 256 working grid", "ADC": "10^-6 mm^2/s"}
DISCLAIMER = "For research use only. Not a medical device."


class Answer(Stored):
    """The numbers of one examination, in the order of the table's columns. None: could not be measured; never 0.

    A field that has the name of one of `Prediction` holds the same.
    """

    model_config = ConfigDict(populate_by_name=True)

    examination_id: Shown = Field(alias="Patient")
    brain_voxels: int | None = Field(alias="BrainMaskVoxels")
    stroke_voxels: int | None = Field(alias="StrokeBlobVoxels")
    flair_visible_voxels: float | None = Field(alias="FlairVizVoxels")
    voxel_volume_ml: float = Field(alias="VoxVolume")
    brain_ml: float | None = Field(alias="BrainMaskVolume")
    stroke_ml: float | None = Field(alias="StrokeBlobVolume")
    fvv_ml: float | None = Field(alias="FlairVizVolume")
    decision: DecisionState
    cutoff_ml: float
    minimum_lesion_ml: float
    reasons: tuple[Finding, ...]
    n_models: int
    fvv_min_ml: float | None = Field(alias="FlairVizVolume_min")
    fvv_max_ml: float | None = Field(alias="FlairVizVolume_max")
    fvv_sd_ml: float | None = Field(alias="FlairVizVolume_sd")
    agreement: float | None
    mismatch_probability: float | None
    mismatch_prevalence: float | None = Field(alias="mismatch_probability_prevalence")
    calibration_source: str | None = Field(alias="mismatch_probability_source")
    lesion_adc_median: float | None
    lesion_adc_p10: float | None
    lesion_adc_relative: float | None
    models: Shown
    provider: Shown
    seconds: dict[str, float]
    fvv_per_model_ml: tuple[float, ...] = Field(alias="FlairVizVolume_per_model")

    @classmethod
    def of(cls, prediction: Prediction) -> Answer:
        """The numbers of a prediction."""
        per_model, adc = prediction.fvv_per_model_ml, prediction.lesion_adc or (None, None, None)
        calibrated = prediction.mismatch_probability is not None
        same = {name: getattr(prediction, name) for name in cls.model_fields if hasattr(prediction, name)}
        differing = {
            "brain_ml": prediction.volume_ml(Channel.BRAIN),
            "stroke_ml": prediction.volume_ml(Channel.STROKE),
            "decision": prediction.decision.state,
            "cutoff_ml": prediction.decision.cutoff_ml,
            "minimum_lesion_ml": prediction.decision.minimum_lesion_ml,
            "reasons": prediction.decision.reasons,
            "fvv_min_ml": min(per_model, default=None),
            "fvv_max_ml": max(per_model, default=None),
            "fvv_sd_ml": statistics.stdev(per_model) if len(per_model) > 1 else None,
            "mismatch_prevalence": prediction.mismatch_prevalence if calibrated else None,
            "calibration_source": (prediction.calibration_source or None) if calibrated else None,
            **dict(zip(("lesion_adc_median", "lesion_adc_p10", "lesion_adc_relative"), adc, strict=True)),
            "seconds": {step: round(spent, 3) for step, spent in prediction.seconds.items()},
        }
        return cls.model_validate({**same, **differing})

    @property
    def prediction(self) -> Prediction:
        """The same as the value that passes between steps, without masks."""
        same = {field.name: getattr(self, field.name) for field in fields(Prediction) if hasattr(self, field.name)}
        adc = (self.lesion_adc_median, self.lesion_adc_p10, self.lesion_adc_relative)
        differing = {
            "decision": Decision(self.decision, self.cutoff_ml, self.reasons, self.minimum_lesion_ml),
            "calibration_source": self.calibration_source or "",
            "lesion_adc": None if None in adc else adc,
        }
        return Prediction(**{**same, **differing})

    @classmethod
    def columns(cls) -> dict[str, type]:
        """Name and type (float, int or str) of each column of `row`, in order."""
        named = {field.alias or name: field.annotation for name, field in Answer.model_fields.items()}
        del named["FlairVizVolume_per_model"]
        kinds = {name: {kind, *get_args(kind)} for name, kind in named.items()}
        return {name: next((one for one in (float, int) if one in kind), str) for name, kind in kinds.items()}

    def row(self) -> dict[str, JsonValue]:
        """As a row of a table: reasons by their codes, the sum of all steps' seconds."""
        columns = set(Answer.model_fields) - {"fvv_per_model_ml"}
        content = self.model_dump(mode="json", by_alias=True, include=columns)
        codes = plain("; ".join(reason.code for reason in self.reasons))
        return {**content, "reasons": codes, "seconds": round(sum(self.seconds.values()), 2)}


class PatientResult(Answer, FileModel):
    """What results.json holds.

    Attributes:
        about: what the answer was made from, in words, by label: b-values, voxels, quality checks, models, date.
        lesions: the connected components of the stroke, the largest first.
        made_from: what the answer depends on, by which a later run knows it again.
        finished: whether all of the patient's files are written; the answer holds in either case.
        files: SHA-256 of each of these, by its path relative to the folder of results.json.
    """

    kind: ClassVar = "results"
    schema_version: int = CURRENT["results"]
    units: dict[str, str] = Field(default_factory=_UNITS.copy)
    software: str = f"fvv {__version__}"
    note: str = DISCLAIMER
    about: dict[str, Shown]
    lesions: tuple[Lesion, ...]
    made_from: MadeFrom
    finished: bool
    files: dict[str, str]
