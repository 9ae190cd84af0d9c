"""bundle.json: what a folder of ONNX models says of itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from fvv.config import PROFILES, PostprocessConfig, PreprocessingProfile
from fvv.errors import ConfigError
from fvv.schemas.base import FileModel
from fvv.schemas.checkpoint import Parent
from fvv.schemas.migrations import CURRENT
from fvv.schemas.values import Shown, Stored


def _inside(name: str) -> str:
    if Path(name).name != name:
        raise ValueError(f"file {name!r} lies outside the bundle")
    return name


class BundleFile(Stored):
    """A file of the bundle and its hash."""

    file: Annotated[Shown, AfterValidator(_inside)]
    sha256: str


class Parity(Stored):
    """How far onnxruntime is from PyTorch, on whole volumes that the model was not trained on.

    Attributes:
        largest_slab_difference: between a slab of seven slices and the same slice of its volume.
        sign_flips: voxels that only one of the two calls predicted.
        stroke_dice: between the strokes of both, all voxels together; 1 where both are empty.
    """

    patients: int
    voxels: int
    largest_logit_difference: float
    largest_slab_difference: float
    sign_flips: int
    stroke_dice: float
    lowest_stroke_dice: float
    largest_fvv_difference_ml: float
    decisions_changed: int


class ModelEntry(BundleFile):
    """One model of a bundle.

    Attributes:
        fold: the fold it was trained on; -1: everybody in the split (`fvv.data.ALL_FOLDS`); None in the published
            format.
        run_id, epoch, score: where the weights come from.
        parent: the weights that its training started from; None: random ones, or nobody knows.
        trained_on: hashed persons and images that it, or its parent, was trained or selected on
            (`fvv.data.hashed_ids`).
        selected_on: those of them whose scores chose an epoch, and on whom no weight was trained; empty: unknown.
        parity: of onnxruntime and PyTorch; None where it was not measured.
    """

    fold: int | None = None
    run_id: str = ""
    epoch: int | None = None
    score: float | None = None
    parent: Parent | None = None
    trained_on: tuple[str, ...] = ()
    selected_on: tuple[str, ...] = ()
    parity: Parity | None = None


class Calibration(Stored):
    """From FVV to the probability of a mismatch: a logistic curve on log(FVV + pseudo-volume).

    Attributes:
        intercept, slope: of the curve; FVV in mL, natural logarithm.
        pseudo_volume_ml: added to FVV, so that 0 mL has a logarithm.
        lowest, highest: no probability beyond these is given: the patients it was fitted on were too few to show one.
        fitted_on: whether those were simulated or people.
        prevalence: share of them with a mismatch; None: unknown. The probability holds at this prevalence.
    """

    intercept: float = Field(allow_inf_nan=False)
    slope: float = Field(allow_inf_nan=False)
    pseudo_volume_ml: float = Field(gt=0, allow_inf_nan=False)
    lowest: float = Field(0.0, ge=0, le=1)
    highest: float = Field(1.0, ge=0, le=1)
    fitted_on: Literal["simulated", "people", "unknown"] = "unknown"
    patients: int | None = Field(None, ge=1)
    prevalence: float | None = Field(None, gt=0, lt=1)

    def mismatch_probability(self, fvv_ml: float, prevalence: float | None = None) -> float:
        """P(mismatch) at an FVV.

        Args:
            prevalence: share of patients with a mismatch where it is used, between 0 and 1; the odds change by Bayes'
                rule. None: as where it was fitted.

        Raises:
            ConfigError: another prevalence is asked for, and the calibration does not say its own; or it is no share.
        """
        log_odds = self.intercept + self.slope * math.log(fvv_ml + self.pseudo_volume_ml)
        fitted = min(max(_logistic(log_odds), self.lowest), self.highest)
        if prevalence is None:
            return fitted
        if not 0 < prevalence < 1:
            raise ConfigError(f"prevalence is {prevalence:g}, expected a share between 0 and 1")
        if self.prevalence is None:
            raise ConfigError(
                "the calibration does not say at which prevalence it was fitted, so P(mismatch) is unknown at another",
                hint="calibrate the models again",
            )
        if fitted in {0.0, 1.0}:
            return fitted
        return _logistic(_log_odds(fitted) + _log_odds(prevalence) - _log_odds(self.prevalence))


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _logistic(log_odds: float) -> float:
    """In a form that no steepness overflows."""
    return 0.5 + 0.5 * math.tanh(log_odds / 2)


class BundleManifest(FileModel):
    """What bundle.json holds."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    kind: ClassVar[str] = "bundle"
    schema_version: int = CURRENT["bundle"]
    software: Shown
    run_name: Shown
    notice: Shown = ""
    """What everybody who uses the models should know; said at every prediction."""
    network: Shown = ""
    """Class of the network that was trained, "package.module:Name"; empty: that of fvv, or unknown."""
    profile: PreprocessingProfile
    calibration: Calibration | None = None
    """From FVV to the probability of a mismatch, fitted out of fold; None: no probability is given."""
    intensity_range: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Lowest and highest value in the training cohort of each feature of `fvv.imaging.quality.usual`; a new patient
    far outside is warned about. Empty: unknown."""
    postprocess: PostprocessConfig = PostprocessConfig()
    """What counts as FLAIR-visible and what is removed from the fused stroke, unless the caller says otherwise."""
    models: tuple[ModelEntry, ...]
    golden: BundleFile | None = None
    """A small input and what each model gave for it where it was converted (see `fvv doctor`)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.profile.name not in PROFILES:
            raise ValueError(f"made for profile {self.profile.name!r}, this version knows {', '.join(PROFILES)}")
        if not self.models:
            raise ValueError("the bundle names no model")
        folds = [model.fold for model in self.models if model.fold is not None]
        if len(set(folds)) != len(folds):
            raise ValueError(f"expected one model per fold, the bundle has folds {folds}")
        return self

    def description(self, n_models: int) -> str:
        """How many of the models ran, in one line."""
        notice = f"; {self.notice}" if self.notice else ""
        return f"{self.run_name} ({n_models} of {len(self.models)} models{notice})"

    def postprocessing(self, asked: PostprocessConfig | None) -> PostprocessConfig:
        """Post-processing: as the models' makers say, but for the settings that the user named."""
        named = {} if asked is None else {step: getattr(asked, step) for step in asked.model_fields_set}
        return self.postprocess.model_copy(update=named)

    @property
    def models_sha256(self) -> dict[str, str]:
        """Hash of every model file, by name."""
        return {model.file: model.sha256 for model in self.models}
