"""Onto the grid of b1000: masks, whose values are read as 0 and 1 as they are meant, and b0."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fvv.arrays import BoolArray
from fvv.data import Volume
from fvv.errors import GeometryError, InputError
from fvv.imaging.geometry import corner_displacement_mm, reoriented_like, resample_onto, same_grid
from fvv.io.nifti import read_volume

LOST_SHARE = 0.1
"""Of a mask's volume: resampling that loses more is noted."""


def read_roi(path: Path, b1000: Volume, *, resample: bool) -> tuple[Volume, tuple[str, ...]]:
    """Read a mask as (i, j, k) bool on b1000's grid, and notes on what was done to it.

    Args:
        b1000: the grid it must lie on; the same voxels stored in another order are reordered.
        resample: resample it (nearest) where it lies on another grid, instead of refusing it.
    """
    stored = read_volume(path)
    try:
        array, notes = inside(stored.array, path.name)
    except InputError as error:
        error.file = str(path)
        raise
    mask, moved = onto_grid(
        Volume(array, stored.affine), b1000, path.name, resample=resample, option="--resample-rois", file=path
    )
    return mask, (*notes, *moved)


def onto_grid(
    volume: Volume, b1000: Volume, name: str, *, resample: bool, option: str, file: Path | None = None
) -> tuple[Volume, tuple[str, ...]]:
    """An image (linear) or a mask (bool: nearest) on b1000's grid, and notes on what was done to it.

    Args:
        volume: on any grid; the same voxels in another order of axes are reordered.
        name: of the volume in the notes.
        resample: resample what lies on another grid, instead of refusing it.
        option: of the command line that does so.

    Raises:
        GeometryError: on another grid, or resampling leaves nothing of a mask.
    """
    if same_grid(volume, b1000):
        return volume, ()
    turned = reoriented_like(volume, b1000)
    if turned is not None:
        return turned, (f"{name} brought into b1000's order of axes",)
    if not resample:
        apart = f"corners lie up to {corner_displacement_mm(volume, b1000):.3g} mm apart"
        shapes = f"shape {volume.array.shape} against {b1000.array.shape}"
        difference = apart if volume.array.shape == b1000.array.shape else shapes
        message = f"{'' if file else f'{name} is '}not on the grid of b1000: {difference}"
        raise GeometryError(message, file=file, hint=f"{option} resamples it onto b1000")
    note = f"{name} resampled onto b1000's grid"
    if volume.array.dtype != bool:
        return resample_onto(volume, b1000, order=1), (note,)
    moved = resample_onto(volume, b1000, order=0)
    before, after = (float(one.array.sum()) * one.voxel_volume_ml for one in (volume, moved))
    if before and not after:
        message = f"resampled onto b1000's grid nothing is left of its {before:.3g} mL: it lies elsewhere, or between"
        hint = "check its affine; an empty mask would mean no lesion"
        raise GeometryError(f"{message} slices", file=file, hint=hint)
    lost = f"; {before:.3g} mL became {after:.3g} mL" if after < (1 - LOST_SHARE) * before else ""
    return moved, (note + lost,)


def inside(array: np.ndarray, name: str) -> tuple[BoolArray, list[str]]:
    """What is over 0.5; or, where nothing is, not 0, if there is only one other value; and notes that name it.

    255 read as a signed byte is -1, a mask divided by 255 is 0.004. Several values, none over 0.5, may be a probability
    map or anything else: an empty mask made of it would be a wrong answer, "no lesion".
    """
    values = np.unique(array)
    low, high = float(values[0]), float(values[-1])
    if high > 0.5:
        binary = set(values.tolist()) <= {0.0, 1.0}
        return array > 0.5, [] if binary else [f"{name} is not 0/1 (values {low:g} to {high:g}): used where over 0.5"]
    others = values[values != 0]
    if len(others) == 0:
        return array != 0, []
    if len(others) == 1 and len(values) == 2:
        return array != 0, [f"{name} is not 0/1 (values 0 and {others[0]:g}): used where not 0"]
    raise InputError(
        f"no mask: {len(values)} values from {low:g} to {high:g}, none over 0.5",
        hint="store the mask as 0 and 1; of a probability map, the voxels over your threshold",
    )
