"""A head coil of several elements: its shading, and the noise that parallel imaging amplifies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fvv.arrays import BoolArray, FloatArray
from fvv.simulator.scanner import Protocol
from fvv.simulator.space import apply_separably, area_resampling

GRID = (24, 36)
"""Points along x, y on which smooth sensitivities are computed; the second is a multiple of every acceleration."""
HEAD_MM = (80.0, 100.0)
"""Semi-axes of the head in a slice: parallel imaging unfolds what lies inside (chosen here)."""


@dataclass(frozen=True, slots=True)
class CoilArray:
    """Loops around the head.

    Attributes:
        centres_mm: (n, 3) in the image's frame.
        normals: (n, 3) unit vectors.
        radius_mm: of the loops.
    """

    centres_mm: FloatArray
    normals: FloatArray
    radius_mm: float

    def sensitivities(self, points_mm: FloatArray) -> NDArray[np.complex64]:
        """What each loop receives from points (3, ...): its transverse field Bx - i By, (n, ...).

        A loop of radius a is taken as the dipole of vector potential n x r / (r^2 + a^2)^(3/2): on its axis it has the
        loop's own field, a^2 / (a^2 + d^2)^(3/2), and far away the dipole's.
        """
        away = points_mm[None] - self.centres_mm.reshape(-1, 3, *(1,) * (points_mm.ndim - 1))
        normal = self.normals.reshape(-1, 3, *(1,) * (points_mm.ndim - 1))
        along, square = (away * normal).sum(axis=1, keepdims=True), (away**2).sum(axis=1, keepdims=True)
        core = self.radius_mm**2
        field = (3 * along * away + normal * (2 * core - square)) / ((square + core) / core) ** 2.5 / core
        return np.asarray(field[:, 0] - 1j * field[:, 1], dtype=np.complex64)


def draw_coil_array(rng: np.random.Generator) -> CoilArray:
    """Two to four rings of five to eight loops on an ellipsoid around the head, 10 to 32 in all; chosen here."""
    rings, in_ring = int(rng.integers(2, 5)), int(rng.integers(5, 9))
    lift = np.linspace(-0.5, 0.9, rings)[:, None] + np.zeros(in_ring)
    angle = 2 * np.pi * (np.arange(in_ring) / in_ring + rng.random(rings)[:, None])
    outward = np.stack([np.cos(lift) * np.cos(angle), np.cos(lift) * np.sin(angle), np.sin(lift)], axis=-1)
    outward = outward.reshape(-1, 3)
    # The head lies nearer to the back of the coil than to its front, and never quite in the middle.
    middle = np.array([0.0, 8.0, 0.0]) + rng.normal(0.0, (3.0, 6.0, 8.0))
    return CoilArray(outward * (118.0, 132.0, 125.0) + middle, -outward, float(rng.uniform(40.0, 60.0)))


def shading_and_noise(array: CoilArray, protocol: Protocol, correction: float) -> tuple[FloatArray, FloatArray]:
    """The shading of a combined image and the deviation of its noise, each against its mean within the head.

    Elements are combined by the root of the sum of squares (Roemer et al. 1990, doi 10.1002/mrm.1910160203), with noise
    alike and independent in all. Unfolding amplifies it by g, the root of [(S^H S)^-1]_pp [S^H S]_pp over the points p
    that fold onto one another along the phase axis (Pruessmann et al. 1999, doi
    10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S). Points outside the head hold nothing to unfold.

    Args:
        array: the coil.
        protocol: with its echo train; without one, nothing is folded.
        correction: what scanners do by a scan before: 0 leaves the shading, 1 evens it out and so shades the noise.

    Returns:
        Both on `GRID` over the field of view, float32 (x, y, slice).
    """
    points = _positions(protocol)
    received = array.sensitivities(points)
    combined = np.sqrt((np.abs(received) ** 2).sum(axis=0))
    x, y = (points[i] / HEAD_MM[i] for i in range(2))
    head = x**2 + y**2 < 1
    factor = 1 if protocol.echo_train is None else protocol.echo_train.acceleration
    shading = (combined / combined[head].mean()) ** (1.0 - correction)
    noise = geometry_factor(received, head, factor) * shading / combined
    shading, noise = (np.asarray(part / part[head].mean(), dtype=np.float32) for part in (shading, noise))
    return shading, noise


def geometry_factor(received: NDArray[np.complex64], head: BoolArray, factor: int) -> FloatArray:
    """How much unfolding amplifies noise where every `factor`-th line along y is measured; see `shading_and_noise`.

    Args:
        received: (n, x, y, slice) sensitivities; y divides into `factor` equal parts.
        head: (x, y, slice) points that hold signal.
        factor: of acceleration.

    Returns:
        (x, y, slice), 1 where nothing folds onto a point, or more.
    """
    n, nx, ny, nz = received.shape
    folded = (received * head).reshape(n, nx, factor, ny // factor, nz)
    overlap = np.einsum("cxpyz,cxqyz->xyzpq", folded.conj(), folded)
    empty = ~head.reshape(nx, factor, ny // factor, nz).transpose(0, 2, 3, 1)
    # A point without signal folds nothing: 1 on the diagonal leaves the others alone.
    overlap[..., range(factor), range(factor)] += empty
    inverse = np.linalg.inv(overlap)
    square = np.einsum("xyzpp,xyzpp->xyzp", inverse, overlap).real
    return np.asarray(np.sqrt(np.maximum(square, 1.0)).transpose(0, 3, 1, 2).reshape(nx, ny, nz))


def on_grid(array: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """(x, y, slice) on `GRID`, at the points of another grid over the same field of view."""
    return apply_separably(array, *(area_resampling(n, m) for n, m in zip(shape, GRID, strict=True)))


def _positions(protocol: Protocol) -> FloatArray:
    x, y = ((np.arange(n) / n - 0.5) * edge for n, edge in zip(GRID, protocol.fov_mm, strict=True))
    z = (np.arange(protocol.n_slices) - (protocol.n_slices - 1) / 2) * protocol.spacing_mm
    return np.stack(np.meshgrid(x, y, z, indexing="ij")).astype(np.float32)
