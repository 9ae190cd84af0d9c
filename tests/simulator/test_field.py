"""The field near air."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fvv.config import SimulateConfig
from fvv.simulator.field import AIR_POCKETS, Field, PhysicalField, physical_field, pile_up, smooth_field, with_bands
from fvv.simulator.scanner import SITES, EchoTrain, draw_protocol
from fvv.simulator.space import LATTICE_SHAPE, LatticeMap, lattice_positions
from fvv.simulator.susceptibility import HeadField


@pytest.fixture
def protocol():
    site = SITES[0]
    return draw_protocol(np.random.default_rng(0), site, SimulateConfig(vary_appearance=False))


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


STEP_MM = 2.0
Y = np.arange(100) * STEP_MM


def bump(height_mm, width_mm):
    """A shift (1, y, 1) that is largest at 100 mm."""
    return (height_mm * np.exp(-0.5 * ((Y - 100.0) / width_mm) ** 2)).astype(np.float32)[None, :, None]


@pytest.mark.parametrize(
    ("height_mm", "folds"), [(0.0, False), (4.0, False), (-4.0, False), (25.0, True), (-25.0, True)]
)
def test_pile_up_conserves_signal_also_where_it_folds(height_mm, folds):
    shift = bump(height_mm, 8.0)
    assert bool((np.gradient(shift[0, :, 0], Y) < -1).any()) == folds
    _, intensity = pile_up(shift, np.ones_like(shift), np.ones_like(shift), STEP_MM)
    assert intensity.sum() == pytest.approx(shift.size, rel=1e-4)
    assert intensity.min() >= 0
    if height_mm == 0.0:
        np.testing.assert_allclose(intensity, 1.0, rtol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_small_shifts_give_the_quotient_of_jezzard_and_balaban(sign):
    shift = bump(sign * 3.0, 12.0)
    away, intensity = pile_up(shift, np.ones_like(shift), np.ones_like(shift), STEP_MM)
    source = Y + away[0, :, 0]
    # What is seen at an image position comes from where its own shift leads there.
    np.testing.assert_allclose(source + np.interp(source, Y, shift[0, :, 0]), Y, atol=0.1)
    slope = np.gradient(shift[0, :, 0], Y)
    np.testing.assert_allclose(intensity[0, :, 0], 1 / (1 + np.interp(source, Y, slope)), atol=0.04)


def test_air_that_folds_over_tissue_does_not_hide_it():
    # All beyond 100 mm is air, and appears 30 mm before where it is, over tissue that stays.
    air = (Y > 100.0)[None, :, None]
    shift = np.where(air, -30.0, 0.0).astype(np.float32)
    away, intensity = pile_up(shift, 1.0 - air.astype(np.float32), np.ones_like(shift), STEP_MM)
    tissue = Y < 92.0
    np.testing.assert_allclose(away[0, tissue, 0], 0.0, atol=1.0)
    np.testing.assert_allclose(intensity[0, tissue, 0], 1.0, atol=0.05)


def test_what_dephases_is_lost_before_it_is_moved():
    shift = bump(4.0, 8.0)
    whole = pile_up(shift, np.ones_like(shift), np.ones_like(shift), STEP_MM)
    half = pile_up(shift, np.ones_like(shift), np.full_like(shift, 0.5), STEP_MM)
    np.testing.assert_allclose(half[0], whole[0], atol=1e-4)
    np.testing.assert_allclose(half[1], 0.5 * whole[1], rtol=1e-5)


@pytest.fixture(scope="module")
def blob():
    """A head's field with one bump of 1 ppm, at the middle of the lattice's long axis."""
    x, y, z = lattice_positions()
    offset = np.exp(-0.5 * ((x / 20) ** 2 + ((y + 18) / 20) ** 2 + (z / 10) ** 2)).astype(np.float32)
    return HeadField(LatticeMap(offset), LatticeMap(np.ones(LATTICE_SHAPE, np.float32)))


def grid_of_points():
    axes = (np.array([-10.0, 0.0, 10.0]), np.arange(-100.0, 60.0, STEP_MM), np.array([0.0, 5.0]))
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def test_a_physical_field_grows_with_the_magnet_and_turns_with_the_phase_direction(blob, protocol):
    points, turn = grid_of_points(), np.eye(3)

    def shift(field_strength_t, sign, spacing_ms=0.6):
        train = EchoTrain(spacing_ms, acceleration=2, sign=sign, off_echo_ms=1.0)
        examination = replace(protocol, field_strength_t=field_strength_t, echo_train=train)
        return physical_field(blob, examination, turn).shift_mm(points)

    weak = shift(1.5, 1)
    # 42.577 Hz per ppm and tesla, over the field of view, in half the echo spacing.
    assert weak.max() == pytest.approx(42.577 * 1.5 * protocol.fov_mm[1] * 0.3e-3, rel=1e-3)
    np.testing.assert_allclose(shift(3.0, 1), 2 * weak, rtol=1e-5)
    np.testing.assert_allclose(shift(1.5, -1), -weak, rtol=1e-5)
    np.testing.assert_allclose(shift(1.5, 1, 1.2), 2 * weak, rtol=1e-5)


def test_a_physical_field_displaces_along_the_phase_axis_and_dephases_only_off_the_echo(blob, protocol):
    points = grid_of_points()
    direction = np.array([0.0, 1.0, 0.0])

    def seen(off_echo_ms, sign=1):
        train = EchoTrain(0.6, acceleration=2, sign=sign, off_echo_ms=off_echo_ms)
        return physical_field(blob, replace(protocol, echo_train=train), np.eye(3)).at(points, direction)

    away, intensity = seen(0.0)
    assert np.abs(away).max() > 1.0
    np.testing.assert_allclose(intensity.sum(axis=1), points.shape[2], rtol=1e-3)
    assert seen(20.0)[1].sum() < 0.99 * intensity.sum()
    # Signal that moved forwards moves backwards when the blips are turned round.
    assert away[1, :, 0].sum() * seen(0.0, -1)[0][1, :, 0].sum() < 0


def test_a_head_without_air_is_seen_as_it_is(blob):
    nothing = LatticeMap(np.zeros(LATTICE_SHAPE, np.float32))
    field = PhysicalField(nothing, blob.signal, blob.signal, mm_per_ppm=10.0)
    away, intensity = field.at(grid_of_points(), np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(away[:, 1:-1], 0.0, atol=1e-4)
    np.testing.assert_allclose(intensity, 1.0, rtol=1e-4)
