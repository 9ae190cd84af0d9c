from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fvv.config import PostprocessConfig
from fvv.data import InPlaneGrid, PreparedCase, SignalScale
from fvv.errors import InputError
from fvv.imaging.fusion import fuse_folds
from fvv.imaging.postprocess import believable_stroke, postprocess_findings, relative_diffusion, without_small_pieces

SHAPE = (32, 32, 6)
VOXEL_MM3 = 2.0 * 2.0 * 5.0
BRAIN = np.zeros(SHAPE, dtype=bool)
BRAIN[4:28, 4:28] = True
OFF = PostprocessConfig()
SETTINGS = [
    OFF,
    PostprocessConfig(adc_gate=0.8),
    PostprocessConfig(minimum_lesion_mm3=100.0),
    PostprocessConfig(adc_gate=0.8, minimum_lesion_mm3=100.0),
]


def case_with(b0: np.ndarray, b1000: np.ndarray) -> PreparedCase:
    """A case of these raw signals."""
    grid = InPlaneGrid(SHAPE, np.diag([2.0, 2.0, 5.0, 1.0]), ((0, 1), (1, 1), (2, 1)), 1.0, SHAPE[0])
    scales = SignalScale(500.0, 150.0), SignalScale(220.0, 60.0)
    b0, b1000 = (
        ((image - scale.mean) / scale.deviation).astype(np.float16)
        for image, scale in zip((b0, b1000), scales, strict=True)
    )
    return PreparedCase("p", b0, b1000, BRAIN, grid, b0_scale=scales[0], b1000_scale=scales[1])


@pytest.fixture
def case(rng: np.random.Generator) -> PreparedCase:
    """Normal diffusion everywhere but in columns 8 to 11, where it is half; noise."""
    adc = np.full(SHAPE, 0.8)
    adc[8:12] = 0.4
    b0 = rng.normal(500, 10, SHAPE)
    return case_with(b0, b0 * np.exp(-adc) + rng.normal(0, 5, SHAPE))


@pytest.fixture
def stroke(rng: np.random.Generator) -> np.ndarray:
    """A true lesion, a false one in normal tissue, and crumbs."""
    mask = rng.random(SHAPE) > 0.995
    mask[8:12, 10:20] = mask[18:22, 10:20] = True
    return mask & BRAIN


@pytest.mark.parametrize("config", SETTINGS)
def test_nothing_is_added_and_twice_is_once(case: PreparedCase, stroke: np.ndarray, config: PostprocessConfig) -> None:
    once = believable_stroke(stroke, BRAIN, case=case, config=config)
    assert not (once & ~stroke).any()
    np.testing.assert_array_equal(believable_stroke(once, BRAIN, case=case, config=config), once)


def test_off_changes_nothing(case: PreparedCase, stroke: np.ndarray) -> None:
    np.testing.assert_array_equal(believable_stroke(stroke, BRAIN, case=case, config=OFF), stroke)


@pytest.mark.parametrize("config", SETTINGS)
def test_no_stroke_stays_no_stroke(case: PreparedCase, config: PostprocessConfig) -> None:
    assert not believable_stroke(np.zeros(SHAPE, dtype=bool), BRAIN, case=case, config=config).any()


def test_the_gate_keeps_the_lesion_and_drops_what_diffuses_freely(case: PreparedCase, stroke: np.ndarray) -> None:
    left = believable_stroke(stroke, BRAIN, case=case, config=PostprocessConfig(adc_gate=0.8))
    assert left[9:11, 10:20].all()
    assert not left[18:22].any()


def test_diffusion_is_relative_to_the_brain(case: PreparedCase) -> None:
    relative = relative_diffusion(case, BRAIN)
    assert np.median(relative[BRAIN]) == pytest.approx(1)
    assert relative[9:11, 6:26].mean() == pytest.approx(0.5, abs=0.03)


def test_diffusion_does_not_depend_on_the_b_value() -> None:
    adc = np.where(np.arange(SHAPE[0])[:, None, None] < 10, 0.5, 0.9) * np.ones(SHAPE)
    b0 = np.full(SHAPE, 500.0)
    one, other = (relative_diffusion(case_with(b0, b0 * np.exp(-b * adc)), BRAIN) for b in (1.0, 1.2))
    np.testing.assert_allclose(one[BRAIN], other[BRAIN], rtol=5e-3)


def test_what_holds_no_signal_is_left_alone(stroke: np.ndarray) -> None:
    case = case_with(np.full(SHAPE, 500.0), np.zeros(SHAPE))  # one channel is empty
    np.testing.assert_array_equal(
        believable_stroke(stroke, BRAIN, case=case, config=PostprocessConfig(adc_gate=0.8)), stroke
    )


def test_images_of_two_gains_are_not_gated_and_that_is_said(case: PreparedCase, stroke: np.ndarray) -> None:
    """b1000 halved: what looked like diffusion is mostly the gain."""
    assert case.b1000_scale is not None
    halved = replace(case, b1000_scale=SignalScale(case.b1000_scale.mean / 2, case.b1000_scale.deviation / 2))
    config = PostprocessConfig(adc_gate=0.8)
    left = believable_stroke(stroke, BRAIN, case=halved, config=config)
    np.testing.assert_array_equal(left, stroke)
    assert [finding.code for finding in postprocess_findings(left, case=halved, config=config)] == ["adc-gate-skipped"]
    for other, settings in ((case, config), (halved, OFF), (halved, None)):
        assert not postprocess_findings(stroke, case=other, config=settings)
    assert not postprocess_findings(np.zeros_like(stroke), case=halved, config=config)


def test_a_case_without_signal_scale_is_refused_only_where_the_gate_needs_it(
    case: PreparedCase, stroke: np.ndarray
) -> None:
    old = replace(case, b0_scale=None, b1000_scale=None)
    believable_stroke(stroke, BRAIN, case=old, config=PostprocessConfig(minimum_lesion_mm3=50.0))
    with pytest.raises(InputError, match="prepare"):
        believable_stroke(stroke, BRAIN, case=old, config=PostprocessConfig(adc_gate=0.8))


def test_pieces_are_judged_one_by_one_and_corners_join() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:4, 2:4, 2] = True  # four voxels
    mask[4, 4, 3] = True  # a fifth, at a corner
    mask[20:22, 20:22, 2] = True  # four
    kept = without_small_pieces(mask, 5 * VOXEL_MM3, VOXEL_MM3)
    assert kept.sum() == 5
    assert kept[4, 4, 3]
    assert without_small_pieces(mask, 4 * VOXEL_MM3, VOXEL_MM3).sum() == 9


def test_fvv_is_counted_in_the_stroke_that_is_left(case: PreparedCase, stroke: np.ndarray) -> None:
    masks = np.stack([np.stack([BRAIN, stroke, stroke]), np.stack([BRAIN, stroke, np.zeros_like(stroke)])])
    keep = partial(believable_stroke, case=case, config=PostprocessConfig(adc_gate=0.8, minimum_lesion_mm3=500.0))
    fused = fuse_folds(masks, keep)
    n = int(fused.stroke.sum())
    assert 0 < n < stroke.sum()
    assert fused.flair_visible_voxels_per_model == (n, 0)
    assert fused.flair_visible_voxels == n / 2
    assert not fused.flair_visible_votes[~fused.stroke].any()
