"""A small input that travels with a bundle, and what each model made of it where it was converted.

The input is drawn, not measured: no person's image leaves in a bundle. Whether a model is any good is not asked here;
whether it says the same on another machine is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fvv.arrays import FloatArray
from fvv.config import Precision, PreprocessingProfile
from fvv.errors import ModelError

SLICES = 5
EVERY = 4
"""Outputs are kept at every fourth voxel in plane: enough to notice any change, small enough to travel."""
FP32_TOLERANCE = 1e-3
"""Largest logit difference accepted in float32: other processors round otherwise, by about 1e-5."""
INT8_MEAN_TOLERANCE = 0.01
"""Mean logit difference accepted in INT8: a float32 rounding can tip single 8-bit steps. Products that saturate in 16
bits (AVX2 without VNNI, and without the option that `fvv.inference.sessions` sets) give 0.027 to 0.053 in the model of
the package; with it, 0."""
INT8_FLIP_TOLERANCE = 2e-3
"""Share of voxels that may change sides in INT8."""


class GivesLogits(Protocol):
    """Models, as `OnnxEnsemble` holds them."""

    def logits(self, padded: FloatArray, /) -> FloatArray:
        """(2, slices + 2 * context, 256, 256) to (n, 3, slices, 256, 256) float32."""


@dataclass(frozen=True, slots=True)
class GoldenDifference:
    """One model's outputs here against those kept in the bundle.

    Attributes:
        largest, mean: absolute logit differences.
        flipped: share of voxels that changed sides.
    """

    largest: float
    mean: float
    flipped: float

    def accepted(self, precision: Precision) -> bool:
        """Within the bounds? NaN never is."""
        if precision == "fp32":
            return self.largest <= FP32_TOLERANCE
        return self.mean <= INT8_MEAN_TOLERANCE and self.flipped <= INT8_FLIP_TOLERANCE

    def told(self, precision: Precision) -> str:
        """The numbers that decide, and their bounds, in words."""
        if precision == "fp32":
            return f"logits differ by up to {self.largest:.2g}, accepted is {FP32_TOLERANCE:g}"
        return (
            f"logits differ by {self.mean:.2g} on average and {self.flipped:.2g} of the voxels change sides, accepted "
            f"is {INT8_MEAN_TOLERANCE:g} and {INT8_FLIP_TOLERANCE:g}"
        )


def golden_input(profile: PreprocessingProfile) -> FloatArray:
    """A drawn head with a lesion, as z-scores: (2, slices + 2 * context, 256, 256) float16, channels (b1000, b0)."""
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


def golden_output(ensemble: GivesLogits, images: FloatArray) -> FloatArray:
    """What every model makes of the input: (n, 3, slices, 64, 64) float32 logits."""
    return ensemble.logits(images.astype(np.float32))[..., ::EVERY, ::EVERY]


def difference(found: FloatArray, kept: FloatArray) -> GoldenDifference:
    """Compare outputs, (n, 3, slices, 64, 64) each; of several models the worst number each.

    Raises:
        ModelError: what was kept has another shape.
    """
    if found.shape != kept.shape:
        raise ModelError(f"the reference output is of {kept.shape}, the models give {found.shape}")
    change = np.abs(found - kept)
    flipped = (found > 0) != (kept > 0)
    each = tuple(range(1, change.ndim))
    # NumPy's maximum keeps NaN, which no bound accepts.
    return GoldenDifference(float(change.max()), float(change.mean(each).max()), float(flipped.mean(each).max()))
