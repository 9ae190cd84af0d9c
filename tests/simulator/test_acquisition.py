"""Measuring noise-free slices."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.simulator.acquisition import Acquisition, acquire, receive_bias


@pytest.fixture
def blob():
    x, y = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    return np.exp(-((x - 30.0) ** 2 + (y - 20.0) ** 2) / 50.0)[:, :, None].astype(np.float32)


def test_full_sampling_without_noise_gives_the_truth_back(blob, rng):
    image = acquire(blob, Acquisition((64, 64), (64, 64)), rng)
    np.testing.assert_allclose(image, blob, atol=1e-4)


def test_a_finer_matrix_keeps_place_and_height(blob, rng):
    image = acquire(blob, Acquisition((64, 64), (128, 128)), rng)
    np.testing.assert_allclose(image[::2, ::2], blob, atol=1e-3)


def test_fewer_samples_blur_but_keep_the_sum(blob, rng):
    image = acquire(blob, Acquisition((24, 24), (64, 64), apodisation=0.8), rng)
    assert image.max() < blob.max()
    assert image.sum() == pytest.approx(blob.sum(), rel=0.02)


def test_shift_moves_by_the_asked_voxels(blob, rng):
    image = acquire(blob, Acquisition((64, 64), (64, 64), shift_voxels=(3.0, -2.0)), rng)
    np.testing.assert_allclose(image, np.roll(blob, (3, -2), axis=(0, 1)), atol=1e-3)


def test_ghost_lies_half_a_field_of_view_away_along_j(blob, rng):
    image = acquire(blob, Acquisition((64, 64), (64, 64), ghost=0.1), rng)
    assert image[30, 52, 0] == pytest.approx(0.1, abs=0.01)
    assert image[62, 20, 0] < 0.01


@pytest.mark.parametrize("acquired", [(64, 64), (40, 32)])
def test_noise_is_rayleigh_where_there_is_no_signal(acquired):
    empty = np.zeros((64, 64, 40), dtype=np.float32)
    image = acquire(empty, Acquisition(acquired, (64, 64), noise=2.0), np.random.default_rng(0))
    # A Rayleigh variable of parameter s has mean s sqrt(pi/2).
    assert image.mean() == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.02)


def test_bias_is_positive_smooth_and_near_one(rng):
    bias = receive_bias(rng, (60, 70, 20), (3.0, 3.0, 6.0))
    assert bias.min() > 0.2
    assert bias.mean() == pytest.approx(1.0, abs=0.35)
    assert np.abs(np.diff(bias, axis=0)).max() < 0.1


def test_a_map_of_ones_leaves_the_noise_and_one_of_twos_doubles_it(blob):
    acquisition = Acquisition((40, 32), (64, 64), apodisation=0.3, noise=0.2)
    plain, ones = (
        acquire(blob, acquisition, np.random.default_rng(3), noise_map) for noise_map in (None, np.ones((64, 64, 1)))
    )
    np.testing.assert_allclose(ones, plain, atol=1e-4)
    amplified = np.where(np.arange(64)[:, None, None] < 32, 1.0, 2.0) * np.ones((1, 64, 1))
    empty = np.zeros((64, 64, 40), dtype=np.float32)
    image = acquire(empty, acquisition, np.random.default_rng(0), amplified)
    assert image[32:].mean() == pytest.approx(2 * image[:32].mean(), rel=0.03)
