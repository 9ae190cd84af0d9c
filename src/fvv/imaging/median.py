"""A median filter over 3 x 3 x 3 voxels, several times faster than the general rank filter and equal to it.

Each neighbourhood is sorted along z, then i, then j (three values at a time, shared between neighbours). Then the value
at place (a, b, c), a, b, c in 0..2, is not under (a + 1)(b + 1)(c + 1) - 1 of the other 26 and not over
(3 - a)(3 - b)(3 - c) - 1 of them: eight places can never hold the median, and the median of the remaining 19 is found
by dropping the smallest and the largest again and again.
"""

from __future__ import annotations

from itertools import product

import numpy as np

_NEIGHBOURS = 27
_MIDDLE_RANK = (_NEIGHBOURS + 1) // 2
_POSSIBLE = tuple(
    place
    for place in product(range(3), repeat=3)
    if np.prod([index + 1 for index in place]) <= _MIDDLE_RANK
    and np.prod([3 - index for index in place]) <= _MIDDLE_RANK
)


def median_3x3x3(volume: np.ndarray, passes: int = 1) -> np.ndarray:
    """Median of each voxel's 27 neighbours, repeated; the border is mirrored (SciPy's mode "reflect").

    Args:
        volume: (i, j, k), finite.
        passes: how often.

    Returns:
        (i, j, k) of the same dtype.
    """
    slices = np.ascontiguousarray(np.moveaxis(_compact(volume), 2, 0))
    for _ in range(passes):
        # A mirrored border of one voxel is a repeated border.
        padded = np.pad(slices, 1, mode="edge")
        slices = np.stack([_median_of_slice(padded[k : k + 3]) for k in range(len(slices))])
    return np.ascontiguousarray(np.moveaxis(slices, 0, 2)).astype(volume.dtype)


def _median_of_slice(three: np.ndarray) -> np.ndarray:
    """(3, i + 2, j + 2) to the medians of the middle slice, (i, j)."""
    planes = _sort3(three[0], three[1], three[2])
    rows = [_sort3(plane[:-2], plane[1:-1], plane[2:]) for plane in planes]
    cells = [[_sort3(row[:, :-2], row[:, 1:-1], row[:, 2:]) for row in group] for group in rows]
    return _median_of([cells[a][b][c] for a, b, c in _POSSIBLE])


def _sort3(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = np.minimum(a, b), np.maximum(a, b)
    middle = np.minimum(high, c)
    return np.minimum(low, middle), np.maximum(low, middle), np.maximum(high, c)


def _median_of(values: list[np.ndarray]) -> np.ndarray:
    """Median of an odd number of arrays, voxel by voxel.

    Of n values, the smallest and the largest of any n // 2 + 2 are not the median: they are dropped, one more value
    comes in, and so on.
    """
    first = len(values) // 2 + 2
    held, waiting = values[:first], values[first:]
    while len(held) > 1:
        held = _without_extremes(held)
        if waiting:
            held.append(waiting.pop())
    return held[0]


def _without_extremes(values: list[np.ndarray]) -> list[np.ndarray]:
    """The values less one smallest and one largest; pairs are ordered first, so that each is looked at once."""
    pairs = [(np.minimum(a, b), np.maximum(a, b)) for a, b in zip(values[::2], values[1::2], strict=False)]
    lows, highs = [low for low, _ in pairs], [high for _, high in pairs]
    if len(values) % 2:
        # The odd one could be either extreme: let it meet one low and one high.
        last = values[-1]
        lows[0], last = np.minimum(lows[0], last), np.maximum(lows[0], last)
        highs[0], last = np.maximum(highs[0], last), np.minimum(highs[0], last)
        return [*_drop(lows, np.minimum, np.maximum), *_drop(highs, np.maximum, np.minimum), last]
    return [*_drop(lows, np.minimum, np.maximum), *_drop(highs, np.maximum, np.minimum)]


def _drop(values: list[np.ndarray], extreme: np.ufunc, rest: np.ufunc) -> list[np.ndarray]:
    """The values less their extreme."""
    carried, kept = values[0], []
    for value in values[1:]:
        kept.append(rest(carried, value))
        carried = extreme(carried, value)
    return kept


def _compact(volume: np.ndarray) -> np.ndarray:
    """The same numbers in the smallest type that holds them exactly: half the memory is twice the speed."""
    for dtype in (np.int16, np.float32):
        if volume.dtype.itemsize > np.dtype(dtype).itemsize and _fits(volume, dtype):
            return volume.astype(dtype)
    return volume


def _fits(volume: np.ndarray, dtype: type[np.generic]) -> bool:
    if dtype is np.int16:
        bounds = np.iinfo(np.int16)
        if volume.min() < bounds.min or volume.max() > bounds.max:
            return False
    return bool(np.array_equal(volume.astype(dtype), volume))
