"""The brightest voxels are fluid, wherever the receive coil is most sensitive."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from builders import ellipsoid
from fvv.imaging.quality.contrast import brightest, evened

SPACING = (4.0, 4.0, 5.0)
SHAPE = (48, 56, 16)
BRAIN = ellipsoid(SHAPE, (24, 28, 8), (18, 21, 8))
FLUID = ellipsoid(SHAPE, (24, 28, 8), (7, 8, 3))
DEPTH_MM = ndimage.distance_transform_edt(BRAIN, sampling=SPACING)
COIL = 1 + 5 * np.exp(-DEPTH_MM / 20)
"""A head coil: six times as sensitive at the rim of the brain."""


def image(tissue: float, fluid: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(1, 0.03, SHAPE)
    return np.where(FLUID, fluid, np.where(BRAIN, tissue, 0.0)) * noise


def test_a_gain_changes_nothing() -> None:
    b0 = image(400, 1000)
    brighter, as_it_is = evened((7 * b0, b0), BRAIN, SPACING)
    np.testing.assert_allclose(brighter, as_it_is)


def test_a_uniform_brain_is_one_throughout_and_air_around_it_is_in_no_mean() -> None:
    (even,) = evened([BRAIN * 5.0], BRAIN, SPACING)
    np.testing.assert_allclose(even, 1.0)


def test_fluid_is_found_under_the_shading_of_a_coil() -> None:
    """By itself the rim is brighter than the ventricles, and on b1000 not dark: it was taken for bright fluid."""
    b0, b1000, fluid = image(400, 1000) * COIL, image(180, 60) * COIL, FLUID[BRAIN]
    raw = b0[BRAIN]
    assert fluid[brightest(raw)].mean() < 0.2
    even_b0, even_b1000 = evened((b0, b1000), BRAIN, SPACING)
    assert fluid[brightest(even_b0)].mean() > 0.7
    assert (even_b1000[brightest(even_b0)] < np.median(even_b1000)).mean() > 0.7
