"""What training minimises: brain + lesion + FLAIR-visible part, the last two judged inside the brain only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fvv.config import LossConfig
from fvv.data import Channel


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The loss and its parts, each a scalar tensor before weighting; `total` is what is minimised."""

    total: Tensor
    brain: Tensor
    stroke: Tensor
    flair_visible: Tensor
    dice: Tensor


def segmentation_loss(logits: Tensor, labels: Tensor, config: LossConfig) -> LossTerms:
    """Weighted sum of three cross-entropies and, if its weight is not 0, of three soft Dice losses.

    Every cross-entropy is a mean over *all* voxels of the batch; stroke and FLAIR-visible count 0 outside the true
    brain. So the three share one denominator: a batch of slices with little brain weighs little, and the weight of 100
    on the FLAIR-visible part says what it seems to say against the brain's weight of 1.

    Args:
        logits: (B, 3, Z, H, W) float, channels in the order of `Channel`.
        labels: (B, 3, Z, H, W), 0 or 1.
        config: weights and label smoothing.

    Returns:
        All terms; sums run in float32 whatever the precision of the logits.
    """
    logits, target = logits.float(), labels.float()
    inside = labels[:, Channel.BRAIN.value].float()  # (B, Z, H, W)
    smoothed = target * (1.0 - config.label_smoothing) + 0.5 * config.label_smoothing
    entropy = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    brain = entropy[:, Channel.BRAIN.value].mean()
    stroke = (entropy[:, Channel.STROKE.value] * inside).mean()
    flair_visible = (entropy[:, Channel.FLAIR_VISIBLE.value] * inside).mean()
    total = config.brain_weight * brain + config.stroke_weight * stroke + config.flair_visible_weight * flair_visible
    dice = logits.new_zeros(())
    if config.dice_weight > 0:
        dice = soft_dice_loss(logits, target, inside)
        total = total + config.dice_weight * dice
    return LossTerms(total, brain, stroke, flair_visible, dice)


def soft_dice_loss(logits: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """1 - soft Dice of probabilities pooled over the whole batch, averaged over the channels present in it.

    Pooling keeps slices without lesion from asking for an undefined ratio; a channel with no true voxel in the batch
    teaches through the cross-entropy alone (Milletari et al. 2016, doi 10.1109/3DV.2016.79, squared denominator).

    Args:
        logits: (B, 3, Z, H, W) float.
        target: (B, 3, Z, H, W) float, 0 or 1.
        inside: (B, Z, H, W) float, 1 in the true brain; stroke and FLAIR-visible are judged there.
    """
    probability = torch.sigmoid(logits)
    everywhere = torch.ones_like(inside)
    region = torch.stack([everywhere if channel is Channel.BRAIN else inside for channel in Channel], dim=1)
    probability = probability * region
    axes = (0, 2, 3, 4)
    overlap = (probability * target).sum(axes)
    mass = (probability**2).sum(axes) + target.sum(axes)
    present = (target.sum(axes) > 0).float()
    dice = 2.0 * overlap / mass.clamp_min(1.0)
    return ((1.0 - dice) * present).sum() / present.sum().clamp_min(1.0)
