"""The loss: known answers and where it looks."""

import math

import numpy as np
import pytest
import torch

from fvv.config import LossConfig
from fvv.data import Channel
from fvv.training.losses import segmentation_loss, soft_dice_loss

BRAIN, STROKE, VISIBLE = (channel.value for channel in Channel)
PLAIN = LossConfig(label_smoothing=0.0, dice_weight=0.0)


def half_brain() -> torch.Tensor:
    """Labels of one slab: brain in the left half, a lesion in it, part of that visible."""
    labels = torch.zeros(1, 3, 2, 8, 8, dtype=torch.bool)
    labels[:, BRAIN, :, :, :4] = True
    labels[:, STROKE, :, :4, :2] = True
    labels[:, VISIBLE, :, :2, :2] = True
    return labels


def test_undecided_logits_cost_ln2_everywhere_and_inside_the_brain_half_of_it():
    terms = segmentation_loss(torch.zeros(1, 3, 2, 8, 8), half_brain(), PLAIN)
    assert terms.brain.item() == pytest.approx(math.log(2))
    assert terms.stroke.item() == pytest.approx(math.log(2) / 2)
    assert terms.total.item() == pytest.approx(math.log(2) * (1 + 0.5 + 100 * 0.5))


def test_what_is_marked_outside_the_brain_costs_nothing_but_brain():
    logits = torch.zeros(1, 3, 2, 8, 8)
    far = logits.clone()
    far[:, [STROKE, VISIBLE], :, :, 4:] = 9.0
    assert segmentation_loss(far, half_brain(), PLAIN).total == segmentation_loss(logits, half_brain(), PLAIN).total
    far[:, BRAIN, :, :, 4:] = 9.0
    assert segmentation_loss(far, half_brain(), PLAIN).total > segmentation_loss(logits, half_brain(), PLAIN).total


def test_smoothing_puts_the_best_answer_at_half_the_smoothing():
    labels = half_brain()
    best = torch.where(labels, 1.0, -1.0) * math.log(0.995 / 0.005)
    best.requires_grad_()
    segmentation_loss(best, labels, LossConfig(label_smoothing=0.01, dice_weight=0.0)).total.backward()
    assert best.grad.abs().max() < 1e-6


def test_with_its_settings_the_loss_is_the_references():
    """BCE with labels 0.01 and 0.99; brain over all voxels, the other two over those of the brain; 1, 1 and 100."""
    random = np.random.default_rng(3)
    logits = random.normal(0, 3, (2, 3, 2, 8, 8))
    labels = np.repeat(half_brain().numpy(), 2, axis=0)
    labels[1, [STROKE, VISIBLE], 1] = False
    labels[1, BRAIN, 0] = True
    probability, target = 1 / (1 + np.exp(-logits)), np.where(labels, 0.99, 0.01)
    entropy = -(target * np.log(probability) + (1 - target) * np.log(1 - probability))
    inside = labels[:, BRAIN]
    expected = entropy[:, BRAIN].mean() + entropy[:, STROKE][inside].mean() + 100 * entropy[:, VISIBLE][inside].mean()
    config = LossConfig(label_smoothing=0.02, normalisation="brain", dice_weight=0.0)
    found = segmentation_loss(torch.from_numpy(logits), torch.from_numpy(labels), config).total
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_over_the_brain_a_batch_without_one_has_no_lesion_terms():
    config = LossConfig(normalisation="brain", dice_weight=0.0)
    terms = segmentation_loss(torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 3, 2, 8, 8), config)
    assert terms.stroke.item() == terms.flair_visible.item() == 0.0
    assert math.isfinite(terms.total.item())


@pytest.mark.parametrize(("term", "weight"), [("brain", 2.0), ("stroke", 3.0), ("flair_visible", 7.0)])
def test_each_weight_scales_its_own_term(term, weight):
    logits = torch.randn(1, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    off = {f"{name}_weight": 0.0 for name in ("brain", "stroke", "flair_visible", "dice")}
    terms = segmentation_loss(logits, half_brain(), LossConfig(**(off | {f"{term}_weight": weight})))
    assert terms.total.item() == pytest.approx(weight * getattr(terms, term).item())


def test_soft_dice_is_zero_for_the_truth_and_near_one_for_its_opposite():
    labels = half_brain().float()
    labels = labels.repeat_interleave(16, dim=3).repeat_interleave(16, dim=4)  # large against the smoothing
    inside = labels[:, BRAIN]
    assert soft_dice_loss((labels * 2 - 1) * 50, labels, inside).item() == pytest.approx(0.0, abs=1e-6)
    assert soft_dice_loss((1 - labels * 2) * 50, labels, inside).item() > 0.95


def test_soft_dice_of_a_slab_without_lesion_asks_for_less_to_be_marked_whatever_the_other_slabs_hold():
    labels = half_brain().float().repeat(2, 1, 1, 1, 1)
    labels[1, [STROKE, VISIBLE]] = 0.0
    logits = torch.zeros(2, 3, 2, 8, 8, requires_grad=True)
    soft_dice_loss(logits, labels, labels[:, BRAIN]).backward()
    inside = labels[1, BRAIN] > 0
    for channel in (STROKE, VISIBLE):
        assert (logits.grad[1, channel][inside] > 0).all()
        assert (logits.grad[1, channel][~inside] == 0).all()
        assert (logits.grad[0, channel][labels[0, channel] > 0] < 0).all()
