"""The static field near air: how it displaces an echo-planar image, and where signal piles up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fvv.arrays import FloatArray

REACH = 9.0
"""Widths beyond which a bump of the field moves nothing in float32."""


class AirPocket(NamedTuple):
    """A place where air meets tissue and bends the field: MNI centre and width (standard deviation), mm."""

    centre_mm: tuple[float, float, float]
    width_mm: tuple[float, float, float]


def _on_both_sides(*right: AirPocket) -> tuple[AirPocket, ...]:
    return tuple(AirPocket((side * x, y, z), width) for (x, y, z), width in right for side in ((-1, 1) if x else (1,)))


AIR_POCKETS = _on_both_sides(
    AirPocket((0.0, 38.0, -26.0), (12.0, 6.0, 7.0)),  # ethmoid and sphenoid sinus, under the orbitofrontal cortex
    AirPocket((13.0, 54.0, -24.0), (8.0, 5.0, 6.0)),
    AirPocket((28.0, 52.0, -38.0), (12.0, 6.0, 12.0)),  # orbits, between ethmoid and maxillary sinus
    AirPocket((46.0, -12.0, -38.0), (8.0, 6.0, 7.0)),  # external ear canal, under the temporal lobes
    AirPocket((48.0, -32.0, -36.0), (8.0, 5.5, 8.0)),  # petrous bone and mastoid cells
    AirPocket((40.0, 14.0, -40.0), (8.0, 6.0, 6.0)),  # temporal poles
)
CREVICES = AIR_POCKETS + _on_both_sides(
    AirPocket((62.0, -22.0, -22.0), (9.0, 6.0, 7.0)),  # squamous temporal bone, lateral temporal base
    AirPocket((50.0, -58.0, -40.0), (9.0, 6.0, 7.0)),  # mastoid cells behind, at the lateral rim of the cerebellum
    AirPocket((0.0, 58.0, -14.0), (9.0, 6.0, 7.0)),  # frontal sinus and crista galli
    AirPocket((0.0, -12.0, -42.0), (9.0, 6.0, 7.0)),  # clivus, before the brainstem
)
"""Around these the air's edges are rough: the places of narrow bumps of the field."""


@dataclass(frozen=True, slots=True)
class Field:
    """What an examination's field of Gaussian bumps does to an echo-planar image."""

    shift_mm: tuple[float, ...]  # largest displacement at each pocket, signed by the phase-encoding direction
    pockets: tuple[AirPocket, ...] = AIR_POCKETS

    def at(self, points_mm: FloatArray, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Displacement and intensity at atlas positions (Jezzard and Balaban 1995, doi 10.1002/mrm.1910340111).

        Args:
            points_mm: (3, ...) atlas positions before displacement.
            direction: (3,) change of atlas position per mm along the phase-encoding axis.

        Returns:
            Displacement in mm along that axis, and the factor by which signal piles up or thins out: 1 +
            d(displacement)/dj, kept within 0.1 to 3.5.
        """
        shift = np.zeros(points_mm.shape[1:], dtype=np.float32)
        slope = np.zeros_like(shift)
        for largest, (centre, width) in zip(self.shift_mm, self.pockets, strict=True):
            near = np.ones(shift.shape, dtype=bool)
            for axis in range(3):
                near &= np.abs(points_mm[axis] - centre[axis]) < REACH * width[axis]
            exponent = np.zeros(int(near.sum()), dtype=np.float32)
            along = np.zeros_like(exponent)
            for axis in range(3):
                offset = (points_mm[axis][near] - centre[axis]) / width[axis]
                exponent += offset**2
                along -= offset / width[axis] * direction[axis]
            bump = np.float32(largest) * np.exp(-0.5 * exponent)
            shift[near] += bump
            slope[near] += bump * along
        return shift, np.clip(1.0 + slope, 0.1, 3.5)


def draw_field(
    rng: np.random.Generator,
    bands_rng: np.random.Generator,
    *,
    field_strength_t: float,
    near_air: Literal["none", "smooth", "bands"],
) -> Field:
    """The field of one examination.

    Args:
        rng: broad bumps; advanced alike whatever `near_air` says.
        bands_rng: narrow ones.
        field_strength_t: of the magnet.
        near_air: see `SimulateConfig.near_air`.
    """
    smooth = smooth_field(rng, field_strength_t)
    if near_air == "none":
        return Field((), ())
    return with_bands(smooth, bands_rng) if near_air == "bands" else smooth


def smooth_field(rng: np.random.Generator, field_strength_t: float) -> Field:
    """Shifts up to 5 mm at 1.5 T and 11 mm at 3 T (chosen here; the field offset grows with the field strength)."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    overall = rng.uniform(0.3, 1.2) * 3.0 * field_strength_t
    return Field(tuple((sign * overall * rng.uniform(0.2, 1.0, len(AIR_POCKETS))).tolist()))


def with_bands(field: Field, rng: np.random.Generator) -> Field:
    """Make a field as uneven as skull bases are: displaced and resized pockets, one wide bump, dozens of narrow ones.

    A bump of height h and width w along the phase axis piles signal up by 1 + 0.61 h/w on one side and empties the
    other: at 8 mm over 3.5 mm a band more than twice as bright as brain, beside a void. Numbers chosen here.
    """
    # Readout trains differ in length, and distortion with them.
    strength = rng.uniform(0.8, 1.6)
    overall = strength * np.abs(field.shift_mm).max()
    sign = np.sign(field.shift_mm[0])
    pockets = [_displaced(pocket, rng, 3.0, (0.7, 1.4), (0.7, 1.4)) for pocket in field.pockets]
    shifts = [strength * shift for shift in field.shift_mm]
    # Shim: the frontal base is stretched or squeezed as a whole.
    pockets.append(AirPocket((0.0, rng.uniform(45.0, 70.0), -28.0), (28.0, 22.0, rng.uniform(12.0, 22.0))))
    shifts.append(sign * overall * rng.uniform(-0.3, 1.0))
    for _ in range(rng.integers(12, 49)):
        pockets.append(_displaced(CREVICES[rng.integers(len(CREVICES))], rng, 7.0, (0.6, 1.4), (0.4, 0.8)))
        # Most have the sign of air; bone and bent currents give the other.
        shifts.append((sign if rng.random() < 0.7 else -sign) * overall * rng.uniform(0.15, 0.9))
    return Field(tuple(float(shift) for shift in shifts), tuple(pockets))


def _displaced(
    pocket: AirPocket, rng: np.random.Generator, away_mm: float, wide: tuple[float, float], deep: tuple[float, float]
) -> AirPocket:
    """A pocket elsewhere (standard deviation along each axis) and of another size (factors along x, and y and z)."""
    centre = pocket.centre_mm + rng.normal(0.0, away_mm, 3)
    x, y, z = pocket.width_mm * np.array([rng.uniform(*wide), *rng.uniform(*deep, 2)])
    return AirPocket((centre[0], centre[1], centre[2]), (x, max(y, 2.5), z))
