"""The field near air."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.simulator.field import AIR_POCKETS, Field, smooth_field, with_bands


def test_distortion_piles_up_what_it_moves():
    # Along a line through a pocket, the intensity factor is the derivative of the displaced position.
    pocket = AIR_POCKETS[0]
    y = np.linspace(-40, 40, 801)
    line = np.stack([np.full_like(y, pocket.centre_mm[0]), pocket.centre_mm[1] + y, np.full_like(y, -26.0)])
    only_first = Field((4.0,) + (0.0,) * (len(AIR_POCKETS) - 1))
    shift, factor = only_first.at(line.astype(np.float32), np.array([0.0, 1.0, 0.0]))
    assert shift.max() == pytest.approx(4.0, rel=0.01)
    np.testing.assert_allclose(factor, 1.0 + np.gradient(shift, y), atol=0.02)


def test_distortion_grows_with_the_field():
    low, high = (smooth_field(np.random.default_rng(5), field) for field in (1.5, 3.0))
    np.testing.assert_allclose(np.array(high.shift_mm), 2.0 * np.array(low.shift_mm))


def test_bands_keep_the_law_of_distortion_and_are_brighter_and_narrower():
    smooth = smooth_field(np.random.default_rng(3), 3.0)
    bands = with_bands(smooth, np.random.default_rng(4))
    assert len(bands.pockets) == len(bands.shift_mm) > 20
    y = np.linspace(-90.0, 70.0, 3201)
    steepest = {}
    for name, distortion in (("smooth", smooth), ("bands", bands)):
        steepest[name] = 0.0
        for x, z in ((-46.0, -36.0), (46.0, -30.0), (0.0, -26.0), (-50.0, -24.0), (28.0, -34.0)):
            line = np.stack([np.full_like(y, x), y, np.full_like(y, z)]).astype(np.float32)
            shift, factor = distortion.at(line, np.array([0.0, 1.0, 0.0]))
            slope = np.gradient(shift, y)
            np.testing.assert_allclose(factor, np.clip(1.0 + slope, 0.1, 3.5), atol=0.03)
            steepest[name] = max(steepest[name], float(np.abs(slope).max()))
    assert steepest["bands"] > 1.2 * steepest["smooth"]


def test_without_air_nothing_moves():
    shift, factor = Field((), ()).at(np.zeros((3, 5), dtype=np.float32), np.array([0.0, 1.0, 0.0]))
    assert not shift.any()
    assert (factor == 1.0).all()
