"""A folder of ONNX models and what they need to be used correctly.

Ours has a `bundle.json`: the preprocessing the models expect, each file's hash, fold and the hashed ids of those it was
trained on. A folder in the published format has only `model1.onnx` ... `modelN.onnx`, and means `reference-v1`.
"""

from __future__ import annotations

import os
import re
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from fvv.arrays import FloatArray
from fvv.config import PROFILES, EvaluateConfig, PreprocessingProfile
from fvv.errors import InputError, ModelError
from fvv.io.atomic import write_text
from fvv.names import plain
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.schemas.migrations import migrated
from fvv.system.fingerprint import file_sha256
from fvv.system.regular import read_regular_text, refuse_irregular

BUNDLE_FILE, GOLDEN_FILE = "bundle.json", "golden.npz"
"""The manifest, and the models' reference output with the input it belongs to."""
EVERY = 4
"""Reference outputs are kept at every fourth voxel in plane: enough to notice any change, small enough to travel."""
TOLERANCE = 1e-3
"""Largest logit difference from them that is accepted: other processors round differently, by about 1e-5."""
MOST_GOLDEN_BYTES = 256 * 2**20
"""Of the unpacked reference output; twenty models take 10 MB."""
_PUBLISHED_NAME = re.compile(r"model(\d+)\.onnx")
_LIST_OF_IDS = re.compile(r'\[(?:\s+"[0-9a-f]+",?)+\s+\]')


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """A checked bundle: every file there, unchanged, and of a preprocessing this version knows."""

    path: Path
    manifest: BundleManifest

    @property
    def profile(self) -> PreprocessingProfile:
        """The preprocessing the models expect."""
        return self.manifest.profile

    @property
    def models(self) -> tuple[ModelEntry, ...]:
        """The models, in file order."""
        return self.manifest.models

    def completed(self, config: EvaluateConfig) -> EvaluateConfig:
        """The settings, with the bundle's post-processing where they name none."""
        return config.model_copy(update={"postprocess": self.manifest.postprocessing(config.postprocess)})

    def part(self, folds: int) -> tuple[ModelEntry, ...]:
        """The first models of the bundle; 0: all."""
        if folds > len(self.models):
            raise ModelError(f"{folds} folds asked for, the bundle has {len(self.models)}", file=self.path)
        return self.models[:folds] if folds else self.models

    def model_of_fold(self, fold: int) -> ModelEntry:
        """The model trained on a fold."""
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
        manifest = read_manifest(path / BUNDLE_FILE)
        for entry in (*manifest.models, *([manifest.golden] if manifest.golden else [])):
            file = path / entry.file
            if not os.path.lexists(file):
                raise ModelError("missing from the bundle", file=file)
            refuse_irregular(file)
            if file_sha256(file) != entry.sha256:
                raise ModelError("changed since it was converted: its hash differs from bundle.json", file=file)
        return cls(path, manifest)


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write bundle.json into a folder of models; the ids, of which there are thousands, fill their lines."""
    text = manifest.model_dump_json(indent=2) + "\n"
    write_text(folder / BUNDLE_FILE, _LIST_OF_IDS.sub(lambda ids: textwrap.fill(" ".join(ids[0].split()), 99), text))


def read_manifest(file: Path) -> BundleManifest:
    """Read a bundle.json of this version or an older one.

    Raises:
        InputError: no regular file, or of a newer version.
        ModelError: it does not say what a bundle must say.
    """
    try:
        content = TypeAdapter(dict[str, Any]).validate_json(read_regular_text(file))
        return BundleManifest.model_validate(migrated("bundle", content, file))
    except ValidationError as error:
        first = error.errors()[0]
        found = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise ModelError(f"not a bundle this version reads: {plain(found)}", file=file) from error


def _refuse_special_files(path: Path) -> None:
    """A pipe or a device would hang whoever opens it; a model may name files beside it that hold its weights."""
    try:
        items = sorted(path.iterdir())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
    for item in items:
        if os.path.exists(item) and not os.path.isdir(item):  # noqa: PTH110, PTH112 - these raise nothing
            refuse_irregular(item)


def _published(path: Path) -> BundleManifest:
    numbered = {int(match[1]): item for item in path.iterdir() if (match := _PUBLISHED_NAME.fullmatch(item.name))}
    if not numbered:
        raise ModelError(
            "holds no models: neither bundle.json nor model1.onnx",
            file=path,
            hint="name the folder that `fvv convert` wrote",
        )
    if sorted(numbered) != list(range(1, len(numbered) + 1)):
        found = ", ".join(map(str, sorted(numbered)))
        raise ModelError(f"expected model1.onnx to model{max(numbered)}.onnx, found numbers {found}", file=path)
    for item in numbered.values():
        refuse_irregular(item)  # A folder, too.
    return BundleManifest(
        software="published format",
        run_name="published",
        profile=PROFILES["reference-v1"].model_copy(update={"zscore_dtype": "float32"}),
        models=tuple(ModelEntry(file=item.name, sha256=file_sha256(item)) for _, item in sorted(numbered.items())),
    )


def write_golden(path: Path, images: FloatArray, output: FloatArray) -> None:
    """Write the file; atomic is the bundle it lies in, which the caller writes whole or not at all.

    Args:
        images: (2, slices, 256, 256) input.
        output: (n models, 3, slices, i, j) logits.
    """
    np.savez_compressed(path, input=images, output=output)


def read_golden(path: Path, n_models: int) -> tuple[FloatArray, FloatArray]:
    """Input and output, as `write_golden` takes them."""
    refuse_irregular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_GOLDEN_BYTES:
            raise ModelError(f"unpacks to {size} bytes, expected at most {MOST_GOLDEN_BYTES}", file=path)
        with np.load(path) as content:
            images, output = content["input"], content["output"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot be read: {plain(' '.join(str(error).split()))}", file=path) from error
    if images.ndim != 4 or images.shape[0] != 2 or images.dtype.kind != "f":
        raise ModelError(f"expected an input of (2, slices, 256, 256), got {images.shape}", file=path)
    if output.ndim != 5 or output.shape[0] != n_models or output.dtype.kind != "f":
        message = f"expected an output of ({n_models} models, 3, slices, 64, 64), got {output.shape}"
        raise ModelError(message, file=path)
    return images, output
