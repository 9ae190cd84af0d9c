"""What FLAIR shows of a stroke, on heads of two tissues that are alike on both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from builders import AFFINE, SHAPE, ellipsoid
from fvv.data import Volume
from fvv.imaging.rigid import RigidMotion
from fvv.imaging.visibility import flipped, visible_on_flair

SYMMETRIC = AFFINE.copy()
SYMMETRIC[0, 3] = -AFFINE[0, 0] * (SHAPE[0] - 1) / 2
IDENTITY = RigidMotion(np.eye(4))
BRAIN = ellipsoid(SHAPE, (31.5, 31.5, 4.5), (17.5, 21.0, 4.4))
WHITE = BRAIN & ellipsoid(SHAPE, (31.5, 31.5, 4.5), (12.0, 15.0, 3.0))
STROKE = ellipsoid(SHAPE, (22.0, 33.0, 5.0), (5.0, 6.0, 1.6)) & BRAIN


def seen(rise: float = 0.0, *, stroke: np.ndarray = STROKE, bias: float = 0.0) -> np.ndarray:
    """The proposal where FLAIR rises by a share in the whole stroke; grey matter is a third brighter than white."""
    rng = np.random.default_rng(0)
    flair = (
        np.where(BRAIN, np.where(WHITE, 300.0, 400.0), 5.0) * (1 + bias * np.linspace(-1, 1, SHAPE[0]))[:, None, None]
    )
    flair = flair * (1 + rise * stroke) * rng.normal(1, 0.02, SHAPE)
    b0, b1000 = np.where(BRAIN, 500.0, 20.0), np.where(BRAIN, 220.0, 15.0)
    images = [Volume(image, SYMMETRIC) for image in (flair, b0, b1000)]
    return visible_on_flair(*images, BRAIN, stroke, to_mirror=IDENTITY, ratio=1.15)


def test_nothing_is_proposed_where_nothing_is_brighter() -> None:
    assert not seen().any()


def test_a_bright_stroke_is_proposed_whole() -> None:
    visible = seen(0.4)
    assert not (visible & ~STROKE).any()
    assert visible.sum() > 0.9 * STROKE.sum()


def test_a_stroke_that_is_a_little_brighter_everywhere_is_proposed() -> None:
    assert seen(0.22).sum() > 0.8 * STROKE.sum()


def test_a_faint_rise_counts_where_it_is_large() -> None:
    """Over a small volume, the sides of a healthy head differ by as much."""
    small = BRAIN & ellipsoid(SHAPE, (22.0, 33.0, 5.0), (1.7, 1.7, 0.8))
    assert seen(0.19).sum() > 0.8 * STROKE.sum()
    assert not seen(0.19, stroke=small).any()
    assert seen(0.5, stroke=small).any()


def test_grey_matter_beside_white_is_not_visible() -> None:
    across = BRAIN & ellipsoid(SHAPE, (18.0, 31.5, 5.0), (5.0, 6.0, 1.6))
    assert (across & WHITE).any()
    assert (across & ~WHITE).any()
    assert not seen(stroke=across).any()


def test_a_shaded_coil_makes_no_side_visible() -> None:
    assert not seen(bias=0.25).any()


def test_a_stroke_across_the_midline_is_judged_by_the_tissue_around() -> None:
    middle = BRAIN & ellipsoid(SHAPE, (31.5, 31.5, 5.0), (5.0, 5.0, 1.6))
    assert not seen(stroke=middle).any()
    assert seen(0.5, stroke=middle).sum() > 0.8 * middle.sum()


def test_a_side_that_is_broader_than_the_other_is_judged_by_the_tissue_around() -> None:
    rng = np.random.default_rng(0)
    broad_right = BRAIN & (np.arange(SHAPE[0]) < 42)[:, None, None]
    image = np.where(broad_right, 400.0, 5.0) * rng.normal(1, 0.02, SHAPE)
    image[41] *= 0.7  # its edge, in part outside
    flair, b0, b1000 = (
        Volume(one, SYMMETRIC)
        for one in (image, np.where(broad_right, 500.0, 20.0), np.where(broad_right, 220.0, 15.0))
    )
    stroke = broad_right & ellipsoid(SHAPE, (17.0, 33.0, 5.0), (4.5, 6.0, 1.6))
    assert not visible_on_flair(flair, b0, b1000, broad_right, stroke, to_mirror=IDENTITY, ratio=1.15).any()


def test_the_unit_of_flair_is_of_no_account() -> None:
    rng = np.random.default_rng(1)
    flair = Volume(np.where(BRAIN, 300.0 * (1 + 0.3 * STROKE), 5.0) * rng.normal(1, 0.02, SHAPE), SYMMETRIC)
    b0, b1000 = (Volume(np.where(BRAIN, value, 20.0), SYMMETRIC) for value in (500.0, 220.0))

    def found(factor: float) -> np.ndarray:
        scaled = replace(flair, array=factor * flair.array)
        return visible_on_flair(scaled, b0, b1000, BRAIN, STROKE, to_mirror=IDENTITY, ratio=1.15)

    np.testing.assert_array_equal(found(0.001), found(1.0))


@pytest.mark.parametrize("axis", [0, 1])
def test_flipping_twice_gives_the_image(axis: int, rng: np.random.Generator) -> None:
    order = [axis, 1 - axis, 2]
    affine = np.eye(4)[:, [*order, 3]]
    volume = Volume(rng.normal(size=(4, 5, 3)), affine)
    np.testing.assert_array_equal(flipped(flipped(volume)).array, volume.array)
    assert not np.array_equal(flipped(volume).array, volume.array)
    # The axis from side to side, wherever it is stored.
    np.testing.assert_array_equal(flipped(volume).array, np.flip(volume.array, order.index(0)))
