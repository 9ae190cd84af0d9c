"""NRRD and MetaImage files: what 3D Slicer and ITK programs read and write. SimpleITK does it (extra `itk`).

ITK's coordinates are LPS+ mm, NIfTI's and ours are RAS+ mm: the first two axes change sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fvv.arrays import Affine, UInt8Array
from fvv.errors import InputError, install_hint
from fvv.io.atomic import atomic_write

ITK_SUFFIXES = (".nrrd", ".mha")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MOST_HEADER = 2**20
"""Bytes in which the header of a file ends."""
_DIMENSIONS = (3, 4)
_ANATOMICAL = re.compile(
    rb"^space: *(right-anterior-superior|left-anterior-superior|left-posterior-superior|RAS|LAS|LPS) *\r?$",
    re.MULTILINE | re.IGNORECASE,
)
"""The spaces of an NRRD header that ITK brings into its own; any other it takes for LPS, `scanner-xyz` too."""


def open_itk(path: Path, *, most_bytes: int, most_voxels: int, most_edge: int) -> nib.Nifti1Image:
    """Read a `.nrrd` or `.mha` file as the NIfTI image that holds the same.

    Args:
        most_bytes: of all voxels; refused before any memory is taken, as are:
        most_voxels, most_edge: of one volume.

    Returns:
        (i, j, k) or (i, j, k, volume) numbers of the file's own type, affine voxel to RAS+ mm.

    Raises:
        InputError: SimpleITK is not installed; damaged; voxels in another file; an NRRD that does not say where left
            is; several numbers a voxel.
    """
    sitk = _simple_itk(path)
    _refuse_unclear_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        shape = reader.GetSize()
        if len(shape) not in _DIMENSIONS or reader.GetNumberOfComponents() != 1:
            raise InputError(
                f"expected one number a voxel in 3 or 4 dimensions, found {reader.GetNumberOfComponents()} in "
                f"{len(shape)}",
                file=path,
            )
        claimed = math.prod(shape) * np.dtype(np.float64).itemsize
        if max(shape[:3]) > most_edge or math.prod(shape[:3]) > most_voxels or claimed > most_bytes:
            raise InputError(f"the header claims shape {shape}: over the largest image read here", file=path)
        image = reader.Execute()
    except RuntimeError as error:
        said = " ".join(str(error).split())[-200:]
        message = f"cannot be read, it may be damaged or cut short: {said}"
        raise InputError(message, file=path, hint="copy or convert it again") from error
    array = sitk.GetArrayFromImage(image).T
    if array.dtype in {np.dtype(np.int64), np.dtype(np.uint64)}:  # nibabel asks which type is meant.
        array = array.astype(np.float64)
    return nib.Nifti1Image(array, _affine(image))


def write_label_map(path: Path, labels: UInt8Array, affine: Affine, names: Mapping[int, str]) -> None:
    """Write a label map atomically; a `.seg.nrrd` file names its segments as 3D Slicer does.

    Args:
        path: ends in `.nrrd` or `.mha`.
        labels: (i, j, k).
        affine: (4, 4), voxel to RAS+ mm.
        names: of the labels.

    Raises:
        InputError: SimpleITK is not installed.
    """
    sitk = _simple_itk(path)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    lps = _LPS_TO_RAS @ affine
    image = sitk.GetImageFromArray(labels.T)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    if path.name.endswith(".seg.nrrd"):
        for number, (label, name) in enumerate(names.items()):
            for key, value in (("ID", f"Segment_{label}"), ("Name", name), ("LabelValue", f"{label}"), ("Layer", "0")):
                image.SetMetaData(f"Segment{number}_{key}", value)
    with atomic_write(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)


def _affine(image: Any) -> np.ndarray:
    """(4, 4) voxel to RAS+ mm of a SimpleITK image of 3 or 4 dimensions."""
    n = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(n, n)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return _LPS_TO_RAS @ affine


def _refuse_unclear_header(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(_MOST_HEADER)
    if path.suffix == ".nrrd":
        header = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]
        if not start.startswith(b"NRRD"):
            raise InputError("not a readable NRRD image: of another kind", file=path)
        if re.search(rb"^data ?file:", header, re.MULTILINE | re.IGNORECASE):
            raise InputError("a header whose voxels lie in another file", file=path, hint="save it as one file")
        # ITK would take the axes for left, posterior, superior: left and right would be a guess.
        if not _ANATOMICAL.search(header):
            message = "does not say where left is: its header has no `space` such as left-posterior-superior"
            raise InputError(message, file=path, hint="save it again from the program that knows its orientation")
    else:
        found = re.search(rb"^ElementDataFile *= *([^\r\n]*)", start, re.MULTILINE)
        if found is None:
            raise InputError("not a readable MetaImage: of another kind", file=path)
        if found[1].strip() != b"LOCAL":
            raise InputError("a header whose voxels lie in another file", file=path, hint="save it as one file")


def _simple_itk(path: Path) -> Any:
    try:
        import SimpleITK  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        hint = f"{install_hint('itk')}; or convert it to NIfTI"
        raise InputError(f"{path.suffix[1:].upper()} needs SimpleITK", file=path, hint=hint) from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # noqa: FBT003 - SimpleITK's
    return SimpleITK
