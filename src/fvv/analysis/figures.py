"""Pictures of one patient: the clinician's synthesis and the comparison with the readers' masks.

Only matplotlib's object interface is used (`Figure()`): no window system, no global state, safe in worker processes.
Display follows radiological convention: axial, the patient's right on the left of the picture, anterior up.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fvv.analysis.canvas import RESEARCH_USE, SEVERITY_COLOURS, STATE_COLOURS
from fvv.analysis.head import probability_in_words
from fvv.analysis.heatmap import grey_scale
from fvv.analysis.slices import SliceDisplay, draw_slices, slices_to_show, tallness, turned_to_ras
from fvv.arrays import Affine, BoolArray, UInt8Array
from fvv.data import Channel, DecisionState, Finding, Prediction, Severity, Volume
from fvv.imaging.decision import format_ml
from fvv.imaging.fusion import visible_to_half

_FINDING_LINES = 7
_HEADER_INCHES = 1.84
_FOOTER_INCHES = 0.82


def figure_png(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as PNG bytes, the same for the same figure (no date, no version inside)."""
    stream = io.BytesIO()
    with no_word_of_fonts():
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


class NotebookFigure(Figure):
    """A figure that a notebook shows as it is, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        return figure_png(self)


@contextmanager
def no_word_of_fonts() -> Iterator[None]:
    """Letters of a patient's name that the font lacks are drawn as boxes, and nobody is warned with a line of code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def synthesis_figure(b1000: Volume, prediction: Prediction, *, max_slices: int = 12) -> NotebookFigure:
    """One page for a person: slices with the outlines, the volumes, the decision and what speaks against it.

    Args:
        b1000: the image on its native grid, voxel to RAS+ mm affine; any stored orientation.
        prediction: the answer, masks on the same grid. Where it is not assessable no volume and no outline is shown.
        max_slices: most slices shown. Of more slices with stroke, evenly spaced ones and the largest are taken.
    """
    measured = prediction.decision.state is not DecisionState.NOT_ASSESSABLE
    display = _display_of(b1000, prediction if measured else None)
    shown, caption = slices_to_show(display.stroke, max_slices, measured=measured)
    columns = min(4, len(shown))
    width, slices_width = 10.2, 9.8 * columns / 4
    slices_height = slices_width * tallness(display, len(shown), columns)
    height = _HEADER_INCHES + slices_height + _FOOTER_INCHES
    figure = NotebookFigure(figsize=(width, height), facecolor="white")
    box = (0.02, _FOOTER_INCHES / height, slices_width / width, slices_height / height)
    draw_slices(figure.add_axes(box), display, shown, columns, display.window())
    _write_header(figure, prediction, height, measured=measured)
    _write_footer(figure, prediction, caption, height, measured=measured)
    return figure


def comparison_figure(
    grey: UInt8Array,
    affine: Affine,
    reference: Mapping[Channel, BoolArray],
    predicted: Mapping[Channel, BoolArray],
    *,
    title: str,
    max_slices: int = 6,
) -> Figure:
    """Two rows of the same slices: reference above, prediction below.

    Args:
        grey: (i, j, k) grey levels 0..255.
        affine: (4, 4) voxel to RAS+ mm.
        reference: (i, j, k) bool mask of each channel.
        predicted: the same, predicted.
        title: one or two lines above the pictures.
        max_slices: most slices shown, chosen among those with stroke in either.
    """
    displays = [
        turned_to_ras(grey, affine, *(masks[channel] for channel in Channel), masks[Channel.FLAIR_VISIBLE])
        for masks in (reference, predicted)
    ]
    either = displays[0].stroke | displays[1].stroke
    shown, caption = slices_to_show(either, max_slices, measured=True)
    window = displays[0].window()
    left, slice_width, margins = 0.3, 1.9, (0.5, 0.35)
    row_height = slice_width * len(shown) * tallness(displays[0], len(shown), len(shown))
    width, height = left + slice_width * max(len(shown), 4) + 0.1, 2 * row_height + 0.05 + sum(margins)
    figure = Figure(figsize=(width, height), facecolor="white")
    for row, (display, name) in enumerate(zip(displays, ("reference", "predicted"), strict=True)):
        bottom = margins[1] + (1 - row) * (row_height + 0.05)
        box = (left / width, bottom / height, slice_width * len(shown) / width, row_height / height)
        axes = figure.add_axes(box)
        draw_slices(axes, display, shown, len(shown), window)
        axes.set_ylabel(name, fontsize=9)
    _text(figure, left / width, 1 - 0.08 / height, title, fontsize=9)
    _text(figure, left / width, 0.08 / height, caption, fontsize=8, color="#444444", va="bottom")
    figure.legend(handles=_legend_handles(1), loc="lower right", ncols=3, fontsize=8, frameon=False)
    return figure


def _display_of(b1000: Volume, prediction: Prediction | None) -> SliceDisplay:
    """The slices with the predicted masks; without any where nothing was measured."""
    nothing = np.zeros(b1000.array.shape, dtype=bool)
    brain = stroke = visible = visible_any = nothing
    if prediction is not None and prediction.brain is not None and prediction.stroke is not None:
        brain, stroke, votes = prediction.brain, prediction.stroke, prediction.flair_visible_votes
        if votes is not None:
            visible_any, visible = (votes > 0) & stroke, visible_to_half(votes, prediction.n_models) & stroke
    return turned_to_ras(grey_scale(b1000.array, brain), b1000.affine, brain, stroke, visible, visible_any)


def _write_header(figure: Figure, prediction: Prediction, height: float, *, measured: bool) -> None:
    decision = prediction.decision
    answer = decision.state.value
    if decision.state in (DecisionState.MISMATCH_LIKELY, DecisionState.MISMATCH_UNLIKELY):
        answer = f"DWI-FLAIR {answer}"
    volumes = _volume_lines(prediction) if measured else "No volume is given: the images could not be measured."
    answer_style = {"fontsize": 16, "weight": "bold", "color": STATE_COLOURS[decision.state]}
    _text(figure, 0.02, 1 - 0.12 / height, f"FLAIR Visibility Volume: {prediction.examination_id}", color="#444444")
    _text(figure, 0.02, 1 - 0.37 / height, answer[0].upper() + answer[1:], **answer_style)
    _text(figure, 0.02, 1 - 0.74 / height, volumes, linespacing=1.5)
    top = 0.14
    for text, severity in _finding_lines(decision.reasons):
        _text(figure, 0.53, 1 - top / height, text, fontsize=8.5, color=SEVERITY_COLOURS[severity])
        top += 0.155


def _text(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    # Patient names and messages come from outside: a "$" in them is no formula.
    figure.text(x, y, text, **{"fontsize": 9.5, "va": "top", "parse_math": False, **style})


def _volume_lines(prediction: Prediction) -> str:
    cutoff_ml = prediction.decision.cutoff_ml
    brain, stroke = (format_ml(prediction.volume_ml(channel)) for channel in (Channel.BRAIN, Channel.STROKE))
    fvv = format_ml(prediction.fvv_ml, cutoff_ml)
    volumes = f"Stroke  {stroke}      Brain  {brain}"
    if prediction.decision.state is DecisionState.NO_LESION_FOUND:
        return f"No part of a stroke could be visible on FLAIR: FVV  {fvv}\n{volumes}"
    first = f"FVV  {fvv}   (cut-off {cutoff_ml:g} mL)"
    words = probability_in_words(prediction)
    probability = [f"P(mismatch)  {words}"] if words else []
    return "\n".join([first, *probability, _model_line(prediction), volumes, _adc_line(prediction)])


def _model_line(prediction: Prediction) -> str:
    """How the models agree within the fused stroke: the range of their volumes, and how many on this side."""
    per_model, agreement = prediction.fvv_per_model_ml, prediction.agreement
    if len(per_model) < 2 or agreement is None:
        return "one model: none to agree with"
    agreeing = round(agreement * len(per_model))
    return (
        f"{len(per_model)} models  {format_ml(min(per_model))} to {format_ml(max(per_model))};  "
        f"{agreeing} of {len(per_model)} on this side of the cut-off"
    )


def _adc_line(prediction: Prediction) -> str:
    """Median ADC of the stroke and its share of the brain's: an acute infarct lies well under it."""
    if prediction.lesion_adc is None:
        return ""
    median, _, relative = prediction.lesion_adc
    return f"Median ADC of the stroke  {median:.0f} x 10⁻⁶ mm²/s,  {relative:.0%} of the brain's"


def _finding_lines(findings: tuple[Finding, ...]) -> list[tuple[str, Severity]]:
    worst_first = sorted(findings, key=lambda finding: list(Severity).index(finding.severity), reverse=True)
    lines: list[tuple[str, Severity]] = []
    for finding in worst_first:
        wrapped = textwrap.wrap(
            f"{finding.severity.value.capitalize()}: {finding.message}", 78, subsequent_indent="    "
        )
        lines += [(text, finding.severity) for text in wrapped]
    if len(lines) <= _FINDING_LINES:
        return lines or [("Quality control has nothing to report.", Severity.NOTE)]
    return [*lines[: _FINDING_LINES - 1], ("... the rest is in results.json", Severity.NOTE)]


def _write_footer(figure: Figure, prediction: Prediction, caption: str, height: float, *, measured: bool) -> None:
    if measured:
        handles = _legend_handles(prediction.n_models)
        figure.legend(
            handles=handles, loc="upper right", bbox_to_anchor=(0.985, 0.8 / height), ncols=4,
            fontsize=8.5, frameon=False, borderaxespad=0.2, columnspacing=1.2,
        )  # fmt: skip
    _text(figure, 0.02, 0.74 / height, caption, fontsize=8.5, color="#444444")
    convention = "b1000, axial. R: the patient's right. L: the patient's left."
    _text(figure, 0.02, 0.5 / height, convention, fontsize=8.5, color="#444444")
    _text(figure, 0.98, 0.5 / height, RESEARCH_USE, fontsize=9, weight="bold", ha="right", color="#a3162e")
    # The picture travels alone: into slides, into DICOM.
    _text(figure, 0.02, 0.26 / height, textwrap.shorten(prediction.models, 150), fontsize=8.5, color="#444444")


def _legend_handles(n_models: int) -> list[Line2D]:
    def line(channel: Channel, label: str, style: Literal["solid", "dotted"] = "solid") -> Line2D:
        return Line2D([], [], color=channel.colour, linestyle=style, linewidth=1.6, label=label)

    handles = [line(channel, channel.title) for channel in Channel]
    if n_models > 1:
        visible = Channel.FLAIR_VISIBLE
        half = line(visible, f"{visible.title}: half or more of {n_models} models")
        handles[-1:] = [half, line(visible, "any model", "dotted")]
    return handles
