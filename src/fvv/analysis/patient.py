"""How one patient was predicted: a value that goes to JSON and comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from fvv.analysis.metrics import (
    lesion_sizes,
    segmentation_metrics,
    undefined_metrics,
    volume_error_ml,
    volume_error_percent,
)
from fvv.arrays import BoolArray
from fvv.config import DecisionConfig
from fvv.data import Channel, Decision, DecisionState, Participant
from fvv.errors import InputError
from fvv.imaging.decision import answer

VOLUME_METRICS = ("true_volume_ml", "predicted_volume_ml", "volume_error_ml", "volume_error_percent")
"""What `PatientResult.metrics` holds beside `segmentation_metrics`."""


@dataclass(frozen=True, slots=True)
class SingleModelResult:
    """What one model of an ensemble says alone about a patient.

    Attributes:
        fvv_ml: its FVV.
        dice: of each channel by its label; NaN where both masks are empty.
    """

    fvv_ml: float
    dice: dict[str, float]


@dataclass(frozen=True, slots=True)
class PatientResult:
    """How one patient was predicted by a model, or models, that never saw that person.

    Attributes:
        participant: folder name.
        person: the person examined.
        site: hospital or scanner, "" where unknown.
        fold: the fold whose model predicted; None: the whole ensemble did.
        reader_mismatch: the readers' label, None where there is none.
        decision: one of the four answers.
        reasons: codes of the findings behind it.
        true_ml: drawn volume of each channel by its label.
        predicted_ml: predicted volume of each channel; all None where nothing could be measured.
        metrics: of each channel by its label, see `segmentation_metrics`; NaN where undefined, and throughout where
            the models were not run.
        lesions: of stroke and FLAIR-visible, every drawn lesion: its volume in mL, and whether it was found; none where
            the models were not run.
        single_models: what each model of an ensemble says alone; empty for one model.
    """

    participant: str
    person: str
    site: str
    fold: int | None
    reader_mismatch: bool | None
    decision: str
    reasons: tuple[str, ...]
    true_ml: dict[str, float]
    predicted_ml: dict[str, float | None]
    metrics: dict[str, dict[str, float]]
    lesions: dict[str, tuple[tuple[float, bool], ...]]
    single_models: tuple[SingleModelResult, ...] = ()

    @classmethod
    def compare(
        cls,
        participant: Participant,
        fold: int | None,
        decision: Decision,
        *,
        truth: Mapping[Channel, BoolArray],
        predicted: Mapping[Channel, BoolArray] | None,
        spacing_mm: tuple[float, float, float],
        true_ml: dict[str, float],
        predicted_ml: dict[str, float],
        single_models: tuple[SingleModelResult, ...] = (),
    ) -> Self:
        """Measure a prediction against what was drawn.

        Args:
            participant: who.
            fold: whose model; None: the ensemble.
            decision: the answer given; where it is not assessable, no predicted volume is kept.
            truth: (i, j, k) bool mask of each channel on the native grid.
            predicted: the same, predicted; None where quality control refused the images and no model was run: nothing
                was missed then, for nothing was looked for.
            spacing_mm: voxel edges of that grid.
            true_ml: drawn volumes as prepared.
            predicted_ml: predicted volumes as reported to users; none are looked at where nothing is measured.
            single_models: what each model of an ensemble says alone.
        """
        measured = decision.state is not DecisionState.NOT_ASSESSABLE
        metrics, lesions = {}, {}
        for channel in Channel:
            drawn_ml = true_ml[channel.label]
            found_ml = predicted_ml[channel.label] if measured else math.nan
            overlap = undefined_metrics()
            found: list[tuple[float, bool]] = []
            if predicted is not None:
                overlap = segmentation_metrics(truth[channel], predicted[channel], spacing_mm)
                found = lesion_sizes(truth[channel], predicted[channel], math.prod(spacing_mm) / 1000.0)
            lesions[channel.label] = tuple(found)
            metrics[channel.label] = {
                **overlap,
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
            predicted_ml={name: predicted_ml[name] if measured else None for name in true_ml},
            metrics=metrics,
            lesions={channel.label: lesions[channel.label] for channel in (Channel.STROKE, Channel.FLAIR_VISIBLE)},
            single_models=single_models,
        )

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Read back what `jsonable` made of a result.

        Raises:
            InputError: it is not what this version writes.
        """
        try:
            return cls._from_json(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not a result this version reads: {type(error).__name__}: {error}") from error

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> Self:
        labels = [channel.label for channel in Channel]
        names = [*undefined_metrics(), *VOLUME_METRICS]
        metrics = {channel: {name: _number(content["metrics"][channel][name]) for name in names} for channel in labels}
        lesions = {
            channel: tuple((float(volume), bool(found)) for volume, found in content["lesions"][channel])
            for channel in (Channel.STROKE.label, Channel.FLAIR_VISIBLE.label)
        }
        single_models = tuple(
            SingleModelResult(float(one["fvv_ml"]), {name: _number(one["dice"][name]) for name in labels})
            for one in content["single_models"]
        )
        predicted = {name: content["predicted_ml"][name] for name in labels}
        return cls(
            participant=str(content["participant"]),
            person=str(content["person"]),
            site=str(content["site"]),
            fold=None if content["fold"] is None else int(content["fold"]),
            reader_mismatch=None if content["reader_mismatch"] is None else bool(content["reader_mismatch"]),
            decision=DecisionState(content["decision"]).value,
            reasons=tuple(str(reason) for reason in content["reasons"]),
            true_ml={name: float(content["true_ml"][name]) for name in labels},
            predicted_ml={name: None if value is None else float(value) for name, value in predicted.items()},
            metrics=metrics,
            lesions=lesions,
            single_models=single_models,
        )

    def decided_with(self, config: DecisionConfig) -> Self:
        """The same measurement under another cut-off: the answer is made anew, nothing is measured again."""
        stroke_ml, fvv_ml = self.predicted_ml[Channel.STROKE.label], self.fvv_ml
        if stroke_ml is None or fvv_ml is None:
            return self
        state, code = answer(stroke_ml, fvv_ml, config)
        if self.reasons[:1] == (code,):
            return self
        # The answer's own code comes first and may be followed by a word on its models; what quality control found
        # stays.
        found = (reason for reason in self.reasons[1:] if reason != "models-disagree")
        return replace(self, decision=state.value, reasons=(code, *found))

    @property
    def fvv_ml(self) -> float | None:
        """Predicted FVV; None where it could not be measured."""
        return self.predicted_ml[Channel.FLAIR_VISIBLE.label]

    @property
    def segmented(self) -> bool:
        """Whether the models were run, whatever they found."""
        return not math.isnan(self.metrics[Channel.STROKE.label]["true_positive_ml"])

    @property
    def true_visible_fraction(self) -> float:
        """Share of the drawn lesion that is FLAIR-visible; NaN without a lesion."""
        lesion = self.true_ml[Channel.STROKE.label]
        return self.true_ml[Channel.FLAIR_VISIBLE.label] / lesion if lesion else math.nan


def _number(value: float | None) -> float:
    """A number as JSON holds it: null is NaN."""
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r}")
    return value  # A count stays a whole number.


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
