"""A median filter over 3 x 3 x 3 voxels, several times faster than the general rank filter and equal to it.

Each neighbourhood is sorted along z, then i (three values at a time, shared between neighbours). Its three columns of
nine, each sorted both ways, then go through a network that compares and exchanges two values at a time until the median
is found, in fewer than eighty minima and maxima.
"""

from __future__ import annotations

import numpy as np

_STEPS = (
    (0, 1), (6, 7), (25, 26), (3, 4), (4, 5), (3, 4), (7, 8), (6, 7), (9, 10), (10, 11), (9, 10), (12, 13), (21, 22),
    (13, 14), (12, 13), (15, 16), (16, 17), (15, 16), (18, 19), (19, 20), (18, 19), (22, 23), (21, 22), (24, 25),
    (7, 21), (14, 21), (14, 11), (8, 24), (14, 7), (19, 7), (1, 2), (16, 22), (8, 20), (5, 15), (5, 19), (8, 11),
    (7, 15), (4, 14), (10, 12), (18, 14), (12, 14), (16, 8), (16, 19), (13, 7), (6, 14), (16, 13), (19, 7), (19, 13),
    (2, 19), (14, 19), (13, 19),
)  # fmt: skip
"""Of the values at two places, the smaller goes to the first and the larger to the second. Found by random search. What
takes the median of zeros and ones takes that of any numbers (Knuth, The Art of Computer Programming 3, 5.3.4), and the
tests try all 8,000 ways in which zeros and ones can lie in three sorted columns."""
_MEDIAN = 13
"""The place where it then is."""
_LAST_STEP = {place: step for step, places in enumerate(_STEPS) for place in places} | {_MEDIAN: len(_STEPS)}


def median_3x3x3(volume: np.ndarray, passes: int = 1) -> np.ndarray:
    """Median of each voxel's 27 neighbours, repeated; the border is mirrored (SciPy's mode "reflect").

    Args:
        volume: (i, j, k), finite.

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
    return _median_of([part for group in rows for row in group for part in (row[:, :-2], row[:, 1:-1], row[:, 2:])])


def _sort3(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = np.minimum(a, b), np.maximum(a, b)
    middle = np.minimum(high, c)
    return np.minimum(low, middle), np.maximum(low, middle), np.maximum(high, c)


def _median_of(values: list[np.ndarray]) -> np.ndarray:
    """Median of 27 values: place 9 a + 3 b + c holds the b-th along i of the a-th along z, in column c, all from 0."""
    held = list(values)
    for step, (low, high) in enumerate(_STEPS):
        first, second = held[low], held[high]
        # What no later step looks at is left out.
        if step < _LAST_STEP[low]:
            held[low] = np.minimum(first, second)
        if step < _LAST_STEP[high]:
            held[high] = np.maximum(first, second)
    return held[_MEDIAN]


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
