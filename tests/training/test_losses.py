"""The loss: known answers and where it looks."""

import math

import numpy as np
import pytest
import torch

from fvv.config import LossConfig
from fvv.data import Channel
from fvv.training.losses import LossTerms, loss_of, segmentation_loss, soft_dice_loss

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


EVERY_TERM = [
    LossConfig(normalisation=normalisation, dice_weight=weight)
    for normalisation in ("all", "brain")
    for weight in (0.0, 1.0)
]


def two_slabs() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = half_brain().repeat(2, 1, 1, 1, 1)
    labels[1, BRAIN, 0] = True  # another share of brain
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("config", EVERY_TERM)
@pytest.mark.parametrize("unknown", [(0, VISIBLE), (1, STROKE), (1, VISIBLE)])
def test_an_unknown_channel_has_no_gradient_and_its_labels_do_not_count(config, unknown):
    logits, labels = two_slabs()
    known = torch.ones(2, 3, dtype=torch.bool)
    known[unknown] = False
    total = segmentation_loss(logits, labels, config, known).total
    total.backward()
    assert (logits.grad[unknown] == 0).all()
    rest = logits.grad.clone()
    rest[unknown] = 1.0
    assert all(channel.any() for slab in rest for channel in slab)
    labels[unknown] = ~labels[unknown]
    assert segmentation_loss(logits, labels, config, known).total == total


@pytest.mark.parametrize("config", EVERY_TERM)
def test_a_term_is_that_of_the_slabs_in_which_its_channel_is_known(config):
    logits, labels = two_slabs()
    known = torch.tensor([[True, True, True], [True, True, False]])
    both, first = segmentation_loss(logits, labels, config, known), segmentation_loss(logits[:1], labels[:1], config)
    assert both.flair_visible.item() == pytest.approx(first.flair_visible.item())
    assert both.stroke.item() == pytest.approx(segmentation_loss(logits, labels, config).stroke.item())


@pytest.mark.parametrize("config", EVERY_TERM)
def test_a_channel_that_no_slab_knows_costs_nothing(config):
    logits, labels = two_slabs()
    known = torch.tensor([[True, False, False]] * 2)
    terms = segmentation_loss(logits, labels, config, known)
    assert terms.stroke.item() == terms.flair_visible.item() == 0.0
    terms.total.backward()
    assert (logits.grad[:, [STROKE, VISIBLE]] == 0).all()
    assert logits.grad[:, BRAIN].any()


def whole_entropy(logits, labels, config):
    """A loss of the user's own that knows nothing of unknown channels."""
    cost = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return LossTerms(cost, cost, cost, cost, cost)


def test_a_loss_of_ones_own_learns_nothing_of_an_unknown_channel():
    logits, labels = two_slabs()
    labels[1, VISIBLE] = False  # as the store holds it
    known = torch.tensor([[True, True, True], [True, True, False]])
    loss = loss_of(LossConfig(function="training.test_losses:whole_entropy"))
    loss(logits, labels, LossConfig(), known).total.backward()
    assert (logits.grad[1, VISIBLE] == 0).all()
    assert logits.grad[0, VISIBLE].all()
