"""Shapes of strokes and their tissue."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fvv.config import SimulateConfig
from fvv.simulator.lesions import (
    BRAINSTEM,
    CEREBELLUM,
    LARGE_ML,
    MCA,
    PATTERNS,
    PUNCTATE_PATTERNS,
    VOXEL_ML,
    StrokePattern,
    appearance_of_size,
    draw_appearance,
    draw_lesion,
    draw_pattern_and_volume,
    pace_of_size,
    stroke_depth,
    volume_threshold,
)
from fvv.simulator.space import LatticeMap, lattice_positions
from simulations import APPEARANCE, ball_head


@pytest.fixture(scope="module", name="ball_head")
def _ball_head():
    return ball_head()


@pytest.mark.parametrize("volume_ml", [0.3, 5.0, 100.0])
def test_volume_is_the_wanted_one_and_inside_the_brain(ball_head, volume_ml):
    pattern = StrokePattern("one", (MCA,), (0.1, 250.0), (1, 1), 1.0)
    depth = stroke_depth(np.random.default_rng(1), pattern, volume_ml, ball_head)
    inside = depth > 0
    assert inside.sum() * VOXEL_ML == pytest.approx(volume_ml, rel=0.1)
    assert not inside[ball_head.hull_distance_mm.array >= 0].any()
    assert not inside[ball_head.ventricle_distance_mm.array <= 1.0].any()


@pytest.mark.parametrize("seed", range(6))
def test_middle_cerebral_strokes_keep_to_one_side(ball_head, seed):
    pattern = StrokePattern("one", (MCA,), (0.1, 250.0), (1, 1), 1.0)
    depth = stroke_depth(np.random.default_rng(seed), pattern, 60.0, ball_head)
    x, _, _ = lattice_positions()
    left, right = (
        (depth > 0)[np.broadcast_to(x < 0, depth.shape)].sum(),
        (depth > 0)[np.broadcast_to(x > 0, depth.shape)].sum(),
    )
    assert min(left, right) == 0


@pytest.mark.parametrize("territory", [CEREBELLUM, BRAINSTEM])
def test_infratentorial_strokes_stay_below(ball_head, territory):
    pattern = StrokePattern("one", (territory,), (0.1, 250.0), (1, 1), 1.0)
    depth = stroke_depth(np.random.default_rng(2), pattern, 1.5, ball_head)
    z = np.broadcast_to(lattice_positions()[2], depth.shape)[depth > 0]
    assert z.max() < 6.0


def test_showers_have_several_foci(ball_head):
    shower = next(pattern for pattern in PATTERNS if pattern.name == "shower")
    depth = stroke_depth(np.random.default_rng(0), shower, 10.0, ball_head)
    assert ndimage.label(depth > 0)[1] >= 2


def test_every_pattern_is_drawn_and_ranges_cover_0_1_to_250_ml():
    rng = np.random.default_rng(0)
    assert {draw_pattern_and_volume(rng, None)[0].name for _ in range(600)} == {pattern.name for pattern in PATTERNS}
    assert min(pattern.volume_ml[0] for pattern in PATTERNS) == pytest.approx(0.1)
    assert max(pattern.volume_ml[1] for pattern in PATTERNS) == pytest.approx(250.0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_large_lesions_are_as_frequent_as_asked(share):
    rng = np.random.default_rng(1)
    volumes = np.array([draw_pattern_and_volume(rng, share)[1] for _ in range(500)])
    assert (volumes > LARGE_ML).mean() == pytest.approx(share, abs=0.06)
    assert volumes.min() >= 0.1
    assert volumes.max() <= 250.0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("punctate", [False, True])
def test_strokes_of_cerebellum_and_brainstem_are_as_frequent_as_asked(ball_head, share, punctate):
    config = SimulateConfig(posterior_fossa_share=share, large_lesion_share=0.2)
    below = {one.name for one in (*PATTERNS, *PUNCTATE_PATTERNS) if one.infratentorial}
    assert below == {"cerebellum", "brainstem", "lacune_brainstem"}
    rng = np.random.default_rng(4)
    lesions = [draw_lesion(rng, ball_head, config, atlas_share=1.0, punctate=punctate) for _ in range(60)]
    assert np.mean([lesion.pattern in below for lesion in lesions]) == pytest.approx(share, abs=0.15 * (0 < share < 1))


@pytest.mark.parametrize("volume_ml", [0.02, 0.1, 2.0])
def test_the_threshold_gives_the_wanted_volume_of_a_ball(volume_ml):
    x, y, z = lattice_positions()
    depth = -np.sqrt((x - 0.7) ** 2 + (y + 14.1) ** 2 + (z - 1.0) ** 2).astype(np.float32)
    threshold = volume_threshold(depth, np.ones(depth.shape, bool), volume_ml)
    fine = [np.arange(middle - 10.0, middle + 10.0, 0.4) for middle in (0.7, -14.1, 1.0)]
    values = LatticeMap(depth - threshold).sample(np.stack(np.meshgrid(*fine)), outside=-40.0)
    assert (values > 0).sum() * 0.4**3 / 1000.0 == pytest.approx(volume_ml, rel=0.06)


def test_punctate_strokes_are_small_and_seen_by_the_lattice(ball_head):
    lesions = [
        draw_lesion(np.random.default_rng(seed), ball_head, SimulateConfig(), atlas_share=1.0, punctate=True)
        for seed in range(30)
    ]
    assert {lesion.pattern for lesion in lesions} == {pattern.name for pattern in PUNCTATE_PATTERNS}
    assert all(lesion.depth_mm.max() > 0 for lesion in lesions)
    volumes = [(lesion.depth_mm > 0).sum() * VOXEL_ML for lesion in lesions]
    assert max(volumes) < 1.7
    assert min(volumes) < 0.1


def test_t2_knows_nothing_of_size_where_the_pace_is_the_same_for_all():
    config, rng = SimulateConfig(pace_by_size=False), np.random.default_rng(0)
    volumes = [draw_pattern_and_volume(rng, 0.25)[1] for _ in range(2000)]
    gains = [appearance_of_size(rng, volume, config).t2_gain(4.5) for volume in volumes]
    assert abs(np.corrcoef(np.log(volumes), gains)[0, 1]) < 0.07
    # Strokes of the first hours that FLAIR cannot show, whatever their size.
    hyperacute = np.array([appearance_of_size(rng, volume, config).t2_gain(0.7) for volume in volumes])
    for low, high in ((0, 2), (2, 15), (15, 70), (70, 300)):
        within = (np.array(volumes) >= low) & (np.array(volumes) < high)
        assert (hyperacute[within] == 0).mean() > 0.8


def test_t2_gain_starts_late_rises_and_levels_off():
    gains = [APPEARANCE.t2_gain(hours) for hours in (0.5, 1.0, 3.0, 10.0, 72.0, 500.0)]
    assert gains[:2] == [0.0, 0.0]
    assert gains == sorted(gains)
    assert gains[-1] == pytest.approx(1.0, abs=1e-6)


def test_t2_of_larger_strokes_rises_sooner_and_faster():
    assert pace_of_size(10.0) == 1.0
    assert pace_of_size(40.0) == pytest.approx(2.0)
    assert (pace_of_size(0.01), pace_of_size(1000.0)) == (0.25, 4.0)
    slow, fast = (draw_appearance(np.random.default_rng(3), pace=pace) for pace in (0.5, 2.0))
    assert fast.t2_gain(4.5) > slow.t2_gain(4.5)
    # The same stroke otherwise, and the same in the end.
    assert (fast.adc_factor, fast.t2_amplitude) == (slow.adc_factor, slow.t2_amplitude)
    assert fast.t2_gain(1000.0) == pytest.approx(slow.t2_gain(1000.0))


def test_drawn_adc_is_lowered_from_the_start():
    rng = np.random.default_rng(0)
    factors = np.array([draw_appearance(rng).adc_factor for _ in range(400)])
    assert factors.min() >= 0.40
    assert factors.max() <= 0.85
    assert 0.10 < (factors > 0.72).mean() < 0.30


def test_adc_of_three_strokes_in_four_is_within_the_range_of_the_settings():
    config, rng = SimulateConfig(adc_factor_range=(0.5, 0.51)), np.random.default_rng(0)
    factors = np.array([appearance_of_size(rng, 10.0, config).adc_factor for _ in range(400)])
    within = (factors >= 0.5) & (factors <= 0.51)
    assert 0.68 < within.mean() < 0.82
    assert factors[~within].min() >= 0.65
