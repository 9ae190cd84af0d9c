"""Random changes of training slabs that another scanner or protocol would make; parameters apart from application.

They work on signal: the image minus its channel's minimum, which is the signal of air, so that zero is zero. Labels
stay as they are, and so does the mean of the brain, near which z-scores are 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fvv.config import AugmentConfig

BIAS_TERMS = 9
"""Of a quadratic in i, j and z without its constant."""
LARGEST_NEIGHBOUR_WEIGHT = 1 / 3
"""A slice three times as thick as its spacing holds as much of each neighbour as of its own place."""


@dataclass(frozen=True, slots=True)
class ScannerChange:
    """How another scanner would have seen one slab; the defaults change nothing.

    Attributes:
        gamma: exponent of each channel's (b1000, b0) signal about the brain's mean.
        bias_amplitude: largest absolute logarithm of the coil's sensitivity over the slab.
        bias_shape: weights of i, j, z, i^2, j^2, z^2, ij, iz, jz in it; the same coil receives both channels.
        resolution: factor by which voxels in plane are larger.
        neighbour_weight: share that each neighbouring slice has in a slice (thick slices, cross-talk).
        noise: standard deviation of the receiver's noise, z-score units.
        noise_seed: of that noise.
    """

    gamma: tuple[float, float] = (1.0, 1.0)
    bias_amplitude: float = 0.0
    bias_shape: tuple[float, ...] = (1.0,) * BIAS_TERMS
    resolution: float = 1.0
    neighbour_weight: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0

    @classmethod
    def draw(cls, config: AugmentConfig, generator: torch.Generator) -> ScannerChange:
        """Draw the parameters of one slab; the same generator state gives the same change."""
        draws = torch.rand(7 + BIAS_TERMS, generator=generator, dtype=torch.float64).tolist()
        seed = int(torch.randint(2**31, (1,), generator=generator))
        thick = draws[4] < config.thick_slices
        return cls(
            gamma=(config.gamma ** (2 * draws[0] - 1), config.gamma ** (2 * draws[1] - 1)),
            bias_amplitude=draws[2] * config.bias_field,
            bias_shape=tuple(2.0 * draw - 1.0 for draw in draws[7:]),
            resolution=config.resolution ** draws[3],
            neighbour_weight=draws[5] * LARGEST_NEIGHBOUR_WEIGHT if thick else 0.0,
            noise=draws[6] * config.noise,
            noise_seed=seed,
        )


def scanner_is_changed(config: AugmentConfig) -> bool:
    """Whether the settings ask for any of these changes."""
    return config.gamma > 1 or config.resolution > 1 or max(config.bias_field, config.noise, config.thick_slices) > 0


def apply_scanner(signal: Tensor, brain_mean: Tensor, change: ScannerChange) -> Tensor:
    """One slab as another scanner would have seen it: in the order of acquisition, noise last.

    Args:
        signal: (2, Z, H, W) float, not negative.
        brain_mean: (2, 1, 1, 1) signal of a voxel with z-score 0.
        change: what happens.

    Returns:
        Signal of the same shape, not negative.
    """
    if change.gamma != (1.0, 1.0):
        exponent = torch.tensor(change.gamma, device=signal.device)[:, None, None, None]
        pivot = brain_mean.clamp(min=1e-3)
        signal = pivot * (signal.clamp(min=0) / pivot) ** exponent
    if change.bias_amplitude > 0:
        signal = signal * bias_field(change, signal.shape[1:], signal.device)
    if change.resolution > 1:
        size = [round(edge / change.resolution) for edge in signal.shape[-2:]]
        coarse = functional.interpolate(signal, size=size, mode="bilinear", align_corners=False, antialias=True)
        signal = functional.interpolate(coarse, size=signal.shape[-2:], mode="bilinear", align_corners=False)
    if change.neighbour_weight > 0:
        padded = torch.cat([signal[:, :1], signal, signal[:, -1:]], dim=1)
        own = 1.0 - 2.0 * change.neighbour_weight
        signal = own * signal + change.neighbour_weight * (padded[:, :-2] + padded[:, 2:])
    if change.noise > 0:
        # Magnitude images: noise in the real and in the imaginary part (Gudbjartsson & Patz 1995, doi
        # 10.1002/mrm.1910340618). Drawn on the signal's device: a replay on that kind of device is exact.
        generator = torch.Generator(signal.device).manual_seed(change.noise_seed)
        parts = torch.randn((2, *signal.shape), generator=generator, device=signal.device) * change.noise
        signal = torch.hypot(signal + parts[0], parts[1])
    return signal


def bias_field(change: ScannerChange, shape: tuple[int, ...] | torch.Size, device: torch.device) -> Tensor:
    """(Z, H, W) float32 factors, smooth, within exp(-amplitude) and exp(amplitude)."""
    z, i, j = torch.meshgrid(*(torch.linspace(-1, 1, edge, device=device) for edge in shape), indexing="ij")
    terms = (i, j, z, i * i, j * j, z * z, i * j, i * z, j * z)
    exponent = sum((weight * term for weight, term in zip(change.bias_shape, terms, strict=True)), torch.zeros_like(i))
    exponent = exponent - exponent.mean()
    return torch.exp(change.bias_amplitude * exponent / exponent.abs().amax().clamp(min=1e-6))
