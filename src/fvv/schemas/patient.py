"""`patients/<examination>.json` of an evaluation: how one examination was predicted."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from fvv.data import DecisionState
from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT
from fvv.schemas.values import ByChannel, Count, Number, Stored


class MaskMetrics(Stored):
    """A predicted mask against the reference mask; docs/explanation/metrics.md defines every number.

    NaN where undefined, and throughout where the models were not run. The four parts of the overlap are in mL, so that
    examinations with voxels of different size add up.
    """

    dice_coefficient: Number = math.nan
    intersection_over_union: Number = math.nan
    accuracy: Number = math.nan
    balanced_accuracy: Number = math.nan
    sensitivity: Number = math.nan
    specificity: Number = math.nan
    precision: Number = math.nan
    hausdorff_distance_95_mm: Number = math.nan
    average_surface_distance_mm: Number = math.nan
    lesion_f1: Number = math.nan
    lesions_detected: Count = math.nan
    lesions_missed: Count = math.nan
    lesions_false_positive: Count = math.nan
    true_positive_ml: Number = math.nan
    false_positive_ml: Number = math.nan
    false_negative_ml: Number = math.nan
    true_negative_ml: Number = math.nan


class ChannelResult(MaskMetrics):
    """One channel of an examination.

    Attributes:
        reference_volume_ml: as prepared; NaN where nobody outlined this channel, which no number is then about.
        predicted_volume_ml: as reported to users; NaN where nothing was measured.
        volume_error_ml, volume_error_percent: predicted minus reference.
        lesions: volume of every lesion of the reference in mL, and whether it was found; none where the models were
            not run.
    """

    reference_volume_ml: Number
    predicted_volume_ml: Number
    volume_error_ml: Number
    volume_error_percent: Number
    lesions: tuple[tuple[float, bool], ...] = ()

    @property
    def compared(self) -> bool:
        """Whether there were a predicted and a reference mask to compare."""
        return not math.isnan(self.true_positive_ml)


METRICS = tuple(name for name in ChannelResult.model_fields if name != "lesions")
"""Names of the numbers of a channel."""


class PatientResult(ByChannel[ChannelResult]):
    """How one examination was predicted by a model, or models, that never saw that person.

    Attributes:
        examination_id: name of the folder of the examination.
        site: hospital or scanner, "" where unknown.
        fold: the fold whose model predicted; None: the whole ensemble did.
        reader_mismatch: the readers' label, None where there is none.
        reasons: codes of the findings behind it, that of the answer first.
        relative_dwi_iqr, relative_adc: of the predicted stroke (`fvv.imaging.lesion_signal`); NaN where not measured,
            and in files of version 1.
        fvv_per_model_ml: FVV of each model within the predicted stroke, mL; none where not measured, and in files of
            versions 1 and 2.
        own_metrics: metrics of the user's own (`EvaluateConfig.metrics`), by name.
    """

    examination_id: str
    person_id: str
    site: str
    fold: int | None
    reader_mismatch: bool | None
    decision: DecisionState
    reasons: tuple[str, ...]
    relative_dwi_iqr: Number = math.nan
    relative_adc: Number = math.nan
    fvv_per_model_ml: tuple[float, ...] = ()
    own_metrics: dict[str, Number] = Field(default_factory=dict)

    @property
    def fvv_ml(self) -> float | None:
        """Predicted FVV; None where it could not be measured."""
        volume = self.flair_visible.predicted_volume_ml
        return None if math.isnan(volume) else volume

    @property
    def segmented(self) -> bool:
        """Whether the models were run, whatever they found."""
        return self.brain.compared

    @property
    def stroke_free(self) -> bool:
        """Whether the reference holds no lesion: all that is predicted is false."""
        return self.stroke.reference_volume_ml == 0

    @property
    def visible_fraction(self) -> float | None:
        """FLAIR-visible share of the reference lesion; NaN without a lesion, None where one of the masks is unknown."""
        if self.stroke_free:
            return math.nan
        share = self.flair_visible.reference_volume_ml / self.stroke.reference_volume_ml
        return None if math.isnan(share) else share


class PatientRecord(FileModel):
    """The file.

    Attributes:
        source_sha256: hash of everything the result depends on.
        files: SHA-256 of the examination's other files, by their path in the folder.
    """

    kind: ClassVar[str] = "patient"
    schema_version: int = CURRENT["patient"]
    source_sha256: str
    files: dict[str, str]
    result: PatientResult
