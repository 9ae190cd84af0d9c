"""Smooth random fields and cheap resampling, both as products of small one-dimensional matrices."""

from __future__ import annotations

import numpy as np

from fvv.arrays import FloatArray


def logistic(x: FloatArray) -> FloatArray:
    """Soft step from 0 to 1 around 0; any shape, values beyond +-30 are cut so that nothing overflows."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))), dtype=np.float32)


def apply_separably(array: FloatArray, *matrices: FloatArray) -> FloatArray:
    """Apply one matrix (n_out, n_in) along each leading axis of an array, float32."""
    out = np.asarray(array, dtype=np.float32)
    for axis, matrix in enumerate(matrices):
        out = np.moveaxis(np.tensordot(matrix, out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out, dtype=np.float32)


def linear_upsampling(n_fine: int, step: int) -> FloatArray:
    """Matrix (n_fine, ceil((n_fine - 1) / step) + 1) that interpolates samples taken at every `step`-th voxel."""
    n_coarse = -(-(n_fine - 1) // step) + 1
    position = np.arange(n_fine) / step
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(n_coarse)[None, :]))
    return weights.astype(np.float32)


def area_resampling(n_out: int, n_in: int) -> FloatArray:
    """Matrix (n_out, n_in) between two grids of one field of view whose first voxels coincide.

    Linear interpolation where the grid gets finer, a triangle as wide as the new voxel where it gets coarser.
    """
    ratio = n_in / n_out
    distance = np.abs(np.arange(n_out)[:, None] * ratio - np.arange(n_in)[None, :]) / max(1.0, ratio)
    weights = np.maximum(0.0, 1.0 - distance)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], knot_spacing: tuple[float, float, float]
) -> FloatArray:
    """Gaussian noise on a coarse lattice, interpolated by cubic B-splines: zero mean, unit deviation.

    Args:
        rng: where randomness comes from.
        shape: (i, j, k) of the field.
        knot_spacing: distance of the lattice's knots in voxels along i, j, k; sets the size of the bumps.

    Returns:
        float32 (i, j, k).
    """
    matrices = [_bspline(n, spacing, rng.random()) for n, spacing in zip(shape, knot_spacing, strict=True)]
    lattice = rng.standard_normal([matrix.shape[1] for matrix in matrices], dtype=np.float32)
    # Divide by the deviation that the weights give to white noise, rather than by the sample's: short axes stay random.
    scale = np.prod([np.sqrt((matrix**2).sum(axis=1).mean()) for matrix in matrices])
    return np.asarray(apply_separably(lattice, *matrices) / np.float32(scale))


def _bspline(n: int, spacing: float, phase: float) -> FloatArray:
    position = np.arange(n) / spacing + phase
    knots = np.arange(int(position[-1]) + 4) - 1
    u = np.abs(position[:, None] - knots[None, :])
    near = 2.0 / 3.0 - u**2 + u**3 / 2.0
    far = (2.0 - u) ** 3 / 6.0
    return np.where(u < 1, near, np.where(u < 2, far, 0.0)).astype(np.float32)
