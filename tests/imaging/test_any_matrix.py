"""Whatever the matrix: nothing crashes, volumes survive the way there and back, no brain is cut in silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from builders import ellipsoid
from fvv.config import PROFILES
from fvv.data import Case, Volume
from fvv.imaging.geometry import restore_to_native
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import assess_quality
from fvv.imaging.quality.view import native_view

MOST_VOXELS = 2_500_000
"""Of one image, so that an example takes seconds at most."""
FOV_MM = 230.0


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(96, 512), st.integers(96, 512), st.integers(1, 180), st.floats(0.25, 0.45))
@example(96, 128, 180, 0.4)
@example(512, 400, 2, 0.4)
@example(512, 96, 7, 0.45)
@example(320, 260, 1, 0.45)
@example(241, 272, 5, 0.4)
def test_any_matrix(nx: int, ny: int, n_slices: int, radius: float) -> None:
    assume(nx * ny * n_slices <= MOST_VOXELS)
    shape, edge = (nx, ny, n_slices), FOV_MM / max(nx, ny)
    affine = np.diag([edge, edge, 150.0 / n_slices, 1.0])
    brain = ellipsoid(
        shape, ((nx - 1) / 2, (ny - 1) / 2, (n_slices - 1) / 2), (radius * nx, radius * ny, 0.6 * n_slices)
    )
    texture = np.random.default_rng(0).normal(0, 20, (nx, ny, 1))
    images = [np.where(brain, level + texture, 5.0) for level in (500.0, 220.0)]
    images[0][nx // 2 - nx // 12 : nx // 2 + nx // 12, ny // 2 - ny // 12 : ny // 2 + ny // 12] = 1500.0
    images[1][nx // 2 - nx // 12 : nx // 2 + nx // 12, ny // 2 - ny // 12 : ny // 2 + ny // 12] = 80.0
    case = Case("p", *(Volume(image, affine) for image in images), mask=Volume(brain, affine))
    prepared = preprocess_case(case, PROFILES["robust-v1"])
    found = {
        finding.code for finding in assess_quality(native_view(case, prepared, brain_volume_bounds_ml=(400, 2500)))
    }

    back = restore_to_native(prepared.brain, prepared.grid)
    assert back.shape == shape
    if "brain-cut" in found:
        return
    native_ml = brain.sum() * case.b0.voxel_volume_ml
    assert prepared.brain.sum() * prepared.voxel_volume_ml == pytest.approx(native_ml, rel=0.02)
    assert back.sum() == pytest.approx(brain.sum(), rel=0.02)
