"""Checks that look some millimetres around: with voxels of micrometres they must not look a thousand times as far."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from builders import AFFINE, case_of, head
from fvv.config import PROFILES
from fvv.data import Volume
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import assess_quality


@pytest.mark.parametrize("scale", [1e-3, 2e-4, 1e3])
def test_a_header_in_other_units_takes_no_more_memory(rng: np.random.Generator, scale: float) -> None:
    case = replace(case_of(head(rng)), stroke_roi=None, flair_visible_roi=None, mask=None)
    profile = PROFILES["robust-v3"].model_copy(update={"grid_size": 64})
    peaks = {}
    for factor in (1.0, scale):
        affine = AFFINE @ np.diag([factor, factor, factor, 1])
        scaled = replace(case, b0=Volume(case.b0.array, affine), b1000=Volume(case.b1000.array, affine))
        prepared = preprocess_case(scaled, profile)
        tracemalloc.start()
        found = assess_quality(scaled, prepared, brain_volume_bounds_ml=(400.0, 2500.0))
        peaks[factor] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "brain-size" in {finding.code for finding in found}
    assert peaks[scale] < 20 * peaks[1.0]
