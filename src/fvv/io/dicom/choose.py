"""Which images of a study are its b0 and its b1000: one contrast, one orientation, one kind and one shell each.

Which b-values may stand for the two, and which is better, says `fvv.protocol`; here stands what DICOM alone tells.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import shorten

import numpy as np

from fvv.errors import InputError
from fvv.io.dicom.frames import Frame
from fvv.io.dicom.weighting import COMPUTED, OTHER_CONTRASTS, description_words
from fvv.names import plain
from fvv.protocol import SHELL_GAP, choice_note, distance, is_b0, is_usual_b1000, may_be_b1000, shells, split

PLACE_TOLERANCE_MM = 0.1
"""Along the normal: images nearer than this are of one slice. Slices lie a millimetre apart and more."""
_LONGEST_NAME = 64
"""Letters of a SeriesDescription (LO, PS3.5 6.2); longer ones are shown in part."""
ORIENTATION_TOLERANCE = 1e-3
"""Of direction cosines, 0.06 degrees: the headers of one oblique stack differ in the 8th digit."""


@dataclass(frozen=True)
class Stack:
    """Images of one series, one kind and one b-value: what may be averaged slice by slice."""

    frames: tuple[Frame, ...]

    @property
    def first(self) -> Frame:
        """One of them, for what all share."""
        return self.frames[0]

    @cached_property
    def b_value(self) -> float:
        """Mean, s/mm^2."""
        return float(np.mean([frame.weighting.b_value for frame in self.frames]))

    @cached_property
    def slices(self) -> tuple[tuple[Frame, ...], ...]:
        """Images of each slice, from the lowest along the normal to the highest."""
        groups = split([self.first.along(frame) for frame in self.frames], PLACE_TOLERANCE_MM)
        return tuple(tuple(self.frames[index] for index in group) for group in groups)

    def describe(self) -> str:
        """For people."""
        name = plain(self.first.description)
        name = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
        return (
            f"series {self.first.series_number} '{name}' (b = {self.b_value:g} s/mm^2, "
            f"{len(self.slices)} slices, {len(self.frames) / len(self.slices):g} images a slice)"
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and what else there was."""

    b0: Stack
    b1000: Stack
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def choose(frames: Sequence[Frame], series: Sequence[int] = ()) -> Choice:
    """The b0 and b1000 of one study that belong together best.

    The rule, first things first: the same grid; a b-value without warning, then the nearest to 1000 (in steps of the
    gap between shells); no secondary images and no words of computed maps; the trace image before single directions;
    acquired before derived images; b0 and b1000 of one series; the same description; most slices; the nearest b-value;
    the lowest series number.

    Args:
        series: SeriesNumber of those to take, whatever their words say; empty: all.

    Raises:
        InputError: no b0 or no b1000 among them, or none of both in one frame of reference and of one scanner.
    """
    usable = _usable(frames, series)
    stacks = list(_stacks(_with_silent_b0(usable, forced=bool(series))))
    low = [stack for stack in stacks if is_b0(stack.b_value)]
    high = [stack for stack in stacks if may_be_b1000(stack.b_value)]
    pairs = [(b0, b1000) for b1000 in high for b0 in low if series or _one_acquisition(b0.first, b1000.first)]
    if not pairs:
        raise _nothing(frames, usable, missing="b1000" if low and not high else "b0")
    # What one of two does not state decides nothing.
    pairs = [(a, b) for a, b in pairs if _agree([a.first.frame_of_reference], [b.first.frame_of_reference])]
    if not pairs:
        hint = "the patient was repositioned between them: register the images first"
        raise InputError("b0 and b1000 lie in different frames of reference", hint=hint)
    pairs = [(a, b) for a, b in pairs if series or _agree(a.first.scanner, b.first.scanner)]
    if not pairs:
        hint = "to use them anyway, give --series with the numbers of both"
        raise InputError("b0 and b1000 come from two scanners, by manufacturer or serial number", hint=hint)
    best = max(pairs, key=_suitability)
    return Choice(*best, tuple(_notes(best, pairs, high)), tuple(_warnings(best)))


def _usable(frames: Sequence[Frame], series: Sequence[int]) -> list[Frame]:
    """Magnitude images; of a series that is asked for and has none, all that it has."""
    if not series:
        return [frame for frame in frames if not frame.weighting.not_used]
    named = [frame for frame in frames if frame.series_number in series]
    with_magnitude = {frame.series for frame in named if not frame.weighting.not_used}
    return [frame for frame in named if not frame.weighting.not_used or frame.series not in with_magnitude]


def _with_silent_b0(frames: list[Frame], *, forced: bool) -> Iterator[Frame]:
    """Images with a b-value. Within a series with b > 0, those without one and without direction are b0 (Toshiba).

    Where series are asked for by number, so are those of a series in which nothing states a b-value.
    """
    by_series: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_series[frame.series].append(frame)
    for found in by_series.values():
        stated = [frame.weighting.b_value for frame in found if frame.weighting.b_value is not None]
        kinds = {frame.weighting.kind for frame in found if not is_b0(frame.weighting.b_value or 0)}
        silent = bool(kinds) and not is_b0(min(stated))
        for frame in found:
            weighting = frame.weighting
            of_a_kind = weighting.kind in kinds or "ORIGINAL" in weighting.kind
            if weighting.b_value is not None:
                yield frame
            elif (silent and not weighting.directed and of_a_kind) or (forced and not stated):
                yield replace(frame, weighting=replace(weighting, b_value=0.0, declared=True))


def _stacks(frames: Iterable[Frame]) -> Iterator[Stack]:
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        echo, weighting = frame.timing[0], frame.weighting
        isotropic = weighting.isotropic and not is_b0(weighting.b_value or 0.0)
        key = (frame.series, frame.frame_of_reference, frame.shape, weighting.kind, isotropic)
        groups[(*key, None if echo is None else round(echo))].append(frame)
    for group in groups.values():
        planes: list[list[Frame]] = []
        for frame in group:
            alike = (plane for plane in planes if _parallel(frame, plane[0], spacing_tolerance=1e-3))
            plane = next(alike, None)
            if plane is None:
                planes.append(plane := [])
            plane.append(frame)
        for plane in planes:
            for shell in shells([frame.weighting.b_value or 0.0 for frame in plane]):
                yield from _by_direction([plane[index] for index in shell.indices], low=is_b0(shell.b_value))


def _by_direction(shell: list[Frame], *, low: bool) -> Iterator[Stack]:
    """Images along directions, and apart from them one without a direction among them: their average."""
    directed = [frame for frame in shell if frame.weighting.directed]
    rest = [frame for frame in shell if not frame.weighting.directed]
    if directed and rest and not low:
        yield Stack(tuple(directed))
        yield Stack(tuple(replace(frame, weighting=replace(frame.weighting, isotropic=True)) for frame in rest))
    else:
        yield Stack(tuple(shell))


def _parallel(a: Frame, b: Frame, *, spacing_tolerance: float) -> bool:
    turned = not np.allclose(a.orientation, b.orientation, atol=ORIENTATION_TOLERANCE)
    return not turned and np.allclose(a.spacing, b.spacing, rtol=spacing_tolerance)


def _one_acquisition(low: Frame, high: Frame) -> bool:
    """Whether an image with b = 0 belongs to a diffusion acquisition, and not to FLAIR or another contrast.

    It does in the series of b1000, or where its header declares diffusion; elsewhere its timing must be that of b1000
    and its description must not name another contrast.
    """
    if low.series == high.series or low.weighting.declared:
        return True
    for a, b in zip(low.timing, high.timing, strict=True):
        if (a is None) != (b is None) or (a is not None and b is not None and abs(a - b) > 0.01 * max(a, b)):
            return False
    words = description_words(f"{low.description} {low.protocol}")
    return not (words - description_words(f"{high.description} {high.protocol}")) & OTHER_CONTRASTS


def _agree(low: Iterable[str], high: Iterable[str]) -> bool:
    return all(not a or not b or a == b for a, b in zip(low, high, strict=True))


def _suitability(pair: tuple[Stack, Stack]) -> tuple[float, ...]:
    low, high = pair
    a, b = low.first, high.first
    return (
        *_quality(pair),
        b.weighting.isotropic,
        "DERIVED" not in b.weighting.kind,
        a.series == b.series,
        a.description == b.description,
        len(high.slices),
        *(-number for number in distance(high.b_value)),
        -low.b_value,
        -b.series_number,
        -a.series_number,
    )


def _quality(pair: tuple[Stack, Stack]) -> tuple[float, ...]:
    """What two complete sets of images must share for the choice between them to be worth a word."""
    low, high = pair
    a, b = low.first, high.first
    same_grid = len(low.slices) == len(high.slices) and a.shape == b.shape
    same_grid = same_grid and _parallel(a, b, spacing_tolerance=1e-2)
    worse = sum(
        "SECONDARY" in frame.weighting.kind or bool(description_words(frame.description) & COMPUTED) for frame in (a, b)
    )
    return same_grid, is_usual_b1000(high.b_value), -(distance(high.b_value)[0] // SHELL_GAP), -worse


def _notes(best: tuple[Stack, Stack], pairs: list[tuple[Stack, Stack]], high: list[Stack]) -> Iterator[str]:
    low, chosen = best
    yield f"b0 from {low.describe()}; b1000 from {chosen.describe()}"
    number = chosen.first.series_number
    available = [stack.b_value for stack in high if stack.first.series == chosen.first.series]
    if note := choice_note(chosen.b_value, available):
        yield f"series {number}: {note}"
    others = {b.first.series: b for a, b in pairs if _quality((a, b)) == _quality(best)}
    others.pop(chosen.first.series, None)
    if others:
        described = "; ".join(stack.describe() for stack in others.values())
        yield (
            f"b1000 could also be {described}: preferred are the trace image, then one series for b0 and b1000, then "
            "the lowest number; --series chooses another"
        )


def _warnings(best: tuple[Stack, Stack]) -> Iterator[str]:
    for name, stack in zip(("b0", "b1000"), best, strict=True):
        counts = [len(images) for images in stack.slices]
        few, many = min(counts), max(counts)
        if few < many:
            yield f"{name}: the number of images a slice differs ({few} to {many}): images were lost, or sent twice"


def _nothing(frames: Sequence[Frame], usable: list[Frame], missing: str) -> InputError:
    if not frames:
        hint = "a folder or zip file of DICOM images is expected; unpack what else a zip file holds"
        return InputError("holds no slices of MR images", hint=hint)
    known = sorted({f"{frame.series_number}: b = {frame.weighting.b_value}" for frame in usable})
    unused = Counter(frame.weighting.not_used for frame in frames if frame.weighting.not_used)
    if not usable:
        known = [f"{number} {reason}" for reason, number in sorted(unused.items())]
    among = shorten(", ".join(known), 300, placeholder=" ...") or "no diffusion images"
    return InputError(f"no {missing} among its series ({among})", hint="name the series with --series")
