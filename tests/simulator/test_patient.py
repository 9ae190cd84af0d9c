"""What the simulated reader outlines of a stroke."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.config import SimulateConfig
from fvv.simulator.patient import outlined

READER = SimulateConfig(reader_threshold=0.4, minimum_contrast_to_noise=3.0, minimum_brightening=1.2)
NOISE = 2.0
"""Standard deviation; normal b1000 is 40, so that a rise of 6 is clear of noise and one of 8 bright enough."""


def stroke(satellite_rise: float, satellite_voxels: int = 6):
    """A lesion of 64 voxels with a rise of 14 beside a satellite: ROI, rise, normal b1000 and the satellite."""
    roi = np.zeros((16, 16, 4), dtype=bool)
    rise = np.zeros(roi.shape, dtype=np.float32)
    roi[1:5, 1:5] = True
    rise[roi] = 14.0
    satellite = np.zeros_like(roi)
    satellite[10, 2 : 2 + satellite_voxels, 1] = True
    rise[satellite] = satellite_rise
    return roi | satellite, rise, np.full(roi.shape, 40.0, dtype=np.float32), satellite


def test_a_bright_satellite_is_outlined():
    roi, rise, usual, _ = stroke(9.0)
    np.testing.assert_array_equal(outlined(roi, rise, usual, NOISE, READER), roi)


@pytest.mark.parametrize(
    ("rise_by", "voxels", "noise"),
    [
        pytest.param(7.0, 6, NOISE, id="hardly brighter than normal"),
        pytest.param(9.0, 6, 3.5, id="lost in noise"),
        pytest.param(14.0, 2, NOISE, id="two voxels"),
        pytest.param(5.0, 6, NOISE, id="under the reader's threshold"),
    ],
)
def test_a_satellite_that_nobody_would_outline_is_not_in_the_roi(rise_by, voxels, noise):
    roi, rise, usual, satellite = stroke(rise_by, voxels)
    np.testing.assert_array_equal(outlined(roi, rise, usual, noise, READER), roi & ~satellite)


def test_without_a_reader_the_whole_infarct_is_the_roi():
    roi, rise, usual, _ = stroke(1.0, 1)
    everything = READER.model_copy(update={"reader_threshold": 0.0})
    np.testing.assert_array_equal(outlined(roi, rise, usual, NOISE, everything), roi)


def test_a_stroke_without_a_clear_component_stays_whole():
    """So that a later scan of the stroke still has a ROI; a first scan like this is rejected as a whole."""
    roi, rise, usual, _ = stroke(9.0)
    np.testing.assert_array_equal(outlined(roi, rise, usual, 10.0, READER), roi)


def test_an_empty_roi_stays_empty():
    nothing = np.zeros((4, 4, 2), dtype=bool)
    assert not outlined(nothing, np.zeros(nothing.shape), np.ones(nothing.shape), NOISE, READER).any()
