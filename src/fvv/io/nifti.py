"""NIfTI files in and out.

Reading is suspicious: whatever a file may hold, the caller gets float64 numbers on a sound grid or an error that names
the file. Writing is atomic, and the same array gives the same bytes.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fvv.arrays import Affine, FloatArray
from fvv.data import Volume
from fvv.errors import FvvError, InputError
from fvv.io.atomic import atomic_write

SUFFIXES = (".nii.gz", ".nii")
MAX_GZIP_RATIO = 1100
"""Deflate cannot shrink by more than 1032 (zlib's technical notes): a header that claims more lies about the size."""
B0_TOLERANCE = 50.0
"""s/mm^2: a volume under this counts as b0 (scanners write 0, 5 or 50)."""
B1000_TOLERANCE = 150.0
"""s/mm^2: a volume within this of 1000 counts as b1000."""


def find_image(folder: Path, *stems: str) -> Path | None:
    """The file `stem.nii.gz` or `stem.nii` in a folder, for the first stem that has one.

    Raises:
        InputError: both forms, or two of the stems, are there: which one is meant cannot be known.
    """
    found = [folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    found = [path for path in found if path.exists()]
    if len(found) > 1:
        raise InputError(
            f"{' and '.join(path.name for path in found)} are both there", file=folder, hint="keep only one of them"
        )
    return found[0] if found else None


def read_volume(path: Path, *, index: int | None = None, target_b: float | None = None) -> Volume:
    """Read a 3D image as float64.

    Args:
        path: `.nii.gz` or `.nii`.
        index: which volume of a 4D file, 0-based.
        target_b: b-value wanted from a 4D file that has a `.bval` file beside it, s/mm^2: 0 takes the mean of the
            volumes near 0, anything else the geometric mean of the volumes near it.

    Raises:
        InputError: missing, unreadable, truncated, of a type that is no image, with non-finite values, or 4D with more
            than one volume and no way to choose.
    """
    array, affine = _read_array(path)
    if array.ndim == 4:
        array = _pick_volume(path, array, index, target_b)
    if array.ndim != 3:
        raise InputError(f"expected a 3D image, got shape {array.shape}", file=path)
    if 0 in array.shape:
        raise InputError(f"the image is empty: shape {array.shape}", file=path)
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise InputError(f"{bad} voxels are not finite (NaN or infinite)", file=path, hint="repair the image first")
    try:
        return Volume(array, affine)
    except FvvError as error:
        error.file = str(path)
        raise


def write_volume(
    path: Path, array: np.ndarray, affine: Affine, *, like: Path | None = None, overwrite: bool = True
) -> None:
    """Write an image atomically; same array, same bytes.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        array: (i, j, k) or (i, j, k, volume); bool is written as uint8; (i, j, k, 3) uint8 needs `write_rgb`.
        affine: (4, 4), voxel to RAS+ mm.
        like: an input file on the same grid, whose q-form and s-form are copied to the bit.
        overwrite: replace what is there.
    """
    stored = array.astype(np.uint8) if array.dtype == bool else array
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    if like is not None:
        _copy_forms(image, like)
    with atomic_write(path, overwrite=overwrite) as temporary:
        nib.save(image, temporary)


def write_rgb(path: Path, rgb: np.ndarray, affine: Affine, *, like: Path | None = None, overwrite: bool = True) -> None:
    """Write a colour image: (i, j, k, 3) uint8 becomes NIfTI's RGB24 type."""
    rgb_type = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    packed = np.ascontiguousarray(rgb, dtype=np.uint8).view(rgb_type)[..., 0]
    write_volume(path, packed, affine, like=like, overwrite=overwrite)


def _read_array(path: Path) -> tuple[FloatArray, Affine]:
    if not path.exists():
        raise InputError("no such file", file=path)
    if not path.is_file():
        raise InputError("expected a file, found a folder", file=path)
    try:
        image: Any = nib.load(path)
        _refuse_impossible_size(path, image)
        if image.get_data_dtype().fields or image.get_data_dtype().kind not in "iuf":
            raise InputError(f"expected numbers, found data type {image.get_data_dtype()}", file=path)
        array = np.asarray(image.dataobj, dtype=np.float64)
        affine = np.array(image.affine, dtype=np.float64)
    except InputError:
        raise
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise InputError(f"not a readable NIfTI image: {_one_line(error)}", file=path) from error
    except (OSError, EOFError, zlib.error, ValueError, OverflowError, MemoryError) as error:
        raise InputError(f"cannot be read, it may be damaged or cut short: {_one_line(error)}", file=path) from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return array, affine


def _refuse_impossible_size(path: Path, image: Any) -> None:
    # Before any memory is taken: a few bytes can claim terabytes.
    declared = int(np.prod([int(n) for n in image.shape], dtype=object)) * image.get_data_dtype().itemsize
    ratio = MAX_GZIP_RATIO if path.suffix == ".gz" else 1
    if declared > path.stat().st_size * ratio:
        raise InputError(
            f"the header claims {declared} bytes (shape {image.shape}), more than the file can hold", file=path
        )


def _pick_volume(path: Path, array: FloatArray, index: int | None, target_b: float | None) -> FloatArray:
    n = array.shape[3]
    if index is not None:
        if not 0 <= index < n:
            raise InputError(f"volume {index} asked for, the file holds 0 to {n - 1}", file=path)
        return array[..., index]
    bvals = read_bvals(path)
    if target_b is None or bvals is None:
        raise InputError(
            f"4D with {n} volumes, one was expected",
            file=path,
            hint="name the volume with --b0-index / --b1000-index, or put the .bval file beside the image",
        )
    if len(bvals) != n:
        raise InputError(f"{n} volumes but {len(bvals)} b-values in the .bval file", file=path)
    near = np.abs(bvals - target_b) <= (B0_TOLERANCE if target_b == 0 else B1000_TOLERANCE)
    if not near.any():
        raise InputError(
            f"no volume near b = {target_b:g} s/mm^2; b-values are {sorted(set(bvals.tolist()))}", file=path
        )
    chosen = array[..., near]
    if target_b == 0:
        return np.asarray(chosen.mean(axis=3))
    return np.asarray(np.exp(np.log(np.maximum(chosen, 1e-6)).mean(axis=3)))


def read_bvals(image_path: Path) -> FloatArray | None:
    """b-values in s/mm^2 from the `.bval` file beside an image, or None where there is none."""
    name = image_path.name.removesuffix(".gz").removesuffix(".nii")
    path = image_path.with_name(f"{name}.bval")
    if not path.is_file():
        return None
    try:
        return np.array([float(word) for word in path.read_text(encoding="ascii").split()])
    except ValueError as error:
        raise InputError(f"expected numbers: {_one_line(error)}", file=path) from error


def _copy_forms(image: nib.Nifti1Image, like: Path) -> None:
    header = nib.load(like).header
    if not isinstance(header, nib.Nifti1Header):
        return
    for field in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"):
        image.header[field] = header[field]
    for field in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        image.header[field] = header[field]
    image.header["pixdim"][:4] = header["pixdim"][:4]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
