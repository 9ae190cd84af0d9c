"""`-c reference`: the published recipe, number by number, against formulas written down here and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fvv.cli.settings import PACKAGED
from fvv.config import LossConfig, load_config
from fvv.data import Channel
from fvv.training.augment import SlabChange
from fvv.training.losses import segmentation_loss
from fvv.training.module import SegmentationModule

RECIPE = load_config(PACKAGED["reference"]).train
BRAIN, LESION, VISIBLE = (channel.value for channel in Channel)


def published_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Binary cross-entropies with labels of 0.01 and 0.99: brain + lesion + 100 FLAIR-visible, these inside the brain.

    Args:
        logits: (batch, 3, slices, H, W).
        labels: the same, bool.
    """
    total = 0.0
    for channel, weight in ((BRAIN, 1.0), (LESION, 1.0), (VISIBLE, 100.0)):
        costs = []
        for place in np.ndindex(labels[:, 0].shape):
            where = (place[0], channel, *place[1:])
            if channel != BRAIN and not labels[(place[0], BRAIN, *place[1:])]:
                continue
            target, probability = (0.99 if labels[where] else 0.01), 1.0 / (1.0 + np.exp(-logits[where]))
            costs.append(-target * np.log(probability) - (1.0 - target) * np.log(1.0 - probability))
        total += weight * float(np.mean(costs))
    return total


def batch(rng: np.random.Generator, slabs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Slices with different shares of brain; one without a lesion."""
    labels = np.zeros((slabs, 3, 1, 8, 8), dtype=bool)
    for slab in range(slabs):
        labels[slab, BRAIN, :, : 3 + slab] = True
        labels[slab, LESION, :, : 2 * slab, :3] = True
        labels[slab, VISIBLE, :, :slab, :2] = True
    return rng.normal(0.0, 3.0, labels.shape), labels


def found_loss(logits: np.ndarray, labels: np.ndarray, config: LossConfig = RECIPE.loss) -> float:
    return segmentation_loss(torch.from_numpy(logits), torch.from_numpy(labels), config).total.item()


def test_the_loss_is_the_published_one(rng: np.random.Generator) -> None:
    logits, labels = batch(rng)
    assert found_loss(logits, labels) == pytest.approx(published_loss(logits, labels), rel=1e-6)


def test_known_answers() -> None:
    """Undecided everywhere: ln 2 in each of the 102 parts. Certain and wrong by 4 everywhere: 4.0181 less 0.04."""
    _, labels = batch(np.random.default_rng(0))
    assert found_loss(np.zeros(labels.shape), labels) == pytest.approx(102 * np.log(2.0))
    assert found_loss(np.where(labels, -4.0, 4.0), labels) == pytest.approx(102 * (np.log1p(np.exp(4.0)) - 0.04))


def test_our_default_is_another_loss(rng: np.random.Generator) -> None:
    """What was called the reference's loss: over all voxels, labels of 0.005 and 0.995."""
    logits, labels = batch(rng)
    ours = found_loss(logits, labels, LossConfig(dice_weight=0.0))
    assert ours < 0.75 * published_loss(logits, labels)


def test_one_optimiser_and_schedule() -> None:
    module = SegmentationModule(RECIPE.model_copy(update={"seed": 1}), [])
    optimizer = module.configure_optimizers()
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 0)
    assert sum(weights.numel() for weights in group["params"]) == sum(w.numel() for w in module.network.parameters())
    # Patience 6: the seventh epoch without a better one reduces; 2 of cooldown; never under 1e-6.
    rates = []
    for loss in [2.0, *[1.0] * 60]:
        module._plateau.step(loss)
        rates.append(group["lr"])
    expected = [1e-3] * 8 + [1e-4] * 9 + [1e-5] * 9 + [1e-6] * 35
    assert rates == pytest.approx(expected)


def test_slices_batches_and_epochs() -> None:
    assert RECIPE.slab_slices * RECIPE.batch_slabs == 32
    assert (RECIPE.slices_per_epoch, RECIPE.epochs, RECIPE.patience) == (16384, 75, None)
    assert (RECIPE.ema_decay, RECIPE.norm_slabs, RECIPE.init) == (0.0, 0, "")


def test_changes_of_slices_stay_within_the_published_bounds_and_reach_them() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [SlabChange.draw(RECIPE.augment, generator) for _ in range(2000)]
    bounds = {
        "brightness": (-0.15, 0.15), "contrast": (0.85, 1.15), "rotation_deg": (-8, 8), "translation": (-0.04, 0.04),
        "scale": (1 / 1.1, 1.1), "shear_deg": (-8, 8),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        values = np.array([getattr(change, name) for change in drawn])
        assert low <= values.min() < low + 0.02 * (high - low), name
        assert high - 0.02 * (high - low) < values.max() <= high, name
    for name in ("flip_left_right", "flip_slice_order"):
        assert np.mean([getattr(change, name) for change in drawn]) == pytest.approx(0.5, abs=0.04)
