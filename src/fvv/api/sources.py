"""Images from a file, a nibabel image, or an array with its affine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.filebasedimages import FileBasedImage
from numpy.typing import ArrayLike, NDArray

from fvv.config import PreprocessConfig
from fvv.data import Case, Volume
from fvv.errors import GeometryError, InputError
from fvv.io.case import CaseFiles, read_b0, read_files, stated_b_value
from fvv.io.nifti import read_volume, read_weighted
from fvv.io.roi import inside, onto_grid, read_roi
from fvv.protocol import TARGET_B

Source = str | os.PathLike[str] | FileBasedImage | tuple[NDArray[Any], ArrayLike] | Volume
"""A NIfTI file, a nibabel image, an (i, j, k) array with its (4, 4) affine to RAS+ mm, or a `Volume`."""


def read(source: Source, *, index: int | None = None) -> Volume:
    """Read an image, or convert one, to a `Volume`.

    Args:
        source: a NIfTI file, a nibabel image, an array with its affine, or a volume, which is returned as it is.
        index: the volume to read of a 4D file, counted from 0.

    Returns:
        (i, j, k) float64 for a file and a nibabel image, with the scaling applied; an array keeps its dtype. Voxels
        that are not finite are kept.

    Raises:
        GeometryError: not 3D, or an affine that is singular, sheared or not finite.
        InputError: a file that cannot be read, or something that is no image.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> fvv.read((np.ones((4, 4, 2)), np.diag([2, 2, 5, 1]))).spacing_mm
        (2.0, 2.0, 5.0)
    """
    if isinstance(source, str | os.PathLike):
        return read_volume(Path(source), index=index, finite=False)
    if index is not None:
        raise InputError("an index names a volume of a 4D file: other images are 3D", hint="take the volume yourself")
    if isinstance(source, Volume):
        return source
    if isinstance(source, FileBasedImage):
        return Volume.from_nibabel(source)
    given: object = source
    if not isinstance(given, tuple) or len(given) != 2:
        expected = "a file, an image of nibabel, (array, affine) or a Volume"
        raise InputError(f"expected {expected}, got {type(given).__name__}")
    return Volume(np.asarray(given[0]), np.asarray(given[1], dtype=np.float64))


def case_of(
    b0: Source,
    b1000: Source,
    mask: Source | None,
    config: PreprocessConfig,
    *,
    b_value: float | None = None,
    examination_id: str | None = None,
) -> Case:
    """One examination; files are read as `fvv predict --b0 --b1000` reads them, other images are held to the same.

    Args:
        mask: brain; None: one is computed.
        config: which volume of 4D files, whether images on another grid may be resampled.
        b_value: of b1000, s/mm^2, where no file states it; None: that of the config.
        examination_id: None: the name of the b1000 file without its ending, or "patient".

    Raises:
        InputError: the b-value given is not the one that the file of b1000 states.
    """
    if b_value is not None:
        config = config.model_copy(update={"b_value": b_value})
    if isinstance(b0, str | os.PathLike) and isinstance(b1000, str | os.PathLike):
        name = examination_id or Path(b1000).name.partition(".")[0]
        mask_file = Path(mask) if isinstance(mask, str | os.PathLike) else None
        case = read_files(CaseFiles(name, Path(b1000), b0=Path(b0), mask=mask_file), config)
    else:
        image, b, said = _b1000(b1000, config)
        first = _b0(b0, config)
        first, moved = onto_grid(first, image, "b0", resample=config.resample_b0, option="preprocess.resample_b0=True")
        notes = (*filter(None, [said]), *moved)
        case = Case(examination_id or "patient", first, image, b_value=b, notes=notes)
    if mask is not None and case.mask is None:
        brain, notes = _mask(mask, case.b1000, config)
        case = replace(case, mask=brain, notes=(*case.notes, *notes))
    return case


def _b1000(source: Source, config: PreprocessConfig) -> tuple[Volume, float | None, str]:
    """b1000, its b-value and how it was chosen, where the other image is no file."""
    if not isinstance(source, str | os.PathLike):
        return _as_read(read(source), "b1000"), config.b_value, ""
    volume, by_file, note = read_weighted(Path(source), index=config.b1000_index, target_b=TARGET_B, finite=False)
    return volume, stated_b_value(Path(source), by_file, config.b_value), note


def _b0(source: Source, config: PreprocessConfig) -> Volume:
    """b0, where the other image is no file."""
    if not isinstance(source, str | os.PathLike):
        return _as_read(read(source), "b0")
    return read_b0(Path(source), index=config.b0_index, finite=False)


def _as_read(volume: Volume, name: str) -> Volume:
    """The volume as a file would be read: float64 in C order, on which sums of voxels depend to the bit."""
    if volume.array.dtype.kind not in "biuf":
        raise GeometryError(f"{name}: expected an array of numbers, got {volume.array.dtype}")
    return Volume(np.asarray(volume.array, dtype=np.float64, order="C"), volume.affine)


def _mask(mask: Source, b1000: Volume, config: PreprocessConfig) -> tuple[Volume, tuple[str, ...]]:
    """A mask of any source on the grid of b1000, and what was done to it."""
    resample = config.resample_rois
    if isinstance(mask, str | os.PathLike):
        return read_roi(Path(mask), b1000, resample=resample)
    stored = _as_read(read(mask), "mask")
    array, notes = inside(stored.array, "mask")
    option = "preprocess.resample_rois=True"
    moved, said = onto_grid(Volume(array, stored.affine), b1000, "mask", resample=resample, option=option)
    return moved, (*notes, *said)
