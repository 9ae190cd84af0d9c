"""One slice as a reader sees it: plain and outlined b1000, ADC and b0, under each of them what is small, enlarged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageDraw
from scipy import ndimage

from fvv.analysis.canvas import font
from fvv.arrays import BoolArray, UInt8Array
from fvv.data import Channel

SMALL_MM = 15.0
"""Longest edge in plane of a patch of stroke that gets an inset (chosen here)."""
_INSET_MM = 26.0
_MOST_INSETS = 2
_GAP_PX = 4
_HATCH_PX = 9
_LINE_PX = 2

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, of the image shown, in voxels; the last two excluded."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What the slices show: arrays turned to RAS and cut to the part of the plane that is shown.

    Attributes:
        grey: (i, j, k) uint8 of each image, by name, in the order of the panels.
        brain, stroke, visible, visible_any: (i, j, k) bool.
        lesions: (i, j, k) int32, number of the lesion; 0 outside.
        spacing_mm: voxel edges.
    """

    grey: Mapping[str, UInt8Array]
    brain: BoolArray
    stroke: BoolArray
    visible: BoolArray
    visible_any: BoolArray
    lesions: np.ndarray
    spacing_mm: tuple[float, float, float]

    def height(self, width: int) -> int:
        """Pixels of a panel of a width."""
        i, j, _ = self.brain.shape
        return max(1, int(width * j * self.spacing_mm[1] / (i * self.spacing_mm[0])))


def plane(array: np.ndarray, k: int) -> np.ndarray:
    """Slice k: rows from anterior to posterior, columns from the patient's right to left."""
    return np.ascontiguousarray(array[::-1, ::-1, k].T)


def slice_panels(stack: Stack, k: int, width: int, *, outlined: bool) -> list[Image.Image]:
    """The panels of one slice: b1000 plain, b1000 outlined, and the other images.

    Args:
        k: slice, in RAS order.
        width: pixels of a panel.
        outlined: whether there are outlines to show; without, that panel is left out.

    Returns:
        Images of one size. Where the slice has small patches of stroke they are higher than `Stack.height`: the
        patches are enlarged under the slice, where they hide nothing, from its left to its right.
    """
    size = (width, stack.height(width))
    whole = (0, 0, *plane(stack.brain, k).shape[::-1])
    insets = _insets(stack, k)
    edge = (width - _GAP_PX) // _MOST_INSETS
    first, *others = stack.grey
    views = [(first, False), *([(first, True)] if outlined else []), *((name, False) for name in others)]
    panels = []
    for name, outline in views:
        panel = Image.new("RGB", (width, size[1] + (edge + _GAP_PX if insets else 0)), "white")
        panel.paste(slice_view(stack, name, k, whole, size, outline=outline))
        pen = ImageDraw.Draw(panel)
        if outline:
            for number, box in _labels(stack, k):
                _write_number(pen, str(number), _scaled(box, whole, size), size)
        for place, box in enumerate(insets):
            pen.rectangle(_scaled(box, whole, size), outline="#9a9a9a")
            view = slice_view(stack, name, k, box, (edge, edge), outline=outline)
            panel.paste(view, (place * (edge + _GAP_PX), size[1] + _GAP_PX))
        for letter, x, anchor in (("R", 4, "lm"), ("L", width - 4, "rm")):
            pen.text((x, size[1] / 2), letter, fill="white", font=font(max(11, width // 20)), anchor=anchor)
        panels.append(panel)
    return panels


def slice_view(stack: Stack, name: str, k: int, box: Box, size: tuple[int, int], *, outline: bool) -> Image.Image:
    """A part of a slice at a size in pixels, with outlines or plain."""
    grey = Image.fromarray(plane(stack.grey[name], k)).resize(size, Image.Resampling.BICUBIC, box=box)
    view = Image.merge("RGB", (grey, grey, grey))
    if not outline:
        return view
    brain, stroke, visible, any_model = (
        _at_size(plane(mask, k), box, size) for mask in (stack.brain, stack.stroke, stack.visible, stack.visible_any)
    )
    pixels = np.asarray(view).copy()
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    dotted, hatched = (x // 3 + y // 3) % 2 == 0, (x + y) % _HATCH_PX == 0
    colours = [ImageColor.getrgb(channel.colour) for channel in Channel]
    # Stroke outside its edge and FLAIR-visible inside: both show where they share an edge. In grey print the
    # hatching tells them apart, and a dark edge parts the stroke's line from tissue as bright.
    for lines, colour in (
        (_outside(brain, 1), colours[0]),
        (visible & hatched, colours[2]),
        (_inside(any_model, _LINE_PX) & dotted & ~visible, colours[2]),
        (_inside(visible, _LINE_PX), colours[2]),
        (_outside(stroke, _LINE_PX + 1), (0, 0, 0)),
        (_outside(stroke, _LINE_PX), colours[1]),
    ):
        pixels[lines] = colour
    return Image.fromarray(pixels)


def _at_size(mask: BoolArray, box: Box, size: tuple[int, int]) -> BoolArray:
    """A mask at a size in pixels; where that is coarser, a voxel still shows."""
    finer = size[0] >= box[2] - box[0]
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(grey) > (127 if finer else 40)


def _outside(mask: BoolArray, thick: int) -> BoolArray:
    return _grown(mask, thick) & ~mask


def _inside(mask: BoolArray, thick: int) -> BoolArray:
    return mask & _grown(~mask, thick)


def _grown(mask: BoolArray, pixels: int) -> BoolArray:
    """Every pixel within so many of the mask, diagonals too; shifted copies are much faster than a rank filter."""
    for _ in range(pixels):
        for axis in (0, 1):
            wide = mask.copy()
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            wide[tuple(ahead)] |= mask[tuple(behind)]
            wide[tuple(behind)] |= mask[tuple(ahead)]
            mask = wide
    return mask


def _labels(stack: Stack, k: int) -> list[tuple[int, Box]]:
    """Number and box of each lesion in a slice, the largest lesions first."""
    numbers = plane(stack.lesions, k)
    found = []
    for number in np.unique(numbers[numbers > 0]):
        rows, columns = np.nonzero(numbers == number)
        found.append((int(number), (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)))
    return found


def _insets(stack: Stack, k: int) -> list[Box]:
    """Squares of the slice around its small patches of stroke, at most two, from left to right.

    Patches that lie in one square share it.
    """
    x_mm, y_mm, _ = stack.spacing_mm
    parts: list[Box] = []
    wide, tall = round(_INSET_MM / x_mm), round(_INSET_MM / y_mm)
    columns, rows = stack.brain.shape[:2]
    if wide > columns / 2 or tall > rows / 2:
        return []
    patches, _ = ndimage.label(plane(stack.stroke, k), structure=np.ones((3, 3), dtype=bool))
    for patch in ndimage.find_objects(patches):
        top, bottom, left, right = patch[0].start, patch[0].stop, patch[1].start, patch[1].stop
        if max((right - left) * x_mm, (bottom - top) * y_mm) > SMALL_MM or len(parts) == _MOST_INSETS:
            continue
        if any(a <= left and b <= top and right <= c and bottom <= d for a, b, c, d in parts):
            continue
        first = (
            min(max((left + right - wide) // 2, 0), columns - wide),
            min(max((top + bottom - tall) // 2, 0), rows - tall),
        )
        parts.append((*first, first[0] + wide, first[1] + tall))
    return sorted(parts)


def _scaled(box: Box, whole: Box, size: tuple[int, int]) -> Box:
    x, y = size[0] / whole[2], size[1] / whole[3]
    return round(box[0] * x), round(box[1] * y), round(box[2] * x), round(box[3] * y)


def _write_number(pen: ImageDraw.ImageDraw, text: str, box: Box, size: tuple[int, int]) -> None:
    """The number of a lesion at its upper right, dark behind it."""
    letters = font(max(11, size[0] // 22), bold=True)
    place = (min(box[2] + 5, size[0] - 14), max(box[1] - 5, 8))
    pen.text(place, text, fill="white", font=letters, anchor="lm", stroke_width=2, stroke_fill="black")
