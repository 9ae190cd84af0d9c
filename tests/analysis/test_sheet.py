"""The reader's picture: one window for all, every slice with stroke, and numbers no finer than what is known."""

from __future__ import annotations

import datetime
import io
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, ImageColor

from builders import ellipsoid
from fvv.analysis.canvas import with_palette
from fvv.analysis.head import examination_facts, fvv_in_words, known_ml, numbers_in_words
from fvv.analysis.sheet import stack_of, synthesis_png
from fvv.analysis.tiles import plane, slice_panels
from fvv.analysis.viewer import page_volume
from fvv.analysis.windows import WHITE_B1000, reader_images, tissue_window
from fvv.data import Case, Channel, Decision, DecisionState, Finding, Prediction, Severity, Volume
from fvv.imaging.lesions import stroke_lesions

SHAPE, AFFINE = (48, 56, 12), np.diag([3.0, 3.0, 6.0, 1.0])


def examined(state: DecisionState = DecisionState.MISMATCH_UNLIKELY) -> tuple[Case, Prediction]:
    brain = ellipsoid(SHAPE, (24, 28, 6), (18, 22, 6))
    stroke = ellipsoid(SHAPE, (34, 30, 6), (4, 6, 3)) & brain
    b1000 = 100.0 * brain + 120.0 * stroke
    case = Case("anna", Volume(300.0 * brain, AFFINE), Volume(b1000, AFFINE))
    found = Prediction(
        "anna", Decision(state, 0.5), 3, 0.054, int(brain.sum()), int(stroke.sum()), stroke.sum() / 3, brain, stroke,
        np.where(stroke, 2, 0).astype(np.uint8), adc=np.where(stroke, 4e-4, 8e-4), fvv_per_model_ml=(2.2, 4.3, 3.1),
    )  # fmt: skip
    return case, found


def picture(case: Case, found: Prediction) -> Image.Image:
    lesions = stroke_lesions(found.brain, found.stroke, found.flair_visible_votes, 3, AFFINE, adc=found.adc)
    facts = examination_facts(case, found, datetime.date(2026, 1, 2))
    png = synthesis_png(reader_images(case, found), AFFINE, found, lesions, facts)
    assert png == synthesis_png(reader_images(case, found), AFFINE, found, lesions, facts)
    return Image.open(io.BytesIO(png))


@pytest.mark.parametrize(("gain", "offset"), [(1e-4, 0.0), (500.0, 0.0), (0.1, -3.0)])
def test_the_brain_has_one_grey_in_every_patient(gain: float, offset: float) -> None:
    case, found = examined()
    grey = tissue_window(gain * case.b1000.array + offset, WHITE_B1000, found.brain, found.stroke)
    assert np.median(grey[found.brain & ~found.stroke]) == pytest.approx(255 / WHITE_B1000, abs=1)
    assert grey[~found.brain].max() == 0


def test_every_slice_with_stroke_has_four_panels_and_outlines_stay_off_the_plain_ones() -> None:
    case, found = examined()
    stack = stack_of(reader_images(case, found), AFFINE, found)
    panels = [np.asarray(panel) for panel in slice_panels(stack, 6, 200, outlined=True)]
    coloured = [int((panel.max(axis=2) != panel.min(axis=2)).sum()) for panel in panels]
    assert len(panels) == 4
    assert coloured[1] > 100
    assert coloured[0] == coloured[2] == coloured[3] == 0
    blue = tuple(bytes.fromhex(Channel.STROKE.colour[1:]))
    assert (panels[1] == blue).all(axis=2).any()


def test_a_small_patch_is_enlarged_under_its_slice_and_hides_nothing_of_it() -> None:
    case, found = examined()
    small = np.zeros(SHAPE, dtype=bool)
    small[10:12, 30:32, 6] = small[38:40, 30:32, 6] = True
    stack = stack_of(reader_images(case, found), AFFINE, replace(found, stroke=small))
    bare = slice_panels(replace(stack, stroke=np.zeros_like(stack.stroke)), 6, 200, outlined=False)
    panels = slice_panels(stack, 6, 200, outlined=False)
    height = stack.height(200)
    assert {panel.height for panel in bare} == {height}
    assert {panel.height for panel in panels} == {height + 102}
    for panel, plain in zip(panels, bare, strict=True):
        changed = (np.asarray(panel)[:height] != np.asarray(plain)).any(axis=2)
        assert 0 < changed.sum() < 500, "more than the two frames"
        under = np.asarray(panel)[height + 4 :]
        assert (under[:, :98] < 255).all()
        assert (under[:, 98:102] == 255).all(), "between two insets, side by side"
        assert (under[:, 102:] < 255).all()


def test_a_picture_with_few_colours_keeps_them_and_its_greys() -> None:
    """Greys to half a step of 128; the channels' colours as they are; others become the nearest."""
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    colours = np.array([ImageColor.getrgb(channel.colour) for channel in Channel], dtype=np.uint8)[:, None]
    found = np.asarray(with_palette(Image.fromarray(np.concatenate([greys, colours, colours ^ 1]))).convert("RGB"))
    assert np.abs(found[:256].astype(int) - greys).max() <= 1
    np.testing.assert_array_equal(found[256:], np.concatenate([colours, colours]))


def test_more_slices_make_a_taller_picture_and_none_is_left_out() -> None:
    case, found = examined()
    few = replace(found, stroke=found.stroke & (np.indices(SHAPE)[2] < 6))
    assert picture(case, found).height > picture(case, few).height
    assert picture(case, found).width == picture(case, few).width == 1400


def test_what_is_not_assessable_shows_no_outline_and_no_volume() -> None:
    case, found = examined(DecisionState.NOT_ASSESSABLE)
    assert numbers_in_words(found) == {}
    images = reader_images(case, found)
    assert not stack_of(images, AFFINE, found).brain.any()
    assert picture(case, found).height > 500


@pytest.mark.parametrize(
    ("volume", "models", "limit", "said"),
    [(3.2, (2.2, 4.3), 0.5, "3"), (0.46, (0.41, 0.52), 0.5, "0.46"), (0.48, (0.1, 0.9), 0.5, "0.48"),
     (0.0, (0.0, 0.0), 0.5, "0"), (0.004, (0.0, 3.0), 0.5, "0.004"), (159.1, (157.2, 160.3), 0.5, "159")],
)  # fmt: skip
def test_a_volume_is_as_fine_as_the_models_agree_and_on_its_side_of_the_cutoff(volume, models, limit, said) -> None:
    assert known_ml(volume, models, limit) == said


def test_the_head_says_what_was_measured_and_what_it_was_made_from() -> None:
    case, found = examined()
    said = numbers_in_words(replace(found, mismatch_probability=0.2, calibration_source="simulated"), (3.0, 0.0))
    assert said["FLAIR-visible"].startswith("33% of the stroke")
    assert said["Stroke"].endswith("(right of the midline)")
    assert said["P(mismatch)"].endswith("(simulated)")
    assert "2 to 4" in fvv_in_words(found)
    facts = examination_facts(replace(case, b0_computed=True), found, datetime.date(2026, 1, 2))
    assert "assumed" in facts["b-values"]
    assert "b0 computed" in facts["b-values"]
    assert facts["Predicted on"] == "2026-01-02"
    reasons = (Finding("motion", "moved", Severity.WARNING),)
    moved = replace(found, decision=Decision(DecisionState.MISMATCH_LIKELY, 0.5, reasons))
    assert "Something to report: motion" in examination_facts(case, moved, datetime.date(2026, 1, 2))["Quality checks"]


def test_the_viewer_keeps_every_slice_and_the_masks() -> None:
    case, found = examined()
    array, affine = page_volume(reader_images(case, found), AFFINE, found, slice_axis=2)
    assert array.dtype == np.uint8
    assert array.shape[2:] == (SHAPE[2], 4)
    assert (array[..., 3] >> 1 & 1).sum() == found.stroke.sum()
    assert np.linalg.det(affine[:3, :3]) == pytest.approx(54)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, 0, 15), (-25, 20, 25)])
@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "PSR", "ASL", "RSA"])
def test_a_lesion_on_the_left_is_on_the_left_however_the_image_is_stored(
    axes: str, degrees: tuple[float, float, float]
) -> None:
    case, found = examined()
    brain, stroke = found.brain, found.stroke[::-1]  # On the patient's left.
    turn = nib.eulerangles.euler2mat(*np.deg2rad(degrees)[::-1])
    ras = np.eye(4)
    ras[:3, :3] = turn @ AFFINE[:3, :3]
    way = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(axes))
    )
    affine = ras @ nib.orientations.inv_ornt_aff(way, SHAPE)
    brain, stroke, b1000, votes = (
        nib.orientations.apply_orientation(array, way)
        for array in (brain, stroke, 100.0 * brain + 120.0 * stroke, np.where(stroke, 2, 0).astype(np.uint8))
    )
    case = replace(case, b0=Volume(300.0 * brain, affine), b1000=Volume(b1000, affine))
    left = replace(found, brain=brain, stroke=stroke, flair_visible_votes=votes, adc=None)
    (lesion,) = stroke_lesions(brain, stroke, votes, 3, affine)
    assert lesion.side == "left"
    stack = stack_of(reader_images(case, left), affine, left)
    assert stack.spacing_mm == pytest.approx(sorted((3, 3, 6)))
    k = int(stack.stroke.sum(axis=(0, 1)).argmax())
    assert np.nonzero(plane(stack.stroke, k))[1].min() > plane(stack.stroke, k).shape[1] / 2  # Right half: L.
    bright = np.asarray(slice_panels(stack, k, 200, outlined=False)[0].convert("L"), dtype=float)[30:-30]
    assert bright[:, 110:170].max() > bright[:, 30:90].max() + 50


def test_a_slice_between_two_planes_still_has_three_voxel_edges() -> None:
    turn = nib.eulerangles.euler2mat(*np.deg2rad([0, 40, 35]))
    assert len(set(np.abs(turn).argmax(axis=0))) == 2  # Two stored axes are nearest to one and the same direction.
    affine = np.eye(4)
    affine[:3, :3] = turn @ AFFINE[:3, :3]
    case, found = examined()
    case = replace(case, b0=Volume(case.b0.array, affine), b1000=Volume(case.b1000.array, affine))
    assert sorted(stack_of(reader_images(case, found), affine, found).spacing_mm) == pytest.approx([3, 3, 6])
