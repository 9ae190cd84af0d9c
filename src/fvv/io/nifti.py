"""NIfTI files in and out.

Reading is suspicious: whatever a file may hold, the caller gets float64 numbers on a sound grid or an error that names
the file. Writing is atomic, and the same array gives the same bytes.
"""

from __future__ import annotations

import gzip
import math
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
MAX_EDGE = 1024
MAX_VOXELS = 512 * 512 * 256
"""Of one volume: no head examination comes near, and a few copies in float64 fit into any machine's memory."""
MAX_BYTES = 2**32
"""Of a 4D file: 500 volumes of 256 x 256 x 60."""
B0_TOLERANCE = 50.0
"""s/mm^2: a volume under this counts as b0 (scanners write 0, 5 or 50)."""
B1000_TOLERANCE = 150.0
"""s/mm^2: a volume within this of 1000 counts as b1000."""
SAME_VOXEL_SIZE = 0.01
"""Relative: what rounding and slightly sheared s-forms make of one size."""


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


def read_volume(path: Path, *, index: int | None = None, target_b: float | None = None, finite: bool = True) -> Volume:
    """Read a 3D image as float64.

    Args:
        path: `.nii.gz` or `.nii`.
        index: which volume of a 4D file, 0-based.
        target_b: b-value wanted from a 4D file that has a `.bval` file beside it, s/mm^2: 0 takes the mean of the
            volumes near 0, anything else the geometric mean of the volumes near it.
        finite: refuse an image with NaN or infinite voxels.

    Raises:
        InputError: missing, unreadable, truncated, of a type that is no image, with non-finite values, or 4D with more
            than one volume and no way to choose.
    """
    array, affine = _read_array(path, index, target_b)
    bad = int(array.size - np.isfinite(array).sum())
    if bad and finite:
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


def _read_array(path: Path, index: int | None, target_b: float | None) -> tuple[FloatArray, Affine]:
    if not path.exists():
        raise InputError("no such file", file=path)
    if not path.is_file():
        raise InputError("expected a file, found a folder or a device", file=path)
    try:
        image: Any = nib.load(path)
        if not isinstance(image, nib.Nifti1Image):  # A pair's data would lie in another file.
            raise InputError("not a readable NIfTI image: of another kind", file=path)
        _refuse_doubtful_voxels(path, image)
        _refuse_lies(path, image)
        # The order of every array made from it: with the file's own, all that follows takes up to twice as long.
        array = np.asarray(_pick_volume(path, image, index, target_b), dtype=np.float64, order="C")
        affine = np.array(image.affine, dtype=np.float64)
    except InputError:
        raise
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise InputError(f"not a readable NIfTI image: {_one_line(error)}", file=path) from error
    except (OSError, EOFError, zlib.error, ValueError, OverflowError, MemoryError) as error:
        raise InputError(f"cannot be read, it may be damaged or cut short: {_one_line(error)}", file=path) from error
    return array, affine


def _refuse_doubtful_voxels(path: Path, image: Any) -> None:
    """Refuse a voxel size that is not positive where the affine comes of it: nibabel would take 1 mm in its place.

    And one that is given twice and not the same: every volume in mL hangs on it.
    """
    with nib.openers.ImageOpener(str(path)) as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    sizes = header["pixdim"][1:4].astype(float)
    if header["sform_code"] <= 0 and not (sizes > 0).all():
        raise InputError(f"voxel size {sizes.tolist()} mm: it must be positive", file=path)
    used = nib.affines.voxel_sizes(image.affine)
    if (sizes > 0).all() and not np.allclose(sizes, used, rtol=SAME_VOXEL_SIZE):
        raise InputError(
            f"voxel size {sizes.round(3).tolist()} mm (pixdim), but {used.round(3).tolist()} mm by the s-form",
            file=path,
            hint="correct the header: one of them is wrong",
        )


def _refuse_lies(path: Path, image: Any) -> None:
    """Refuse a header that says other than the file holds, before any memory is taken.

    A compressed file is read to its end for this: only there is its checksum, where nibabel never comes, and without it
    a flipped bit is a wrong number.
    """
    kind, shape = image.get_data_dtype(), [int(n) for n in image.shape]
    if kind.fields or kind.kind not in "iuf":
        raise InputError(f"expected numbers, found data type {kind}", file=path)
    if min(shape, default=0) < 1:
        raise InputError(f"the image is empty: shape {image.shape}", file=path)
    declared = math.prod(shape) * kind.itemsize
    if max(shape[:3]) > MAX_EDGE or math.prod(shape[:3]) > MAX_VOXELS or declared > MAX_BYTES:
        raise InputError(
            f"the header claims {declared} bytes (shape {image.shape}): over the largest image read here", file=path
        )
    end = int(image.dataobj.offset) + declared
    one_slice = math.prod(shape[:2]) * kind.itemsize
    held = _bytes_held(path, enough=end + one_slice)
    if held < end:
        raise InputError(f"the header claims {declared} bytes (shape {image.shape}), the file holds less", file=path)
    if held >= end + one_slice:
        raise InputError(f"holds more than the header claims (shape {image.shape}): one of them is wrong", file=path)


def _bytes_held(path: Path, enough: int) -> int:
    """Bytes in a file, after decompression; counting stops once there are enough."""
    if path.suffix != ".gz":
        return path.stat().st_size
    held = 0
    with gzip.open(path) as stream:
        while held < enough and (block := stream.read(2**20)):
            held += len(block)
    return held


def _pick_volume(path: Path, image: Any, index: int | None, target_b: float | None) -> np.ndarray:
    """The one 3D image meant; of a 4D file no more than one volume at a time is in memory."""
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in {3, 4}:
        raise InputError(f"expected a 3D image, got shape {image.shape}", file=path)
    trailing = (0,) * (image.ndim - len(shape))
    if len(shape) == 3:
        return np.asarray(image.dataobj, dtype=np.float64)[(..., *trailing)]
    n = shape[3]
    if index is not None:
        if not 0 <= index < n:
            raise InputError(f"volume {index} asked for, the file holds 0 to {n - 1}", file=path)
        return np.asarray(image.dataobj[(..., index, *trailing)])
    near = _volumes_near(path, n, target_b)
    volumes = (np.asarray(image.dataobj[(..., int(k), *trailing)], dtype=np.float64) for k in near)
    if target_b == 0:
        return sum(volumes, np.zeros(shape[:3])) / len(near)
    logarithms = (np.log(np.maximum(volume, 1e-6)) for volume in volumes)
    return np.asarray(np.exp(sum(logarithms, np.zeros(shape[:3])) / len(near)))


def _volumes_near(path: Path, n: int, target_b: float | None) -> np.ndarray:
    """Indices of the volumes whose b-value, in the .bval file, is the one wanted."""
    bvals = read_bvals(path)
    if target_b is None or bvals is None:
        raise InputError(
            f"4D with {n} volumes, one was expected",
            file=path,
            hint="name the volume with --b0-index / --b1000-index, or put the .bval file beside the image",
        )
    if len(bvals) != n:
        raise _unequal(path, n, bvals)
    near = np.flatnonzero(np.abs(bvals - target_b) <= (B0_TOLERANCE if target_b == 0 else B1000_TOLERANCE))
    if not len(near):
        raise InputError(
            f"no volume near b = {target_b:g} s/mm^2; b-values are {sorted(set(bvals.tolist()))}", file=path
        )
    return near


def _unequal(path: Path, n: int, bvals: FloatArray) -> InputError:
    message = f"{n} volume{'s' if n > 1 else ''} but {len(bvals)} b-values in the .bval file beside it"
    return InputError(message, file=path, hint="give each volume its b-value, or remove the .bval file")


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
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error


def read_b_value(image_path: Path, *, index: int | None = None, target_b: float = 1000.0) -> float | None:
    """Mean b-value, s/mm^2, of the volumes that `read_volume` takes; None where no `.bval` file tells."""
    bvals = read_bvals(image_path)
    if bvals is None or not len(bvals):
        return None
    image: Any = nib.load(image_path)
    n = math.prod(image.shape[3:])
    if len(bvals) != n:
        raise _unequal(image_path, n, bvals)
    if len(bvals) > 1:
        bvals = bvals[np.abs(bvals - target_b) <= B1000_TOLERANCE] if index is None else bvals[index : index + 1]
    return float(bvals.mean()) if len(bvals) else None


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
