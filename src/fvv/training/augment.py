"""Random changes of training slabs: parameters are chosen apart from their application, so that any can be replayed.

One set of parameters per slab: all slices of a slab change alike, images and labels together. The work is done on the
batch, on the training device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fvv.config import AugmentConfig, TrainConfig
from fvv.data import Channel


@dataclass(frozen=True, slots=True)
class SlabChange:
    """What happens to one slab.

    Attributes:
        brightness: added to each image channel (b1000, b0), in z-score units (in-brain standard deviations).
        contrast: factor of each image channel about its minimum.
        flip_left_right: mirror axis i (H).
        flip_slice_order: reverse the slices.
        rotation_deg: in plane.
        translation: along i and j, as a share of the grid's edge.
        scale: zoom; above 1 enlarges the head.
        shear_deg: in plane.
    """

    brightness: tuple[float, float] = (0.0, 0.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    flip_left_right: bool = False
    flip_slice_order: bool = False
    rotation_deg: float = 0.0
    translation: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    shear_deg: float = 0.0

    @classmethod
    def draw(cls, config: AugmentConfig, generator: torch.Generator) -> SlabChange:
        """Draw the parameters of one slab; the same generator state gives the same change."""
        draws = torch.rand(11, generator=generator, dtype=torch.float64).tolist()
        centred = [2.0 * draw - 1.0 for draw in draws]  # uniform in -1 .. 1
        return cls(
            brightness=(centred[0] * config.brightness, centred[1] * config.brightness),
            contrast=(1.0 + centred[2] * config.contrast, 1.0 + centred[3] * config.contrast),
            flip_left_right=draws[4] < config.flip_left_right,
            flip_slice_order=draws[5] < config.flip_slice_order,
            rotation_deg=centred[6] * config.rotation_deg,
            translation=(centred[7] * config.translation, centred[8] * config.translation),
            # Log-uniform: enlarging and shrinking by the same factor are equally likely.
            scale=config.scale ** centred[9],
            shear_deg=centred[10] * config.shear_deg,
        )

    def sampling_matrix(self) -> Tensor:
        """(2, 3) float32: from output to input position, in torch's normalised (j, i) coordinates of -1 .. 1."""
        angle, shear = math.radians(self.rotation_deg), math.tan(math.radians(self.shear_deg))
        cos, sin = math.cos(angle) / self.scale, math.sin(angle) / self.scale
        mirror = -1.0 if self.flip_left_right else 1.0
        # Rotation and zoom after shear along j; the mirror negates the i coordinate (second row).
        rows = [[cos, cos * shear - sin], [mirror * sin, mirror * (sin * shear + cos)]]
        # A shift of a share of the edge is twice that in coordinates that run from -1 to 1.
        return torch.tensor(
            [[*rows[0], 2.0 * self.translation[1]], [*rows[1], 2.0 * self.translation[0]]], dtype=torch.float32
        )


def augmented(images: Tensor, labels: Tensor, config: TrainConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch as it trains: one random change a slab, then the part around the brain where the settings ask for it.

    Args:
        images: (B, 2, Z, H, W) float.
        labels: (B, 3, S, H, W) bool, S <= Z.
        config: `augment` and `crop`.
        generator: of the changes.

    Returns:
        Images and labels; their last two sizes are those of `crop`, or as before.
    """
    changed = apply_changes(images, labels, draw_changes(config.augment, len(images), generator))
    return changed if config.crop is None else around_brain(*changed, config.crop)


def draw_changes(config: AugmentConfig, slabs: int, generator: torch.Generator) -> tuple[SlabChange, ...]:
    """The changes of a batch, one per slab; none at all where augmentation is off."""
    return tuple(SlabChange.draw(config, generator) for _ in range(slabs)) if config.enabled else ()


def apply_changes(images: Tensor, labels: Tensor, changes: tuple[SlabChange, ...]) -> tuple[Tensor, Tensor]:
    """Apply one change to each slab of a batch; nothing where there are none.

    Args:
        images: (B, 2, Z, H, W) float.
        labels: (B, 3, S, H, W) bool, S <= Z.
        changes: B of them, or none.

    Returns:
        Images and labels of the same shapes and types. What comes from outside the image holds the channel's minimum
        (as the padding of small images does) and no label.
    """
    if not changes:
        return images, labels
    device = images.device
    matrices = torch.stack([change.sampling_matrix() for change in changes]).to(device)
    height, width = images.shape[-2:]
    positions = functional.affine_grid(matrices, [len(changes), 1, height, width], align_corners=False)
    minimum = images.amin(dim=(2, 3, 4), keepdim=True)  # (B, 2, 1, 1, 1)
    factors = torch.tensor([change.contrast for change in changes], device=device)[..., None, None, None]
    shifts = torch.tensor([change.brightness for change in changes], device=device)[..., None, None, None]
    # Slices stand as channels here: one set of sampling positions serves the whole slab.
    moved = functional.grid_sample((images - minimum).flatten(1, 2), positions, align_corners=False)
    images = moved.view_as(images) * factors + (minimum + shifts)  # (B, 2, Z, H, W)
    nearest = functional.grid_sample(labels.flatten(1, 2).float(), positions, mode="nearest", align_corners=False)
    labels = nearest.view(labels.shape) > 0.5  # (B, 3, S, H, W)
    reverse = [number for number, change in enumerate(changes) if change.flip_slice_order]
    if reverse:
        images[reverse], labels[reverse] = images[reverse].flip(2), labels[reverse].flip(2)
    return images, labels


def around_brain(images: Tensor, labels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Crop each slab in plane, with the middle of the brain's extent as near to the centre as the slab allows.

    Args:
        images: (B, 2, Z, H, W).
        labels: (B, 3, S, H, W) bool; a slab without brain is cropped around the centre of the grid.
        size: rows and columns, at most H and W.

    Returns:
        (B, 2, Z, *size) and (B, 3, S, *size).
    """
    brains = labels[:, Channel.BRAIN.value].any(dim=1)  # (B, H, W)
    windows = [
        tuple(_window(brain.any(dim=1 - axis), size[axis]) for axis in (0, 1))  # along H, and along W
        for brain in brains
    ]
    return (
        torch.stack([slab[..., rows, columns] for slab, (rows, columns) in zip(images, windows, strict=True)]),
        torch.stack([slab[..., rows, columns] for slab, (rows, columns) in zip(labels, windows, strict=True)]),
    )


def _window(inside: Tensor, size: int) -> slice:
    """Along one axis, from (N,) bool."""
    places = inside.nonzero().flatten()
    edge = len(inside)
    middle = int(places[0] + places[-1] + 1) // 2 if len(places) else edge // 2
    start = min(max(middle - size // 2, 0), edge - size)
    return slice(start, start + size)
