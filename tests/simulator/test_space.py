"""Random fields and resampling."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.simulator.space import apply_separably, area_resampling, linear_upsampling, logistic, smooth_noise


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
