"""The static field of a head in a magnet, from the susceptibility of its air, bone and tissue.

A head of susceptibility chi in a uniform field disturbs it, in k-space, by (1/3 - (k.b)^2 / k^2) chi(k), b the field's
direction: Salomir et al. 2003, doi 10.1002/cmr.b.10083; Marques and Bowtell 2005, doi 10.1002/cmr.b.20034. The scanner
then shims: it takes out what its coils can make of it, the spherical harmonics up to second order within the brain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from fvv.arrays import BoolArray, FloatArray
from fvv.simulator.anatomy import ELASTIC_STEP, HeadModel, PersonShape, deform
from fvv.simulator.space import LATTICE_STEP_MM, LatticeMap, apply_separably, lattice_positions, linear_upsampling

AIR_PPM = 0.36
TISSUE_PPM = -9.05
"""Water at 37 degrees; soft tissue lies within 20 % of it. Volume susceptibilities, SI: Schenck 1996, doi
10.1118/1.597854, as the next."""
BONE_PPM = -8.86
"""Cortical bone."""
PADDING = (40, 40, 40)
"""Lattice points of air around the head, so that the copies which a Fourier transform repeats lie 80 mm or more away
(on the brain they leave less than 0.02 ppm after shimming)."""
NECK_POINTS = 24
"""Lattice points by which the neck goes on below the lattice; what lies deeper is too far to be told from shim."""


@dataclass(frozen=True, slots=True)
class HeadField:
    """What a person does to the field of a magnet in which they lie, on the lattice of the atlas."""

    offset_ppm: LatticeMap  # of the field after shimming
    signal: LatticeMap  # share of tissue that gives signal: 0 in air and bone, 1 in brain and muscle


def dipole_field(
    susceptibility: FloatArray, spacing_mm: tuple[float, float, float], direction: FloatArray
) -> NDArray[np.float32]:
    """The relative field offset that protons feel, in the units of the susceptibility.

    The sphere of Lorentz is taken out: a sphere feels nothing of itself. The mean over the array, which Fourier
    transforms leave open, is 0. The array repeats itself beyond its edges: pad it.

    Args:
        susceptibility: (i, j, k) volume susceptibility, SI.
        spacing_mm: of the points along i, j, k.
        direction: (3,) unit vector of the magnet's field in the array's frame.

    Returns:
        (i, j, k) float32.
    """
    shape = susceptibility.shape
    *whole, last = zip(shape, spacing_mm, strict=True)
    frequencies = [fft.fftfreq(n, spacing) for n, spacing in whole] + [fft.rfftfreq(*last)]
    kx, ky, kz = (
        f.astype(np.float32).reshape([-1 if axis == i else 1 for axis in range(3)]) for i, f in enumerate(frequencies)
    )
    bx, by, bz = np.asarray(direction, dtype=np.float32)
    square = kx**2 + ky**2 + kz**2
    square[0, 0, 0] = 1.0
    kernel = np.float32(1.0 / 3.0) - (bx * kx + by * ky + bz * kz) ** 2 / square
    kernel[0, 0, 0] = 0.0
    spectrum = fft.rfftn(susceptibility.astype(np.float32))
    spectrum *= kernel
    return np.asarray(fft.irfftn(spectrum, s=shape, overwrite_x=True), dtype=np.float32)


def shimmed(field: FloatArray, positions_mm: tuple[FloatArray, FloatArray, FloatArray], brain: BoolArray) -> FloatArray:
    """Take out the harmonics of orders 0 to 2 that fit the field best within the brain.

    Nine coils: frequency, three gradients, five of second order. Scanners shim so at their best; many clinical
    protocols shim to first order or over a box, which leaves more.

    Args:
        field: (i, j, k).
        positions_mm: x, y, z of its points, in any turned frame with equal units, shaped to broadcast.
        brain: (i, j, k) points to fit, of the brain; some thousand are enough for nine numbers.
    """
    # In units of 100 mm the harmonics are of one size.
    x, y, z = (part / np.float32(100.0) for part in positions_mm)
    basis = (x * 0 + 1, x, y, z, x * y, y * z, x * z, x**2 - y**2, 2 * z**2 - x**2 - y**2)
    columns = [np.broadcast_to(part, field.shape)[brain] for part in basis]
    weights = np.linalg.lstsq(np.stack(columns, axis=1).astype(np.float64), field[brain], rcond=None)[0]
    out = field.copy()
    for weight, part in zip(weights, basis, strict=True):
        out -= np.float32(weight) * part
    return out


def head_field(model: HeadModel, person: PersonShape, b0_direction: FloatArray) -> HeadField:
    """The field of one person who lies in a magnet.

    Args:
        model: the average head.
        person: how this person's differs.
        b0_direction: (3,) unit vector of the magnet's field in the person's frame: atlas axes, real millimetres.
    """
    points = _deformed_lattice(model, person)
    around = model.surroundings
    air, bone, depth = (np.float32(part.unit) * part.array for part in (around.air, around.bone, around.outline_mm))
    outside = np.clip(0.5 - depth / LATTICE_STEP_MM, 0.0, 1.0)
    # Against air, so that what lies beyond the lattice is 0.
    solid = (1.0 - outside) * (1.0 - air)
    chi = solid * np.float32(TISSUE_PPM - AIR_PPM) + bone * np.float32(BONE_PPM - TISSUE_PPM)
    chi = LatticeMap(chi.astype(np.float32)).sample(points)
    signal = LatticeMap(np.clip(solid - bone, 0.0, 1.0).astype(np.float32)).sample(points)
    brain = np.zeros(chi.shape, dtype=bool)
    some = (slice(None, None, 3),) * 3
    brain[some] = model.hull_distance_mm.sample(points[(slice(None), *some)], outside=200.0) < 0
    scale = np.asarray(person.scale)
    spacing = LATTICE_STEP_MM * scale
    offset = _dipole_field_of_head(chi, (spacing[0], spacing[1], spacing[2]), b0_direction)
    x, y, z = (position * np.float32(s) for position, s in zip(lattice_positions(), scale, strict=True))
    return HeadField(LatticeMap(shimmed(offset, (x, y, z), brain)), LatticeMap(signal))


def _deformed_lattice(model: HeadModel, person: PersonShape) -> FloatArray:
    """Where each point of the lattice finds its anatomy in the average head, (3, i, j, k)."""
    position = lattice_positions()
    shape = tuple(part.size for part in position)
    up = [linear_upsampling(n, ELASTIC_STEP) for n in shape]
    axes = [
        part.reshape(-1)[0] + LATTICE_STEP_MM * ELASTIC_STEP * np.arange(m.shape[1])
        for part, m in zip(position, up, strict=True)
    ]
    coarse = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    return np.stack([apply_separably(part, *up) for part in deform(coarse, model, person)])


def _dipole_field_of_head(chi: FloatArray, spacing_mm: tuple[float, float, float], direction: FloatArray) -> FloatArray:
    """`dipole_field` with the neck going on downwards and air around."""
    nx, ny, nz = chi.shape
    with_neck = np.pad(chi, ((0, 0), (0, 0), (NECK_POINTS, 0)), mode="edge")
    sizes = [fft.next_fast_len(n + extra, real=True) for n, extra in zip(with_neck.shape, PADDING, strict=True)]
    padded = np.zeros(sizes, dtype=np.float32)
    padded[:nx, :ny, : nz + NECK_POINTS] = with_neck
    return dipole_field(padded, spacing_mm, direction)[:nx, :ny, NECK_POINTS : NECK_POINTS + nz]
