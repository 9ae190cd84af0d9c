"""Measuring slices through k-space, and what console software does to the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.config import SimulateConfig
from fvv.simulator.scanner import FAT_PPM, HZ_PER_PPM_AND_TESLA, Protocol
from fvv.simulator.space import log_uniform, smooth_noise

Stored = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a slice is measured."""

    acquired: tuple[int, int]  # k-space samples along i, j
    matrix: tuple[int, int]  # reconstructed voxels along i, j
    partial_fourier: float = 1.0  # measured share of the lines along j, 0.7 to 1
    apodisation: float = 0.0  # 0 leaves k-space as it is (ringing), 1 damps its corners fully
    ghost: float = 0.0  # strength of the half-field-of-view ghost along j
    shift_voxels: tuple[float, float] = (0.0, 0.0)  # displacement in reconstructed voxels along i, j
    noise: float = 0.0  # deviation in the real and in the imaginary channel of the reconstructed image


@dataclass(frozen=True, slots=True)
class ImageChain:
    """Everything between the noise-free slices and the stored numbers."""

    epi: Acquisition  # of b0 and b1000, without noise
    shift_voxels: tuple[float, float]  # misregistration of b0 against b1000 along i, j
    b0_noise: float  # noise of b0 over that of b1000, which is averaged over directions
    gamma: tuple[float, ...]  # exponent of the stored intensities, b0 and b1000
    relative_gain: float  # b1000's scale over b0's
    brightest: float  # stored value of b0's 99.9th percentile
    flair_noise: float  # over FLAIR's median
    fat_residue: float  # share of fat that suppression leaves
    fat_shift_mm: float  # displacement of fat along j
    skull_stripped: bool
    stripping_margin: int  # voxels by which a stripping tool's mask is wider (+) or tighter (-) than the brain


def draw_image_chain(rng: np.random.Generator, protocol: Protocol, config: SimulateConfig) -> ImageChain:
    """The chain of one examination; ranges chosen here to cover what scanners of several makers give.

    Without `vary_appearance` only fat, misregistration and skull-stripping differ by examination.
    """
    epi = Acquisition(
        acquired=protocol.acquired,
        matrix=protocol.matrix,
        partial_fourier=float(rng.choice([1.0, rng.uniform(0.7, 0.9)])),
        apodisation=float(rng.uniform(0.2, 0.9)),
        ghost=float(rng.uniform(0.01, 0.05)) if rng.random() < 0.3 else float(rng.uniform(0.0, 0.008)),
    )
    moved = 1.0 if rng.random() < 0.2 else 0.25
    gammas = rng.uniform(0.8, 1.25, 2) if rng.random() < 0.5 else np.ones(2)
    chain = ImageChain(
        epi=epi,
        shift_voxels=(float(rng.normal(0.0, moved)), float(rng.normal(0.0, moved))),
        b0_noise=float(rng.uniform(1.0, 1.9)),
        gamma=tuple(gammas.tolist()),
        relative_gain=float(rng.uniform(0.6, 1.05)),
        brightest=log_uniform(rng, 800.0, 9000.0),
        flair_noise=float(rng.uniform(0.02, 0.06)),
        fat_residue=log_uniform(rng, 0.01, 0.15),
        fat_shift_mm=_fat_shift_mm(rng, protocol),
        skull_stripped=bool(rng.random() < config.skull_stripped_share),
        stripping_margin=int(rng.integers(-1, 3)),
    )
    if config.vary_appearance:
        return chain
    epi = Acquisition(protocol.acquired, protocol.matrix, partial_fourier=0.8, apodisation=0.5, ghost=0.004)
    return replace(
        chain, epi=epi, b0_noise=1.4, gamma=(1.0, 1.0), relative_gain=0.8, brightest=3000.0, flair_noise=0.04
    )


def _fat_shift_mm(rng: np.random.Generator, protocol: Protocol) -> float:
    """As the echo train displaces fat's frequency; without one, 5 to 17 mm either way."""
    usual = 1.1 * int(rng.integers(5, 16)) * (1 if rng.random() < 0.5 else -1)
    if protocol.echo_train is None:
        return usual
    offset_hz = FAT_PPM * HZ_PER_PPM_AND_TESLA * protocol.field_strength_t
    return offset_hz * protocol.echo_train.mm_per_hz(protocol.fov_mm[1])


def receive_bias(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> FloatArray:
    """Coil sensitivity: brighter towards the surface, and smoothly uneven; mean about 1, float32 (i, j, k)."""
    knots = [max(rng.uniform(60.0, 110.0) / spacing, 1.0) for spacing in spacing_mm]
    uneven = rng.uniform(0.05, 0.28) * smooth_noise(rng, shape, (knots[0], knots[1], knots[2]))
    x, y = ((np.arange(shape[i], dtype=np.float32) - shape[i] / 2) * spacing_mm[i] / 85.0 for i in range(2))
    surface = rng.uniform(0.0, 0.5) * (np.minimum(x[:, None] ** 2 + y[None, :] ** 2, 1.6) - 0.5)
    return np.asarray(np.exp(uneven + surface[:, :, None]), dtype=np.float32)


def acquire(
    slices: FloatArray,
    acquisition: Acquisition,
    rng: np.random.Generator,
    noise_map: FloatArray | None = None,
) -> FloatArray:
    """Measure noise-free slices through k-space.

    The magnitude of noisy channels is Rician (Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618).

    Args:
        slices: (x, y, k) on a grid finer than the acquired one, over the same field of view, first voxels coinciding.
        acquisition: how.
        rng: noise.
        noise_map: (i, j, k) factor of the noise in the reconstructed image; None: the same everywhere.

    Returns:
        float32 (i, j, k) of `acquisition.matrix`.
    """
    nx, ny = slices.shape[:2]
    mx, my = acquisition.matrix
    kx, ky = (np.rint(fft.fftfreq(n) * n).astype(int) for n in acquisition.acquired)
    kx, ky = kx[np.abs(kx) < nx / 2], ky[np.abs(ky) < ny / 2]
    spectrum = fft.fft2(slices.astype(np.complex64), axes=(0, 1))[np.ix_(kx % nx, ky % ny)]
    spectrum *= np.float32(mx * my / (nx * ny))
    spectrum *= _k_space_weights(kx, ky, acquisition)[:, :, None]

    def reconstructed(lines: NDArray[np.complex64]) -> NDArray[np.complex64]:
        padded = np.zeros((mx, my, slices.shape[2]), dtype=np.complex64)
        padded[np.ix_(kx % mx, ky % my)] = lines
        return np.asarray(fft.ifft2(padded, axes=(0, 1), overwrite_x=True))

    if acquisition.noise > 0:
        scale = np.float32(acquisition.noise * mx * my / np.sqrt(len(kx) * len(ky)))
        noise = rng.standard_normal((2, *spectrum.shape), dtype=np.float32)
        noise *= scale
        if noise_map is not None:
            # Unfolding amplifies noise by place, which no filter of k-space does.
            amplified = reconstructed(noise[0] + 1j * noise[1]) * noise_map
            return np.asarray(np.abs(reconstructed(spectrum) + amplified), dtype=np.float32)
        spectrum.real += noise[0]
        spectrum.imag += noise[1]
    return np.asarray(np.abs(reconstructed(spectrum)), dtype=np.float32)


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


def expose(
    slices: Sequence[FloatArray],
    protocol: Protocol,
    chain: ImageChain,
    *,
    noise: float,
    rng: np.random.Generator,
    noise_map: FloatArray | None = None,
) -> tuple[Stored, Stored, Stored]:
    """Measure b0, b1000 and FLAIR, noise-free fine slices (x, y, k), and store them as integers (i, j, k).

    `noise` is the deviation of b1000's noise in one channel, in the units of the slices; `noise_map` (i, j, k) its
    factor by place in b0 and b1000.
    """
    b0, b1000, flair = slices
    b0_epi = replace(chain.epi, shift_voxels=chain.shift_voxels, noise=noise * chain.b0_noise)
    b0_image = acquire(b0, b0_epi, rng, noise_map)
    b1000_image = acquire(b1000, replace(chain.epi, noise=noise), rng, noise_map)
    # FLAIR is a turbo spin echo: sharper, no ghost.
    sharp = Acquisition(protocol.matrix, protocol.matrix, apodisation=0.5)
    typical = float(np.median(flair[flair > 0.2 * flair.max()]))
    flair_image = acquire(flair, replace(sharp, noise=chain.flair_noise * typical), rng)
    b0_scale = chain.brightest / float(np.quantile(b0_image, 0.999))
    return (
        _store(b0_image, b0_scale, chain.gamma[0]),
        _store(b1000_image, b0_scale * chain.relative_gain, chain.gamma[1]),
        _store(flair_image, 1000.0 / float(np.quantile(flair_image, 0.999)), 1.0),
    )


def _store(image: FloatArray, scale: float, gamma: float) -> Stored:
    scaled = image * np.float32(scale)
    if gamma != 1.0:
        # Bend about a bright value that every image has, so that gamma changes contrast and not scale.
        pivot = np.float32(max(np.quantile(scaled, 0.98), 1.0))
        scaled = pivot * (scaled / pivot) ** np.float32(gamma)
    return np.asarray(np.clip(np.rint(scaled), 0, np.iinfo(np.int16).max), dtype=np.int16)


def stripping_mask(brain: BoolArray, margin: int) -> BoolArray:
    """The brain (i, j, k) as a stripping tool cuts it, `margin` voxels too wide or too tight in the plane."""
    if margin == 0:
        return brain
    cross = ndimage.generate_binary_structure(3, 1)
    cross[:, :, (0, 2)] = False
    change = ndimage.binary_dilation if margin > 0 else ndimage.binary_erosion
    return np.asarray(change(brain, cross, iterations=abs(margin)))
