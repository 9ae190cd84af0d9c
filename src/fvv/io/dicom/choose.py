"""Which images of a study are its b0 and its b1000: one contrast, one orientation, one kind and one shell each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fvv.errors import InputError
from fvv.io.dicom.diffusion import COMPUTED, OTHER_CONTRASTS, description_words
from fvv.io.dicom.frames import Frame
from fvv.names import plain
from fvv.protocol import B0_TOLERANCE, B1000_TOLERANCE, SHELL_GAP, TARGET_B, may_be_b0, may_be_b1000

B0_SHELL_GAP = 10.0
"""s/mm^2: for b0, so that b = 50 of a perfusion scheme is not averaged into b = 0."""
PLACE_TOLERANCE_MM = 0.1
"""Along the normal: images nearer than this are of one slice. Slices lie a millimetre apart and more."""
_LONGEST_NAME = 64
"""Letters of a SeriesDescription (LO, PS3.5 6.2); longer ones are shown in part."""
ORIENTATION_TOLERANCE = 1e-3
"""Of direction cosines, 0.06 degrees: the headers of one oblique stack differ in the 8th digit."""


@dataclass(frozen=True)
class Stack:
    """Images of one series, one kind and one b-value: what may be averaged slice by slice.

    Attributes:
        frames: in the order of their files.
    """

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
        ordered = sorted(self.frames, key=_along(self.first))
        return tuple(tuple(group) for group in _split(ordered, _along(self.first), PLACE_TOLERANCE_MM))

    @property
    def isotropic(self) -> bool:
        """Whether it is a trace image."""
        return self.first.weighting.isotropic

    def describe(self) -> str:
        """For people."""
        per_slice = len(self.frames) / len(self.slices)
        name = plain(self.first.description)
        name = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
        return (
            f"series {self.first.series_number} '{name}' (b = {self.b_value:g} s/mm^2, "
            f"{len(self.slices)} slices, {per_slice:g} images a slice)"
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and what else there was.

    Attributes:
        b0, b1000: the two.
        notes: what one should know of the choice.
        warnings: what one should look at the images for.
    """

    b0: Stack
    b1000: Stack
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def choose(frames: Sequence[Frame], series: Sequence[int] = ()) -> Choice:
    """The b0 and b1000 of one study that belong together best.

    The rule, first things first: the same grid; b within 150 of 1000, then nearest to it; no secondary images and no
    words of computed maps; the trace image before single directions; acquired before derived images; b0 and b1000 of
    one series; the same description; most slices; the lowest series number.

    Args:
        frames: of one person and study.
        series: SeriesNumber of those to take, whatever their words say; empty: all.

    Raises:
        InputError: no b0 or no b1000 among them, or none of both in one frame of reference and of one scanner.
    """
    usable = _usable(frames, series)
    stacks = list(_stacks(_with_silent_b0(usable, forced=bool(series))))
    low = [stack for stack in stacks if may_be_b0(stack.b_value)]
    high = [stack for stack in stacks if may_be_b1000(stack.b_value)]
    pairs = [(b0, b1000) for b1000 in high for b0 in low if series or _one_acquisition(b0.first, b1000.first)]
    if not pairs:
        raise _nothing(frames, usable, missing="b1000" if low and not high else "b0")
    placed = [pair for pair in pairs if _one_frame_of_reference(*pair)]
    if not placed:
        hint = "the patient was placed again between them: register the images first"
        raise InputError("b0 and b1000 lie in different frames of reference", hint=hint)
    if not series:
        placed = [pair for pair in placed if _one_scanner(pair[0].first, pair[1].first)]
    if not placed:
        hint = "--series with the numbers of both takes them all the same"
        raise InputError("b0 and b1000 come from two scanners, by their maker or serial number", hint=hint)
    best = max(placed, key=_suitability)
    return Choice(*best, tuple(_notes(best, placed)), tuple(_warnings(best)))


def same_place(low: Stack, high: Stack) -> bool:
    """Whether two stacks seem to lie on one grid."""
    a, b = low.first, high.first
    return (
        len(low.slices) == len(high.slices)
        and a.shape == b.shape
        and np.allclose(a.orientation, b.orientation, atol=ORIENTATION_TOLERANCE)
        and np.allclose(a.spacing, b.spacing, rtol=1e-2)
    )


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
        kinds = {frame.weighting.kind for frame in found if (frame.weighting.b_value or 0) > B0_TOLERANCE}
        silent = bool(kinds) and min(stated) > B0_TOLERANCE
        for frame in found:
            weighting = frame.weighting
            if weighting.b_value is not None:
                yield frame
            elif (silent and not weighting.directed and _may_be_b0(weighting.kind, kinds)) or (forced and not stated):
                yield replace(frame, weighting=replace(weighting, b_value=0.0, declared=True))


def _may_be_b0(kind: tuple[str, ...], kinds: set[tuple[str, ...]]) -> bool:
    return kind in kinds or "ORIGINAL" in kind


def _stacks(frames: Iterable[Frame]) -> Iterator[Stack]:
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        echo = frame.timing[0]
        key = (frame.series, frame.frame_of_reference, frame.shape, frame.weighting.kind, frame.weighting.isotropic)
        groups[(*key, None if echo is None else round(echo))].append(frame)
    for group in groups.values():
        for plane in _alike(group):
            low = [frame for frame in plane if _b(frame) <= B0_TOLERANCE]
            high = [frame for frame in plane if _b(frame) > B0_TOLERANCE]
            for part, gap in ((low, B0_SHELL_GAP), (high, SHELL_GAP)):
                for shell in _split(sorted(part, key=_b), _b, gap):
                    yield from _by_direction(shell)


def _by_direction(shell: list[Frame]) -> Iterator[Stack]:
    """Images along directions, and apart from them one without a direction among them: their average."""
    directed = [frame for frame in shell if frame.weighting.directed]
    rest = [frame for frame in shell if not frame.weighting.directed]
    if directed and rest and _b(shell[0]) > B0_TOLERANCE:
        yield Stack(tuple(directed))
        yield Stack(tuple(replace(frame, weighting=replace(frame.weighting, isotropic=True)) for frame in rest))
    else:
        yield Stack(tuple(shell))


def _alike(frames: list[Frame]) -> list[list[Frame]]:
    """Parted by orientation and spacing."""
    found: list[list[Frame]] = []
    for frame in frames:
        for group in found:
            first = group[0]
            if np.allclose(frame.orientation, first.orientation, atol=ORIENTATION_TOLERANCE) and np.allclose(
                frame.spacing, first.spacing, rtol=1e-3
            ):
                group.append(frame)
                break
        else:
            found.append([frame])
    return found


def _split(ordered: list[Frame], value: Callable[[Frame], float], gap: float) -> list[list[Frame]]:
    """Parted where two neighbours lie farther apart."""
    found: list[list[Frame]] = []
    for frame in ordered:
        if found and value(frame) - value(found[-1][-1]) <= gap:
            found[-1].append(frame)
        else:
            found.append([frame])
    return found


def _along(first: Frame) -> Callable[[Frame], float]:
    normal = first.normal
    return lambda frame: float(normal @ np.array(frame.position))


def _b(frame: Frame) -> float:
    return frame.weighting.b_value or 0.0


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


def _one_frame_of_reference(low: Stack, high: Stack) -> bool:
    """Where one of them gives none, the grids decide."""
    a, b = low.first.frame_of_reference, high.first.frame_of_reference
    return not a or not b or a == b


def _one_scanner(low: Frame, high: Frame) -> bool:
    """What one of them does not state tells nothing."""
    return all(not a or not b or a == b for a, b in zip(low.scanner, high.scanner, strict=True))


def _suitability(pair: tuple[Stack, Stack]) -> tuple[float, ...]:
    low, high = pair
    a, b = low.first, high.first
    return (
        *_quality(pair),
        high.isotropic,
        "DERIVED" not in b.weighting.kind,
        a.series == b.series,
        a.description == b.description,
        len(high.slices),
        -abs(high.b_value - TARGET_B),
        -low.b_value,
        -b.series_number,
        -a.series_number,
    )


def _quality(pair: tuple[Stack, Stack]) -> tuple[float, ...]:
    """What two complete sets of images must share for the choice between them to be worth a word."""
    low, high = pair
    away = abs(high.b_value - TARGET_B)
    worse = sum(
        "SECONDARY" in frame.weighting.kind or bool(description_words(frame.description) & COMPUTED)
        for frame in (low.first, high.first)
    )
    return same_place(low, high), away <= B1000_TOLERANCE, -(away // SHELL_GAP), -worse


def _notes(best: tuple[Stack, Stack], pairs: list[tuple[Stack, Stack]]) -> Iterator[str]:
    yield f"b0 from {best[0].describe()}; b1000 from {best[1].describe()}"
    others = {high.first.series: high for low, high in pairs if _quality((low, high)) == _quality(best)}
    others.pop(best[1].first.series, None)
    if others:
        described = "; ".join(stack.describe() for stack in others.values())
        yield (
            f"b1000 could also be {described}: taken was the trace image if there is one, b0 and b1000 of one series, "
            "the lowest number; --series takes another"
        )


def _warnings(best: tuple[Stack, Stack]) -> Iterator[str]:
    for name, stack in zip(("b0", "b1000"), best, strict=True):
        counts = Counter(len(images) for images in stack.slices)
        if len(counts) > 1:
            few, many = min(counts), max(counts)
            yield f"{name}: the number of images a slice differs ({few} to {many}): images were lost, or sent twice"


def _nothing(frames: Sequence[Frame], usable: list[Frame], missing: str) -> InputError:
    if not frames:
        hint = "a folder or zip file of DICOM images is expected; unpack what else a zip file holds"
        return InputError("holds no slices of MR images", hint=hint)
    known = sorted({f"{frame.series_number}: b = {frame.weighting.b_value}" for frame in usable})
    unused = Counter(frame.weighting.not_used for frame in frames if frame.weighting.not_used)
    if len(known) > 12:
        known = [*known[:12], f"and {len(known) - 12} more"]
    among = ", ".join(known) or "no diffusion images"
    if not usable and unused:
        among = f"only {', '.join(f'{number} {reason}' for reason, number in sorted(unused.items()))}"
    return InputError(f"no {missing} among its series ({among})", hint="name the series with --series")
