"""Maps of the average head on regular lattices in atlas space (MNI millimetres, RAS+)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from fvv.arrays import FloatArray

LATTICE_STEP_MM = 2.0
LATTICE_ORIGIN_MM = (-100.0, -138.0, -104.0)
LATTICE_SHAPE = (101, 121, 114)
"""Holds the whole head with nose and upper neck."""


@dataclass(frozen=True, slots=True)
class LatticeMap:
    """A scalar map in atlas space.

    Attributes:
        array: (i, j, k) float32.
        origin_mm: atlas position of voxel (0, 0, 0).
        step_mm: distance of voxels along every axis.
    """

    array: FloatArray
    origin_mm: tuple[float, float, float] = LATTICE_ORIGIN_MM
    step_mm: float = LATTICE_STEP_MM

    def sample(self, points_mm: FloatArray, *, outside: float = 0.0) -> FloatArray:
        """Linear interpolation at atlas positions (3, ...), float32; `outside` beyond the lattice."""
        origin = np.asarray(self.origin_mm, dtype=np.float32).reshape((3,) + (1,) * (points_mm.ndim - 1))
        index = (points_mm - origin) / np.float32(self.step_mm)
        return np.asarray(ndimage.map_coordinates(self.array, index, order=1, cval=outside, output=np.float32))


def lattice_positions() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Atlas x, y, z of the 2 mm lattice's points, shaped to broadcast."""
    x, y, z = (
        (start + LATTICE_STEP_MM * np.arange(n, dtype=np.float32)).astype(np.float32)
        for start, n in zip(LATTICE_ORIGIN_MM, LATTICE_SHAPE, strict=True)
    )
    return x[:, None, None], y[None, :, None], z[None, None, :]


def on_lattice(array: FloatArray, origin_mm: tuple[float, float, float]) -> FloatArray:
    """Take a 1 mm map at the points of the 2 mm lattice (0 beyond it), float32."""
    out = np.zeros(LATTICE_SHAPE, dtype=np.float32)
    target, source = [], []
    for axis in range(3):
        index = np.round(LATTICE_ORIGIN_MM[axis] - origin_mm[axis] + LATTICE_STEP_MM * np.arange(LATTICE_SHAPE[axis]))
        inside = (index >= 0) & (index < array.shape[axis])
        target.append(np.flatnonzero(inside))
        source.append(index[inside].astype(int))
    out[np.ix_(*target)] = array[np.ix_(*source)]
    return out
