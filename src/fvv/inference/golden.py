"""Models must give here what they gave where they were converted: a small input and their output travel with a bundle.

The input is computed, not measured: no person's image leaves in a bundle. This does not test whether a model is any
good; it tests whether its output on another machine is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnxruntime as ort

from fvv.arrays import FloatArray
from fvv.config import PreprocessingProfile
from fvv.errors import ModelError
from fvv.io.bundle import EVERY, TOLERANCE, ModelBundle, read_golden
from fvv.io.checked import is_checked, machine, remember_checked
from fvv.schemas.bundle import ModelEntry

SLICES = 5


class Opened(Protocol):
    """Models, as `OnnxEnsemble` opens them."""

    @property
    def provider(self) -> str:
        """Where they run."""

    def logits(self, padded: FloatArray, /) -> FloatArray:
        """(2, slices + 2 * context, 256, 256) to (n, 3, slices, 256, 256) float32."""


def golden_input(profile: PreprocessingProfile) -> FloatArray:
    """An artificial head with a lesion, as z-scores: (2, slices + 2 * context, 256, 256) float16, (b1000, b0)."""
    size, slices = profile.grid_size, SLICES + 2 * profile.context_slices
    z, x, y = np.ogrid[-1 : 1 : slices * 1j, -1 : 1 : size * 1j, -1 : 1 : size * 1j]
    brain = (x / 0.6) ** 2 + (y / 0.75) ** 2 + (z / 2) ** 2 <= 1
    ventricles = (np.abs(x) / 0.15) ** 2 + (y / 0.25) ** 2 + z**2 <= 1
    lesion = ((x - 0.3) / 0.15) ** 2 + (y / 0.2) ** 2 + z**2 <= 1
    texture = 0.3 * np.sin(25 * x) * np.cos(20 * y + 3 * z)
    noise = np.random.default_rng(0).normal(0, 0.3, (2, slices, size, size))
    b1000 = np.where(brain, texture - 1.5 * ventricles + 3.5 * lesion, -2.5)
    b0 = np.where(brain, texture + 3.0 * ventricles + 0.8 * (lesion & (y > 0)), -2.0)
    return np.asarray(np.stack([b1000, b0]) + np.where(brain, noise, 0), dtype=np.float16)


def golden_output(ensemble: Opened, images: FloatArray) -> FloatArray:
    """What every model gives for the input: (n, 3, slices, 64, 64) float32 logits."""
    return ensemble.logits(images.astype(np.float32))[..., ::EVERY, ::EVERY]


def largest_difference(found: FloatArray, kept: FloatArray) -> float:
    """Largest absolute difference of two outputs; NaN where either holds one.

    Raises:
        ModelError: they have different shapes.
    """
    if found.shape != kept.shape:
        raise ModelError(f"the reference output is of {kept.shape}, the models give {found.shape}")
    return float(np.abs(found - kept).max())


def problem_of(difference: float) -> str:
    """Why a model with this difference from its reference output cannot be used; "" where it can."""
    if difference <= TOLERANCE:  # NaN is not.
        return ""
    return (
        f"does not give its reference output on this machine: logits differ by up to {difference:.2g}, "
        f"accepted is {TOLERANCE:g}"
    )


def confirm_output(opened: Opened, bundle: ModelBundle, models: Sequence[ModelEntry]) -> None:
    """Refuse models whose output differs from the bundle's reference output.

    It is done once for the same models, processor, provider and onnxruntime, and remembered in the user's cache folder.
    Where a bundle has no reference output (published format), only what each run gives is checked.

    Args:
        opened: the models, opened.
        bundle: holds them.
        models: their entries, in the order of the output.

    Raises:
        ModelError: an output differs by more than `TOLERANCE`, or the reference output is damaged.
    """
    golden = bundle.manifest.golden
    if golden is None:
        return
    about = [*machine(opened.provider), ort.__version__, opened.provider, golden.sha256]
    about += [model.sha256 for model in models]
    if is_checked(about):
        return
    images, kept = read_golden(bundle.path / golden.file, len(bundle.models))
    for model, found in zip(models, golden_output(opened, images), strict=True):
        if problem := problem_of(largest_difference(found, kept[bundle.models.index(model)])):
            hint = f"`fvv doctor -m {bundle.path}` compares every model; another onnxruntime, or --device cpu, may help"
            raise ModelError(problem, file=bundle.path / model.file, hint=hint)
    remember_checked(about)
