"""Laws of the list of lesions: each is found once, on its side, however the image is stored."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.imaging.lesions import stroke_lesions

SHAPE = (40, 48, 12)
STORED = {
    "RAS": np.diag([2.0, 2.0, 5.0, 1.0]),
    "LPI": np.array([[-2.0, 0, 0, 78], [0, -2.0, 0, 94], [0, 0, -5.0, 55], [0, 0, 0, 1]]),
}


def head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In RAS: a brain, a large lesion at the upper front on the right, a small one at the lower back on the left."""
    brain, stroke = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    brain[4:36, 4:44, 1:11] = True
    stroke[26:32, 34:40, 8:10] = True
    stroke[8:10, 6:9, 2:3] = True
    return brain, stroke, np.where(stroke, 2, 0).astype(np.uint8)


@pytest.mark.parametrize("axes", STORED)
def test_side_place_and_slices_do_not_depend_on_how_the_image_is_stored(axes: str) -> None:
    step = slice(None, None, 1 if axes == "RAS" else -1)
    brain, stroke, votes = (array[step, step, step] for array in head())
    adc = np.where(stroke, 0.5e-3, 1.0e-3)
    large, small = stroke_lesions(brain, stroke, votes, 4, STORED[axes], stroke_votes=2 * votes, adc=adc)
    assert (large.side, large.front_to_back, large.height) == ("right", "anterior", "upper")
    assert (small.side, small.front_to_back, small.height) == ("left", "posterior", "lower")
    assert (large.first_slice, large.last_slice, small.first_slice) == (9, 10, 3)
    assert (large.x_mm, large.y_mm, large.z_mm) == (57.0, 73.0, 42.5)
    assert large.volume_ml == pytest.approx(72 * 0.02)
    assert (large.adc_relative, large.flair_visible_share, large.model_agreement) == (0.5, 0.5, 1.0)


def test_no_stroke_no_lesion_and_what_is_unknown_stays_unknown() -> None:
    brain, stroke, votes = head()
    assert stroke_lesions(brain, np.zeros_like(stroke), votes, 3, np.eye(4)) == ()
    first = stroke_lesions(brain, stroke, votes, 3, np.eye(4))[0]
    assert (first.adc_relative, first.model_agreement) == (None, None)
    no_adc = np.full(SHAPE, np.nan)
    assert stroke_lesions(brain, stroke, votes, 3, np.eye(4), adc=no_adc)[0].adc_relative is None


def test_a_lesion_across_the_midline_is_on_both_sides() -> None:
    brain, stroke, votes = head()
    stroke[:] = False
    stroke[18:22, 20:24, 5] = True
    (one,) = stroke_lesions(brain, stroke, votes, 3, np.eye(4))
    assert one.side == "both"
    assert one.share_right == pytest.approx(0.5)
