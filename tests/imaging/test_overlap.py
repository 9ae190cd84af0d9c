"""Dice has one definition, and empty masks one place; the measures themselves are tested in tests/analysis."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fvv.arrays import BoolArray
from fvv.imaging.overlap import Emptiness, Overlap
from fvv.training import validation

NOTHING, ONE, TWO = (np.arange(8) < n for n in range(3))


def dice(reference: BoolArray, predicted: BoolArray) -> float:
    return Overlap.of_masks(reference, predicted).dice_coefficient


def test_dice_and_empty_masks() -> None:
    assert math.isnan(dice(NOTHING, NOTHING))
    assert dice(NOTHING, ONE) == dice(ONE, NOTHING) == 0
    assert dice(ONE, TWO) == pytest.approx(2 / 3)
    found = [Overlap.of_masks(*pair).emptiness for pair in ((NOTHING, NOTHING), (ONE, NOTHING), (NOTHING, ONE))]
    assert found == [Emptiness.BOTH, Emptiness.PREDICTION, Emptiness.REFERENCE]


def test_smoothing_makes_two_empty_masks_agree() -> None:
    assert Overlap.of_masks(NOTHING, NOTHING).smoothed_dice(0.5) == 1
    assert Overlap.of_masks(ONE, NOTHING).smoothed_dice(0.5) == pytest.approx(0.5 / 1.5)


def test_validation_shares_it() -> None:
    assert validation.dice_coefficient(TWO, ONE) == dice(ONE, TWO)
    assert validation.dice_coefficient(NOTHING, NOTHING) == 1
