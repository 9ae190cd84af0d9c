from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fvv.data import Finding, InPlaneGrid, PreparedCase, Severity, SignalScale
from fvv.imaging.adc import HIGHEST, adc_map, gain_findings, lesion_adc, relative_adc

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
    relative = relative_adc(exact_case(drop), BRAIN)
    assert relative is not None
    np.testing.assert_allclose(relative[5:8, 5:8], 0.5)  # 3 x 3 voxels inside the lesion
    np.testing.assert_allclose(relative[4, 6], (6 * 0.5 + 3) / 9)
    np.testing.assert_allclose(relative[13:16, 13:16, 1], 1 + (1.7 / 0.8 - 1) / 9, rtol=0.1)
    np.testing.assert_allclose(relative[14, 14, [0, 2]], 1)


def test_relative_adc_looks_at_the_brain_alone() -> None:
    drop = np.full(SHAPE, 0.8)
    drop[8:] = 1.8
    half = BRAIN & (np.arange(SHAPE[0]) < 8)[:, None, None]
    relative = relative_adc(replace(exact_case(drop), brain=half), half)
    assert relative is not None
    np.testing.assert_allclose(relative[:8], 1)
    assert np.isnan(relative[8:]).all()


def test_without_one_gain_there_is_no_relative_adc(rng: np.random.Generator) -> None:
    case = case_of_drop(0.8, rng)
    assert relative_adc(case, BRAIN) is not None
    assert relative_adc(case_of_drop(0.4, rng), BRAIN) is None
    assert relative_adc(replace(case, b0_scale=None), BRAIN) is None
    assert relative_adc(case, np.zeros_like(BRAIN)) is None
