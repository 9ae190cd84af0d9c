"""NIfTI files in and out.

Reading is suspicious: whatever a file may hold, the caller gets float64 numbers on a sound grid or an error that names
the file. Writing is atomic, and the same array gives the same bytes.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fvv import protocol
from fvv.arrays import Affine, FloatArray
from fvv.data import Volume
from fvv.errors import FvvError, InputError
from fvv.io.atomic import atomic_write
from fvv.io.bvals import read_bvals
from fvv.system.regular import refuse_irregular

SUFFIXES = (".nii.gz", ".nii")
MAX_EDGE = 1024
MAX_VOXELS = 512 * 512 * 256
"""Of one volume: no head examination comes near, and a few copies in float64 fit into any machine's memory."""
MAX_BYTES = 2**32
"""Of a 4D file: 500 volumes of 256 x 256 x 60."""
MAX_EXTENSIONS = 2**24
"""Bytes of all header extensions together; those that converters write take a few megabytes at most."""
_NIFTI2_SIZE = 540
_SMALLEST_EXTENSION = 16
SAME_VOXEL_SIZE = 0.01
"""Relative: what rounding and slightly sheared s-forms make of one size."""


def find_image(folder: Path, *stems: str) -> Path | None:
    """The file `stem.nii.gz` or `stem.nii` in a folder, for the first stem that has one.

    Raises:
        InputError: both forms, or two of the stems, are there: which one is meant cannot be known. Or it is a link to
            nothing: the file is meant to be there, and what stands in for it (a computed mask) would be something else.
    """
    found = [folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    found = [path for path in found if path.exists() or path.is_symlink()]
    if len(found) > 1:
        raise InputError(
            f"{' and '.join(path.name for path in found)} are both there", file=folder, hint="keep only one of them"
        )
    if found and not found[0].exists():
        refuse_irregular(found[0])
    return found[0] if found else None


def read_volume(path: Path, *, index: int | None = None, target_b: float | None = None, finite: bool = True) -> Volume:
    """Read a 3D image as float64.

    Args:
        path: `.nii.gz` or `.nii`.
        index: which volume of a 4D file, 0-based.
        target_b: b-value wanted from a 4D file that has a `.bval` file, s/mm^2: 0 takes the mean of its b0 volumes,
            1000 the geometric mean of the shell nearest to it (see `fvv.protocol`).
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


def write_volume(path: Path, array: np.ndarray, affine: Affine, *, like: Path | None = None) -> None:
    """Write an image atomically; same array, same bytes.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        array: (i, j, k) or (i, j, k, volume); bool is written as uint8; (i, j, k, 3) uint8 needs `write_rgb`.
        affine: (4, 4), voxel to RAS+ mm.
        like: an input file on the same grid, whose q-form and s-form are copied to the bit.
    """
    stored = array.astype(np.uint8) if array.dtype == bool else array
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    if like is not None:
        _copy_forms(image, like)
    with atomic_write(path) as temporary:
        nib.save(image, temporary)


def write_rgb(path: Path, rgb: np.ndarray, affine: Affine, *, like: Path | None = None) -> None:
    """Write a colour image: (i, j, k, 3) uint8 becomes NIfTI's RGB24 type."""
    rgb_type = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    packed = np.ascontiguousarray(rgb, dtype=np.uint8).view(rgb_type)[..., 0]
    write_volume(path, packed, affine, like=like)


def _read_array(path: Path, index: int | None, target_b: float | None) -> tuple[FloatArray, Affine]:
    refuse_irregular(path)
    try:
        _refuse_extensions(path)
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


def _refuse_extensions(path: Path) -> None:
    """Refuse header extensions that claim more than the header has room for: nibabel takes that memory unseen.

    Raises:
        InputError: as said, or the data lie in another file, up to whose end nibabel would read extensions.
    """
    try:
        _walk_extensions(path)
    except (OSError, EOFError, zlib.error):
        return  # Who reads the image says what is wrong with it.


def _walk_extensions(path: Path) -> None:
    with nib.openers.ImageOpener(str(path)) as stream:
        start = stream.read(4)
        nifti2 = int.from_bytes(start, "little") == _NIFTI2_SIZE or int.from_bytes(start, "big") == _NIFTI2_SIZE
        kind = nib.Nifti2Header if nifti2 else nib.Nifti1Header
        size = kind.template_dtype.itemsize
        raw = start + stream.read(size - len(start))
        if len(raw) < size:
            return
        header = kind(raw, check=False)
        if bytes(header["magic"])[:2] == b"ni":
            raise InputError("not a readable NIfTI image: a header whose voxels lie in another file", file=path)
        if bytes(header["magic"])[:2] != b"n+":
            return
        offset = float(header["vox_offset"])
        if stream.read(4)[:1] in {b"", b"\x00"} or not math.isfinite(offset):
            return
        room = int(offset) - size - 4
        if room > MAX_EXTENSIONS:
            raise InputError(f"the header claims {room} bytes of extensions: over the most read here", file=path)
        while room >= _SMALLEST_EXTENSION:
            claimed = int(np.frombuffer(stream.read(8)[:4], dtype=f"{header.endianness}i4").sum())
            if not 8 <= claimed <= room:
                message = f"an extension of the header claims {claimed} bytes, there is room for {room}"
                raise InputError(message, file=path, hint="convert the image again, without extensions")
            stream.read(claimed - 8)
            room -= claimed


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
    shell = _chosen(path, n, target_b)
    volumes = (np.asarray(image.dataobj[(..., k, *trailing)], dtype=np.float64) for k in shell.indices)
    average: Callable[[Iterable[FloatArray], int], FloatArray]
    average = protocol.average_b0 if target_b == 0 else protocol.average_b1000
    return average(volumes, len(shell.indices))


def _chosen(path: Path, n: int, target_b: float | None) -> protocol.Shell:
    """The volumes of a 4D file whose b-value, in the .bval file, is the one wanted."""
    bvals = read_bvals(path)
    if target_b is None or bvals is None:
        raise InputError(
            f"4D with {n} volumes, one was expected",
            file=path,
            hint="name the volume with --b0-index / --b1000-index, or put the .bval file beside the image",
        )
    if len(bvals) != n:
        raise _unequal(path, n, bvals)
    values = bvals.tolist()
    shell = protocol.b0_volumes(values) if target_b == 0 else protocol.b1000_volumes(values)
    if shell is None:
        raise InputError(f"no volume near b = {target_b:g} s/mm^2; b-values are {sorted(set(values))}", file=path)
    return shell


def _unequal(path: Path, n: int, bvals: FloatArray) -> InputError:
    message = f"{n} volume{'s' if n > 1 else ''} but {len(bvals)} b-values in the .bval file beside it"
    return InputError(message, file=path, hint="give each volume its b-value, or remove the .bval file")


def read_shell(image_path: Path, *, index: int | None = None) -> protocol.Shell | None:
    """What `read_volume` takes of a b1000 file, and its b-value; None where no `.bval` file tells.

    Args:
        image_path: of b1000.
        index: which volume of a 4D file, 0-based; None: chosen by b-value.

    Raises:
        InputError: another number of b-values than of volumes, or none that may stand for b1000.
    """
    bvals = read_bvals(image_path)
    if bvals is None or not len(bvals):
        return None
    image: Any = nib.load(image_path)
    n = math.prod(image.shape[3:])
    if len(bvals) != n:
        raise _unequal(image_path, n, bvals)
    if n == 1:
        return protocol.Shell((0,), float(bvals[0]))
    return _chosen(image_path, n, protocol.TARGET_B) if index is None else protocol.Shell((index,), float(bvals[index]))


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
