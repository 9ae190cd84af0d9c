"""A head coil of several elements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fvv.config import SimulateConfig
from fvv.simulator.coils import GRID, CoilArray, draw_coil_array, geometry_factor, on_grid, shading_and_noise
from fvv.simulator.scanner import SITES, EchoTrain, draw_protocol


@pytest.fixture
def protocol():
    return draw_protocol(np.random.default_rng(0), SITES[0], SimulateConfig(vary_appearance=False))


def accelerated(protocol, factor):
    return replace(protocol, echo_train=EchoTrain(0.6, factor, 1, 0.0))


def test_a_loop_receives_on_its_axis_as_biot_and_savart_say():
    loop = CoilArray(np.zeros((1, 3)), np.array([[1.0, 0.0, 0.0]]), radius_mm=50.0)
    depth = np.array([0.0, 30.0, 60.0, 150.0])
    received = loop.sensitivities(np.stack([depth, 0 * depth, 0 * depth]))[0]
    expected = 50.0**3 / (50.0**2 + depth**2) ** 1.5
    np.testing.assert_allclose(received / received[0], expected, rtol=1e-5, atol=1e-7)


def test_without_acceleration_nothing_is_amplified(rng):
    received = rng.normal(size=(6, 4, 12, 2)) + 1j * rng.normal(size=(6, 4, 12, 2))
    head = np.ones((4, 12, 2), dtype=bool)
    np.testing.assert_allclose(geometry_factor(received, head, 1), 1.0)


@pytest.mark.parametrize(("factor", "alike"), [(2, 2.6), (3, 3.38)])
def test_elements_that_see_one_part_each_unfold_without_loss_and_alike_ones_cannot(factor, alike):
    head = np.ones((3, 12, 2), dtype=bool)
    part = np.arange(12) // (12 // factor)
    apart = (part[None, :] == np.arange(factor)[:, None])[:, None, :, None] * np.ones((1, 3, 1, 2))
    np.testing.assert_allclose(geometry_factor(apart + 0j, head, factor), 1.0)
    # Two that see 3 and 2, and 2 and 3: [13, 12; 12, 13], whose inverse has 13/25 on its diagonal.
    np.testing.assert_allclose(geometry_factor(apart + 2.0 + 0j, head, factor), alike, rtol=2e-3)


def test_where_nothing_folds_onto_a_point_its_noise_stays(rng):
    received = rng.normal(size=(6, 4, 12, 2)) + 0j
    head = np.zeros((4, 12, 2), dtype=bool)
    head[:, :6] = True
    np.testing.assert_allclose(geometry_factor(received, head, 2), 1.0)


def test_acceleration_amplifies_noise_unevenly_and_more_with_every_line_left_out(protocol):
    array = draw_coil_array(np.random.default_rng(1))
    noise = [shading_and_noise(array, accelerated(protocol, factor), 0.0)[1] for factor in (1, 2, 3)]
    # The shading is left as it is: without folding the noise is the same everywhere.
    np.testing.assert_allclose(noise[0], 1.0, rtol=1e-5)
    assert 1.01 < noise[1].max() < noise[2].max()
    # Far from all elements most is lost.
    assert noise[2][8:16, 14:22].mean() > 1.01


def test_evening_out_the_shading_shades_the_noise(protocol):
    array = draw_coil_array(np.random.default_rng(1))
    shading, noise = shading_and_noise(array, accelerated(protocol, 1), 0.0)
    even, uneven = shading_and_noise(array, accelerated(protocol, 1), 1.0)
    np.testing.assert_allclose(even, 1.0, rtol=1e-5)
    np.testing.assert_allclose(uneven * shading, (uneven * shading).mean(), rtol=1e-4)
    np.testing.assert_allclose(noise, 1.0, rtol=1e-5)
    middle = (GRID[0] // 2, GRID[1] // 2)
    assert shading[middle].mean() < shading[4, GRID[1] // 2].mean()


def test_on_a_finer_grid_the_values_stay(protocol):
    shading, _ = shading_and_noise(draw_coil_array(np.random.default_rng(1)), protocol, 0.5)
    fine = on_grid(shading, (2 * GRID[0], 2 * GRID[1]))
    np.testing.assert_allclose(fine[::2, ::2], shading, rtol=1e-5)
