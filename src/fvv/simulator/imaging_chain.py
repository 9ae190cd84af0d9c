"""The last steps of an examination: measuring, and what console software does to the numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.simulator.artefacts import Acquisition, acquire
from fvv.simulator.scanner import Protocol

Stored = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class ImageChain:
    """Everything between the noise-free slices and the stored numbers.

    Attributes:
        epi: how b0 and b1000 are measured, without noise.
        shift_voxels: misregistration of b0 against b1000 along i, j.
        b0_noise: noise of b0 over that of b1000, which is averaged over directions.
        gamma: exponent of the stored intensities, b0 and b1000.
        relative_gain: b1000's scale over b0's.
        brightest: stored value of b0's 99.9th percentile.
        flair_noise: over FLAIR's median.
        fat_residue: share of fat that suppression leaves.
        fat_shift: its displacement along j in fine voxels.
        stripping: uniform number that decides skull-stripping.
        stripping_margin: voxels by which a stripping tool's mask is wider (+) or tighter (-) than the brain.
    """

    epi: Acquisition
    shift_voxels: tuple[float, float]
    b0_noise: float
    gamma: tuple[float, float]
    relative_gain: float
    brightest: float
    flair_noise: float
    fat_residue: float
    fat_shift: int
    stripping: float
    stripping_margin: int

    def skull_stripped(self, share: float) -> bool:
        """Whether this case is one of the share whose head was removed."""
        return self.stripping < share

    def stripping_mask(self, brain: BoolArray) -> BoolArray:
        """The brain as a stripping tool cuts it, (i, j, k): never exactly."""
        cross = ndimage.generate_binary_structure(3, 1)
        cross[:, :, (0, 2)] = False
        if self.stripping_margin == 0:
            return brain
        change = ndimage.binary_dilation if self.stripping_margin > 0 else ndimage.binary_erosion
        return np.asarray(change(brain, cross, iterations=abs(self.stripping_margin)))


def draw_image_chain(rng: np.random.Generator, protocol: Protocol, *, vary: bool = True) -> ImageChain:
    """Draw the chain; ranges chosen here to cover what scanners of several makers give.

    Without variation only fat, misregistration and skull-stripping differ by examination.
    """
    chain = _varied_chain(rng, protocol)
    if vary:
        return chain
    epi = Acquisition(protocol.acquired, protocol.matrix, partial_fourier=0.8, apodisation=0.5, ghost=0.004)
    return replace(
        chain, epi=epi, b0_noise=1.4, gamma=(1.0, 1.0), relative_gain=0.8, brightest=3000.0, flair_noise=0.04
    )


def _varied_chain(rng: np.random.Generator, protocol: Protocol) -> ImageChain:
    epi = Acquisition(
        acquired=protocol.acquired,
        matrix=protocol.matrix,
        partial_fourier=float(rng.choice([1.0, rng.uniform(0.7, 0.9)])),
        apodisation=float(rng.uniform(0.2, 0.9)),
        ghost=float(rng.uniform(0.01, 0.05)) if rng.random() < 0.3 else float(rng.uniform(0.0, 0.008)),
    )
    moved = 1.0 if rng.random() < 0.2 else 0.25
    gammas = rng.uniform(0.8, 1.25, 2) if rng.random() < 0.5 else np.ones(2)
    return ImageChain(
        epi=epi,
        shift_voxels=(float(rng.normal(0.0, moved)), float(rng.normal(0.0, moved))),
        b0_noise=float(rng.uniform(1.0, 1.9)),
        gamma=(float(gammas[0]), float(gammas[1])),
        relative_gain=float(rng.uniform(0.6, 1.05)),
        brightest=float(np.exp(rng.uniform(np.log(800.0), np.log(9000.0)))),
        flair_noise=float(rng.uniform(0.02, 0.06)),
        fat_residue=float(np.exp(rng.uniform(np.log(0.01), np.log(0.15)))),
        fat_shift=int(rng.integers(5, 16)) * (1 if rng.random() < 0.5 else -1),
        stripping=float(rng.random()),
        stripping_margin=int(rng.integers(-1, 3)),
    )


def expose(
    b0: FloatArray,
    b1000: FloatArray,
    flair: FloatArray,
    *,
    protocol: Protocol,
    chain: ImageChain,
    noise: float,
    rng: np.random.Generator,
) -> tuple[Stored, Stored, Stored]:
    """Measure the three images and store them as integers.

    Args:
        b0, b1000, flair: (x, y, k) noise-free fine slices.
        protocol: the examination's settings.
        chain: the scanner's habits.
        noise: deviation of b1000's noise in one channel, in the units of the slices.
        rng: noise.

    Returns:
        b0, b1000, FLAIR on the reconstructed matrix.
    """
    b0_image = acquire(b0, replace(chain.epi, shift_voxels=chain.shift_voxels, noise=noise * chain.b0_noise), rng)
    b1000_image = acquire(b1000, replace(chain.epi, noise=noise), rng)
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
