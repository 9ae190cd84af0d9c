"""The picture of a draft: b1000, ADC and FLAIR of the same slices, with and without the outlines."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fvv.analysis.figures import no_word_of_fonts
from fvv.analysis.heatmap import grey_scale
from fvv.analysis.slices import draw_slices, slices_to_show, tallness, turned_to_ras
from fvv.arrays import BoolArray
from fvv.data import Channel, Volume

_SLICE_INCHES, _LEFT, _TOP, _BOTTOM, _GAP = 1.7, 0.35, 0.45, 0.4, 0.06


def draft_figure(
    images: dict[str, Volume],
    brain: BoolArray,
    stroke: BoolArray,
    visible: BoolArray,
    *,
    title: str,
    max_slices: int = 7,
) -> Figure:
    """A row of slices for each image, with the proposed outlines; and the last image once more without them.

    Radiological convention: the patient's right on the left of the picture.

    Args:
        images: by name, from top to bottom, all on one grid.
        brain, stroke, visible: (i, j, k) bool on that grid.
        title: one line above the pictures.
        max_slices: most slices shown, chosen among those with stroke.
    """
    nothing = np.zeros_like(stroke)
    outlined = (nothing, stroke, visible, visible)
    last = list(images)[-1]
    rows = [(name, image, outlined) for name, image in images.items()] + [(last, images[last], (nothing,) * 4)]
    displays = [
        turned_to_ras(grey_scale(np.nan_to_num(image.array), brain), image.affine, *masks) for _, image, masks in rows
    ]
    window = turned_to_ras(displays[0].grey * 0, images[last].affine, brain, brain, brain, brain)
    shown, caption = slices_to_show(displays[0].stroke, max_slices, measured=True)
    row = _SLICE_INCHES * len(shown) * tallness(displays[0], len(shown), len(shown))
    width, height = _LEFT + _SLICE_INCHES * max(len(shown), 4) + 0.1, _TOP + _BOTTOM + len(rows) * (row + _GAP)
    figure = Figure(figsize=(width, height), facecolor="white")
    for place, ((name, _, _), display) in enumerate(zip(rows, displays, strict=True)):
        bottom = _BOTTOM + (len(rows) - 1 - place) * (row + _GAP)
        axes = figure.add_axes((_LEFT / width, bottom / height, _SLICE_INCHES * len(shown) / width, row / height))
        draw_slices(axes, display, shown, len(shown), window.window())
        axes.set_ylabel(name, fontsize=9)
    with no_word_of_fonts():
        figure.text(_LEFT / width, 1 - 0.1 / height, title, fontsize=9, va="top", parse_math=False)
        figure.text(_LEFT / width, 0.1 / height, caption, fontsize=8, color="#444444", va="bottom")
    channels = (Channel.STROKE, Channel.FLAIR_VISIBLE)
    handles = [Line2D([], [], color=channel.colour, label=f"{channel.title} (proposed)") for channel in channels]
    figure.legend(handles=handles, loc="lower right", ncols=2, fontsize=8, frameon=False)
    return figure
