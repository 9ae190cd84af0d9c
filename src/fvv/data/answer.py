"""What the models say about an examination: the fused segmentation, the decision, the prediction."""

from __future__ import annotations

import html
from dataclasses import dataclass, field, replace
from enum import Enum

from fvv.arrays import BoolArray, FloatArray, UInt8Array
from fvv.data.channels import Channel
from fvv.data.findings import Finding
from fvv.data.space import Volume


class DecisionState(Enum):
    """The four answers, never a fifth."""

    MISMATCH_LIKELY = "mismatch likely"
    MISMATCH_UNLIKELY = "mismatch unlikely"
    NO_LESION_FOUND = "no lesion found"
    NOT_ASSESSABLE = "not assessable"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is said about a patient, and why.

    Attributes:
        state: one of the four answers.
        cutoff_ml: the FVV under which a mismatch is called likely.
        reasons: the findings that led there, or that the reader should know.
        minimum_lesion_ml: a stroke of no more than this counted as no lesion.

    Examples:
        >>> import fvv
        >>> fvv.Decision(fvv.DecisionState.NO_LESION_FOUND, cutoff_ml=0.5).state.value
        'no lesion found'
    """

    state: DecisionState
    cutoff_ml: float
    reasons: tuple[Finding, ...] = ()
    minimum_lesion_ml: float = 0.0


@dataclass(frozen=True, slots=True)
class FusedSegmentation:
    """What n models say together about one patient, on the working grid.

    Attributes:
        n_models: number of models fused.
        brain, stroke: (256, 256, slices) bool, majority votes; stroke lies within brain.
        flair_visible_votes: (256, 256, slices) uint8, number of models (0..n) inside the stroke.
        flair_visible_voxels: mean over models of the FLAIR-visible voxels inside the stroke.
        flair_visible_voxels_per_model: the same for each model, in model order.
        findings: what the post-processing removed, could not judge or doubts.
        stroke_votes: (256, 256, slices) uint8, number of models (0..n) that call a voxel of the stroke stroke.
    """

    n_models: int
    brain: BoolArray
    stroke: BoolArray
    flair_visible_votes: UInt8Array
    flair_visible_voxels: float
    flair_visible_voxels_per_model: tuple[int, ...]
    findings: tuple[Finding, ...] = ()
    stroke_votes: UInt8Array | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one patient. Volumes are None where nothing could be measured: never 0.

    Attributes:
        examination_id: name of its folder.
        decision: the answer and its reasons.
        voxel_volume_ml: volume of one working-grid voxel.
        brain_voxels, stroke_voxels, flair_visible_voxels: counts on the working grid, as the reference reports them.
        brain, stroke: (i, j, k) bool on the native grid.
        flair_visible_votes: (i, j, k) uint8 on the native grid, 0..n_models.
        stroke_votes: (i, j, k) uint8 on the native grid, models that call a voxel stroke, 0..n_models.
        adc: (i, j, k) float32 on the native grid, mm^2/s, NaN where not measured; None: no common gain.
        fvv_per_model_ml: FVV of each model, within the fused stroke.
        mismatch_probability: P(mismatch), where the models are calibrated.
        calibration_source: patients the curve behind it was fitted on: "simulated", "people", "unknown"; "" without
            P(mismatch).
        mismatch_prevalence: share of mismatches among strokes for which P(mismatch) holds; None where unknown.
        lesion_adc: median, 10th percentile (10^-6 mm^2/s) and median relative to the brain of the ADC in the stroke.
        provider: the onnxruntime provider that really ran.
        models: which models ran, and what their bundle wants everybody to know of them.
        seconds: time of each step.
        b1000: (i, j, k) image that the masks lie on, for `fvv.plot`; from `fvv.predict` alone, None in a cohort's run.

    Examples:
        >>> import fvv
        >>> decision = fvv.Decision(fvv.DecisionState.MISMATCH_LIKELY, cutoff_ml=0.5)
        >>> fvv.Prediction("anna", decision, n_models=3, voxel_volume_ml=0.01, flair_visible_voxels=20).fvv_ml
        0.2
    """

    examination_id: str
    decision: Decision
    n_models: int
    voxel_volume_ml: float
    brain_voxels: int | None = None
    stroke_voxels: int | None = None
    flair_visible_voxels: float | None = None
    brain: BoolArray | None = None
    stroke: BoolArray | None = None
    flair_visible_votes: UInt8Array | None = None
    stroke_votes: UInt8Array | None = None
    adc: FloatArray | None = None
    fvv_per_model_ml: tuple[float, ...] = ()
    mismatch_probability: float | None = None
    calibration_source: str = ""
    mismatch_prevalence: float | None = None
    lesion_adc: tuple[float, float, float] | None = None
    provider: str = ""
    models: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    b1000: Volume | None = None

    def volume_ml(self, channel: Channel) -> float | None:
        """Volume of a channel in mL; None where it could not be measured."""
        voxels = {
            Channel.BRAIN: self.brain_voxels,
            Channel.STROKE: self.stroke_voxels,
            Channel.FLAIR_VISIBLE: self.flair_visible_voxels,
        }[channel]
        return None if voxels is None else float(voxels) * self.voxel_volume_ml

    @property
    def fvv_ml(self) -> float | None:
        """FLAIR Visibility Volume in mL; None where it could not be measured."""
        return self.volume_ml(Channel.FLAIR_VISIBLE)

    def at_prevalence(self, prevalence: float | None) -> Prediction:
        """The same with P(mismatch) for another prevalence (Bayes' rule on the odds); None: as it is.

        Where the prevalence it holds for is unknown, there is no P(mismatch) for another one.
        """
        if prevalence is None or self.mismatch_probability is None:
            return self
        here = self.mismatch_prevalence
        if here is None:
            return replace(self, mismatch_probability=None, calibration_source="")
        change = prevalence / (1 - prevalence) * (1 - here) / here
        changed = self.mismatch_probability * change
        return replace(
            self,
            mismatch_probability=changed / (changed + 1 - self.mismatch_probability),
            mismatch_prevalence=prevalence,
        )

    def without_images(self) -> Prediction:
        """The numbers alone, for tables of a whole cohort."""
        return replace(self, brain=None, stroke=None, flair_visible_votes=None, stroke_votes=None, adc=None, b1000=None)

    def _repr_html_(self) -> str:
        """A small table for notebooks; every text in it is escaped."""
        volumes = {channel.title: self.volume_ml(channel) for channel in Channel}
        probability, fitted_on = self.mismatch_probability, self.calibration_source or "unknown"
        rows = [
            ("Answer", f"{self.decision.state.value} (cut-off {self.decision.cutoff_ml:g} mL)"),
            *((title, "not measured" if ml is None else f"{ml:.3g} mL") for title, ml in volumes.items()),
            *([] if probability is None else [("P(mismatch)", f"{probability:.2f} (fitted on: {fitted_on})")]),
            ("Models", self.models or str(self.n_models)),
            *((f"{one.severity.value}: {one.code}", one.message) for one in self.decision.reasons),
        ]
        cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows)
        title = f"<caption>{html.escape(self.examination_id)} (for research use only)</caption>"
        return f'<table style="text-align:left">{title}{cells}</table>'

    @property
    def agreement(self) -> float | None:
        """Share of the models whose FVV within the fused stroke lies on the same side of the cut-off.

        None where nothing was measured. It says nothing of how far their strokes agree.
        """
        if self.fvv_ml is None or not self.fvv_per_model_ml:
            return None
        cutoff = self.decision.cutoff_ml
        same = [(fvv < cutoff) == (self.fvv_ml < cutoff) for fvv in self.fvv_per_model_ml]
        return sum(same) / len(same)
