"""Laws of grey levels and of the heat map: nothing wraps around, and every colour lies where it was found."""

from __future__ import annotations

import numpy as np
import pytest

from builders import BOX_SHAPE as SHAPE
from builders import box_head as head
from fvv.analysis.heatmap import grey_scale, heatmap_rgb, in_plane_outline


def test_grey_scale_is_monotonic_and_saturates(rng):
    image, brain, _ = head(rng)
    image[10, 10, 5] = 1e6
    grey = grey_scale(image, brain)
    order = np.argsort(image, axis=None)
    assert (np.diff(grey.ravel()[order].astype(int)) >= 0).all()
    assert grey[10, 10, 5] == 255
    assert grey[0, 0, 0] < 10
    assert 50 < np.median(grey[brain]) < 130


@pytest.mark.parametrize(("factor", "shift"), [(1e-4, 0.0), (1000.0, 0.0), (0.03, -1.7)])
def test_grey_scale_does_not_depend_on_the_intensity_scale(rng, factor, shift):
    image, brain, _ = head(rng)
    assert np.abs(grey_scale(image, brain).astype(int) - grey_scale(factor * image + shift, brain)).max() <= 1


@pytest.mark.parametrize("image", [np.zeros(SHAPE), np.full(SHAPE, np.nan), np.full(SHAPE, 7.0)])
def test_grey_scale_of_an_image_without_content_is_black(image):
    assert not grey_scale(image).any()


def test_heatmap_marks_votes_red_brain_green_stroke_blue(rng):
    image, brain, stroke = head(rng)
    votes = np.where(stroke, 3, 0).astype(np.uint8)
    votes[15, 10, 4] = 1
    grey = grey_scale(image, brain)
    rgb = heatmap_rgb(grey, brain, stroke, votes, 3)
    assert rgb.shape == (*SHAPE, 3)
    assert rgb.dtype == np.uint8
    assert tuple(rgb[4, 10, 4]) == (0, 255, 0)
    assert tuple(rgb[14, 10, 4]) == (0, 0, 255)
    untouched = ~(in_plane_outline(brain) | in_plane_outline(stroke) | stroke)
    assert (rgb[untouched] == grey[untouched][:, None]).all()
    all_models, one_model = rgb[16, 10, 4].astype(int), rgb[15, 10, 4].astype(int)
    assert all_models[0] > 200
    assert all_models[1] == all_models[2] < one_model[1]


def test_outline_lies_in_plane_and_inside_the_mask():
    box = np.zeros((7, 8, 5), dtype=bool)
    box[1:6, 1:7, 0:5] = True
    expected = box.copy()
    expected[2:5, 2:6, :] = False
    assert (in_plane_outline(box) == expected).all()
    assert (in_plane_outline(box.transpose(2, 0, 1), slice_axis=0) == expected.transpose(2, 0, 1)).all()
    assert not in_plane_outline(np.zeros_like(box)).any()
