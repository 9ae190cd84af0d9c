"""What the public functions of the statistics accept: checked once at the door, so that no wrong number comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fvv.arrays import BoolArray, FloatArray
from fvv.errors import FvvError


class StatisticsError(FvvError, ValueError):
    """Numbers or labels from which no statistic can be computed."""


def as_values(values: ArrayLike, name: str = "volumes") -> FloatArray:
    """(n,) finite numbers as float64.

    Args:
        values: one number a patient.
        name: what they are, for the error.

    Raises:
        StatisticsError: not a list of numbers, or one of them is not finite.
    """
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iuf"):
        raise StatisticsError(f"{name}: expected one number a patient, got shape {array.shape} of {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise StatisticsError(f"{name}: expected finite numbers, got {count} of {array.size} that are not")
    return array


def as_volumes(values: ArrayLike, name: str = "volumes") -> FloatArray:
    """`as_values` that are not negative: volumes of which a logarithm is taken.

    Raises:
        StatisticsError: not finite, or negative.
    """
    array = as_values(values, name)
    if (array < 0).any():
        raise StatisticsError(f"{name}: expected no negative volume, got {array.min():g}")
    return array


def as_labels(labels: ArrayLike, name: str = "labels") -> BoolArray:
    """(n,) labels as bool, from bool or from 0 and 1.

    Args:
        labels: one a patient.
        name: what they are, for the error.

    Raises:
        StatisticsError: anything else, as NaN, None, text or other numbers.
    """
    array = np.asarray(labels)
    if array.ndim == 1 and array.dtype == bool:
        return array
    if array.ndim == 1 and (not array.size or (array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all())):
        return array.astype(bool)
    raise StatisticsError(f"{name}: expected True or False (or 1 or 0) of each patient, got {_shown(array)}")


def as_pair(values: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Volumes and labels of the same patients.

    Raises:
        StatisticsError: one of them is not what it should be, or their lengths differ.
    """
    checked = as_values(values), as_labels(labels)
    same_length(volumes=checked[0], labels=checked[1])
    return checked


def both_classes(labels: BoolArray) -> None:
    """Refuse labels of one class.

    Raises:
        StatisticsError: no patient with, or none without, a mismatch.
    """
    if not 0 < labels.sum() < labels.size:
        raise StatisticsError(f"expected both classes, got {int(labels.sum())} of {labels.size} with a mismatch")


def same_length(**arrays: Any) -> None:
    """Refuse arrays of different lengths, by name.

    Raises:
        StatisticsError: they are not of the same patients.
    """
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{len(array)} {name}" for name, array in arrays.items())
        raise StatisticsError(f"expected one of each for every patient, got {lengths}")


def in_range(value: float, name: str, low: float, high: float, *, ends: bool = True) -> None:
    """Refuse a number outside a range.

    Raises:
        StatisticsError: it is outside, or NaN.
    """
    inside = low <= value <= high if ends else low < value < high
    if not inside:
        raise StatisticsError(f"{name}: expected {low:g} to {high:g}, got {value!r}")


def _shown(array: np.ndarray) -> str:
    return f"shape {array.shape} of {array.dtype}" if array.ndim != 1 else repr(array.tolist())[:60]
