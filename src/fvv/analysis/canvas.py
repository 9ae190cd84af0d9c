"""A white page of given width that grows downwards: text, rows of text, and pictures, in Pillow."""

from __future__ import annotations

import io
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from fvv.arrays import UInt8Array
from fvv.data import Channel, DecisionState, Severity

INK, SOFT = "#1d2733", "#444444"
NOTICE, GOOD, DOUBT, NEUTRAL = "#a3162e", "#0b6e4f", "#8a4b08", "#33475b"
TEXT_COLOURS = (INK, NOTICE, GOOD, DOUBT, NEUTRAL)
"""Colours of text that are no grey."""
RESEARCH_USE = "For research use only. Not for clinical decisions."
STATE_COLOURS = {
    DecisionState.MISMATCH_LIKELY: GOOD,
    DecisionState.MISMATCH_UNLIKELY: DOUBT,
    DecisionState.NO_LESION_FOUND: NEUTRAL,
    DecisionState.NOT_ASSESSABLE: NOTICE,
}
SEVERITY_COLOURS = {Severity.NOTE: SOFT, Severity.WARNING: DOUBT, Severity.NOT_ASSESSABLE: NOTICE}
_GREYS = 128


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib carries."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(io.BytesIO(_font_file(name)), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _font_file(name: str) -> bytes:
    """A font of matplotlib's, which is found and not imported: that takes longer than the whole picture."""
    package = find_spec("matplotlib")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    return (Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / name).read_bytes()


@cache
def _palette() -> UInt8Array:
    """(256, 3) uint8: greys, the channels' colours, and those of text with its soft edges."""
    greys = np.repeat(np.rint(np.linspace(0, 255, _GREYS)), 3).reshape(-1, 3)
    channels = [ImageColor.getrgb(channel.colour) for channel in Channel]
    text = np.array([ImageColor.getrgb(colour) for colour in TEXT_COLOURS])
    soft = [text + (255 - text) * paler for paler in (0.0, 0.25, 0.5, 0.75)]
    colours = np.concatenate([greys, channels, *soft])
    return np.asarray(np.rint(np.concatenate([colours, np.full((256 - len(colours), 3), 255)])), dtype=np.uint8)


def with_palette(image: Image.Image) -> Image.Image:
    """An RGB picture of greys and few colours with 256 colours: a third of the bytes, written four times as fast."""
    palette, bands = _palette(), image.split()
    red, green, blue = (np.asarray(band) for band in bands)
    indices = np.array(bands[0].point(np.rint(np.arange(256) * (_GREYS - 1) / 255).astype(int).tolist()))
    coloured = np.flatnonzero((red != green) | (green != blue))
    parts = [band.ravel()[coloured].astype(np.uint32) for band in (red, green, blue)]
    found = parts[0] << 16 | parts[1] << 8 | parts[2]
    colours = np.unique(found)
    rgb = np.stack([colours >> 16 & 255, colours >> 8 & 255, colours & 255], axis=1).astype(int)
    table = np.zeros(2**24, dtype=np.uint8)  # Of every colour: sorted with their places, pixels take ten times as long.
    table[colours] = [int(((palette.astype(int) - one) ** 2).sum(axis=1).argmin()) for one in rgb]
    indices.ravel()[coloured] = table[found]
    small = Image.fromarray(indices)
    small.putpalette(palette.ravel().tolist())
    return small


class Canvas:
    """A page.

    Args:
        width: pixels.
        margin: pixels left white at every edge.
        text: pixels of the usual text.
    """

    def __init__(self, width: int, margin: int, text: int) -> None:
        self.width, self.margin, self.text_size = width, margin, text
        self.image = Image.new("RGB", (width, 400), "white")
        self.draw = ImageDraw.Draw(self.image)

    def reach(self, bottom: int) -> None:
        """Grow until a row lies on the page."""
        if bottom > self.image.height:
            taller = Image.new("RGB", (self.width, max(bottom, 2 * self.image.height)), "white")
            taller.paste(self.image, (0, 0))
            self.image, self.draw = taller, ImageDraw.Draw(taller)

    def write(
        self,
        x: float,
        y: float,
        text: str,
        *,
        scale: float = 1.0,
        bold: bool = False,
        colour: str = INK,
        anchor: Literal["la", "ra", "ma", "mm"] = "la",
    ) -> int:
        """One line of text; gives the row under it."""
        size = round(scale * self.text_size)
        self.reach(round(y) + 2 * size)
        self.draw.text((x, y), text, fill=colour, font=font(size, bold=bold), anchor=anchor)
        return round(y + 1.42 * size)

    def wrapped(self, text: str, width: float, *, scale: float = 1.0, bold: bool = False, most: int = 99) -> list[str]:
        """Lines of at most a width; a word that is longer is cut; what is left over ends in "..."."""
        measure = font(round(scale * self.text_size), bold=bold).getlength
        lines, line = [], ""
        for whole in text.split():
            word = whole
            while measure(word) > width:
                fits = next(n for n in range(len(word) - 1, 0, -1) if measure(word[:n]) <= width or n == 1)
                lines += [*filter(None, [line]), word[:fits]]
                line, word = "", word[fits:]
            longer = f"{line} {word}".strip()
            if measure(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines += [line] if line else []
        return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1][:-3]}..."]

    def pairs(self, x: int, y: int, width: int, pairs: dict[str, str], label_width: int, *, most: int = 4) -> int:
        """Labels with their wrapped values; gives the row under the last."""
        for label, value in pairs.items():
            self.write(x, y, label, colour=SOFT)
            for line in self.wrapped(value, width - label_width, most=most):
                y = self.write(x + label_width, y, line)
        return y

    def png(self, bottom: int) -> bytes:
        """The page down to a row, as PNG bytes: the same for the same page."""
        stream = io.BytesIO()
        page = with_palette(self.image.crop((0, 0, self.width, bottom)))
        page.save(stream, format="PNG", compress_level=4)
        return stream.getvalue()
