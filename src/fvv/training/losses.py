"""What training minimises: brain + lesion + FLAIR-visible part, the last two counted inside the brain only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fvv.config import LossConfig
from fvv.data import Channel
from fvv.system.extension import extension

DICE_SMOOTHING = 100.0
"""Voxels added to both sides of the soft Dice: about the 0.5 mL under which a lesion's visible part counts as none."""

CERTAIN_NO = -30.0
"""Logit of an unknown channel for a loss of the user's own: a probability of 1e-13."""


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The loss and its parts, each a scalar tensor before weighting; `total` is what is minimised."""

    total: Tensor
    brain: Tensor
    stroke: Tensor
    flair_visible: Tensor
    dice: Tensor

    def named(self, prefix: str) -> dict[str, Tensor]:
        """By the names of metrics.csv behind a prefix: loss, loss_brain and so on."""
        parts = {f"{prefix}loss_{channel.label}": getattr(self, channel.label) for channel in Channel}
        return {f"{prefix}loss": self.total, **parts, f"{prefix}loss_dice": self.dice}


def loss_of(config: LossConfig) -> Callable[..., LossTerms]:
    """The loss that the settings ask for: `segmentation_loss`, or the user's own function of its first three arguments.

    Both are called with the arguments of `segmentation_loss`. The user's function sees unknown channels as certain and
    right (`answered`): they cost nothing and teach nothing.
    """
    if config.function is None:
        return segmentation_loss
    own: Callable[[Tensor, Tensor, LossConfig], LossTerms] = extension(config.function, "loss")

    def with_answers(logits: Tensor, labels: Tensor, config: LossConfig, known: Tensor | None = None) -> LossTerms:
        return own(logits if known is None else answered(logits, known), labels, config)

    return with_answers


def answered(logits: Tensor, known: Tensor) -> Tensor:
    """The logits, (B, 3, Z, H, W), with those of unknown channels set to a certain "no", which is how they are stored.

    Args:
        known: (B, 3) bool.
    """
    return logits.masked_fill(~known[:, :, None, None, None], CERTAIN_NO)


def segmentation_loss(logits: Tensor, labels: Tensor, config: LossConfig, known: Tensor | None = None) -> LossTerms:
    """Weighted sum of three cross-entropies and, if its weight is not 0, of three soft Dice losses.

    The cross-entropy of the brain is a mean over all voxels of the batch. Those of stroke and FLAIR-visible part are
    summed over the reference brain and divided by the number of all voxels of the batch, or of those of the brain
    (`LossConfig.normalisation`). The loss of the reference pipeline is `brain` with a label smoothing of 0.02 and no
    Dice; ours, over all voxels, gives a batch of slices with little brain little weight.

    Every term of a channel is that of the slabs of the batch in which it is known; 0 where it is known in none. What is
    unknown has no gradient.

    Args:
        logits: (B, 3, Z, H, W) float, channels in the order of `Channel`.
        labels: (B, 3, Z, H, W), 0 or 1.
        config: weights, label smoothing, normalisation.
        known: (B, 3) bool, the channels that have labels; None: all.

    Returns:
        All terms; sums run in float32 whatever the precision of the logits. Without any brain in the batch the terms
        inside it are 0.
    """
    logits, target = logits.float(), labels.float()
    known = _all_of(logits) if known is None else known
    inside = labels[:, Channel.BRAIN.value].float()  # (B, Z, H, W)
    smoothed = target * (1.0 - config.label_smoothing) + 0.5 * config.label_smoothing
    entropy = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")

    def inside_brain(channel: Channel) -> Tensor:
        chosen = known[:, channel.value]
        term = _known_mean((entropy[:, channel.value] * inside).mean(dim=(1, 2, 3)), chosen)
        if config.normalisation == "all":
            return term
        return term / _known_mean(inside.mean(dim=(1, 2, 3)), chosen).clamp(min=1.0 / inside.numel())

    brain = entropy[:, Channel.BRAIN.value].mean()
    stroke, flair_visible = inside_brain(Channel.STROKE), inside_brain(Channel.FLAIR_VISIBLE)
    total = config.brain_weight * brain + config.stroke_weight * stroke + config.flair_visible_weight * flair_visible
    dice = logits.new_zeros(())
    if config.dice_weight > 0:
        dice = soft_dice_loss(logits, target, inside, known)
        total = total + config.dice_weight * dice
    return LossTerms(total, brain, stroke, flair_visible, dice)


def soft_dice_loss(logits: Tensor, target: Tensor, inside: Tensor, known: Tensor | None = None) -> Tensor:
    """1 - soft Dice of the probabilities of each slab and known channel, averaged (Milletari et al. 2016, doi
    10.1109/3DV.2016.79, squared denominator).

    Each slab for itself, and smoothed: in a slab without lesion, or with one that is nowhere visible on FLAIR, the loss
    falls as less is predicted. Pooled over the batch it would hardly notice as long as another slab has some.

    Args:
        logits: (B, 3, Z, H, W) float.
        target: (B, 3, Z, H, W) float, 0 or 1.
        inside: (B, Z, H, W) float, 1 in the reference brain; stroke and FLAIR-visible are judged there.
        known: (B, 3) bool, None: all; the mean runs over the known slabs of each channel, then over the channels that
            any slab knows.
    """
    known = _all_of(logits) if known is None else known
    probability = torch.sigmoid(logits)
    everywhere = torch.ones_like(inside)
    region = torch.stack([everywhere if channel is Channel.BRAIN else inside for channel in Channel], dim=1)
    probability = probability * region
    axes = (2, 3, 4)
    overlap = (probability * target).sum(axes)  # (B, 3)
    mass = (probability**2).sum(axes) + target.sum(axes)
    dice = (2.0 * overlap + DICE_SMOOTHING) / (mass + DICE_SMOOTHING)
    return _known_mean(1.0 - dice, known)[known.any(dim=0)].mean()


def _all_of(logits: Tensor) -> Tensor:
    return torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)


def _known_mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean over the slabs, axis 0, in which a value is known; 0 where there is none, and no gradient elsewhere."""
    return torch.where(known, values, 0.0).sum(dim=0) / known.sum(dim=0).clamp(min=1)
