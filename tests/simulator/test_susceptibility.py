"""The field of a head from its susceptibility: laws and known solutions."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.simulator.susceptibility import dipole_field, shimmed

SPACING = (1.0, 1.25, 0.8)


@pytest.fixture
def tilted():
    direction = np.array([0.2, -0.3, 0.9])
    return direction / np.linalg.norm(direction)


def positions(shape, spacing):
    axes = [(np.arange(n) - n // 2) * step for n, step in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def ball(distance, radius):
    """Soft by one millimetre: voxels at the surface are partly inside."""
    return np.clip(radius + 0.5 - distance, 0.0, 1.0)


def test_a_sphere_feels_nothing_of_itself_and_is_a_dipole_outside(tilted):
    radius, chi = 10.0, -9.4
    place = positions((96, 80, 120), SPACING)
    distance = np.linalg.norm(place, axis=0)
    field = dipole_field(chi * ball(distance, radius), SPACING, tilted)
    cosine = np.tensordot(tilted, place, axes=1) / np.maximum(distance, 1e-6)
    dipole = chi / 3 * (radius / np.maximum(distance, radius)) ** 3 * (3 * cosine**2 - 1)
    # In parts of the largest field, 2/3 chi at the poles.
    largest = abs(chi) * 2 / 3
    assert np.abs(field[distance < radius - 2]).max() < 0.03 * largest
    near = (distance > radius + 2) & (distance < 30)
    assert np.abs(field - dipole)[near].max() < 0.04 * largest
    assert np.abs(field - dipole)[near].mean() < 0.004 * largest


def test_a_cylinder_across_the_magnet():
    radius, chi = 10.0, 1.0
    x, _, z = positions((160, 4, 160), (1.0, 1.0, 1.0))
    distance = np.hypot(x, z)
    field = dipole_field(chi * ball(distance, radius), (1.0, 1.0, 1.0), np.array([0.0, 0.0, 1.0]))
    outside = chi / 2 * (radius / np.maximum(distance, 1e-6)) ** 2 * (z**2 - x**2) / np.maximum(distance, 1e-6) ** 2
    expected = np.where(distance < radius, -chi / 6, outside)
    # The mean over the array is left open: compare with the mean of the ring around the cylinder taken as zero.
    ring = (distance > radius + 2) & (distance < 40)
    field = field - field[ring].mean()
    assert field[distance < radius - 2].mean() == pytest.approx(-chi / 6, abs=0.01)
    assert np.abs(field - expected)[ring].max() < 0.04


def test_the_field_is_linear_and_blind_to_what_is_the_same_everywhere(rng, tilted):
    chi = rng.normal(size=(12, 10, 8))
    field = dipole_field(chi, SPACING, tilted)
    np.testing.assert_allclose(dipole_field(2 * chi - 9.0, SPACING, tilted), 2 * field, atol=1e-4)
    np.testing.assert_allclose(dipole_field(np.full((8, 8, 8), -9.0), SPACING, tilted), 0.0, atol=1e-6)


def test_a_magnet_turned_round_gives_the_same_field(rng, tilted):
    chi = rng.normal(size=(12, 10, 8))
    np.testing.assert_allclose(dipole_field(chi, SPACING, tilted), dipole_field(chi, SPACING, -tilted), atol=1e-5)


def test_shim_takes_out_harmonics_up_to_the_second_order_and_no_more(rng):
    place = positions((30, 30, 30), (4.0, 4.0, 4.0)).astype(np.float32)
    x, y, z = place
    brain = np.linalg.norm(place, axis=0) < 50
    parts = (place[0][:, :1, :1], place[1][:1, :, :1], place[2][:1, :1, :])
    low = (3.0 + 0.02 * x - 0.01 * z + 1e-4 * (x * y + 2 * z**2 - x**2 - y**2)).astype(np.float32)
    np.testing.assert_allclose(shimmed(low, parts, brain)[brain], 0.0, atol=1e-3)
    third = (1e-5 * x * y * z).astype(np.float32)
    np.testing.assert_allclose(shimmed(third, parts, brain)[brain], third[brain], atol=0.05 * np.abs(third).max())
    left = shimmed(low + third, parts, brain)
    np.testing.assert_allclose(shimmed(left, parts, brain), left, atol=1e-3)
