"""Changes another scanner would make: laws, known answers, replay."""

import math

import pytest
import torch

from fvv.config import AugmentConfig
from fvv.training.augment import apply_changes, draw_changes
from fvv.training.scanner import ScannerChange, apply_scanner, bias_field

ON = AugmentConfig(gamma=1.3, bias_field=0.3, resolution=2.0, thick_slices=0.5, noise=0.3)
MEAN = torch.full((2, 1, 1, 1), 3.0)


@pytest.fixture
def signal():
    """(2, 8, 64, 64), not negative, a bright square in slice 4."""
    slab = torch.full((2, 8, 64, 64), 3.0)
    slab[:, :, :8] = 0.0
    slab[:, 4, 24:40, 24:40] = 6.0
    return slab


def test_nothing_changes_nothing(signal):
    assert torch.equal(apply_scanner(signal, MEAN, ScannerChange()), signal)


@pytest.mark.parametrize(
    "change",
    [
        ScannerChange(gamma=(1.3, 0.8)),
        ScannerChange(bias_amplitude=0.3),
        ScannerChange(resolution=2.0),
        ScannerChange(neighbour_weight=0.2),
        ScannerChange(noise=0.3, noise_seed=5),
    ],
)
def test_each_change_changes_replays_and_stays_signal(signal, change):
    once = apply_scanner(signal, MEAN, change)
    assert not torch.allclose(once, signal, atol=1e-2)
    assert torch.equal(once, apply_scanner(signal, MEAN, change))
    assert once.min() >= 0
    assert once.shape == signal.shape


def test_gamma_keeps_air_and_the_brains_mean(signal):
    changed = apply_scanner(signal, MEAN, ScannerChange(gamma=(2.0, 0.5)))
    assert changed[:, 0, 0, 0].tolist() == [0.0, 0.0]
    assert changed[:, 0, 20, 20].tolist() == pytest.approx([3.0, 3.0])
    assert changed[:, 4, 30, 30].tolist() == pytest.approx([12.0, 3.0 * math.sqrt(2)])


def test_bias_is_smooth_bounded_and_the_same_in_both_channels(signal):
    change = ScannerChange(bias_amplitude=0.3, bias_shape=tuple(0.1 * k - 0.4 for k in range(9)))
    field = bias_field(change, signal.shape[1:], signal.device)
    assert field.log().abs().max() == pytest.approx(0.3, abs=1e-5)
    assert all(field.diff(dim=axis).abs().max() < limit for axis, limit in ((0, 0.3), (1, 0.04), (2, 0.04)))
    torch.testing.assert_close(apply_scanner(signal, MEAN, change), signal * field)


def test_lower_resolution_blurs_in_plane_and_keeps_the_mean(signal):
    changed = apply_scanner(signal, MEAN, ScannerChange(resolution=2.0))
    assert changed.mean() == pytest.approx(float(signal.mean()), rel=0.01)
    assert 3.3 < changed[0, 4, 23:25, 32].mean() < 5.7
    assert changed[0, 3, 32, 32] == pytest.approx(3.0, abs=1e-4)


def test_thick_slices_take_the_stated_share_of_each_neighbour(signal):
    changed = apply_scanner(signal, MEAN, ScannerChange(neighbour_weight=0.25))
    assert changed[0, 2:7, 32, 32].tolist() == pytest.approx([3.0, 3.75, 4.5, 3.75, 3.0])
    assert torch.equal(changed[:, :, :, 10], signal[:, :, :, 10])


def test_noise_of_air_is_rayleigh_and_that_of_bright_tissue_gaussian():
    air = apply_scanner(torch.zeros(2, 8, 64, 64), MEAN, ScannerChange(noise=0.5, noise_seed=1))
    assert air.mean() == pytest.approx(0.5 * math.sqrt(math.pi / 2), rel=0.02)
    bright = apply_scanner(torch.full((2, 8, 64, 64), 50.0), MEAN, ScannerChange(noise=0.5, noise_seed=1))
    assert bright.std() == pytest.approx(0.5, rel=0.02)
    assert bright.mean() == pytest.approx(50.0, abs=0.05)


def test_drawn_parameters_keep_their_bounds_and_replay():
    changes = [change.scanner for change in draw_changes(ON, 200, torch.Generator().manual_seed(1))]
    assert changes == [change.scanner for change in draw_changes(ON, 200, torch.Generator().manual_seed(1))]
    assert all(1 / 1.3 <= exponent <= 1.3 for change in changes for exponent in change.gamma)
    assert all(1 <= change.resolution <= 2 for change in changes)
    assert all(0 <= change.noise <= 0.3 and 0 <= change.bias_amplitude <= 0.3 for change in changes)
    assert 70 < sum(change.neighbour_weight > 0 for change in changes) < 130
    assert len({change.noise_seed for change in changes}) == 200


def test_the_other_changes_do_not_depend_on_these():
    plain = draw_changes(AugmentConfig(), 3, torch.Generator().manual_seed(1))
    scanned = draw_changes(ON, 3, torch.Generator().manual_seed(1))
    assert [change.scanner for change in plain] == [None] * 3
    assert [change.rotation_deg for change in plain] == [change.rotation_deg for change in scanned]


def test_labels_stay_and_a_batch_replays(signal):
    still = {"brightness": 0, "contrast": 0, "rotation_deg": 0, "translation": 0, "shear_deg": 0, "scale": 1}
    config = ON.model_copy(update={**still, "flip_left_right": 0, "flip_slice_order": 0})
    images = signal.expand(2, -1, -1, -1, -1) - 3.0
    labels = images[:, :1, 3:5] > 1
    changes = draw_changes(config, 2, torch.Generator().manual_seed(3))
    changed, marked = apply_changes(images, labels, changes)
    assert torch.equal(marked, labels)
    assert not torch.allclose(changed[0], changed[1], atol=0.1)
    assert torch.equal(changed, apply_changes(images, labels, changes)[0])
