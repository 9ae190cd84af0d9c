"""Signal equations, tissue constants and random fields."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.simulator.fields import apply_separably, area_resampling, linear_upsampling, logistic, smooth_noise
from fvv.simulator.signal import diffusion_weighted, inversion_recovery, nulling_inversion_time_ms, spin_echo
from fvv.simulator.tissue import PERSON_SPREAD, TissueSet, draw_tissues, nominal_tissues


def test_spin_echo_known_values():
    # TR = T1 ln 2 leaves half of the magnetisation; TE = T2 ln 2 halves it again.
    signal = spin_echo(0.8, 1000.0, 100.0, te_ms=100.0 * np.log(2), tr_ms=1000.0 * np.log(2))
    assert signal == pytest.approx(0.2)


def test_diffusion_weighting_gives_back_the_adc():
    b0, adc, b = np.array([1.0, 5.0]), np.array([0.7e-3, 3.0e-3]), 1000.0
    weighted = diffusion_weighted(b0, adc, b_s_mm2=b)
    np.testing.assert_allclose(np.log(b0 / weighted) / b, adc)


def test_inversion_recovery_nulls_the_chosen_t1_and_no_other():
    ti = nulling_inversion_time_ms(4300.0, 9000.0)
    timing = {"te_ms": 120.0, "tr_ms": 9000.0, "ti_ms": ti}
    assert inversion_recovery(1.0, 4300.0, 1200.0, **timing) == pytest.approx(0.0, abs=1e-12)
    assert inversion_recovery(0.86, 1450.0, 88.0, **timing) > 0.05


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_tissue_order_on_b0_b1000_and_flair(field):
    tissues = nominal_tissues(field)
    s0 = {
        name: spin_echo(t.proton_density, t.t1_ms, t.t2_ms, te_ms=80.0, tr_ms=6000.0)
        for name, t in ((name, getattr(tissues, name)) for name in TissueSet.__dataclass_fields__)
    }
    b1000 = {name: diffusion_weighted(s, getattr(tissues, name).adc_mm2_s, b_s_mm2=1000.0) for name, s in s0.items()}
    assert s0["csf"] > s0["grey_matter"] > s0["white_matter"] > s0["muscle"]
    assert b1000["grey_matter"] > b1000["white_matter"] > b1000["csf"]


def test_a_person_keeps_their_deviations_at_another_field_strength():
    low, high = (draw_tissues(np.random.default_rng(3), field) for field in (1.5, 3.0))
    for name in TissueSet.__dataclass_fields__:
        for constant in ("t1_ms", "t2_ms", "adc_mm2_s"):
            ratio_low = getattr(getattr(low, name), constant) / getattr(getattr(nominal_tissues(1.5), name), constant)
            ratio_high = getattr(getattr(high, name), constant) / getattr(getattr(nominal_tissues(3.0), name), constant)
            assert ratio_low == pytest.approx(ratio_high)
            assert abs(ratio_low - 1.0) <= PERSON_SPREAD


def test_smooth_noise_has_unit_deviation_and_the_asked_size(rng):
    field = smooth_noise(rng, (80, 80, 60), (4.0, 4.0, 4.0))
    assert field.std() == pytest.approx(1.0, abs=0.08)
    assert field.mean() == pytest.approx(0.0, abs=0.08)
    near = np.corrcoef(field[:-1].ravel(), field[1:].ravel())[0, 1]
    far = np.corrcoef(field[:-16].ravel(), field[16:].ravel())[0, 1]
    assert near > 0.85
    assert abs(far) < 0.1


def test_upsampling_is_exact_on_linear_ramps():
    n, step = 31, 3
    coarse = np.arange(linear_upsampling(n, step).shape[1], dtype=np.float32) * step
    fine = apply_separably(coarse, linear_upsampling(n, step))
    np.testing.assert_allclose(fine, np.arange(n), atol=1e-5)


@pytest.mark.parametrize(("n_out", "n_in"), [(256, 200), (128, 200), (200, 200)])
def test_area_resampling_keeps_constants_and_first_voxels_in_place(n_out, n_in):
    matrix = area_resampling(n_out, n_in)
    np.testing.assert_allclose(matrix @ np.ones(n_in, dtype=np.float32), 1.0, rtol=1e-5)
    middle = slice(n_out // 4, 3 * n_out // 4)
    position = matrix @ np.arange(n_in, dtype=np.float32)
    np.testing.assert_allclose(position[middle], np.arange(n_out)[middle] * n_in / n_out, atol=0.1)


def test_logistic_never_overflows():
    with np.errstate(all="raise"):
        values = logistic(np.array([-1e6, 0.0, 1e6]))
    np.testing.assert_allclose(values, [0.0, 0.5, 1.0], atol=1e-6)
