"""NIfTI files in and out; NRRD and MetaImage files in (`fvv.io.itk`).

A file is checked before it is believed: whatever it holds, the caller gets float64 numbers on a sound grid or an error
that names the file. Writing is atomic, and the same array gives the same bytes.
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
from fvv.io.itk import ITK_SUFFIXES, open_itk
from fvv.protocol import TARGET_B, Average, Shell, b0_volumes, b1000_volumes, choice_note, shells
from fvv.system.regular import read_regular_text, refuse_irregular

SUFFIXES = (".nii.gz", ".nii")
IMAGE_SUFFIXES = (*SUFFIXES, *ITK_SUFFIXES)
"""Of all images that are read; results are written as NIfTI."""
MAX_EDGE = 1024
MAX_VOXELS = 512 * 512 * 256
"""Of one volume: no head examination comes near, and a few copies in float64 fit into any machine's memory."""
MAX_BYTES = 2**32
"""Of a 4D file: 500 volumes of 256 x 256 x 60."""
MAX_EXTENSIONS = 2**24
"""Bytes of all header extensions together; those that converters write take a few megabytes at most."""
_SMALLEST_EXTENSION = 16
_SAME_VOXEL_SIZE = 0.01
"""Relative: what rounding and slightly sheared s-forms make of one size."""


def find_image(folder: Path, *stems: str) -> Path | None:
    """The file `stem.nii.gz`, `.nii`, `.nrrd` or `.mha` in a folder, for the first stem that has one.

    Raises:
        InputError: both forms, or two of the stems, are there: which one is meant cannot be known. Or it is a link to
            nothing: the file is meant to be there, and what would replace it (a computed mask) would be something else.
    """
    found = [folder / f"{stem}{suffix}" for stem in stems for suffix in IMAGE_SUFFIXES]
    found = [path for path in found if path.exists() or path.is_symlink()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"{names} are both there", file=folder, hint="keep only one of them")
    if found and not found[0].exists():
        refuse_irregular(found[0])
    return found[0] if found else None


def bval_beside(image: Path) -> Path:
    """Where an image's own `.bval` file would lie."""
    return image.with_name(f"{without_suffix(image)}.bval")


def without_suffix(image: Path) -> str:
    """Name of an image without its ending; other names stay whole."""
    ending = next((suffix for suffix in IMAGE_SUFFIXES if image.name.endswith(suffix)), "")
    return image.name.removesuffix(ending)


def find_bval(image: Path) -> Path | None:
    """The `.bval` file that applies to an image, beside it or, in BIDS, higher up; None where there is none.

    Inheritance: a file applies to all images below its folder that have its entities (Gorgolewski et al. 2016,
    doi 10.1038/sdata.2016.44; "The Inheritance Principle" of the specification). The nearest one counts.
    """
    beside = bval_beside(image)
    if beside.exists() or beside.is_symlink():
        return beside
    entities = set(beside.stem.split("_"))
    subject = next((entity for entity in entities if entity.startswith("sub-")), None)
    if subject is None or subject not in image.parent.parts:
        return None
    for folder in image.parents:
        found = [path for path in sorted(folder.glob("*dwi.bval")) if set(path.stem.split("_")) <= entities]
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise InputError(f"{names} both apply to {image.name}", file=folder, hint="keep only one of them")
        if found:
            return found[0]
        if subject not in folder.parts:  # The root of the data set.
            break
    return None


def read_bvals(image: Path) -> list[float]:
    """b-values in s/mm^2 of an image's volumes; empty where no file states them."""
    path = find_bval(image)
    if path is None:
        return []
    text = read_regular_text(path, encoding="latin-1", most_bytes=2**20)
    try:
        return [float(word) for word in text.split()]
    except ValueError as error:
        raise InputError(f"expected numbers: {error}", file=path) from error


def read_volume(path: Path, *, index: int | None = None, target_b: float | None = None, finite: bool = True) -> Volume:
    """Read a 3D image as float64: `read_weighted` without what it says of the b-value."""
    return read_weighted(path, index=index, target_b=target_b, finite=finite)[0]


def read_weighted(
    path: Path, *, index: int | None = None, target_b: float | None = None, finite: bool = True
) -> tuple[Volume, float | None, str]:
    """Read a 3D image as float64, of a 4D file the volumes that are meant; one of these at a time is in memory.

    Args:
        index: which volume of a 4D file, 0-based.
        target_b: what is wanted from a 4D file that has a `.bval` file: 0 for its b0, 1000 for its b1000 (see
            `fvv.protocol`).
        finite: refuse an image with NaN or infinite voxels.

    Returns:
        The image, its b-value in s/mm^2 (None where no file states it), and a note on how it was chosen.
    """
    array, affine, shell, note = _read(path, index, target_b)
    bad = int(array.size - np.isfinite(array).sum())
    if bad and finite:
        raise InputError(f"{bad} voxels are not finite (NaN or infinite)", file=path, hint="repair the image first")
    try:
        return Volume(array, affine), None if shell is None else shell.b_value, note
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


def _copy_forms(image: nib.Nifti1Image, like: Path) -> None:
    if not like.name.endswith(SUFFIXES):
        return
    header = nib.load(like).header
    if not isinstance(header, nib.Nifti1Header):
        return
    quaternion = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    for field in ("qform_code", "sform_code", *quaternion, "srow_x", "srow_y", "srow_z"):
        image.header[field] = header[field]
    image.header["pixdim"][:4] = header["pixdim"][:4]


def _read(path: Path, index: int | None, target_b: float | None) -> tuple[FloatArray, Affine, Shell | None, str]:
    refuse_irregular(path)
    try:
        if path.suffix in ITK_SUFFIXES:
            itk = open_itk(path, most_bytes=MAX_BYTES, most_voxels=MAX_VOXELS, most_edge=MAX_EDGE)
            array, shell, note = _volumes(path, itk, index, target_b)
            return np.asarray(array, dtype=np.float64, order="C"), np.array(itk.affine), shell, note
        raw = _raw_header(path)
        image: Any = nib.load(path)
        if raw is None or not isinstance(image, nib.Nifti1Image):
            raise InputError("not a readable NIfTI image: of another kind", file=path)
        _refuse_doubtful_voxels(path, raw, nib.affines.voxel_sizes(image.affine))
        _refuse_false_size(path, image)
        array, shell, note = _volumes(path, image, index, target_b)
        # In C order, which all that is made from it inherits: in the file's own order all steps take twice as long.
        return np.asarray(array, dtype=np.float64, order="C"), np.array(image.affine, np.float64), shell, note
    except InputError:
        raise
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise InputError(f"not a readable NIfTI image: {error}", file=path) from error
    except (OSError, EOFError, zlib.error, ValueError, OverflowError, MemoryError) as error:
        what = str(error) or type(error).__name__
        message = f"cannot be read, it may be damaged or cut short: {what}"
        raise InputError(message, file=path, hint="copy or convert it again") from error


def _raw_header(path: Path) -> Any:
    """The header as stored, which nibabel would correct; None where it is no single-file NIfTI's.

    Refused: extensions that claim more than there is room for, which nibabel would take memory for; and a header whose
    voxels lie in another file, up to whose end nibabel would read extensions.
    """
    with nib.openers.ImageOpener(str(path)) as stream:
        start = stream.read(4)
        nifti2 = nib.Nifti2Header.sizeof_hdr in {int.from_bytes(start, order) for order in ("little", "big")}
        kind = nib.Nifti2Header if nifti2 else nib.Nifti1Header
        size = kind.template_dtype.itemsize
        raw = start + stream.read(size - len(start))
        header = kind(raw, check=False) if len(raw) == size else None
        if header is None or bytes(header["magic"])[:2] not in {b"ni", b"n+"}:
            return None
        if bytes(header["magic"])[:2] == b"ni":
            raise InputError("not a readable NIfTI image: a header whose voxels lie in another file", file=path)
        offset = float(header["vox_offset"])
        if stream.read(4)[:1] in {b"", b"\x00"} or not math.isfinite(offset):
            return header
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
        return header


def _refuse_doubtful_voxels(path: Path, raw: Any, used: FloatArray) -> None:
    """Refuse a voxel size that is not positive where the affine comes from it: nibabel would replace it by 1 mm.

    And one that is given twice and differs: every volume in mL depends on it.
    """
    sizes = raw["pixdim"][1:4].astype(float)
    if raw["sform_code"] <= 0 and not (sizes > 0).all():
        raise InputError(f"voxel size {sizes.tolist()} mm: it must be positive", file=path)
    if (sizes > 0).all() and not np.allclose(sizes, used, rtol=_SAME_VOXEL_SIZE):
        message = f"voxel size {sizes.round(3).tolist()} mm (pixdim), but {used.round(3).tolist()} mm by the s-form"
        raise InputError(message, file=path, hint="correct the header: one of them is wrong")


def _refuse_false_size(path: Path, image: Any) -> None:
    """Refuse a header that differs from what the file holds, before any memory is taken.

    A compressed file is read to its end for this: only there is its checksum, which nibabel never reaches, and without
    it a flipped bit is a wrong number.
    """
    kind, shape = image.get_data_dtype(), [int(n) for n in image.shape]
    if kind.fields or kind.kind not in "iuf":
        raise InputError(f"expected numbers, found data type {kind}", file=path)
    if min(shape, default=0) < 1:
        raise InputError(f"the image is empty: shape {image.shape}", file=path)
    declared = math.prod(shape) * kind.itemsize
    claim = f"the header claims {declared} bytes (shape {image.shape})"
    if max(shape[:3]) > MAX_EDGE or math.prod(shape[:3]) > MAX_VOXELS or declared > MAX_BYTES:
        raise InputError(f"{claim}: over the largest image read here", file=path)
    end = int(image.dataobj.offset) + declared
    too_much = end + math.prod(shape[:2]) * kind.itemsize  # A slice more.
    held = path.stat().st_size
    if path.suffix == ".gz":
        held = 0
        with gzip.open(path) as stream:
            while held < too_much and (block := stream.read(2**20)):
                held += len(block)
    if held < end:
        raise InputError(f"{claim}, the file holds less", file=path)
    if held >= too_much:
        raise InputError(f"{claim}, the file holds more: one of them is wrong", file=path)


def _volumes(path: Path, image: Any, index: int | None, target_b: float | None) -> tuple[FloatArray, Shell | None, str]:
    """The one image that is meant, its shell and the note on its choice."""
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in {3, 4}:
        raise InputError(f"expected a 3D image, got shape {image.shape}", file=path)
    n = shape[3] if len(shape) == 4 else 1
    b_values = [] if target_b is None else read_bvals(path)
    if len(b_values) not in {0, n}:
        message = f"{n} volume{'s' if n > 1 else ''} but {len(b_values)} b-values in the .bval file beside it"
        raise InputError(message, file=path, hint="give each volume its b-value, or remove the .bval file")
    rest = (0,) * (image.ndim - len(shape))
    if n == 1:
        alone = np.asarray(image.dataobj, dtype=np.float64)[(..., *rest)]
        return alone, Shell((0,), b_values[0]) if b_values else None, ""
    if index is not None:
        if not 0 <= index < n:
            raise InputError(f"volume {index} asked for, the file holds 0 to {n - 1}", file=path)
        named = np.asarray(image.dataobj[(..., index, *rest)])
        return named, Shell((index,), b_values[index]) if b_values else None, ""
    if not b_values:
        hint = "name the volume with --b0-index / --b1000-index, or put the .bval file beside the image"
        raise InputError(f"4D with {n} volumes, one was expected", file=path, hint=hint)
    shell = b0_volumes(b_values) if target_b == 0 else b1000_volumes(b_values)
    if shell is None:
        message = f"no volume near b = {target_b:g} s/mm^2; b-values are {sorted(set(b_values))}"
        raise InputError(message, file=path)
    average = Average(shell.b_value)
    for k in shell.indices:
        average.add(np.asarray(image.dataobj[(..., k, *rest)], dtype=np.float64))
    note = choice_note(shell.b_value, (one.b_value for one in shells(b_values))) if target_b == TARGET_B else ""
    return average.mean(), shell, note and f"{path.name}: {note}"
