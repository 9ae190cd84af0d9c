"""A prediction as a figure and as a table in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

import fvv
from builders import AFFINE, head
from fvv.data import Finding, Severity


@pytest.fixture
def prediction(rng: np.random.Generator) -> fvv.Prediction:
    images = head(rng)
    reason = Finding("code", "<script>alert(1)</script>", Severity.WARNING)
    decision = fvv.Decision(fvv.DecisionState.MISMATCH_UNLIKELY, 0.5, (reason,))
    voxels = {"brain_voxels": 100_000, "stroke_voxels": 300, "flair_visible_voxels": 200.0}
    return fvv.Prediction(
        "<b>anna</b>", decision, 1, 0.01, **voxels, brain=images["brain"], stroke=images["stroke_roi"],
        flair_visible_votes=images["flairviz_roi"].astype(np.uint8), fvv_per_model_ml=(2.0,),
        mismatch_probability=0.25, calibration_source="simulated", b1000=fvv.Volume(images["b1000"], AFFINE),
    )  # fmt: skip


def test_a_figure_has_an_outline_of_each_channel(prediction: fvv.Prediction) -> None:
    figure = fvv.plot(prediction, max_slices=3)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    colours = {
        tuple(np.round(colour[:3], 3))
        for axes in figure.axes
        for one in axes.collections
        for colour in one.get_edgecolor()
    }
    for channel in fvv.Channel:
        wanted = tuple(round(int(channel.colour[place : place + 2], 16) / 255, 3) for place in (1, 3, 5))
        assert wanted in colours


def test_the_image_can_be_given(prediction: fvv.Prediction) -> None:
    bare, image = prediction.without_images(), prediction.b1000
    assert bare.b1000 is None
    assert image is not None
    with pytest.raises(fvv.FvvError, match="second argument"):
        fvv.plot(bare)
    assert fvv.plot(prediction, (image.array, image.affine)).axes
    with pytest.raises(fvv.FvvError, match="masks of"):
        fvv.plot(prediction, (image.array[1:], image.affine))


def test_the_table_of_a_notebook_is_small_and_escaped(prediction: fvv.Prediction) -> None:
    page = prediction._repr_html_()
    tags: set[str] = set()
    text: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.add(tag)

        def handle_data(self, data: str) -> None:
            text.append(data)

    Reader().feed(page)
    assert tags == {"table", "caption", "tr", "th", "td"}
    assert {"2 mL", "0.25 (fitted on: simulated)", "<script>alert(1)</script>"} <= set(text)
    assert text[0] == "<b>anna</b> (for research use only)"
    assert len(page) < 4000
    assert "not measured" in fvv.Prediction("p", prediction.decision, 1, 0.01)._repr_html_()
