"""Atlas space: maps of the head on regular lattices (MNI millimetres, RAS+), smooth random fields, resampling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import FloatArray, UInt8Array

LATTICE_STEP_MM = 2.0
LATTICE_ORIGIN_MM = (-100.0, -138.0, -104.0)
LATTICE_SHAPE = (101, 121, 114)
"""Holds the whole head with nose and upper neck."""


@dataclass(frozen=True, slots=True)
class LatticeMap:
    """A scalar map in atlas space."""

    array: FloatArray | UInt8Array  # (i, j, k) float32, or uint8 counts of `unit`
    origin_mm: tuple[float, float, float] = LATTICE_ORIGIN_MM  # atlas position of voxel (0, 0, 0)
    step_mm: float = LATTICE_STEP_MM
    unit: float = 1.0  # value of a count

    def sample(self, points_mm: FloatArray, *, outside: float = 0.0) -> FloatArray:
        """Linear interpolation at atlas positions (3, ...), float32; `outside` beyond the lattice."""
        index, beyond = self._index(points_mm), outside / self.unit
        values = ndimage.map_coordinates(self.array, index, order=1, cval=beyond, output=np.float32)
        return np.asarray(values if self.unit == 1.0 else values * np.float32(self.unit))

    def nearest(self, points_mm: FloatArray) -> NDArray[Any]:
        """The lattice's own value nearest to atlas positions (3, ...), in the array's dtype; 0 beyond the lattice."""
        return np.asarray(ndimage.map_coordinates(self.array, self._index(points_mm), order=0))

    def mirrored(self) -> LatticeMap:
        """Left and right exchanged."""
        x, y, z = self.origin_mm
        return replace(self, array=self.array[::-1], origin_mm=(-x - self.step_mm * (len(self.array) - 1), y, z))

    def _index(self, points_mm: FloatArray) -> FloatArray:
        origin = np.asarray(self.origin_mm, dtype=np.float32).reshape((3,) + (1,) * (points_mm.ndim - 1))
        return np.asarray((points_mm - origin) / np.float32(self.step_mm))


def lattice_positions() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Atlas x, y, z of the 2 mm lattice's points, shaped to broadcast."""
    x, y, z = (
        (start + LATTICE_STEP_MM * np.arange(n, dtype=np.float32)).astype(np.float32)
        for start, n in zip(LATTICE_ORIGIN_MM, LATTICE_SHAPE, strict=True)
    )
    return x[:, None, None], y[None, :, None], z[None, None, :]


def on_lattice(array: FloatArray, origin_mm: tuple[float, float, float]) -> FloatArray:
    """A 1 mm map at the points of the 2 mm lattice (0 beyond the map), float32."""
    out = np.zeros(LATTICE_SHAPE, dtype=np.float32)
    target, source = [], []
    for axis in range(3):
        index = np.round(LATTICE_ORIGIN_MM[axis] - origin_mm[axis] + LATTICE_STEP_MM * np.arange(LATTICE_SHAPE[axis]))
        inside = (index >= 0) & (index < array.shape[axis])
        target.append(np.flatnonzero(inside))
        source.append(index[inside].astype(int))
    out[np.ix_(*target)] = array[np.ix_(*source)]
    return out


def rotation_matrix(angles_rad: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation about x, then y, then z; (3, 3) float64."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles_rad), np.sin(angles_rad)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


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
    return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(n_coarse)[None, :])).astype(np.float32)


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
        shape: (i, j, k) of the field.
        knot_spacing: distance of the knots in voxels along i, j, k; sets the size of the bumps.

    Returns:
        float32 (i, j, k).
    """
    matrices = [_bspline(n, spacing, rng.random()) for n, spacing in zip(shape, knot_spacing, strict=True)]
    knots = rng.standard_normal([matrix.shape[1] for matrix in matrices], dtype=np.float32)
    # Divide by the deviation that the weights give to white noise, not by the sample's: short axes stay random.
    scale = np.prod([np.sqrt((matrix**2).sum(axis=1).mean()) for matrix in matrices])
    return np.asarray(apply_separably(knots, *matrices) / np.float32(scale))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(*np.log((low, high)))))


def lattice_noise(rng: np.random.Generator, *knot_spacing_mm: float) -> FloatArray:
    """`smooth_noise` on the 2 mm lattice; one knot spacing for all axes, or one for each, mm."""
    x, y, z = (spacing / LATTICE_STEP_MM for spacing in (knot_spacing_mm * 3)[:3])
    return smooth_noise(rng, LATTICE_SHAPE, (x, y, z))


def _bspline(n: int, spacing: float, phase: float) -> FloatArray:
    position = np.arange(n) / spacing + phase
    knots = np.arange(int(position[-1]) + 4) - 1
    u = np.abs(position[:, None] - knots[None, :])
    near = 2.0 / 3.0 - u**2 + u**3 / 2.0
    far = (2.0 - u) ** 3 / 6.0
    return np.where(u < 1, near, np.where(u < 2, far, 0.0)).astype(np.float32)
