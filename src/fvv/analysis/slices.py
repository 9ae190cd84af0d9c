"""Axial slices side by side, as a radiologist looks at them, with outlines thin enough to see under."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from fvv.arrays import Affine, BoolArray, IntArray, UInt8Array
from fvv.data import Channel

if TYPE_CHECKING:  # The picture of `fvv predict` is painted without matplotlib.
    from matplotlib.axes import Axes

LARGEST_SHOWN = 640
"""Voxels along an edge of a slice in the picture; of finer images every second, third ... is shown."""
_GAP = 2
"""Voxels of white between two slices."""


@dataclass(frozen=True, slots=True)
class SliceDisplay:
    """Arrays turned to RAS, and the part of the head to show."""

    grey: UInt8Array
    brain: BoolArray
    stroke: BoolArray
    visible: BoolArray
    """Voxels called FLAIR-visible by at least half of the models."""
    visible_any: BoolArray
    spacing_mm: tuple[float, float, float]

    def window(self, margin_mm: float = 12.0) -> tuple[slice, slice]:
        """The part of the plane worth showing: the brain with a margin, or what is bright where there is no brain."""
        shown = self.brain if self.brain.any() else self.grey > 40
        window = []
        for axis in (0, 1):
            profile = shown.any(axis=2).sum(axis=1 - axis)
            # Scattered noise is no head.
            inside = np.flatnonzero(profile > (0 if self.brain.any() else 0.05 * shown.shape[1 - axis]))
            margin = round(margin_mm / self.spacing_mm[axis])
            edges = (int(inside[0]) - margin, int(inside[-1]) + margin + 1) if len(inside) else (0, shown.shape[axis])
            window.append(slice(max(edges[0], 0), edges[1]))
        return window[0], window[1]


def turned_to_ras(grey: UInt8Array, affine: Affine, *masks: BoolArray) -> SliceDisplay:
    """Turn every array so that its axes run to the right, anterior and superior."""
    orientation = nib.orientations.io_orientation(affine)
    turned = [nib.orientations.apply_orientation(array, orientation) for array in (grey, *masks)]
    edges = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    spacing = [0.0, 0.0, 0.0]
    for stored_axis, (axis, _) in enumerate(orientation):
        spacing[int(axis)] = float(edges[stored_axis])
    step = -(-max(turned[0].shape[:2]) // LARGEST_SHOWN)
    if step > 1:  # A tile of the picture has 300 pixels; contours of all voxels would take gigabytes.
        turned = [turned[0][::step, ::step], *(_any_of_blocks(mask, step) for mask in turned[1:])]
        spacing[:2] = spacing[0] * step, spacing[1] * step
    grey, brain, stroke, visible, visible_any = turned
    return SliceDisplay(grey, brain, stroke, visible, visible_any, (spacing[0], spacing[1], spacing[2]))


def _any_of_blocks(mask: BoolArray, step: int) -> BoolArray:
    """(i, j, k) to a mask of every in-plane block of `step` x `step` voxels, smaller at the end, that holds any."""
    for axis in (0, 1):
        mask = np.logical_or.reduceat(mask, np.arange(0, mask.shape[axis], step), axis=axis)
    return mask


def slices_to_show(stroke: BoolArray, most: int, *, measured: bool) -> tuple[list[int], str]:
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


def _mosaic(
    array: np.ndarray, shown: list[int], columns: int, window: tuple[slice, slice], *, fill: float
) -> np.ndarray:
    """Axial slices side by side: rows from anterior to posterior, columns from the patient's right to left."""
    tiles = [array[window[0], window[1], k][::-1, ::-1].T for k in shown]
    tall, wide = tiles[0].shape
    rows = -(-len(shown) // columns)
    mosaic = np.full((rows * (tall + _GAP) - _GAP, columns * (wide + _GAP) - _GAP), fill, dtype=array.dtype)
    for place, tile in enumerate(tiles):
        top, left = place // columns * (tall + _GAP), place % columns * (wide + _GAP)
        mosaic[top : top + tall, left : left + wide] = tile
    return mosaic


def tallness(display: SliceDisplay, n_shown: int, columns: int) -> float:
    """Height over width of the mosaic as shown."""
    height, width = _mosaic(display.grey, [0] * n_shown, columns, display.window(), fill=0).shape
    return float(height * display.spacing_mm[1] / (width * display.spacing_mm[0]))


def draw_slices(axes: Axes, display: SliceDisplay, shown: list[int], columns: int, window: tuple[slice, slice]) -> None:
    """Slices in rows, with outlines, sides and numbers. One image and one contour each: many axes would be slow."""

    def mosaic(array: np.ndarray, fill: float = 0) -> np.ndarray:
        return _mosaic(array, shown, columns, window, fill=fill)

    aspect = display.spacing_mm[1] / display.spacing_mm[0]
    grey = mosaic(display.grey, fill=255)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, aspect=aspect, interpolation="bilinear")
    brain, stroke, visible = (channel.colour for channel in Channel)
    _outline(axes, mosaic(display.brain), brain, 0.6)
    # Stroke a little outside its edge and FLAIR-visible a little inside: both show where they share an edge.
    _outline(axes, mosaic(display.stroke), stroke, 1.1, level=0.1)
    if (display.visible_any & ~display.visible).any():
        _outline(axes, mosaic(display.visible_any), visible, 1.1, level=0.8, style="dotted")
    _outline(axes, mosaic(display.visible), visible, 1.0, level=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    tall, wide = (length + _GAP for length in _mosaic(display.grey, [0], 1, window, fill=0).shape)
    write = partial(axes.text, color="white", fontsize=7)
    for place, k in enumerate(shown):
        x, y = place % columns * wide, place // columns * tall
        write(x + 0.02 * wide, y + 0.5 * tall, "R", va="center")
        write(x + wide - _GAP - 0.02 * wide, y + 0.5 * tall, "L", va="center", ha="right")
        write(x + 0.02 * wide, y + tall - _GAP - 0.02 * tall, f"slice {k + 1}", va="bottom")


def _outline(
    axes: Axes, mask: BoolArray, colour: str, width: float, *, level: float = 0.5, style: str = "solid"
) -> None:
    if mask.any():
        # A border of 0 lets a contour close where the mask touches the picture's edge.
        padded = np.pad(mask.astype(np.float32), 1)
        x, y = np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1)
        axes.contour(x, y, padded, levels=[level], colors=[colour], linewidths=[width], linestyles=[style])
