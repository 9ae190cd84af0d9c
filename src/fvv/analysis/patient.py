"""How one patient was predicted: a value that goes to JSON and comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from fvv.analysis.metrics import segmentation_metrics, volume_error_ml, volume_error_percent
from fvv.arrays import BoolArray
from fvv.data import Channel, Decision, DecisionState, Participant


@dataclass(frozen=True, slots=True)
class PatientResult:
    """How one patient was predicted by the model that never saw that person.

    Attributes:
        participant: folder name.
        person: the person examined.
        site: hospital or scanner, "" where unknown.
        fold: the fold whose model predicted.
        reader_mismatch: the readers' label, None where there is none.
        decision: one of the four answers.
        reasons: codes of the findings behind it.
        true_ml: drawn volume of each channel by its label.
        predicted_ml: predicted volume of each channel; all None where nothing could be measured.
        metrics: of each channel by its label, see `segmentation_metrics`; NaN where undefined.
    """

    participant: str
    person: str
    site: str
    fold: int
    reader_mismatch: bool | None
    decision: str
    reasons: tuple[str, ...]
    true_ml: dict[str, float]
    predicted_ml: dict[str, float | None]
    metrics: dict[str, dict[str, float]]

    @classmethod
    def compare(
        cls,
        participant: Participant,
        fold: int,
        decision: Decision,
        *,
        truth: Mapping[Channel, BoolArray],
        predicted: Mapping[Channel, BoolArray],
        spacing_mm: tuple[float, float, float],
        true_ml: dict[str, float],
        predicted_ml: dict[str, float],
    ) -> Self:
        """Measure a prediction against what was drawn.

        Args:
            participant: who.
            fold: whose model.
            decision: the answer given; where it is not assessable, no predicted volume is kept.
            truth: (i, j, k) bool mask of each channel on the native grid.
            predicted: the same, predicted.
            spacing_mm: voxel edges of that grid.
            true_ml: drawn volumes as prepared.
            predicted_ml: predicted volumes as reported to users.
        """
        measured = decision.state is not DecisionState.NOT_ASSESSABLE
        metrics = {}
        for channel in Channel:
            drawn_ml = true_ml[channel.label]
            found_ml = predicted_ml[channel.label] if measured else math.nan
            metrics[channel.label] = {
                **segmentation_metrics(truth[channel], predicted[channel], spacing_mm),
                "true_volume_ml": drawn_ml,
                "predicted_volume_ml": found_ml,
                "volume_error_ml": volume_error_ml(drawn_ml, found_ml),
                "volume_error_percent": volume_error_percent(drawn_ml, found_ml),
            }
        return cls(
            participant=participant.participant,
            person=participant.person,
            site=participant.site,
            fold=fold,
            reader_mismatch=participant.dwi_flair_mismatch,
            decision=decision.state.value,
            reasons=tuple(finding.code for finding in decision.reasons),
            true_ml=true_ml,
            predicted_ml={name: volume if measured else None for name, volume in predicted_ml.items()},
            metrics=metrics,
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read back what `jsonable` made of a result."""
        metrics = {
            channel: {name: math.nan if value is None else value for name, value in values.items()}
            for channel, values in content["metrics"].items()
        }
        return cls(**{**content, "reasons": tuple(content["reasons"]), "metrics": metrics})

    @property
    def fvv_ml(self) -> float | None:
        """Predicted FVV; None where it could not be measured."""
        return self.predicted_ml[Channel.FLAIR_VISIBLE.label]

    @property
    def true_visible_fraction(self) -> float:
        """Share of the drawn lesion that is FLAIR-visible; NaN without a lesion."""
        lesion = self.true_ml[Channel.STROKE.label]
        return self.true_ml[Channel.FLAIR_VISIBLE.label] / lesion if lesion else math.nan


def jsonable(value: Any) -> Any:
    """The same in JSON's types: dataclasses as objects, tuples as lists, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "__dataclass_fields__"):
        return jsonable(asdict(value))
    return value


def metric_rows(patients: Sequence[PatientResult]) -> list[dict[str, Any]]:
    """Every metric of every patient and channel, one a row; None where undefined."""
    return [
        {
            "participant": patient.participant,
            "fold": patient.fold,
            "channel": channel,
            "metric": name,
            "value": jsonable(value),
        }
        for patient in patients
        for channel, metrics in patient.metrics.items()
        for name, value in metrics.items()
    ]


def patient_row(patient: PatientResult, *, mismatch: bool | None) -> dict[str, Any]:
    """A patient as one flat row.

    Args:
        patient: the result.
        mismatch: the label used for the marker, None where there is none.
    """
    return {
        "participant": patient.participant,
        "person": patient.person,
        "site": patient.site or None,
        "fold": patient.fold,
        "decision": patient.decision,
        "reasons": "; ".join(patient.reasons),
        "mismatch": None if mismatch is None else int(mismatch),
        "true_visible_fraction": jsonable(patient.true_visible_fraction),
        **{f"{channel.label}_true_ml": patient.true_ml[channel.label] for channel in Channel},
        **{f"{channel.label}_predicted_ml": patient.predicted_ml[channel.label] for channel in Channel},
        **{
            f"{channel.label}_dice": jsonable(patient.metrics[channel.label]["dice_coefficient"]) for channel in Channel
        },
    }
