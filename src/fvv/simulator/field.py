"""The static field near air: how it displaces an echo-planar image, and where signal piles up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from fvv.arrays import FloatArray
from fvv.simulator.scanner import HZ_PER_PPM_AND_TESLA, Protocol
from fvv.simulator.space import LATTICE_STEP_MM, LatticeMap
from fvv.simulator.susceptibility import HeadField

PIECES = 4
"""Parts into which a step along the phase axis is cut; stretched four times, it still leaves no gap."""
FAINT = 0.02
"""Least weight of a place without signal among those that appear at one image position."""
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
    step: ClassVar[int] = 3  # smooth: needed at every third fine voxel only

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


@dataclass(frozen=True, slots=True)
class PhysicalField:
    """What the field of a head in its magnet does to an echo-planar image.

    Attributes:
        offset_ppm: field after shimming, on the lattice.
        signal: share of tissue that gives signal, on the lattice.
        kept: share of the signal that dephasing inside the slice leaves, on the lattice.
        mm_per_ppm: displacement along the phase axis, signed by the phase-encoding direction.
    """

    offset_ppm: LatticeMap
    signal: LatticeMap
    kept: LatticeMap
    mm_per_ppm: float
    step: ClassVar[int] = 2

    def shift_mm(self, points_mm: FloatArray) -> FloatArray:
        """How far along the phase axis tissue at these atlas positions (3, ...) appears from where it is."""
        return np.float32(self.mm_per_ppm) * self.offset_ppm.sample(points_mm)

    def at(self, points_mm: FloatArray, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where the signal at image positions comes from, and how much piles up there; see `pile_up`.

        Args:
            points_mm: (3, x, y, ...) atlas positions of a grid whose y runs along the phase axis in equal steps.
            direction: (3,) change of atlas position per mm along the phase-encoding axis.

        Returns:
            Displacement in mm along that axis from image position to source, and the factor of intensity, (x, y, ...).
        """
        first = points_mm.reshape(3, *points_mm.shape[1:3], -1)[:, 0, :2, 0]
        step_mm = float(np.linalg.norm(first[:, 1] - first[:, 0]) / np.linalg.norm(direction))
        return pile_up(self.shift_mm(points_mm), self.signal.sample(points_mm), self.kept.sample(points_mm), step_mm)


def pile_up(
    shift_mm: FloatArray, signal: FloatArray, kept: FloatArray, step_mm: float
) -> tuple[FloatArray, FloatArray]:
    """Move signal along the phase axis, all of it: what is squeezed is brighter, what is stretched darker.

    Jezzard and Balaban 1995 (doi 10.1002/mrm.1910340111) divide by 1 + d(shift)/dy, which fails where the mapping folds
    and several places appear at one. Here each place is cut into `PIECES`, and each piece is put where it appears. The
    source of an image position is the mean of the places that appear there, weighted by signal, so that air that folds
    over brain does not hide it. A single value stands for several sources: where two tissues fold over each other, the
    image is that of the place between them, with the intensity of both.

    Args:
        shift_mm: (x, y, ...) of the tissue at each point, along y.
        signal: (x, y, ...) 0..1, share of each point that gives signal.
        kept: (x, y, ...) factor of its signal.
        step_mm: distance of the points along y.

    Returns:
        Displacement from image position to source in mm, and the factor of the source's signal, both (x, y, ...).
    """
    shape = shift_mm.shape
    lines = (shape[0], shape[1], int(np.prod(shape[2:], dtype=int)))
    shift, weight, factor = (part.reshape(lines) for part in (shift_mm, np.maximum(signal, FAINT), kept))
    # Where no signal lands the weights do not matter, but must not be 0.
    mass = weight * factor
    sums = np.zeros((3, shift.size), dtype=np.float32)
    place = np.arange(lines[1], dtype=np.float32)[None, :, None]
    line = (np.arange(lines[0])[:, None, None] * lines[1]) * lines[2] + np.arange(lines[2])[None, None, :]
    rise = np.asarray(np.gradient(shift, axis=1)) / np.float32(step_mm)
    for piece in range(PIECES):
        away = np.float32((piece + 0.5) / PIECES - 0.5)
        target = place + away + shift / np.float32(step_mm) + away * rise
        inside = (target > -0.5) & (target < lines[1] - 0.5)
        target = np.clip(target, 0.0, lines[1] - 1.0)
        lower = np.minimum(target.astype(np.intp), lines[1] - 2)
        upper_share = target - lower
        for share, at in ((1.0 - upper_share, lower), (upper_share, lower + 1)):
            landed = (share * mass * inside).reshape(-1)
            where = (line + at * lines[2]).reshape(-1)
            source = np.broadcast_to(place + away, lines).reshape(-1)
            for k, amount in enumerate((landed, landed * weight.reshape(-1), landed * source)):
                sums[k] += np.bincount(where, amount, minlength=shift.size)
    landed, twice, moment = sums.reshape(3, *lines)
    empty = landed <= 0
    landed[empty] = twice[empty] = 1.0
    intensity = np.where(empty, 0.0, landed**2 / twice / PIECES)
    displacement = np.where(empty, 0.0, (moment / landed - place) * step_mm)
    return displacement.reshape(shape).astype(np.float32), intensity.reshape(shape).astype(np.float32)


def physical_field(head: HeadField, protocol: Protocol, turn: FloatArray) -> PhysicalField:
    """The field of a head as an examination's echo train shows it.

    Dephasing inside the slice: a spin echo refocuses it at the echo. What a gradient across the slice does before and
    after is to displace the slice's layers differently, which the layers of each slice show by themselves. What is lost
    is what the middle of k-space, measured off the echo by some time, has dephased in it: sinc(gradient x thickness x
    time).

    Args:
        head: its field in the magnet.
        protocol: with its echo train.
        turn: (3, 3) change of atlas position per mm along the image's axes.

    Raises:
        ValueError: the protocol has no echo train.
    """
    train = protocol.echo_train
    if train is None:
        raise ValueError("a physical field needs the echo train of its protocol")
    hz_per_ppm = HZ_PER_PPM_AND_TESLA * protocol.field_strength_t
    gradient = np.gradient(head.offset_ppm.array, LATTICE_STEP_MM)
    across = sum(np.float32(part) * slope for part, slope in zip(turn[:, 2], gradient, strict=True))
    cycles = across * np.float32(hz_per_ppm * protocol.thickness_mm * train.off_echo_ms / 1000.0)
    kept = LatticeMap(np.abs(np.sinc(cycles)).astype(np.float32))
    return PhysicalField(head.offset_ppm, head.signal, kept, hz_per_ppm * train.mm_per_hz(protocol.fov_mm[1]))


def draw_field(
    rng: np.random.Generator,
    bands_rng: np.random.Generator,
    *,
    field_strength_t: float,
    near_air: Literal["none", "smooth", "bands", "physics"],
) -> Field:
    """The field of one examination, from bumps; "physics" gets the smooth one here and `physical_field` after it.

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
