"""Pictures of one patient: the heat map, the clinician's synthesis and the comparison with the readers' masks.

Only matplotlib's object interface is used (`Figure()`): no window system, no global state, safe in worker processes.
Display follows radiological convention: axial, the patient's right on the left of the picture, anterior up.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from scipy import ndimage

from fvv.arrays import Affine, BoolArray, FloatArray, IntArray, UInt8Array
from fvv.data import Channel, DecisionState, Finding, Prediction, Severity, Volume

RESEARCH_USE = "For research use only. Not for clinical decisions."

STROKE_COLOUR = "#009ee8"
VISIBLE_COLOUR = "#ff7f0e"
BRAIN_COLOUR = "#d9d9d9"
"""Blue against orange keeps its contrast in every common form of colour blindness; the brain stays faint."""
STATE_COLOURS = {
    DecisionState.MISMATCH_LIKELY: "#0b6e4f",
    DecisionState.MISMATCH_UNLIKELY: "#8a4b08",
    DecisionState.NO_LESION_FOUND: "#33475b",
    DecisionState.NOT_ASSESSABLE: "#a3162e",
}
_SEVERITY_COLOURS = {Severity.NOTE: "#444444", Severity.WARNING: "#8a4b08", Severity.NOT_ASSESSABLE: "#a3162e"}
_FINDING_LINES = 7
_HEADER_INCHES = 1.32
_FOOTER_INCHES = 0.6


def grey_scale(image: FloatArray, brain: BoolArray | None = None) -> UInt8Array:
    """Window an image to 0..255, saturating at both ends: nothing wraps around.

    The lower end is the image's 0.5th percentile (background). The upper end is the 99.5th percentile inside the brain,
    kept between 2 and 4 times the brain's median above the lower end: tissue stays readable beside a bright lesion.

    Args:
        image: (i, j, k), any intensity scale; non-finite voxels become 0.
        brain: (i, j, k) bool; without it, or empty, the voxels above the image's mean stand for it.
    """
    values = np.asarray(image, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, dtype=np.uint8)
    low = float(np.percentile(values[finite], 0.5))
    inside = finite & brain if brain is not None and brain.any() else finite & (values > values[finite].mean())
    if not inside.any():
        return np.zeros(values.shape, dtype=np.uint8)
    median, bright = (float(value) - low for value in np.percentile(values[inside], [50, 99.5]))
    high = float(np.clip(bright, 2 * median, 4 * median)) if median > 0 else bright
    if high <= 0:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = np.where(finite, (values - low) / high, 0.0)
    grey: UInt8Array = np.rint(np.clip(scaled, 0.0, 1.0) * 255).astype(np.uint8)
    return grey


def heatmap_rgb(
    b1000: FloatArray, brain: BoolArray, stroke: BoolArray, votes: IntArray, n_models: int, *, slice_axis: int = 2
) -> UInt8Array:
    """Colour b1000 with what the models found.

    Args:
        b1000: (i, j, k) image on any intensity scale.
        brain: (i, j, k) bool.
        stroke: (i, j, k) bool.
        votes: (i, j, k) number of models, 0..n_models, that call the voxel FLAIR-visible.
        n_models: number of models.
        slice_axis: axis across which the slices are stacked; outlines are drawn in plane.

    Returns:
        (i, j, k, 3) uint8: b1000 in grey, votes blended in red (all models: 70 %), brain outline green, stroke
        outline blue.
    """
    return paint_heatmap(grey_scale(b1000, brain), brain, stroke, votes, n_models, slice_axis=slice_axis)


def paint_heatmap(
    grey: UInt8Array, brain: BoolArray, stroke: BoolArray, votes: IntArray, n_models: int, *, slice_axis: int = 2
) -> UInt8Array:
    """`heatmap_rgb` for an image that is already grey levels 0..255."""
    opacity = 0.7 * np.clip(votes.astype(np.float32) / n_models, 0.0, 1.0)
    rgb = np.empty((*grey.shape, 3), dtype=np.uint8)
    rgb[..., 0] = np.rint(grey * (1 - opacity) + 255 * opacity)
    rgb[..., 1] = rgb[..., 2] = np.rint(grey * (1 - opacity))
    rgb[in_plane_outline(brain, slice_axis)] = (0, 255, 0)
    rgb[in_plane_outline(stroke, slice_axis)] = (0, 0, 255)
    return rgb


def in_plane_outline(mask: BoolArray, slice_axis: int = 2) -> BoolArray:
    """Voxels of a mask that touch, in their slice, a voxel outside it. The image's edge counts as outside.

    Args:
        mask: (i, j, k) bool.
        slice_axis: axis across which the slices are stacked.
    """
    cross = np.zeros((3, 3, 3), dtype=bool)
    for axis in range(3):
        if axis != slice_axis:
            cross[tuple(slice(None) if other == axis else 1 for other in range(3))] = True
    outline: BoolArray = mask & ~ndimage.binary_erosion(mask, structure=cross)
    return outline


def figure_png(figure: Figure, dpi: int = 130) -> bytes:
    """A figure as PNG bytes, the same for the same figure (no date, no version inside)."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class _Display:
    """Arrays turned to RAS, and the part of the head to show."""

    grey: UInt8Array
    brain: BoolArray
    stroke: BoolArray
    visible: BoolArray
    """Voxels called FLAIR-visible by at least half of the models."""
    visible_any: BoolArray
    spacing_mm: tuple[float, float, float]

    def window(self) -> tuple[slice, slice]:
        """The part of the plane worth showing: the brain with a margin, or what is bright where there is no brain."""
        shown = self.brain if self.brain.any() else self.grey > 40
        window = []
        for axis in (0, 1):
            profile = shown.any(axis=2).sum(axis=1 - axis)
            # Scattered noise is no head.
            inside = np.flatnonzero(profile > (0 if self.brain.any() else 0.05 * shown.shape[1 - axis]))
            margin = round(12 / self.spacing_mm[axis])
            edges = (int(inside[0]) - margin, int(inside[-1]) + margin + 1) if len(inside) else (0, shown.shape[axis])
            window.append(slice(max(edges[0], 0), edges[1]))
        return window[0], window[1]


def _tallness(display: _Display) -> float:
    """Height over width of one slice as shown."""
    height, width = _picture(display.grey, 0, display.window()).shape
    return float(height * display.spacing_mm[1] / (width * display.spacing_mm[0]))


def _picture(array: np.ndarray, k: int, window: tuple[slice, slice]) -> np.ndarray:
    """Axial slice k as rows from anterior to posterior and columns from the patient's right to left."""
    picture: np.ndarray = array[window[0], window[1], k][::-1, ::-1].T
    return picture


def synthesis_figure(b1000: Volume, prediction: Prediction, *, max_slices: int = 12) -> Figure:
    """One page for a person: slices with the outlines, the volumes, the decision and what speaks against it.

    Args:
        b1000: the image on its native grid, voxel to RAS+ mm affine; any stored orientation.
        prediction: the answer, masks on the same grid. Where it is not assessable no volume and no outline is shown.
        max_slices: most slices shown. Of more slices with stroke, evenly spaced ones and the largest are taken.
    """
    measured = prediction.decision.state is not DecisionState.NOT_ASSESSABLE
    display = _display_of(b1000, prediction if measured else None)
    shown, caption = _slices_to_show(display.stroke, max_slices, measured=measured)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    width = 10.2
    slices_height = rows * (width - 0.4) / 4 * _tallness(display)
    height = _HEADER_INCHES + slices_height + _FOOTER_INCHES
    figure = Figure(figsize=(width, height), facecolor="white")
    right = 0.02 + 0.96 * columns / 4
    bottom, top = _FOOTER_INCHES / height, 1 - _HEADER_INCHES / height
    grid = GridSpec(rows, columns, figure, left=0.02, right=right, top=top, bottom=bottom, wspace=0.02, hspace=0.02)
    for place, k in enumerate(shown):
        _draw_slice(figure.add_subplot(grid[place // columns, place % columns]), display, k, display.window())
    _write_header(figure, prediction, height, measured=measured)
    _write_footer(figure, prediction.n_models, caption, height, measured=measured)
    return figure


def comparison_figure(
    grey: UInt8Array,
    affine: Affine,
    truth: dict[Channel, BoolArray],
    predicted: dict[Channel, BoolArray],
    *,
    title: str,
    max_slices: int = 6,
) -> Figure:
    """Two rows of the same slices: what was drawn above, what was predicted below.

    Args:
        grey: (i, j, k) grey levels 0..255.
        affine: (4, 4) voxel to RAS+ mm.
        truth: (i, j, k) bool mask of each channel, as drawn.
        predicted: (i, j, k) bool mask of each channel, as predicted.
        title: one or two lines above the pictures.
        max_slices: most slices shown, chosen among those with stroke in either.
    """
    displays = [_display_from(grey, affine, masks) for masks in (truth, predicted)]
    either = displays[0].stroke | displays[1].stroke
    shown, caption = _slices_to_show(either, max_slices, measured=True)
    window = displays[0].window()
    width = 1.9 * max(len(shown), 4) + 0.3
    height = 2 * 1.85 * _tallness(displays[0]) + 0.9
    figure = Figure(figsize=(width, height), facecolor="white")
    right = 0.03 + 0.965 * len(shown) / max(len(shown), 4)
    bottom, top = 0.35 / height, 1 - 0.55 / height
    grid = GridSpec(2, len(shown), figure, left=0.03, right=right, top=top, bottom=bottom, wspace=0.02, hspace=0.02)
    for row, (display, name) in enumerate(zip(displays, ("drawn", "predicted"), strict=True)):
        for column, k in enumerate(shown):
            axes = figure.add_subplot(grid[row, column])
            _draw_slice(axes, display, k, window)
            if column == 0:
                axes.set_ylabel(name, fontsize=9)
    _text(figure, 0.03, 1 - 0.08 / height, title, fontsize=9)
    _text(figure, 0.03, 0.08 / height, caption, fontsize=8, color="#444444", va="bottom")
    figure.legend(handles=_legend_handles(1), loc="lower right", ncols=3, fontsize=8, frameon=False)
    return figure


def _display_of(b1000: Volume, prediction: Prediction | None) -> _Display:
    nothing = np.zeros(b1000.array.shape, dtype=bool)
    brain = stroke = visible = visible_any = nothing
    if prediction is not None:
        brain = nothing if prediction.brain is None else prediction.brain
        stroke = nothing if prediction.stroke is None else prediction.stroke
        if prediction.flair_visible_votes is not None:
            visible_any = prediction.flair_visible_votes > 0
            visible = visible_any & (2 * prediction.flair_visible_votes.astype(int) >= prediction.n_models)
    return _oriented(grey_scale(b1000.array, brain), b1000.affine, brain, stroke, visible, visible_any)


def _display_from(grey: UInt8Array, affine: Affine, masks: dict[Channel, BoolArray]) -> _Display:
    visible = masks[Channel.FLAIR_VISIBLE]
    return _oriented(grey, affine, masks[Channel.BRAIN], masks[Channel.STROKE], visible, visible)


def _oriented(grey: UInt8Array, affine: Affine, *masks: BoolArray) -> _Display:
    """Turn every array so that its axes run to the right, anterior and superior."""
    orientation = nib.orientations.io_orientation(affine)
    turned = [nib.orientations.apply_orientation(array, orientation) for array in (grey, *masks)]
    edges = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    spacing = [0.0, 0.0, 0.0]
    for stored_axis, (axis, _) in enumerate(orientation):
        spacing[int(axis)] = float(edges[stored_axis])
    grey, brain, stroke, visible, visible_any = turned
    return _Display(grey, brain, stroke, visible, visible_any, (spacing[0], spacing[1], spacing[2]))


def _slices_to_show(stroke: BoolArray, most: int, *, measured: bool) -> tuple[list[int], str]:
    """Slice indices, from foot to head, and the sentence that says how they were chosen."""
    n_slices = stroke.shape[2]
    areas = stroke.sum(axis=(0, 1))
    with_stroke = np.flatnonzero(areas)
    # The outermost slices hold little brain.
    inner = np.arange(n_slices // 10, n_slices - n_slices // 10)
    if not measured:
        return _evenly(inner, most), "Evenly spaced slices; nothing was measured."
    if not len(with_stroke):
        return _evenly(inner, most), "No stroke was found: evenly spaced slices."
    if len(with_stroke) <= most:
        return [int(k) for k in with_stroke], f"All {len(with_stroke)} slices with stroke, from foot to head."
    shown = _evenly(with_stroke, most)
    largest = int(areas.argmax())
    if largest not in shown:
        nearest = min(range(len(shown)), key=lambda place: abs(shown[place] - largest))
        shown[nearest] = largest
    return shown, f"{len(shown)} of {len(with_stroke)} slices with stroke, from foot to head."


def _evenly(candidates: IntArray, most: int) -> list[int]:
    places = np.linspace(0, len(candidates) - 1, min(most, len(candidates)))
    return [int(candidates[place]) for place in np.rint(places).astype(int)]


def _draw_slice(axes: Axes, display: _Display, k: int, window: tuple[slice, slice]) -> None:
    aspect = display.spacing_mm[1] / display.spacing_mm[0]
    picture = _picture(display.grey, k, window)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, aspect=aspect, interpolation="bilinear")
    _outline(axes, _picture(display.brain, k, window), BRAIN_COLOUR, 0.5)
    # Stroke is drawn a little outside its edge and FLAIR-visible a little inside: both show where they share an edge.
    _outline(axes, _picture(display.stroke, k, window), STROKE_COLOUR, 1.1, level=0.1)
    if (display.visible_any & ~display.visible)[..., k].any():
        _outline(axes, _picture(display.visible_any, k, window), VISIBLE_COLOUR, 0.8, level=0.8, style="dotted")
    _outline(axes, _picture(display.visible, k, window), VISIBLE_COLOUR, 1.0, level=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    for spine in axes.spines.values():
        spine.set_visible(False)
    for x, side in ((0.02, "R"), (0.98, "L")):
        axes.text(
            x, 0.5, side, transform=axes.transAxes, color="white", fontsize=7, ha="left" if side == "R" else "right"
        )
    axes.text(0.02, 0.02, f"slice {k + 1}", transform=axes.transAxes, color="white", fontsize=7)


def _outline(
    axes: Axes, mask: BoolArray, colour: str, width: float, *, level: float = 0.5, style: str = "solid"
) -> None:
    if mask.any():
        # A border of 0 lets a contour close where the mask touches the picture's edge.
        padded = np.pad(mask.astype(np.float32), 1)
        x, y = np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1)
        axes.contour(x, y, padded, levels=[level], colors=[colour], linewidths=[width], linestyles=[style])


def _write_header(figure: Figure, prediction: Prediction, height: float, *, measured: bool) -> None:
    decision = prediction.decision
    answer = decision.state.value
    if decision.state in (DecisionState.MISMATCH_LIKELY, DecisionState.MISMATCH_UNLIKELY):
        answer = f"DWI-FLAIR {answer}"
    volumes = _volume_lines(prediction) if measured else "No volume is given: the images could not be measured."
    answer_style = {"fontsize": 16, "weight": "bold", "color": STATE_COLOURS[decision.state]}
    _text(figure, 0.02, 1 - 0.12 / height, f"FLAIR Visibility Volume: {prediction.patient}", color="#444444")
    _text(figure, 0.02, 1 - 0.37 / height, answer[0].upper() + answer[1:], **answer_style)
    _text(figure, 0.02, 1 - 0.74 / height, volumes, linespacing=1.5)
    top = 0.14
    for text, severity in _finding_lines(decision.reasons):
        _text(figure, 0.53, 1 - top / height, text, fontsize=8.5, color=_SEVERITY_COLOURS[severity])
        top += 0.155


def _text(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    # Patient names and messages come from outside: a "$" in them is no formula.
    figure.text(x, y, text, **{"fontsize": 9.5, "va": "top", "parse_math": False, **style})


def _volume_lines(prediction: Prediction) -> str:
    brain, stroke, fvv = (format_ml(prediction.volume_ml(channel)) for channel in Channel)
    per_model = prediction.fvv_per_model_ml
    spread = (
        f"; {len(per_model)} models: {format_ml(min(per_model))} to {format_ml(max(per_model))}"
        if len(per_model) > 1
        else ""
    )
    first = f"FVV  {fvv}   (cut-off {prediction.decision.cutoff_ml:g} mL{spread})"
    return f"{first}\nStroke  {stroke}      Brain  {brain}"


def format_ml(volume: float | None) -> str:
    """A volume with its unit; finer where it is small, so that it never rounds onto the cut-off."""
    if volume is None:
        return "not measured"
    decimals = next((places for limit, places in ((1, 3), (10, 2), (1000, 1)) if volume < limit), 0)
    return f"{volume:.{decimals}f} mL"


def _finding_lines(findings: tuple[Finding, ...]) -> list[tuple[str, Severity]]:
    """The findings, worst first, wrapped to the space beside the volumes."""
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


def _write_footer(figure: Figure, n_models: int, caption: str, height: float, *, measured: bool) -> None:
    if measured:
        figure.legend(
            handles=_legend_handles(n_models), loc="upper right", bbox_to_anchor=(0.985, 0.58 / height), ncols=4,
            fontsize=8.5, frameon=False, borderaxespad=0.2, columnspacing=1.2,
        )  # fmt: skip
    _text(figure, 0.02, 0.52 / height, caption, fontsize=8.5, color="#444444")
    convention = "b1000, axial. R: the patient's right. L: the patient's left."
    _text(figure, 0.02, 0.28 / height, convention, fontsize=8.5, color="#444444")
    _text(figure, 0.98, 0.28 / height, RESEARCH_USE, fontsize=9, weight="bold", ha="right", color="#a3162e")


def _legend_handles(n_models: int) -> list[Line2D]:
    def line(colour: str, label: str, style: Literal["solid", "dotted"] = "solid") -> Line2D:
        return Line2D([], [], color=colour, linestyle=style, linewidth=1.6, label=label)

    handles = [line("#9a9a9a", "brain"), line(STROKE_COLOUR, "stroke")]
    if n_models == 1:
        return [*handles, line(VISIBLE_COLOUR, "FLAIR-visible")]
    half = line(VISIBLE_COLOUR, f"FLAIR-visible: half or more of {n_models} models")
    return [*handles, half, line(VISIBLE_COLOUR, "any model", "dotted")]
