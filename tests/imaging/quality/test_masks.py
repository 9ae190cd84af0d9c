"""ROIs that lie beside the lesion: shifted, mirrored, of another patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from builders import AFFINE, case_of, head
from fvv.config import PROFILES
from fvv.data import Case, Severity, Volume
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import assess_quality
from fvv.imaging.quality.view import native_view

BOUNDS = (400.0, 2500.0)
MOVES = {
    "mirrored": lambda a: a[::-1],
    "shifted along i": lambda a: np.roll(a, 14, axis=0),
    "shifted along j": lambda a: np.roll(a, -9, axis=1),
}


def codes(case: Case) -> dict[str, Severity]:
    prepared = preprocess_case(case, PROFILES["robust-v1"].model_copy(update={"grid_size": 128}))
    labelled = assess_quality(native_view(case, prepared, brain_volume_bounds_ml=BOUNDS))
    plain = replace(case, stroke_roi=None, flair_visible_roi=None)
    unlabelled = assess_quality(native_view(plain, prepared, brain_volume_bounds_ml=BOUNDS))
    assert labelled[: len(unlabelled)] == unlabelled
    return {finding.code: finding.severity for finding in labelled if finding.severity is not Severity.NOTE}


def with_rois(case: Case, stroke: np.ndarray, visible: np.ndarray) -> Case:
    return replace(case, stroke_roi=Volume(stroke, AFFINE), flair_visible_roi=Volume(visible, AFFINE))


@pytest.fixture
def images(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return head(rng)


def test_right_rois_are_not_mentioned(images: dict[str, np.ndarray]) -> None:
    assert codes(case_of(images)) == {}


@pytest.mark.parametrize("move", MOVES)
def test_rois_beside_the_lesion(images: dict[str, np.ndarray], move: str) -> None:
    wrong = with_rois(case_of(images), MOVES[move](images["stroke_roi"]), MOVES[move](images["flairviz_roi"]))
    assert codes(wrong) == {"roi-not-bright": Severity.WARNING}


def test_rois_outside_what_holds_them(images: dict[str, np.ndarray]) -> None:
    wrong = with_rois(case_of(images), np.roll(images["stroke_roi"], 24, axis=1), images["flairviz_roi"])
    assert codes(wrong) == {"roi-outside": Severity.WARNING}


def test_no_lesion_and_no_rois(images: dict[str, np.ndarray]) -> None:
    nothing = np.zeros_like(images["stroke_roi"])
    assert codes(with_rois(case_of(images), nothing, nothing)) == {}
    assert codes(replace(case_of(images), stroke_roi=None, flair_visible_roi=None)) == {}
