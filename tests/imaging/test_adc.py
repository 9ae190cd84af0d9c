from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from fvv.data import Finding, InPlaneGrid, PreparedCase, Severity, SignalScale
from fvv.errors import InputError
from fvv.imaging.adc import (
    HIGHEST,
    WATER,
    adc_map,
    at_b1000,
    gain_findings,
    lesion_adc,
    log_drop,
    relative_adc,
)
from fvv.protocol import TYPICAL_LOG_DROP

SHAPE = (16, 16, 4)
BRAIN = np.ones(SHAPE, dtype=bool)


def case_of_drop(log_drop: float, rng: np.random.Generator) -> PreparedCase:
    """A case whose brain has this ln(b0/b1000), give or take."""
    grid = InPlaneGrid(SHAPE, np.eye(4), ((0, 1), (1, 1), (2, 1)), 1.0, SHAPE[0])
    noise = rng.normal(size=(2, *SHAPE)).astype(np.float16)
    scales = SignalScale(1000.0, 30.0), SignalScale(1000.0 * np.exp(-log_drop), 10.0)
    return PreparedCase("p", noise[0], noise[1], BRAIN, grid, b0_scale=scales[0], b1000_scale=scales[1])


def test_what_decays_is_measured_and_nothing_else() -> None:
    b0 = np.array([500.0, 500.0, 0.0, 500.0, 500.0, 500.0])
    b1000 = np.array([500 * np.exp(-0.8), 0.0, 100.0, 600.0, 500.0, 0.1])
    adc = adc_map(b0, b1000, 1000.0)
    np.testing.assert_allclose(adc, [0.8e-3, np.nan, np.nan, np.nan, np.nan, HIGHEST])
    np.testing.assert_allclose(adc_map(b0[:1], b1000[:1], 800.0), 1e-3)


DIFFUSION = np.array([0.4e-3, 0.6e-3, *[0.8e-3] * 6, WATER, WATER, *[0.0] * 10])[:, None, None]
"""mm^2/s: strokes, tissue, fluid, air."""
B0 = np.array([500.0, 600.0, *[500.0] * 6, 1500.0, 1500.0, *[0.0] * 10])[:, None, None]


@pytest.mark.parametrize("b_value", [500, 700, 850, 1000, 1150, 1500, 2000, 2500])
@pytest.mark.parametrize("gain", [1.0, 0.8])
def test_any_b_value_shows_what_1000_would(b_value: float, gain: float) -> None:
    """One gain too many scales all tissue alike."""
    brought = at_b1000(B0, gain * B0 * np.exp(-b_value * DIFFUSION), b_value)
    expected = gain ** (1000 / b_value) * B0 * np.exp(-1000 * DIFFUSION)
    np.testing.assert_allclose(brought[:8], expected[:8], rtol=1e-12)
    np.testing.assert_allclose(brought[8:], expected[8:], rtol=1e-12 if gain == 1 else 0.4)


@pytest.mark.parametrize("b_value", [1500, 2000, 2500])
def test_fluid_that_is_lost_in_noise_stays_dark(b_value: float) -> None:
    """Converted like tissue, it would be brighter than tissue from b = 2000 on."""
    floor = 0.35 * B0[3] * np.exp(-b_value * 0.8e-3)
    noisy = np.sqrt((B0 * np.exp(-b_value * DIFFUSION)) ** 2 + floor**2)
    brought = at_b1000(B0, noisy, b_value)
    assert (brought[8:10] < 0.75 * brought[3]).all()
    strokes = B0[:2] / B0[3] * np.exp(-1000 * (DIFFUSION[:2] - DIFFUSION[3]))
    np.testing.assert_allclose(brought[:2] / brought[3], strokes, rtol=0.1)


def test_noise_grows_no_brighter_on_the_way_up() -> None:
    b0, image = np.full((3, 1, 1), 100.0), np.array([50.0, 100.0, 140.0])[:, None, None]
    np.testing.assert_allclose(at_b1000(b0, image, 500.0).ravel(), [25.0, 100.0, 140.0])


@pytest.mark.parametrize("b_value", [600.0, 2000.0])
def test_where_an_image_holds_nothing_the_other_stays(b_value: float) -> None:
    b0, image = np.array([0.0, 100.0, -1.0])[:, None, None], np.array([7.0, 0.0, -2.0])[:, None, None]
    np.testing.assert_array_equal(at_b1000(b0, image, b_value), image)


def test_voxels_that_were_not_measured_do_not_count_as_zero() -> None:
    adc = np.full(SHAPE, 0.8e-3)
    stroke = np.zeros(SHAPE, dtype=bool)
    stroke[:8] = True
    adc[:8] = 0.4e-3
    whole = lesion_adc(adc, stroke, BRAIN)
    assert whole == pytest.approx((400.0, 400.0, 0.5))
    adc[:3] = adc[12:] = np.nan
    assert lesion_adc(adc, stroke, BRAIN) == pytest.approx(whole)
    adc[:5] = np.nan
    assert lesion_adc(adc, stroke, BRAIN) is None, "most of the lesion was not measured"


@pytest.mark.parametrize(("log_drop", "shared"), [(0.75, True), (1.2, True), (0.4, False), (1.5, False), (-0.3, False)])
def test_the_brains_usual_diffusion_tells_one_gain(log_drop: float, shared: bool, rng: np.random.Generator) -> None:
    codes = [finding.code for finding in gain_findings(case_of_drop(log_drop, rng))]
    assert codes == ([] if shared else ["no-common-gain"])


def test_images_rescaled_one_by_one_share_no_gain_whatever_they_look_like(rng: np.random.Generator) -> None:
    case = case_of_drop(0.8, rng)
    said = replace(case, findings=(Finding("rescaled", "", Severity.NOTE),))
    assert not gain_findings(case)
    assert "rescaled" in gain_findings(said)[0].message


def exact_case(drop: np.ndarray) -> PreparedCase:
    """A case of this ln(b0/b1000), without noise."""
    grid = InPlaneGrid(SHAPE, np.eye(4), ((0, 1), (1, 1), (2, 1)), 1.0, SHAPE[0])
    scales = SignalScale(1000.0, 100.0), SignalScale(450.0, 50.0)
    b1000 = (1000 * np.exp(-drop) - 450) / 50
    return PreparedCase("p", np.zeros(SHAPE), b1000, BRAIN, grid, b0_scale=scales[0], b1000_scale=scales[1])


def test_relative_adc_is_over_the_brains_median_and_smoothed_in_plane() -> None:
    drop = np.full(SHAPE, 0.8)
    drop[4:9, 4:9] = 0.4
    drop[14, 14, 1] = 1.7
    relative, assumed = relative_adc(exact_case(drop), BRAIN)
    assert not assumed
    np.testing.assert_allclose(relative[5:8, 5:8], 0.5)  # 3 x 3 voxels inside the lesion
    np.testing.assert_allclose(relative[4, 6], (6 * 0.5 + 3) / 9)
    np.testing.assert_allclose(relative[13:16, 13:16, 1], 1 + (1.7 / 0.8 - 1) / 9, rtol=0.1)
    np.testing.assert_allclose(relative[14, 14, [0, 2]], 1)


def test_relative_adc_looks_at_the_brain_alone() -> None:
    drop = np.full(SHAPE, 0.8)
    drop[8:] = 1.8
    half = BRAIN & (np.arange(SHAPE[0]) < 8)[:, None, None]
    relative, _ = relative_adc(replace(exact_case(drop), brain=half), half)
    np.testing.assert_allclose(relative[:8], 1)
    assert np.isnan(relative[8:]).all()


@pytest.mark.parametrize("place", [np.s_[:9, 2:12, :2], np.s_[5:12, 6:, 1:], np.s_[:, :, :]])
def test_relative_adc_is_that_of_the_whole_grid_wherever_the_brain_lies(
    place: tuple[slice, ...], rng: np.random.Generator
) -> None:
    """It is computed around the brain alone: the same numbers to the bit."""
    brain = np.zeros(SHAPE, dtype=bool)
    brain[place] = rng.random(brain[place].shape) < 0.9
    case = replace(exact_case(rng.uniform(0.5, 1.1, SHAPE)), brain=brain)
    drop = np.zeros(SHAPE)
    drop[brain] = log_drop(case, brain)
    near, sums = (ndimage.uniform_filter(volume, (3, 3, 1)) for volume in (brain.astype(float), drop))
    expected = np.full(SHAPE, np.nan)
    expected[brain] = sums[brain] / near[brain]
    found, _ = relative_adc(case, brain)
    np.testing.assert_array_equal(found, expected / np.median(expected[brain]))


@pytest.mark.parametrize("gain", [0.2, 1.0, 5.0])
def test_with_the_usual_adc_of_the_brain_a_gain_of_b1000_cancels_out(gain: float, rng: np.random.Generator) -> None:
    drop = rng.uniform(0.3, 1.5, SHAPE)
    drop += TYPICAL_LOG_DROP - np.median(ndimage.uniform_filter(drop, (3, 3, 1)))
    expected, _ = relative_adc(exact_case(drop), BRAIN)
    found, assumed = relative_adc(exact_case(drop - np.log(gain)), BRAIN)
    assert assumed == (gain != 1)
    np.testing.assert_allclose(found, expected, atol=0.02)  # `exact_case` stores float16.
    with pytest.raises(InputError, match="prepared without the scale"):
        relative_adc(replace(exact_case(drop), b0_scale=None), BRAIN)


def test_the_median_is_assumed_without_one_gain_or_without_a_brain(rng: np.random.Generator) -> None:
    case = case_of_drop(0.8, rng)
    assert not relative_adc(case, BRAIN)[1]
    assert relative_adc(case_of_drop(0.4, rng), BRAIN)[1]
    assert relative_adc(case, np.zeros_like(BRAIN))[1]
