"""A folder of ONNX models and what they need to be used rightly.

Ours has a `bundle.json`: the preprocessing the models expect, each file's hash, fold and the hashed ids of those it was
trained on. A folder in the published format has only `model1.onnx` ... `modelN.onnx`, and means `reference-v1`.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fvv.config import (
    PROFILES,
    DecisionConfig,
    EvaluateConfig,
    PostprocessConfig,
    Precision,
    PrecisionChoice,
    PreprocessingProfile,
)
from fvv.errors import ConfigError, InputError, ModelError
from fvv.io.atomic import write_text
from fvv.names import plain
from fvv.system.fingerprint import file_sha256 as file_sha256
from fvv.system.regular import read_regular_text, refuse_irregular

SCHEMA_VERSION = 1
BUNDLE_FILE = "bundle.json"
_PUBLISHED_NAME = re.compile(r"model(\d+)\.onnx")
_Shown = Annotated[str, AfterValidator(plain)]
"""Words of the bundle's maker that are printed: on one line, without control characters."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BundleFile(_Entry):
    """A file of the bundle and its hash."""

    file: _Shown
    sha256: str


class QuantisedModel(BundleFile):
    """The INT8 form of a model.

    Attributes:
        calibrated_on: hashed images that showed the range of its activations; training images of its fold.
        checks: how it compared with float32 on patients it was not calibrated on.
    """

    calibrated_on: tuple[str, ...]
    checks: dict[str, float]


class ModelEntry(BundleFile):
    """One model of a bundle.

    Attributes:
        file: name inside the bundle's folder.
        sha256: hash of the file.
        fold: the fold it was trained on; None in the published format.
        run_id, epoch, score: where the weights come from.
        trained_on: hashed persons and images it was trained or selected on (`fvv.data.hashed_ids`).
        checks: how onnxruntime compared with PyTorch.
        int8: the same model in 8 bits, where conversion was asked for it.
    """

    fold: int | None = None
    run_id: str = ""
    epoch: int | None = None
    score: float | None = None
    trained_on: tuple[str, ...] = ()
    checks: dict[str, float] = {}
    int8: QuantisedModel | None = None


class Budget(_Entry):
    """What a part of the ensemble, or 8 bits, costs; measured on patients that no model has seen.

    Attributes:
        folds: models fused.
        precision: of the weights.
        patients: how many were looked at.
        stroke_dice, flair_visible_dice: mean over patients, against what was drawn; None where defined for nobody.
        fvv_error_ml: mean absolute difference from the drawn FVV; None where nobody was assessable.
        decisions_changed: patients whose decision is another than the whole ensemble's in float32; not assessable is
            a decision too.
        not_assessable: patients without an answer, in none of the means. 0 also where it was measured before these
            were told apart.
    """

    folds: int
    precision: Precision
    patients: int
    stroke_dice: float | None
    flair_visible_dice: float | None
    fvv_error_ml: float | None
    decisions_changed: int
    not_assessable: int = 0


class Calibration(_Entry):
    """From FVV to the probability of a mismatch: a logistic curve on log(FVV + pseudo-volume).

    Attributes:
        intercept, slope: of the curve; FVV in mL, natural logarithm.
        pseudo_volume_ml: added to FVV, so that 0 mL has a logarithm.
        lowest, highest: no probability beyond these is given: the patients it was fitted on were too few to show one.
        fitted_on: whether those were simulated or people.
        patients: how many there were; None: unknown.
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
            fvv_ml: mL.
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


class BundleManifest(_Entry):
    """What bundle.json holds."""

    schema_version: int = SCHEMA_VERSION
    software: _Shown
    run_name: _Shown
    notice: _Shown = ""
    """What everybody who uses the models should know; said at every prediction."""
    profile: PreprocessingProfile
    channels: tuple[str, ...]
    cutoff_ml: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The bundle's own cut-off, where one was found; else the caller's."""
    calibration: Calibration | None = None
    """From FVV to the probability of a mismatch, fitted out of fold; None: no probability is given."""
    intensity_range: dict[str, tuple[float, float]] = {}
    """Lowest and highest value in the training cohort of each feature of `fvv.imaging.quality.usual`; a new patient
    far outside is warned about. Empty: unknown."""
    postprocess: PostprocessConfig = PostprocessConfig()
    """What is taken out of the fused stroke, unless the caller says otherwise."""
    models: tuple[ModelEntry, ...]
    int8_only: bool = False
    """The float32 files were left out to save space; the models' hashes still name them."""
    golden: BundleFile | None = None
    """A small input and what each model made of it where it was converted (see `fvv doctor`)."""
    fused: dict[Precision, BundleFile] = {}
    """All models in one graph, where conversion was asked for it."""
    budgets: tuple[Budget, ...] = ()
    """What `--folds`, `--fast` and INT8 cost, where it was measured."""

    def description(self, n_models: int, precision: Precision) -> str:
        """Which of these models ran, in one line.

        Args:
            n_models: how many of them.
            precision: of their weights.
        """
        told = f"; {self.notice}" if self.notice else ""
        return f"{self.run_name} ({n_models} of {len(self.models)} models, {precision}{told})"

    def decision(self, asked: DecisionConfig) -> DecisionConfig:
        """The settings of the decision: the models' own cut-off holds unless the user named one."""
        if self.cutoff_ml is None or "cutoff_ml" in asked.model_fields_set:
            return asked
        return asked.model_copy(update={"cutoff_ml": self.cutoff_ml})

    def postprocessing(self, asked: PostprocessConfig | None) -> PostprocessConfig:
        """What is taken out of the stroke: as the models' makers say, but for the steps that the user named."""
        named = {} if asked is None else {step: getattr(asked, step) for step in asked.model_fields_set}
        return self.postprocess.model_copy(update=named)


class ModelBundle:
    """A checked bundle: every file there, unchanged, and of a preprocessing this version knows."""

    def __init__(self, path: Path, manifest: BundleManifest) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def profile(self) -> PreprocessingProfile:
        """The preprocessing the models expect."""
        return self.manifest.profile

    @property
    def models(self) -> tuple[ModelEntry, ...]:
        """The models, in file order."""
        return self.manifest.models

    def form(self, model: ModelEntry, precision: Precision = "fp32") -> BundleFile:
        """The file, and its hash, that holds a model in a precision.

        Raises:
            ModelError: the bundle holds no such form of it.
        """
        if precision == "fp32" and not self.manifest.int8_only:
            return model
        if precision == "fp32":
            raise ModelError("holds 8-bit models only", file=self.path, hint="leave --precision out, or use int8")
        if model.int8 is None:
            raise ModelError(
                f"{model.file} has no {precision} form",
                file=self.path,
                hint="convert again with --int8, or use --precision fp32",
            )
        return model.int8

    def file(self, model: ModelEntry, precision: Precision = "fp32") -> Path:
        """Path of that file.

        Raises:
            ModelError: the bundle holds no such form of it.
        """
        return self.path / self.form(model, precision).file

    def models_sha256(self, precision: Precision) -> dict[str, str]:
        """Hash of every model in the form that runs, by file: float32 and 8 bits of one model may say different things.

        Raises:
            ModelError: the bundle holds no such form of a model.
        """
        forms = [self.form(model, precision) for model in self.models]
        return {form.file: form.sha256 for form in forms}

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """In which all models are there, the most precise first."""
        found: list[Precision] = [] if self.manifest.int8_only else ["fp32"]
        return (*found, "int8") if all(model.int8 for model in self.models) else tuple(found)

    def precision(self, asked: PrecisionChoice) -> Precision:
        """The precision that is meant."""
        return self.precisions[0] if asked == "auto" else asked

    def completed(self, config: EvaluateConfig) -> EvaluateConfig:
        """The settings with what they leave to the bundle filled in."""
        chosen = {
            "precision": self.precision(config.precision),
            "postprocess": self.manifest.postprocessing(config.postprocess),
            "decision": self.manifest.decision(config.decision),
        }
        return config.model_copy(update=chosen)

    def fused(self, precision: Precision) -> Path | None:
        """Path of the graph that holds all models; None where there is none."""
        entry = self.manifest.fused.get(precision)
        return None if entry is None else self.path / entry.file

    def part(self, folds: int) -> tuple[ModelEntry, ...]:
        """The first models of the bundle; 0: all.

        Raises:
            ModelError: more are asked for than there are.
        """
        if folds > len(self.models):
            raise ModelError(f"{folds} folds asked for, the bundle has {len(self.models)}", file=self.path)
        return self.models[:folds] if folds else self.models

    def cost_of(self, folds: int, precision: Precision) -> str:
        """What is known of the cost of a part of the ensemble, as a sentence."""
        for budget in self.manifest.budgets:
            if (budget.folds, budget.precision) == (folds, precision):
                dice = "not defined" if budget.stroke_dice is None else f"{budget.stroke_dice:.3f}"
                error = "not defined" if budget.fvv_error_ml is None else f"{budget.fvv_error_ml:.2f} mL"
                unknown = f" ({budget.not_assessable} not assessable)" if budget.not_assessable else ""
                return (
                    f"measured on {budget.patients} patients{unknown}: stroke Dice {dice}, FVV error {error}, "
                    f"{budget.decisions_changed} decisions unlike the whole ensemble's"
                )
        return "what this costs in accuracy was not measured for these models"

    def model_of_fold(self, fold: int) -> ModelEntry:
        """The model trained on a fold.

        Raises:
            ModelError: none, or more than one.
        """
        found = [model for model in self.models if model.fold == fold]
        if len(found) != 1:
            raise ModelError(f"{len(found)} models for fold {fold}, expected one", file=self.path)
        return found[0]

    @classmethod
    def open(cls, path: Path) -> ModelBundle:
        """Open a folder of models.

        Raises:
            InputError: a file of it is no regular file, or cannot be read.
            ModelError: no models, a file missing or changed since conversion, or a profile this version does not know.
        """
        if not path.is_dir():
            hint = "run `fvv convert` first, or name a folder of models with -m"
            raise ModelError("no such folder", file=path, hint=hint)
        _refuse_special_files(path)
        if not os.path.lexists(path / BUNDLE_FILE):
            return cls(path, _published(path))
        manifest = _read_manifest(path / BUNDLE_FILE)
        for entry in _files(manifest):
            _check_file(path, entry)
        return cls(path, manifest)


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write bundle.json into a folder of models."""
    write_text(folder / BUNDLE_FILE, manifest.model_dump_json(indent=2) + "\n")


def _read_manifest(file: Path) -> BundleManifest:
    try:
        manifest = BundleManifest.model_validate_json(read_regular_text(file))
    except ValidationError as error:
        first: Any = error.errors()[0]
        found = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise ModelError(f"not a bundle this version reads: {plain(found)}", file=file) from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise ModelError(f"bundle of schema {manifest.schema_version}, this version reads {SCHEMA_VERSION}", file=file)
    if manifest.profile.name not in PROFILES:
        raise ModelError(
            f"made for preprocessing profile {manifest.profile.name!r}, this version knows {', '.join(PROFILES)}",
            file=file,
            hint="use the fvv version that made the bundle",
        )
    if not manifest.models:
        raise ModelError("the bundle names no model", file=file)
    if manifest.int8_only and not all(model.int8 for model in manifest.models):
        raise ModelError("the bundle says it has 8-bit models only, and one has no such form", file=file)
    folds = [model.fold for model in manifest.models]
    if len(set(folds)) != len(folds):
        raise ModelError(f"expected one model per fold, the bundle has folds {folds}", file=file)
    return manifest


def _files(manifest: BundleManifest) -> list[BundleFile]:
    files: list[BundleFile] = [] if manifest.int8_only else [*manifest.models]
    files += manifest.fused.values()
    files += [model.int8 for model in manifest.models if model.int8 is not None]
    return [*files, manifest.golden] if manifest.golden is not None else files


def _check_file(folder: Path, entry: BundleFile) -> None:
    path = folder / entry.file
    if Path(entry.file).name != entry.file:
        raise ModelError(f"model file {entry.file!r} lies outside the bundle", file=folder)
    if not os.path.lexists(path):
        raise ModelError("missing from the bundle", file=path)
    refuse_irregular(path)
    if file_sha256(path) != entry.sha256:
        raise ModelError("changed since it was converted: its hash differs from bundle.json", file=path)


def _refuse_special_files(folder: Path) -> None:
    """A pipe or a device would hang whoever opens it; a model may name files beside it that hold its weights."""
    try:
        items = sorted(folder.iterdir())
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", file=folder) from error
    for item in items:
        if os.path.exists(item) and not os.path.isdir(item):  # noqa: PTH110, PTH112 - these raise nothing
            refuse_irregular(item)


def _published(path: Path) -> BundleManifest:
    numbered = [(int(match[1]), item) for item in path.iterdir() if (match := _PUBLISHED_NAME.fullmatch(item.name))]
    if not numbered:
        raise ModelError("holds neither bundle.json nor model1.onnx ...", file=path)
    found = sorted(number for number, _ in numbered)
    if found != list(range(1, len(found) + 1)):
        raise ModelError(f"expected model1.onnx to model{found[-1]}.onnx, found numbers {found}", file=path)
    for _, item in numbered:
        refuse_irregular(item)  # A folder, too.
    models = tuple(ModelEntry(file=item.name, sha256=file_sha256(item)) for _, item in sorted(numbered))
    return BundleManifest(
        software="published format",
        run_name="published",
        profile=PROFILES["reference-v1"].model_copy(update={"zscore_dtype": "float32"}),
        channels=("brain", "stroke", "flair_visible"),
        models=models,
    )
