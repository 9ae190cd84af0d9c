"""Figures of a training where a class of slices, a label, a score or a reader is missing: drawn, and said."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("torch")

from fvv.data import Channel
from fvv.training.figures import example_figure, kappa_figure, patient_examples, progress_figure
from fvv.training.validation import SCORE, PatientValidation, judge_patient


def masks(stroke_rows: int) -> np.ndarray:
    """(3, 1, 16, 16): a brain, and a lesion of 8 columns that is not visible."""
    found = np.zeros((3, 1, 16, 16), dtype=bool)
    found[Channel.BRAIN.value, :, 1:15, 1:15] = True
    found[Channel.STROKE.value, :, 2 : 2 + stroke_rows, 2:10] = True
    return found


def patient(stroke_rows: int, *, mismatch: bool | None) -> PatientValidation:
    return judge_patient(masks(stroke_rows), masks(stroke_rows), loss=1.0, voxel_volume_ml=0.01, mismatch=mismatch)


def words(figure) -> list[str]:
    """What stands in the figure, which is drawn for it."""
    figure.savefig(io.BytesIO(), dpi=20)
    return [text.get_text() for place in figure.axes for text in (*place.texts, place.title)]


@pytest.mark.parametrize("stroke_rows", [0, 6])
def test_a_kind_of_slice_that_no_patient_has_is_said(stroke_rows: int) -> None:
    examples = patient_examples(np.zeros((1, 16, 16)), masks(stroke_rows), masks(stroke_rows))
    assert len(examples) == (1 if stroke_rows else 0)
    assert words(example_figure(examples)).count("no such slice") == 3 * (3 - len(examples))


@pytest.mark.parametrize(("labels", "said"), [([True, True], True), ([None, None], True), ([True, False], False)])
def test_kappa_needs_both_labels(labels: list[bool | None], said: bool) -> None:
    figure = kappa_figure([patient(6, mismatch=label) for label in labels])
    assert any("all have one label" in text for text in words(figure)) == said


@pytest.mark.parametrize("epochs", [1, 3])
def test_progress_is_drawn_from_the_first_epoch_on_and_without_scores_that_are_not_defined(epochs: int) -> None:
    rows = [
        {"epoch": epoch, "train/loss": 1.0, "learning_rate": 1e-3, SCORE: 0.1 * epoch, "valid/auc": float("nan")}
        for epoch in range(epochs)
    ]
    figure = progress_figure(rows, "tiny")
    words(figure)
    assert figure.get_suptitle() == f"tiny: best epoch {epochs} of {epochs}, score {0.1 * (epochs - 1):.3f}"
