"""Laws of the pictures: what must be visible is, where it is, and nothing wraps around or is invented."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from builders import BOX_SHAPE as SHAPE
from builders import box_head as head
from fvv.analysis.figures import comparison_figure, figure_png, synthesis_figure
from fvv.analysis.heatmap import grey_scale
from fvv.data import Channel, Decision, DecisionState, Finding, Prediction, Severity, Volume


def prediction(
    state: DecisionState, brain: np.ndarray, stroke: np.ndarray, *, findings: tuple[Finding, ...] = ()
) -> Prediction:
    return Prediction(
        examination_id="p $1_2$",
        decision=Decision(state, 0.5, findings),
        n_models=3,
        voxel_volume_ml=0.01,
        brain_voxels=int(brain.sum()),
        stroke_voxels=int(stroke.sum()),
        flair_visible_voxels=2 * int(stroke.sum()) / 3,
        brain=brain,
        stroke=stroke,
        flair_visible_votes=np.where(stroke, 2, 0).astype(np.uint8),
        fvv_per_model_ml=(0.4, 0.3, 0.1),
    )


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_synthesis_shows_the_slices_with_stroke_the_volumes_and_the_findings(rng):
    image, brain, stroke = head(rng)
    finding = Finding("few_slices", "only 10 slices", Severity.WARNING)
    answer = prediction(DecisionState.MISMATCH_LIKELY, brain, stroke, findings=(finding,))
    figure = synthesis_figure(Volume(image, np.diag([2.0, 2.0, 5.0, 1.0])), answer)
    said = texts(figure)
    assert said.count("slice ") == 2
    for expected in ("mismatch likely", "FVV  0.267 mL", "Stroke  0.400 mL", "only 10 slices", "research use only"):
        assert expected in said
    assert figure_png(figure) == figure_png(figure)


def test_synthesis_of_a_patient_without_stroke_says_so_and_shows_the_head(rng):
    image, brain, _ = head(rng)
    nothing = np.zeros(SHAPE, dtype=bool)
    figure = synthesis_figure(Volume(image, np.eye(4)), prediction(DecisionState.NO_LESION_FOUND, brain, nothing))
    assert "No stroke was found" in texts(figure)
    assert texts(figure).count("slice ") == 8


def test_synthesis_says_how_sure_the_models_are(rng):
    image, brain, stroke = head(rng)
    answer = prediction(DecisionState.MISMATCH_LIKELY, brain, stroke)
    answer = replace(answer, fvv_per_model_ml=(0.4, 0.3, 0.6), lesion_adc=(512.3, 400.0, 0.66))
    answer = replace(answer, models="drawn-v1 (trained on nobody)")
    said = texts(synthesis_figure(Volume(image, np.eye(4)), answer))
    assert "3 models  0.300 mL to 0.600 mL;  2 of 3 on this side of the cut-off" in said
    assert "Median ADC of the stroke  512" in said
    assert "66% of the brain's" in said
    assert "drawn-v1 (trained on nobody)" in said
    assert "P(mismatch)" not in said
    calibrated = replace(answer, mismatch_probability=0.873)
    assert "P(mismatch)  87%" in texts(synthesis_figure(Volume(image, np.eye(4)), calibrated))
    simulated = replace(calibrated, calibration_source="simulated", mismatch_prevalence=0.34)
    said = texts(synthesis_figure(Volume(image, np.eye(4)), simulated))
    assert "P(mismatch)  87% at prevalence 34% (simulated)" in said


def test_synthesis_of_a_patient_who_cannot_be_assessed_gives_no_volume(rng):
    image, brain, stroke = head(rng)
    reason = Finding("swapped", "b0 and b1000 seem swapped", Severity.NOT_ASSESSABLE)
    image[3, 3, 3] = np.nan
    answer = prediction(DecisionState.NOT_ASSESSABLE, brain, stroke, findings=(reason,))
    said = texts(synthesis_figure(Volume(image, np.eye(4)), answer))
    assert "Not assessable" in said
    assert "b0 and b1000 seem swapped" in said
    assert " mL" not in said


def test_many_stroke_slices_are_thinned_but_the_largest_stays(rng):
    shape = (24, 28, 40)
    stroke = np.zeros(shape, dtype=bool)
    stroke[8:10, 8:10, 2:38] = True
    stroke[8:16, 8:16, 17] = True
    figure = synthesis_figure(
        Volume(rng.uniform(0, 9, shape), np.eye(4)), prediction(DecisionState.MISMATCH_LIKELY, stroke, stroke)
    )
    said = texts(figure)
    assert len(re.findall(r"slice \d+", said)) == 12
    assert "12 of 36 slices" in said
    assert "slice 18" in said


STORED_AXES = {
    "RAS": np.diag([2.0, 2.0, 5.0, 1.0]),
    "LAS": np.diag([-2.0, 2.0, 5.0, 1.0]),
    "LPI": np.diag([-2.0, -2.0, -5.0, 1.0]),
    "sagittal": np.array([[0, 0, 5, 0], [2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("axes", STORED_AXES)
def test_the_right_anterior_corner_is_drawn_top_left_however_the_image_is_stored(axes):
    affine = STORED_AXES[axes]
    shape = (20, 20, 20)
    image, brain = np.ones(shape), np.ones(shape, dtype=bool)
    image[0, 0, 0] = 0.0
    # Brighten what lies to the patient's right and anterior in world coordinates.
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = index @ affine[:3, :3].T
    centre = world.reshape(-1, 3).mean(axis=0)
    marked = (world[..., 0] > centre[0]) & (world[..., 1] > centre[1])
    image[marked] = 2.0
    figure = synthesis_figure(
        Volume(image, affine), prediction(DecisionState.MISMATCH_LIKELY, brain, brain), max_slices=1
    )
    shown = np.asarray(figure.axes[0].images[0].get_array(), dtype=float)
    rows, columns = shown.shape[0] // 2, shown.shape[1] // 2
    assert shown[:rows, :columns].mean() > 1.5 * shown[rows:, columns:].mean()
    assert np.isclose(shown[:rows, columns:].mean(), shown[rows:, columns:].mean(), rtol=0.05)


def test_comparison_has_a_row_for_each_side_even_when_only_one_found_something(rng):
    image, brain, stroke = head(rng)
    nothing = np.zeros(SHAPE, dtype=bool)
    drawn = {Channel.BRAIN: brain, Channel.STROKE: stroke, Channel.FLAIR_VISIBLE: nothing}
    found = {Channel.BRAIN: brain, Channel.STROKE: nothing, Channel.FLAIR_VISIBLE: nothing}
    figure = comparison_figure(grey_scale(image, brain), np.eye(4), drawn, found, title="p1")
    assert [axes.get_ylabel() for axes in figure.axes] == ["reference", "predicted"]
    assert len(re.findall(r"slice \d+", texts(figure))) == 4
    picture = matplotlib.image.imread(io.BytesIO(figure_png(figure)))
    assert picture.std() > 0.05


def test_letters_without_a_glyph_warn_nobody() -> None:
    figure = Figure(figsize=(1, 1))
    figure.suptitle("\N{BRAIN}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figure_png(figure).startswith(b"\x89PNG")
