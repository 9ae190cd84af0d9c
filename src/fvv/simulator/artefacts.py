"""What a scanner adds to the truth: uneven coils, fields bent by air, too few k-space samples, ghosts and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from fvv.arrays import FloatArray, IntArray
from fvv.simulator.fields import smooth_noise
from fvv.simulator.head import AIR_POCKETS, CREVICES, AirPocket

REACH = 9.0
"""Widths beyond which a bump of the field moves nothing in float32."""


@dataclass(frozen=True, slots=True)
class Distortion:
    """Susceptibility distortion of an echo-planar image along j.

    Attributes:
        shift_mm: largest displacement at each pocket, signed by the phase-encoding direction.
        pockets: where air bends the field.
    """

    shift_mm: tuple[float, ...]
    pockets: tuple[AirPocket, ...] = AIR_POCKETS

    def at(self, points_mm: FloatArray, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Displacement and intensity at atlas positions.

        Args:
            points_mm: (3, ...) atlas positions before displacement.
            direction: (3,) change of atlas position per mm along the phase-encoding axis.

        Returns:
            Displacement in mm along that axis, and the factor 1 + d(displacement)/dj by which signal piles up or
            thins out (Jezzard and Balaban 1995, doi 10.1002/mrm.1910340111), kept within 0.1 to 3.5.
        """
        shift = np.zeros(points_mm.shape[1:], dtype=np.float32)
        slope = np.zeros_like(shift)
        for largest, pocket in zip(self.shift_mm, self.pockets, strict=True):
            near = np.ones(shift.shape, dtype=bool)
            for axis in range(3):
                near &= np.abs(points_mm[axis] - pocket.centre_mm[axis]) < REACH * pocket.width_mm[axis]
            exponent = np.zeros(int(near.sum()), dtype=np.float32)
            along = np.zeros_like(exponent)
            for axis in range(3):
                offset = (points_mm[axis][near] - pocket.centre_mm[axis]) / pocket.width_mm[axis]
                exponent += offset**2
                along -= offset / pocket.width_mm[axis] * direction[axis]
            bump = np.float32(largest) * np.exp(-0.5 * exponent)
            shift[near] += bump
            slope[near] += bump * along
        return shift, np.clip(1.0 + slope, 0.1, 3.5)


def draw_distortion(rng: np.random.Generator, field_strength_t: float) -> Distortion:
    """Shifts up to 5 mm at 1.5 T and 11 mm at 3 T (chosen here; the field offset grows with the field strength)."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    overall = rng.uniform(0.3, 1.2) * 3.0 * field_strength_t
    return Distortion(tuple((sign * overall * rng.uniform(0.2, 1.0, len(AIR_POCKETS))).tolist()))


def with_bands(distortion: Distortion, rng: np.random.Generator) -> Distortion:
    """The same, as uneven as skull bases are: pockets displaced and resized, one wide bump, dozens of narrow ones.

    A bump of height h and width w along the phase axis piles signal up by 1 + 0.61 h/w on one side and empties the
    other: at 8 mm over 3.5 mm a band more than twice as bright as brain, beside a void. Numbers chosen here.
    """
    # Readout trains differ in length, and distortion with them.
    strength = rng.uniform(0.8, 1.6)
    overall = strength * np.abs(distortion.shift_mm).max()
    sign = np.sign(distortion.shift_mm[0])
    pockets = [_displaced(pocket, rng, 3.0, (0.7, 1.4), (0.7, 1.4)) for pocket in distortion.pockets]
    shifts = [strength * shift for shift in distortion.shift_mm]
    # Shim: the frontal base is drawn out or squeezed as a whole.
    pockets.append(AirPocket((0.0, rng.uniform(45.0, 70.0), -28.0), (28.0, 22.0, rng.uniform(12.0, 22.0))))
    shifts.append(sign * overall * rng.uniform(-0.3, 1.0))
    for _ in range(rng.integers(12, 49)):
        pockets.append(_displaced(CREVICES[rng.integers(len(CREVICES))], rng, 7.0, (0.6, 1.4), (0.4, 0.8)))
        # Most have the sign of air; bone and bent currents give the other.
        shifts.append((sign if rng.random() < 0.7 else -sign) * overall * rng.uniform(0.15, 0.9))
    return Distortion(tuple(float(shift) for shift in shifts), tuple(pockets))


def _displaced(
    pocket: AirPocket, rng: np.random.Generator, away_mm: float, wide: tuple[float, float], deep: tuple[float, float]
) -> AirPocket:
    """A pocket elsewhere (standard deviation along each axis) and of another size (factors along x, and y and z)."""
    centre = pocket.centre_mm + rng.normal(0.0, away_mm, 3)
    x, y, z = pocket.width_mm * np.array([rng.uniform(*wide), *rng.uniform(*deep, 2)])
    return AirPocket((centre[0], centre[1], centre[2]), (x, max(y, 2.5), z))


def receive_bias(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> FloatArray:
    """Coil sensitivity: brighter towards the surface, and smoothly uneven; mean about 1, float32 (i, j, k)."""
    knots = [max(rng.uniform(60.0, 110.0) / spacing, 1.0) for spacing in spacing_mm]
    uneven = rng.uniform(0.05, 0.28) * smooth_noise(rng, shape, (knots[0], knots[1], knots[2]))
    x, y = (
        (np.arange(n, dtype=np.float32) - n / 2) * spacing / 85.0
        for n, spacing in zip(shape[:2], spacing_mm[:2], strict=True)
    )
    surface = rng.uniform(0.0, 0.5) * (np.minimum(x[:, None] ** 2 + y[None, :] ** 2, 1.6) - 0.5)
    return np.asarray(np.exp(uneven + surface[:, :, None]), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a slice is measured.

    Attributes:
        acquired: k-space samples along i, j.
        matrix: reconstructed voxels along i, j.
        partial_fourier: measured share of the lines along j, 0.7 to 1.
        apodisation: 0 leaves k-space as it is (ringing), 1 damps its corners fully.
        ghost: strength of the half-field-of-view ghost along j.
        shift_voxels: displacement in reconstructed voxels along i, j (misregistration).
        noise: deviation of the noise in the real and in the imaginary channel of the reconstructed image.
    """

    acquired: tuple[int, int]
    matrix: tuple[int, int]
    partial_fourier: float = 1.0
    apodisation: float = 0.0
    ghost: float = 0.0
    shift_voxels: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0


def acquire(truth: FloatArray, acquisition: Acquisition, rng: np.random.Generator) -> FloatArray:
    """Measure noise-free slices through k-space.

    The magnitude of noisy channels is Rician (Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618).

    Args:
        truth: (x, y, k) on a grid finer than the acquired one, over the same field of view, first voxels coinciding.
        acquisition: how.
        rng: noise.

    Returns:
        float32 (i, j, k) of `acquisition.matrix`.
    """
    nx, ny = truth.shape[:2]
    mx, my = acquisition.matrix
    kx = np.rint(fft.fftfreq(acquisition.acquired[0]) * acquisition.acquired[0]).astype(int)
    ky = np.rint(fft.fftfreq(acquisition.acquired[1]) * acquisition.acquired[1]).astype(int)
    kx, ky = kx[(np.abs(kx) < nx / 2)], ky[(np.abs(ky) < ny / 2)]
    spectrum = fft.fft2(truth.astype(np.complex64), axes=(0, 1))[np.ix_(kx % nx, ky % ny)]
    spectrum *= np.float32(mx * my / (nx * ny))
    spectrum *= _k_space_weights(kx, ky, acquisition)[:, :, None]
    if acquisition.noise > 0:
        scale = np.float32(acquisition.noise * mx * my / np.sqrt(len(kx) * len(ky)))
        noise = rng.standard_normal((2, *spectrum.shape), dtype=np.float32)
        noise *= scale
        spectrum.real += noise[0]
        spectrum.imag += noise[1]
    padded = np.zeros((mx, my, truth.shape[2]), dtype=np.complex64)
    padded[np.ix_(kx % mx, ky % my)] = spectrum
    return np.asarray(np.abs(fft.ifft2(padded, axes=(0, 1), overwrite_x=True)), dtype=np.float32)


def _k_space_weights(kx: IntArray, ky: IntArray, acquisition: Acquisition) -> NDArray[np.complex64]:
    radius = np.hypot(kx[:, None] / (len(kx) / 2), ky[None, :] / (len(ky) / 2))
    window = 1.0 - acquisition.apodisation * np.sin(np.pi / 2 * np.minimum(radius, 1.0)) ** 2
    measured = ky >= -len(ky) * (acquisition.partial_fourier - 0.5)
    # Odd and even lines that disagree fold a copy of the head in by half the field of view.
    lines = np.where(measured, 1.0 + acquisition.ghost * np.where(ky % 2 == 0, 1.0, -1.0), 0.0)
    cycles = [
        k * shift / size for k, shift, size in zip((kx, ky), acquisition.shift_voxels, acquisition.matrix, strict=True)
    ]
    moved = np.exp(-2j * np.pi * (cycles[0][:, None] + cycles[1][None, :]))
    return np.asarray(window * lines[None, :] * moved, dtype=np.complex64)
