"""`synthesis.png`: all that a reader needs to check an answer, on one picture.

Head: the answer, the numbers, what they were made from, what quality control has to say, and the lesions of the stroke.
Under it every slice with stroke as b1000 plain, b1000 with outlines, ADC and b0, in radiological convention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import nibabel as nib
import numpy as np

from fvv.analysis.canvas import INK, NOTICE, RESEARCH_USE, SEVERITY_COLOURS, SOFT, STATE_COLOURS, Canvas, font
from fvv.analysis.head import (
    LESION_COLUMNS,
    answer_in_words,
    lesion_cells,
    numbers_in_words,
    plain_ml,
    remarks,
    sides_of,
)
from fvv.analysis.slices import SliceDisplay, slices_to_show
from fvv.analysis.tiles import Stack, slice_panels
from fvv.analysis.windows import RULE
from fvv.arrays import Affine, UInt8Array
from fvv.data import Channel, DecisionState, Finding, Prediction, Severity
from fvv.imaging.fusion import visible_to_half
from fvv.imaging.lesions import labelled_lesions, turned, turned_affine
from fvv.schemas.lesions import Lesion

WIDTH, WIDE = 1400, 2000
"""Pixels: of a picture with a slice in each row, and of one with two."""
_ONE_IN_A_ROW = 8
"""Slices up to which each has a row of its own."""
_WITHOUT_STROKE = 16
"""Slices shown where there is no stroke to show."""
_MOST_LESIONS = 8
_MOST_REMARKS = 10
_SCALE_MM = 20


def synthesis_png(
    images: Mapping[str, UInt8Array],
    affine: Affine,
    prediction: Prediction,
    lesions: Sequence[Lesion],
    facts: Mapping[str, str],
) -> bytes:
    """The picture as PNG bytes; the same for the same arguments.

    Args:
        images: (i, j, k) grey levels by name, from `reader_images`, any stored orientation.
        affine: (4, 4) voxel to RAS+ mm.
        prediction: the answer, masks on the same grid. Where it is not assessable no volume and no outline is shown.
        lesions: of its stroke.
        facts: what the answer was made from, from `examination_facts`.
    """
    measured = prediction.decision.state is not DecisionState.NOT_ASSESSABLE
    stack = stack_of(images, affine, prediction)
    shown, caption = slices_to_show(
        stack.stroke, stack.stroke.shape[2] if stack.stroke.any() else _WITHOUT_STROKE, measured=measured
    )
    in_a_row = 1 if len(shown) <= _ONE_IN_A_ROW else 2
    if not stack.brain.any():  # Two panels a slice.
        in_a_row *= 2
    page = Canvas(WIDTH if in_a_row == 1 else WIDE, *((28, 15) if in_a_row == 1 else (40, 21)))
    bottom = _write_head(page, prediction, lesions, facts)
    bottom = _write_legend(page, bottom, prediction, caption, measured=measured, stroke=bool(stack.stroke.any()))
    bottom = _paste_slices(page, bottom, stack, shown, in_a_row, outlined=bool(stack.brain.any()))
    return page.png(bottom + page.margin // 2)


def stack_of(images: Mapping[str, UInt8Array], affine: Affine, prediction: Prediction) -> Stack:
    """Images and masks turned to RAS and cut to the brain, or to the head where no mask is to be shown."""
    nothing = np.zeros(images["b1000"].shape, dtype=bool)
    brain = stroke = visible = visible_any = nothing
    measured = prediction.decision.state is not DecisionState.NOT_ASSESSABLE
    if measured and prediction.brain is not None and prediction.stroke is not None:
        brain, stroke, votes = prediction.brain, prediction.stroke, prediction.flair_visible_votes
        if votes is not None:
            visible_any, visible = (votes > 0) & stroke, visible_to_half(votes, prediction.n_models) & stroke
    brain, stroke, visible, visible_any = (turned(mask, affine) for mask in (brain, stroke, visible, visible_any))
    grey = {name: turned(image, affine) for name, image in images.items()}
    x_mm, y_mm, z_mm = nib.affines.voxel_sizes(turned_affine(affine, nothing.shape)).tolist()
    display = SliceDisplay(grey["b1000"], brain, stroke, visible, visible_any, (x_mm, y_mm, z_mm))
    window = display.window(margin_mm=5)
    lesions, _ = labelled_lesions(stroke[window])
    return Stack(
        {name: image[window] for name, image in grey.items()},
        brain[window],
        stroke[window],
        visible[window],
        visible_any[window],
        lesions,
        display.spacing_mm,
    )


def _write_head(page: Canvas, prediction: Prediction, lesions: Sequence[Lesion], facts: Mapping[str, str]) -> int:
    left, width = page.margin, page.width - 2 * page.margin
    middle, label = left + round(0.53 * width), round(9.5 * page.text_size)
    page.write(page.width - left, 0.8 * page.text_size, RESEARCH_USE, bold=True, colour=NOTICE, anchor="ra")
    y = page.write(left, 0.8 * page.text_size, f"FLAIR Visibility Volume: {prediction.examination_id}", colour=SOFT)
    y = page.write(
        left, y, answer_in_words(prediction), scale=1.9, bold=True, colour=STATE_COLOURS[prediction.decision.state]
    )
    numbers = numbers_in_words(prediction, sides_of(lesions)) or {"Volumes": "none: the images could not be measured"}
    first = page.pairs(left, y, middle - left - page.text_size, numbers, label)
    second = page.pairs(middle, y, page.width - left - middle, dict(facts), label)
    y = max(first, second) + page.text_size // 2
    findings = remarks(prediction)
    if not lesions:
        return _write_remarks(page, left, y, width, findings)
    return max(
        _write_lesions(page, left, y, middle - left - 2 * page.text_size, lesions),
        _write_remarks(page, middle, y, page.width - left - middle, findings),
    )


def _write_lesions(page: Canvas, left: int, y: int, width: int, lesions: Sequence[Lesion]) -> int:
    """The table of lesions, the largest first."""
    y = page.write(
        left, y, "Lesions (connected components of the stroke), numbered in the outlined slices", scale=0.93, bold=True
    )
    stops = [left + round(share * width) for share in (0, 0.075, 0.17, 0.40, 0.53, 0.65, 0.765, 0.89)]
    rows = [LESION_COLUMNS, *(lesion_cells(lesion) for lesion in lesions[:_MOST_LESIONS])]
    for number, cells in enumerate(rows):
        for stop, cell in zip(stops, cells, strict=True):
            under = page.write(stop, y, cell, scale=0.8 if number == 0 else 0.93, colour=INK if number else SOFT)
        y = under
    rest = lesions[_MOST_LESIONS:]
    if rest:
        together = plain_ml(sum(lesion.volume_ml for lesion in rest))
        text = f"{len(rest)} smaller lesions, together {together}, are in lesions.csv"
        y = page.write(left, y, text, scale=0.87, colour=SOFT)
    return y


def _write_remarks(page: Canvas, left: int, y: int, width: int, findings: Sequence[Finding]) -> int:
    y = page.write(left, y, "Remarks" if findings else "Quality control has nothing to report.", scale=0.93, bold=True)
    lines = [
        (line, finding.severity)
        for finding in findings
        for line in page.wrapped(f"{finding.severity.value.capitalize()}: {finding.message}", width, scale=0.93)
    ]
    if len(lines) > _MOST_REMARKS:
        lines = [*lines[: _MOST_REMARKS - 1], ("... the rest is in results.json", Severity.NOTE)]
    for line, severity in lines:
        y = page.write(left, y, line, scale=0.93, colour=SEVERITY_COLOURS[severity])
    return y


def _write_legend(page: Canvas, y: int, prediction: Prediction, caption: str, *, measured: bool, stroke: bool) -> int:
    """Outlines, windows, convention."""
    left, width, size = page.margin, page.width - 2 * page.margin, page.text_size
    y += size // 2
    page.reach(y + 8 * size)
    page.draw.line((left, y, page.width - left, y), fill="#b8c0c8")
    y += size // 2
    if measured:
        entries = _legend_entries(prediction, stroke=stroke)
        x = float(left)
        for channel, name, style in entries:
            _sample(page, round(x), y, channel.colour, style)
            x += 2.6 * size
            page.write(x, y, name, scale=0.93)
            x += page.draw.textlength(name, font=font(round(0.93 * page.text_size))) + 2 * size
        y = round(y + 1.5 * size)
    convention = "Axial, radiological convention: R is the patient's right, L the left; anterior is up. "
    small = "Frames: small patches, enlarged under the slice. "
    for line in page.wrapped(f"{caption} {convention}{small if stroke else ''}{RULE}", width, scale=0.87):
        y = page.write(left, y, line, scale=0.87, colour=SOFT)
    return y + size // 2


def _legend_entries(prediction: Prediction, *, stroke: bool) -> list[tuple[Channel, str, str]]:
    """Channel, words and style of each outline that is shown."""
    brain, lesion, visible = Channel
    if not stroke:
        return [(brain, brain.title, "solid")]
    one = prediction.n_models == 1
    half = "" if one else f" to half or more of {prediction.n_models} models"
    entries = [(brain, brain.title, "solid"), (lesion, lesion.title, "solid")]
    entries.append((visible, f"{visible.title}{half}", "hatched"))
    return entries if one else [*entries, (visible, "to any model", "dotted")]


def _sample(page: Canvas, x: int, y: int, colour: str, style: str) -> None:
    """A short lesion of an outline, as in the slices."""
    size = page.text_size
    middle = round(y + 0.62 * size)
    if style == "hatched":
        page.draw.rectangle((x, middle - size // 2, x + 2 * size, middle + size // 2), outline=colour, width=2)
        for step in range(0, 2 * size, 9):
            page.draw.line(
                (x + step, middle + size // 2, min(x + step + size, x + 2 * size), middle - size // 2), fill=colour
            )
    elif style == "dotted":
        for step in range(0, 2 * size, 6):
            page.draw.rectangle((x + step, middle - 1, x + step + 2, middle + 1), fill=colour)
    else:
        page.draw.line((x, middle, x + 2 * size, middle), fill=colour, width=3)


def _paste_slices(page: Canvas, top: int, stack: Stack, shown: Sequence[int], in_a_row: int, *, outlined: bool) -> int:
    """The slices from foot to head; each with its number, its height and a scale bar."""
    names = [*list(stack.grey)[:1], *(["b1000, outlines"] if outlined else []), *list(stack.grey)[1:]]
    gap, apart = 4, page.margin
    whole = page.width - 2 * page.margin - (in_a_row - 1) * apart
    # Without ADC a panel is no larger than with it.
    width = (whole // in_a_row - 3 * gap) // 4 if outlined else (whole // in_a_row - gap) // 2
    strip = round(1.6 * page.text_size)
    y = top
    for begin in range(0, len(shown), in_a_row):
        row = {k: slice_panels(stack, k, width, outlined=outlined) for k in shown[begin : begin + in_a_row]}
        height = strip + max(panels[0].height for panels in row.values())
        page.reach(y + height + 2 * page.margin)
        for place, (k, panels) in enumerate(row.items()):
            left = page.margin + place * (whole // in_a_row + apart)
            page.write(left, y + 2, _title(stack, k), scale=0.87, bold=True)
            for panel, (image, name) in enumerate(zip(panels, names, strict=True)):
                x = left + panel * (width + gap)
                page.image.paste(image, (x, y + strip))
                if panel:
                    page.write(x + width - 2, y + 2, name, scale=0.87, colour=SOFT, anchor="ra")
            last = left + (len(names) - 1) * (width + gap)
            _scale_bar(page, last, y + strip, width * _SCALE_MM / (stack.brain.shape[0] * stack.spacing_mm[0]))
        y += height + page.text_size // 2
    return y


def _title(stack: Stack, k: int) -> str:
    """Which slice of how many, and the lesions in it, at most six."""
    numbers = np.flatnonzero(np.bincount(stack.lesions[:, :, k].ravel())[1:]) + 1
    of = f"   lesion{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:6]))}" if len(numbers) else ""
    return f"slice {k + 1} of {stack.brain.shape[2]}{of}"


def _scale_bar(page: Canvas, left: int, bottom: int, length: float) -> None:
    y = bottom - round(0.75 * page.text_size)
    page.draw.line((left, y, left + length, y), fill=INK, width=2)
    for x in (left, left + length):
        page.draw.line((x, y - 4, x, y + 4), fill=INK, width=2)
    page.write(left + length + 6, bottom - round(1.3 * page.text_size), f"{_SCALE_MM} mm", scale=0.73)
