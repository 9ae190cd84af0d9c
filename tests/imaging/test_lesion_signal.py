"""Plain numbers of a stroke: known answers, and what must not change them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from builders import prepared_case
from fvv.data import Finding, PreparedCase, Severity, SignalScale
from fvv.imaging.adc import RESCALED
from fvv.imaging.lesion_signal import relative_dwi_iqr, relative_lesion_adc

SHAPE = (64, 64, 4)
BRAIN = np.zeros(SHAPE, dtype=bool)
BRAIN[10:54, 8:56] = True
STROKE = np.zeros(SHAPE, dtype=bool)
STROKE[14:24, 20:30, 1:3] = True


def case_of(rng: np.random.Generator, b0: np.ndarray, b1000: np.ndarray) -> PreparedCase:
    """A case with these signals, stored as z-scores of mean 100 and deviation 50."""
    scale = SignalScale(100.0, 50.0)
    scores = [((signal - 100.0) / 50.0).astype(np.float32) for signal in (b0, b1000)]
    return dataclasses.replace(
        prepared_case(rng, SHAPE[2], SHAPE[0]),
        b0=scores[0], b1000=scores[1], brain=BRAIN, stroke=None, flair_visible=None, b0_scale=scale, b1000_scale=scale,
    )  # fmt: skip


def signals() -> tuple[np.ndarray, np.ndarray]:
    """Tissue of b0 200 and b1000 80, the left half of it 100; the stroke, on the other side, 100 to 300."""
    b0, b1000 = np.full(SHAPE, 200.0), np.full(SHAPE, 80.0)
    b1000[32:] = 100.0
    b1000[STROKE] = np.linspace(100.0, 300.0, int(STROKE.sum()))
    return b0, b1000


def test_the_range_is_relative_to_the_mirrored_tissue(rng: np.random.Generator) -> None:
    found = relative_dwi_iqr(case_of(rng, *signals()), STROKE, BRAIN)
    assert found == pytest.approx(100.0 / 100.0, rel=1e-3)  # 150 to 250, over 100


def test_over_the_midline_all_normal_brain_counts(rng: np.random.Generator) -> None:
    b0, b1000 = signals()
    both = STROKE | STROKE[::-1]
    b1000[both] = np.linspace(100.0, 300.0, int(both.sum()))
    b1000[BRAIN & ~both] = 50.0
    assert relative_dwi_iqr(case_of(rng, b0, b1000), both, BRAIN) == pytest.approx(2.0, rel=1e-3)


def test_an_even_stroke_has_no_range(rng: np.random.Generator) -> None:
    b0, b1000 = signals()
    b1000[STROKE] = 180.0
    assert relative_dwi_iqr(case_of(rng, b0, b1000), STROKE, BRAIN) == 0.0


def test_the_adc_is_relative_to_the_rest_of_the_brain(rng: np.random.Generator) -> None:
    b0, b1000 = np.full(SHAPE, 200.0), np.full(SHAPE, 80.0)
    b1000[STROKE] = 200.0 * 0.4**0.6
    assert relative_lesion_adc(case_of(rng, b0, b1000), STROKE, BRAIN) == pytest.approx(0.6, rel=1e-3)


@pytest.mark.parametrize("measure", [relative_dwi_iqr, relative_lesion_adc])
@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_the_gain_of_the_scanner_changes_nothing(rng: np.random.Generator, measure, gain: float) -> None:
    b0, b1000 = signals()
    one, other = case_of(rng, b0, b1000), case_of(rng, gain * b0, gain * b1000)
    assert measure(one, STROKE, BRAIN) == pytest.approx(measure(other, STROKE, BRAIN), rel=1e-4)


@pytest.mark.parametrize("measure", [relative_dwi_iqr, relative_lesion_adc])
def test_what_cannot_be_measured_is_no_number(rng: np.random.Generator, measure) -> None:
    case, nothing = case_of(rng, *signals()), np.zeros(SHAPE, dtype=bool)
    assert math.isnan(measure(case, nothing, BRAIN))
    assert math.isnan(measure(case, STROKE, STROKE))
    assert math.isnan(measure(dataclasses.replace(case, b0_scale=None, b1000_scale=None), STROKE, BRAIN))


def test_there_is_no_adc_of_images_that_were_rescaled(rng: np.random.Generator) -> None:
    apart = Finding(RESCALED, "each by itself", Severity.NOTE)
    case = dataclasses.replace(case_of(rng, *signals()), findings=(apart,))
    assert math.isnan(relative_lesion_adc(case, STROKE, BRAIN))
    assert relative_dwi_iqr(case, STROKE, BRAIN) > 0
