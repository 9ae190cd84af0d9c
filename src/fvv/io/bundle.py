"""A folder of ONNX models and what they need to be used rightly.

Ours has a `bundle.json`: the preprocessing the models expect, each file's hash, fold and the hashed ids of those it was
trained on. A folder in the published format has only `model1.onnx` ... `modelN.onnx`, and means `reference-v1`.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fvv.config import PROFILES, PreprocessingProfile
from fvv.errors import ModelError
from fvv.io.atomic import write_text

SCHEMA_VERSION = 1
BUNDLE_FILE = "bundle.json"
_PUBLISHED_NAME = re.compile(r"model(\d+)\.onnx")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelEntry(_Entry):
    """One model of a bundle.

    Attributes:
        file: name inside the bundle's folder.
        sha256: hash of the file.
        fold: the fold it was trained on; None in the published format.
        run_id, epoch, score: where the weights come from.
        trained_on: hashed persons and images it was trained or selected on (`fvv.data.hashed_ids`).
        checks: how onnxruntime compared with PyTorch.
    """

    file: str
    sha256: str
    fold: int | None = None
    run_id: str = ""
    epoch: int | None = None
    score: float | None = None
    trained_on: tuple[str, ...] = ()
    checks: dict[str, float] = {}


class Calibration(_Entry):
    """From FVV to the probability of a mismatch: a logistic curve on log(FVV + pseudo-volume).

    Attributes:
        intercept, slope: of the curve; FVV in mL, natural logarithm.
        pseudo_volume_ml: added to FVV, so that 0 mL has a logarithm.
    """

    intercept: float
    slope: float
    pseudo_volume_ml: float = Field(gt=0)

    def mismatch_probability(self, fvv_ml: float) -> float:
        """P(mismatch) at an FVV."""
        return 1 / (1 + math.exp(-(self.intercept + self.slope * math.log(fvv_ml + self.pseudo_volume_ml))))


class BundleManifest(_Entry):
    """What bundle.json holds."""

    schema_version: int = SCHEMA_VERSION
    software: str
    run_name: str
    profile: PreprocessingProfile
    channels: tuple[str, ...]
    cutoff_ml: float | None = None
    """The bundle's own cut-off, where one was found; else the caller's."""
    calibration: Calibration | None = None
    """Where an evaluation was asked to calibrate P(mismatch)."""
    models: tuple[ModelEntry, ...]


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

    def file(self, model: ModelEntry) -> Path:
        """Path of a model's ONNX file."""
        return self.path / model.file

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
            ModelError: no models, a file missing or changed since conversion, or a profile this version does not know.
        """
        if not path.is_dir():
            hint = "run `fvv convert` first, or name a folder of models with -m"
            raise ModelError("no such folder", file=path, hint=hint)
        if not (path / BUNDLE_FILE).exists():
            return cls(path, _published(path))
        manifest = _read_manifest(path / BUNDLE_FILE)
        for model in manifest.models:
            _check_file(path, model)
        return cls(path, manifest)


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write bundle.json into a folder of models."""
    write_text(folder / BUNDLE_FILE, manifest.model_dump_json(indent=2) + "\n")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_manifest(file: Path) -> BundleManifest:
    try:
        manifest = BundleManifest.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read: {error}", file=file) from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"not a bundle this version reads: {where}: {first['msg']}", file=file) from error
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
    return manifest


def _check_file(folder: Path, model: ModelEntry) -> None:
    path = folder / model.file
    if Path(model.file).name != model.file:
        raise ModelError(f"model file {model.file!r} lies outside the bundle", file=folder)
    if not path.is_file():
        raise ModelError("missing from the bundle", file=path)
    if file_sha256(path) != model.sha256:
        raise ModelError("changed since it was converted: its hash differs from bundle.json", file=path)


def _published(path: Path) -> BundleManifest:
    numbered = [(int(match[1]), item) for item in path.iterdir() if (match := _PUBLISHED_NAME.fullmatch(item.name))]
    if not numbered:
        raise ModelError("holds neither bundle.json nor model1.onnx ...", file=path)
    found = sorted(number for number, _ in numbered)
    if found != list(range(1, len(found) + 1)):
        raise ModelError(f"expected model1.onnx to model{found[-1]}.onnx, found numbers {found}", file=path)
    models = tuple(ModelEntry(file=item.name, sha256=file_sha256(item)) for _, item in sorted(numbered))
    return BundleManifest(
        software="published format",
        run_name="published",
        profile=PROFILES["reference-v1"].model_copy(update={"zscore_dtype": "float32"}),
        channels=("brain", "stroke", "flair_visible"),
        models=models,
    )
