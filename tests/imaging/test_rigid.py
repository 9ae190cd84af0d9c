"""Rigid registration finds the motion that was made."""

from __future__ import annotations

import numpy as np
import pytest

from builders import ellipsoid
from fvv.config import SimulateConfig
from fvv.data import Volume
from fvv.errors import GeometryError
from fvv.imaging.geometry import resample_onto
from fvv.imaging.rigid import RigidMotion, register
from fvv.simulator.make import make_case
from fvv.simulator.space import rotation_matrix

pytest.importorskip("SimpleITK")
SHAPE = (48, 56, 14)
AFFINE = np.diag([4.0, 4.0, 10.0, 1.0])
AFFINE[:3, 3] = [-94, -110, -65]


def heads() -> tuple[Volume, Volume, np.ndarray]:
    """One head in two contrasts, and its brain."""
    brain = ellipsoid(SHAPE, (23.5, 27.5, 6.5), (16.0, 21.0, 5.5))
    ventricle = ellipsoid(SHAPE, (20.0, 30.0, 7.0), (3.0, 8.0, 2.0))
    ventricle |= ellipsoid(SHAPE, (28.0, 22.0, 6.0), (3.0, 4.0, 2.0))
    skull = ellipsoid(SHAPE, (23.5, 27.5, 6.5), (19.0, 24.0, 6.5))
    skull &= ~ellipsoid(SHAPE, (23.5, 27.5, 6.5), (17.5, 22.5, 6.0))
    first = 20.0 + 500 * brain + 900 * (ventricle & brain) + 100 * skull
    second = 5.0 + 300 * brain - 280 * (ventricle & brain) + 200 * skull
    return Volume(first, AFFINE), Volume(second, AFFINE), brain


def mean_distance_mm(found: RigidMotion, made: np.ndarray, brain: np.ndarray, affine: np.ndarray) -> float:
    """Between where two motions put a voxel of the brain."""
    points = affine[:3, :3] @ np.argwhere(brain).T + affine[:3, 3:]
    off = found.to_moving - made
    return float(np.linalg.norm(off[:3, :3] @ points + off[:3, 3:], axis=0).mean())


def test_a_made_motion_is_found() -> None:
    b0, flair, brain = heads()
    angle = np.deg2rad(6.0)
    made = np.eye(4)
    made[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    made[:3, 3] = [5.0, -4.0, 3.0]
    # It lies on a grid of its own, finer in the plane.
    grid = np.diag([3.0, 3.0, 8.0, 1.0])
    grid[:3, 3] = [-110, -120, -75]
    moved = resample_onto(Volume(flair.array, made @ AFFINE), Volume(np.zeros((73, 80, 20)), grid), order=1)
    found = register(moved, b0, brain)
    assert mean_distance_mm(found, made, brain, AFFINE) < 1.5
    assert found.rotation_deg == pytest.approx(6.0, abs=1.0)
    assert np.array_equal(register(moved, b0, brain).to_moving, found.to_moving)
    # Better than where the headers say, though interpolated twice.
    as_stored, registered = (
        np.corrcoef(motion.onto(moved, b0).array[brain], flair.array[brain])[0, 1]
        for motion in (RigidMotion(np.eye(4)), found)
    )
    assert registered > as_stored + 0.1


def test_the_finest_level_does_not_run_away() -> None:
    """Steps of 2 mm between the sharp images of this patient once ended 27 mm off."""
    pytest.importorskip("nilearn")
    case = make_case(1, SimulateConfig(seed=904))
    made = np.eye(4)
    made[:3, :3] = rotation_matrix((0.01508, 0.03585, 0.01442))
    made[:3, 3] = [-3.91, 2.72, 1.34]
    spacing, shape = np.array([0.75, 0.75, 5.155]), np.array([300, 300, 32])
    grid = np.diag([*spacing, 1.0])
    grid[:3, 3] = -spacing * (shape - 1) / 2
    moved = resample_onto(Volume(case.flair, made @ case.affine), Volume(np.zeros(shape), grid), order=1)
    found = register(moved, Volume(case.b0, case.affine), case.brain)
    assert mean_distance_mm(found, made, case.brain, case.affine) < 2.0


def test_an_image_of_another_place_is_refused() -> None:
    b0, flair, brain = heads()
    elsewhere = AFFINE.copy()
    elsewhere[:3, 3] += 400
    with pytest.raises(GeometryError, match="0% of the brain lies within the other image"):
        register(Volume(flair.array, elsewhere), b0, brain)


def test_a_motion_in_numbers() -> None:
    made = np.eye(4)
    made[:3, 3] = [3.0, 4.0, 0.0]
    assert RigidMotion(made).rotation_deg == pytest.approx(0.0)
    assert RigidMotion(made).shift_mm(np.zeros(3)) == pytest.approx(5.0)
