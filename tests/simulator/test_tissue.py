"""Signal equations and tissue constants."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.simulator.tissue import (
    PERSON_SPREAD,
    TissueSet,
    diffusion_weighted,
    draw_tissues,
    inversion_recovery,
    nominal_tissues,
    nulling_inversion_time_ms,
    spin_echo,
)


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
        for name, t in ((name, getattr(tissues, name)) for name in TissueSet._fields)
    }
    b1000 = {name: diffusion_weighted(s, getattr(tissues, name).adc_mm2_s, b_s_mm2=1000.0) for name, s in s0.items()}
    assert s0["csf"] > s0["grey_matter"] > s0["white_matter"] > s0["muscle"]
    assert b1000["grey_matter"] > b1000["white_matter"] > b1000["csf"]


def test_a_person_keeps_their_deviations_at_another_field_strength():
    low, high = (draw_tissues(np.random.default_rng(3), field) for field in (1.5, 3.0))
    for name in TissueSet._fields:
        for constant in ("t1_ms", "t2_ms", "adc_mm2_s"):
            ratio_low = getattr(getattr(low, name), constant) / getattr(getattr(nominal_tissues(1.5), name), constant)
            ratio_high = getattr(getattr(high, name), constant) / getattr(getattr(nominal_tissues(3.0), name), constant)
            assert ratio_low == pytest.approx(ratio_high)
            assert abs(ratio_low - 1.0) <= PERSON_SPREAD
