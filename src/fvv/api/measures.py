"""Masks and measurements compared, with inputs that are checked: what has no answer is an error."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fvv.analysis.metrics import lesion_sizes, segmentation_metrics
from fvv.arrays import BoolArray, FloatArray
from fvv.data import Volume
from fvv.errors import FvvError, GeometryError, StatisticsError, install_hint
from fvv.imaging.geometry import same_grid
from fvv.schemas.patient import MaskMetrics
from fvv.schemas.summary import Agreement, Estimate

if TYPE_CHECKING:
    from fvv.analysis.statistics import Bootstrap

SAMPLES = 2000
"""Bootstrap draws behind an interval, as `fvv evaluate` takes."""


class MaskComparison(MaskMetrics):
    """A predicted mask against the reference mask; docs/explanation/metrics.md defines every number.

    Attributes:
        reference_ml, predicted_ml: volumes.
        lesions: volume of every lesion of the reference in mL, and whether it was found; the smallest first.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> mask = np.ones((10, 10, 10), dtype=bool)
        >>> comparison: fvv.MaskComparison = fvv.compare_masks(mask, mask, (1, 1, 1))
        >>> comparison.predicted_ml
        1.0
    """

    reference_ml: float
    predicted_ml: float
    lesions: tuple[tuple[float, bool], ...]


def compare_masks(
    reference: Volume | NDArray[Any],
    predicted: Volume | NDArray[Any],
    spacing_mm: tuple[float, float, float] | None = None,
) -> MaskComparison:
    """Overlap, volumes, surface distances and lesions of two masks.

    Args:
        reference: (i, j, k) bool, or 0 and 1: the mask to compare with.
        predicted: (i, j, k) bool, or 0 and 1, on the same grid.
        spacing_mm: voxel edges along i, j, k; None: those of the volumes.

    Returns:
        All metrics; NaN if undefined: Dice if both masks are empty, distances if either is.

    Raises:
        GeometryError: shapes or grids differ, a mask holds other values than 0 and 1, or the voxel edges are missing.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> reference = np.zeros((20, 20, 5), dtype=bool)
        >>> reference[5:10, 5:10, 1:3] = True
        >>> result = fvv.compare_masks(reference, np.roll(reference, 1, axis=0), spacing_mm=(1.0, 1.0, 5.0))
        >>> round(result.dice_coefficient, 2), result.reference_ml, result.hausdorff_distance_95_mm
        (0.8, 0.25, 1.0)
    """
    volumes = [one for one in (reference, predicted) if isinstance(one, Volume)]
    if len(volumes) == 2 and not same_grid(*volumes):
        raise GeometryError("the masks lie on different grids", hint="resample one of them first")
    if spacing_mm is None:
        if not volumes:
            raise GeometryError("the size of the voxels is not known", hint="give spacing_mm, three edges in mm")
        spacing_mm = volumes[0].spacing_mm
    first, second = _mask(reference, "reference"), _mask(predicted, "predicted")
    metrics = segmentation_metrics(first, second, spacing_mm)
    voxel_ml = math.prod(spacing_mm) / 1000.0
    return MaskComparison(
        **metrics.model_dump(),
        reference_ml=float(first.sum()) * voxel_ml,
        predicted_ml=float(second.sum()) * voxel_ml,
        lesions=tuple(lesion_sizes(first, second, voxel_ml)),
    )


def auc(
    fvv_ml: ArrayLike, mismatch: ArrayLike, *, persons: Sequence[Hashable] | None = None, seed: int = 0
) -> Estimate:
    """Area under the ROC curve of a low FVV as a marker of mismatch, with its 95 % interval.

    The interval is DeLong's on the logit scale (doi 10.2307/2531595), or from a bootstrap over persons if a person
    occurs twice. If the classes are separated without error, there is no interval, and a warning.

    Args:
        fvv_ml: (n,) volumes in mL, finite.
        mismatch: (n,) bool, or 0 and 1.
        persons: (n,) person of each examination; None: all are different persons.
        seed: of the bootstrap.

    Raises:
        FvvError: scikit-learn or statsmodels is not installed.
        StatisticsError: lengths differ, a volume is not finite, a label is not 0 or 1, or one class is missing.

    Examples:
        >>> import fvv
        >>> area = fvv.auc([0.1, 0.2, 4.0, 0.3, 5.0, 7.0], [1, 1, 1, 0, 0, 0])
        >>> round(area.value, 2)
        0.89
    """
    volumes, labels = _numbers(fvv_ml, "fvv_ml"), _labels(mismatch, "mismatch")
    groups = _persons(persons, {"fvv_ml": len(volumes), "mismatch": len(labels)})
    if len(set(labels.tolist())) != 2:
        raise StatisticsError("the AUC needs examinations with a mismatch and without; all have one label")
    return _with_interval(_bootstrap(seed).auc(volumes, labels, groups), "AUC")


def kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    persons: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Estimate:
    """Cohen's kappa of two raters (doi 10.1177/001316446002000104), with a 95 % bootstrap interval over persons.

    Args:
        first, second: (n,) the category that each rater gives to each examination: bool, numbers or text.
        persons: (n,) person of each examination; None: all are different persons.
        seed: of the bootstrap.

    Raises:
        FvvError: scikit-learn or statsmodels is not installed.
        StatisticsError: lengths differ, a rating is missing (None, NaN), or both raters give one category to all.

    Examples:
        >>> import fvv
        >>> fvv.kappa(["yes", "yes", "no", "no"], ["yes", "no", "no", "no"]).value
        0.5
    """
    raters = [list(np.asarray(ratings, dtype=object)) for ratings in (first, second)]
    groups = _persons(persons, {"first": len(raters[0]), "second": len(raters[1])})
    for ratings in raters:
        if any(one is None or one != one for one in ratings):  # noqa: PLR0124 - NaN differs from itself.
            raise StatisticsError("a rating is missing (None or NaN)", hint="leave these examinations out")
    order = {category: code for code, category in enumerate(dict.fromkeys(raters[0] + raters[1]))}
    if len(order) < 2:
        raise StatisticsError("kappa needs two categories or more; both raters give one to all")
    codes = np.array([[order[one] for one in ratings] for ratings in raters])

    def statistic(chosen: NDArray[Any]) -> float:
        from fvv.analysis.statistics import cohen_kappa  # noqa: PLC0415  (an extra)

        table = np.zeros((len(order), len(order)), dtype=int)
        np.add.at(table, tuple(codes[:, chosen]), 1)
        return cohen_kappa(table)

    return _with_interval(_bootstrap(seed).interval(groups, statistic), "kappa")


def agreement(
    first: ArrayLike, second: ArrayLike, *, persons: Sequence[Hashable] | None = None, seed: int = 0
) -> Agreement:
    """Bland-Altman bias and limits (doi 10.1016/S0140-6736(86)90837-8), Lin's concordance and Spearman's correlation.

    Args:
        first: (n,) reference measurements, finite, n of 3 or more.
        second: (n,) the other measurements, in the same unit.
        persons: (n,) person of each pair; None: all are different persons.
        seed: of the bootstrap behind the intervals.

    Returns:
        Second minus first, with 95 % intervals over persons. If nothing varies, the interval is NaN, with a warning.

    Raises:
        FvvError: scikit-learn or statsmodels is not installed.
        StatisticsError: lengths differ, fewer than three pairs, a number is not finite, or one side never varies.

    Examples:
        >>> import fvv
        >>> result = fvv.agreement([1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 2.3, 4.5, 4.4, 5.2])
        >>> round(result.bias.value, 2), round(result.rank.value, 2)
        (0.5, 0.9)
    """
    one, two = _numbers(first, "first"), _numbers(second, "second")
    groups = _persons(persons, {"first": len(one), "second": len(two)})
    if len(one) < 3:
        raise StatisticsError(f"agreement needs three pairs or more, got {len(one)}")
    for name, values in (("first", one), ("second", two)):
        if not np.ptp(values):
            raise StatisticsError(f"all numbers of {name} are {values[0]:g}: correlations are not defined")
    bootstrap = _bootstrap(seed)  # Says first what is not installed.
    from fvv.analysis.agreement import bland_altman  # noqa: PLC0415  (an extra)

    result = bland_altman(one, two, groups, bootstrap)
    for name, estimate in (("bias", result.bias), ("concordance", result.concordance), ("rank", result.rank)):
        _with_interval(estimate, name)
    return result


def _mask(mask: Volume | NDArray[Any], name: str) -> BoolArray:
    array = mask.array if isinstance(mask, Volume) else np.asarray(mask)
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf" or not np.isin(array, (0, 1)).all():
        raise GeometryError(f"{name}: expected a bool mask, or one of 0 and 1", hint="compare with a threshold first")
    return array.astype(bool)


def _numbers(values: ArrayLike, name: str) -> FloatArray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"{name}: expected numbers, got {values!r:.60}") from error
    if array.ndim != 1:
        raise StatisticsError(f"{name}: expected one number an examination, got shape {array.shape}")
    if bad := int((~np.isfinite(array)).sum()):
        raise StatisticsError(f"{name}: {bad} of {array.size} are not finite", hint="leave these examinations out")
    return array


def _labels(values: ArrayLike, name: str) -> BoolArray:
    array = _numbers(values, name)
    if not np.isin(array, (0, 1)).all():
        raise StatisticsError(f"{name}: expected bool, or 0 and 1")
    return array.astype(bool)


def _persons(persons: Sequence[Hashable] | None, lengths: dict[str, int]) -> NDArray[np.int64]:
    """A number for each person, after all lengths are found to be one."""
    if persons is not None:
        lengths["persons"] = len(persons)
    if len(set(lengths.values())) != 1:
        raise StatisticsError(f"lengths differ: {', '.join(f'{name} {n}' for name, n in lengths.items())}")
    if not next(iter(lengths.values())):
        raise StatisticsError("no examination given")
    if persons is None:
        return np.arange(next(iter(lengths.values())))
    codes = {person: code for code, person in enumerate(dict.fromkeys(persons))}
    return np.array([codes[person] for person in persons], dtype=np.int64)


def _bootstrap(seed: int) -> Bootstrap:
    try:
        from fvv.analysis.statistics import Bootstrap  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError as error:
        hint = install_hint("report")
        raise FvvError(f"{error.name} is needed, which is not installed", hint=hint) from error
    return Bootstrap(SAMPLES, np.random.default_rng(seed))


def _with_interval(estimate: Estimate, name: str) -> Estimate:
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        warnings.warn(f"{name}: no interval, too little varies in these examinations", stacklevel=3)
    return estimate
