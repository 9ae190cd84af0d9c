"""Masks drawn by people or tools: 0 and 1 as they are meant, on the grid of b1000."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fvv.data import Volume
from fvv.errors import GeometryError, InputError
from fvv.imaging.geometry import corner_displacement_mm, reoriented_like, resample_onto, same_grid
from fvv.io.nifti import read_volume

LOST_SHARE = 0.1
"""Of a mask's volume: resampling that loses more is mentioned."""


def read_roi(path: Path, b1000_path: Path, b1000: Volume, *, resample: bool) -> tuple[Volume, tuple[str, ...]]:
    """Read a mask as (i, j, k) bool on b1000's grid, and what is to be said of it.

    Args:
        path: of the mask.
        b1000_path, b1000: the grid it must lie on; the same voxels stored in another order are reordered.
        resample: resample it where it lies on another grid (nearest), and do not refuse it.

    Raises:
        InputError: values that are no mask.
        GeometryError: on another grid, or resampling leaves nothing of it.
    """
    drawn = read_volume(path)
    array, notes = _meant(drawn.array, path)
    roi = Volume(array, drawn.affine)
    if same_grid(roi, b1000):
        return roi, tuple(notes)
    turned = reoriented_like(roi, b1000)
    if turned is not None:
        return turned, (*notes, f"{path.name} brought into b1000's order of axes")
    if not resample:
        raise off_grid(path, roi, b1000_path, b1000, "--resample-rois")
    return _resampled(roi, path, b1000, notes)


def off_grid(path: Path, volume: Volume, b1000_path: Path, b1000: Volume, option: str) -> GeometryError:
    """Says how far an image lies from the grid of b1000, and which option resamples it."""
    if volume.array.shape != b1000.array.shape:
        difference = f"shape {volume.array.shape} against {b1000.array.shape}"
    else:
        difference = f"corners lie up to {corner_displacement_mm(volume, b1000):.3g} mm apart"
    return GeometryError(
        f"not on the grid of {b1000_path.name}: {difference}",
        file=path,
        hint=f"{option} resamples it onto {b1000_path.name}",
    )


def _meant(array: np.ndarray, path: Path) -> tuple[np.ndarray, list[str]]:
    """What is inside: over 0.5; or, where nothing is, not 0, if there is only one other value.

    255 read as a signed byte is -1, a mask divided by 255 is 0.004. Several values, none over 0.5, may be a probability
    map or anything else: none of it taken for "no lesion" would be an answer by mistake.
    """
    values = np.unique(array)
    low, high = float(values[0]), float(values[-1])
    if high > 0.5:
        binary = len(values) <= 2 and bool(np.isin(values, (0.0, 1.0)).all())
        notes = [] if binary else [f"{path.name} is not 0/1 (values {low:g} to {high:g}): taken where over 0.5"]
        return array > 0.5, notes
    others = values[values != 0]
    if not others.size:
        return np.zeros(array.shape, dtype=bool), []
    if len(others) == 1 and len(values) == 2:
        return array != 0, [f"{path.name} is not 0/1 (values 0 and {others[0]:g}): taken where not 0"]
    raise InputError(
        f"no mask: {len(values)} values from {low:g} to {high:g}, none over 0.5",
        file=path,
        hint="store the mask as 0 and 1; of a probability map, the voxels over your threshold",
    )


def _resampled(roi: Volume, path: Path, b1000: Volume, notes: list[str]) -> tuple[Volume, tuple[str, ...]]:
    moved = resample_onto(roi, b1000, order=0)
    before, after = (float(one.array.sum()) * one.voxel_volume_ml for one in (roi, moved))
    if before and not after:
        raise GeometryError(
            f"resampled onto b1000's grid nothing is left of its {before:.3g} mL: it lies elsewhere, or between slices",
            file=path,
            hint="check its affine; an empty mask would mean no lesion",
        )
    lost = f"; {before:.3g} mL became {after:.3g} mL" if after < (1 - LOST_SHARE) * before else ""
    return moved, (*notes, f"{path.name} resampled onto b1000's grid{lost}")
