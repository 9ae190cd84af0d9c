"""One image of a DICOM object, classic or enhanced, and what it says of its contrast and its place.

Tag numbers: DICOM PS3.3 and PS3.6 (current edition); private ones as the makers' conformance statements give them.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError

from fvv.arrays import FloatArray
from fvv.errors import InputError
from fvv.io.dicom import MARK_END, has_mark, is_dicom

SIEMENS_B_VALUE = (0x0019, 0x100C)
GE_B_VALUE = (0x0043, 0x1039)
PHILIPS_B_VALUE = (0x2001, 0x1003)
GE_OFFSET = 100_000
"""GE adds multiples of 10^9 to the b-value; no b-value reaches 10^5."""
MAX_MEMBER = 2**30
"""Bytes of one file inside a zip file; an enhanced object of 500 volumes stays under it."""
_SEQUENCE_NAME_B = re.compile(r"b(\d+)")
NOT_DIFFUSION = ("ADC", "EADC", "EXP", "FA", "TENSOR", "LOCALIZER", "SCOUT", "COLFA", "PROJECTION IMAGE")
"""Words of ImageType, or of the description, of what is computed from diffusion or is no diffusion at all."""


DAMAGE = (
    *(InvalidDicomError, BytesLengthException, zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ArithmeticError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError),
)
"""What pydicom raises on damaged files: at once, or when an element is first looked at, which may be anywhere."""


class _Within(io.BufferedReader):
    """Asks for no more than the file holds: the length of an element may claim gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = min(size, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(size)


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file on disk, or in a zip file."""

    path: Path
    member: str = ""

    def read(self, *, pixels: bool) -> Any:
        """The dataset; without pixels for the header alone.

        Raises:
            InputError: damaged.
        """
        try:
            if not self.member:
                with _Within(io.FileIO(self.path)) as file:
                    return pydicom.dcmread(file, stop_before_pixels=not pixels)
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                content = stream.read(MAX_MEMBER + 1)  # A few bytes of a zip file can stand for terabytes.
            if len(content) > MAX_MEMBER:
                raise InputError(f"{self.member} unpacks to more than {MAX_MEMBER} bytes", file=self.path)
            return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=not pixels)
        except DAMAGE as error:
            raise InputError(f"not readable as DICOM: {error}", file=self.path) from error


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice.

    Attributes:
        file, index: where it is; the index counts the frames of an enhanced object, from 0.
        series: SeriesInstanceUID.
        b_value: s/mm^2, None where nothing says it.
        isotropic: averaged over directions by the scanner (a trace image).
        position, orientation: ImagePositionPatient and ImageOrientationPatient, LPS mm.
        spacing: PixelSpacing: between rows, between columns, mm.
        shape: rows, columns.
    """

    file: DicomFile
    index: int
    series: str
    series_number: int
    description: str
    b_value: float | None
    isotropic: bool
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    shape: tuple[int, int]

    @property
    def along_normal_mm(self) -> float:
        """Distance of the slice from the scanner's origin along its normal."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        return float(np.dot(np.cross(row, column), self.position))


def find_files(path: Path) -> list[DicomFile]:
    """DICOM files in a folder and below, or in a zip file, sorted by name."""
    if path.is_file():
        return list(_in_zip(path)) if zipfile.is_zipfile(path) else [DicomFile(path)] if is_dicom(path) else []
    found: list[DicomFile] = []
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        if file.suffix.lower() == ".zip":
            found += _in_zip(file)
        elif is_dicom(file):
            found.append(DicomFile(file))
    return found


def study_of(folder: Path) -> str:
    """StudyInstanceUID of the first DICOM file in a folder or below."""
    first = next(file for file in sorted(folder.rglob("*")) if file.is_file() and is_dicom(file))
    return str(DicomFile(first).read(pixels=False).get("StudyInstanceUID", ""))


def frames_of(file: DicomFile) -> list[Frame]:
    """The slices of one file that may be diffusion images; none for other objects, localisers and computed maps.

    Raises:
        InputError: damaged, or a mosaic.
    """
    dataset = file.read(pixels=False)
    kinds = [str(word).upper() for word in dataset.get("ImageType", [])]
    if dataset.get("Modality") != "MR" or "Rows" not in dataset:
        return []
    if "MOSAIC" in kinds:
        hint = "convert it to NIfTI first, with dcm2niix"
        raise InputError("a Siemens mosaic: all slices in one picture", file=file.path, hint=hint)
    if _is_computed(kinds, str(dataset.get("SeriesDescription", ""))):
        return []
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        return [_frame(file, 0, dataset, [dataset])]
    return [_frame(file, n, dataset, [groups, shared]) for n, groups in enumerate(per_frame)]


def pixels_of(dataset: Any, index: int) -> FloatArray:
    """(rows, columns) float64: the stored values of a frame, with its rescale slope and intercept.

    Raises:
        InputError: compressed in a way nothing here can read.
    """
    try:
        stored = dataset.pixel_array
    except (NotImplementedError, RuntimeError, AttributeError, ValueError) as error:
        hint = "decompress it first, for example with dcmdjpeg or gdcmconv --raw"
        raise InputError(f"its pixels cannot be decoded: {error}", hint=hint) from error
    if stored.ndim == 3:
        stored = stored[index]
    groups = [dataset]
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is not None:
        groups = [per_frame[index], _first(dataset, "SharedFunctionalGroupsSequence")]
    where = [_first(group, "PixelValueTransformationSequence") or group for group in groups if group is not None]
    slope = _lookup(where, "RescaleSlope", 1.0)
    intercept = _lookup(where, "RescaleIntercept", 0.0)
    return np.asarray(stored, dtype=np.float64) * float(slope) + float(intercept)


def _in_zip(path: Path) -> Iterator[DicomFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith("/"):
                    continue
                with archive.open(name) as stream:
                    if has_mark(stream.read(MARK_END)):
                        yield DicomFile(path, name)
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"not a readable zip file: {error}", file=path) from error


def _is_computed(kinds: list[str], description: str) -> bool:
    words = re.split(r"[^A-Z]+", description.upper())
    return any(word in NOT_DIFFUSION for word in (*kinds, *words))


def _frame(file: DicomFile, index: int, dataset: Any, groups: list[Any]) -> Frame:
    groups = [group for group in groups if group is not None]
    b_value, isotropic = _diffusion(dataset, groups)
    try:
        return Frame(
            file=file,
            index=index,
            series=str(dataset.SeriesInstanceUID),
            series_number=int(dataset.get("SeriesNumber") or 0),
            description=str(dataset.get("SeriesDescription", "")),
            b_value=b_value,
            isotropic=isotropic,
            position=_numbers(groups, "PlanePositionSequence", "ImagePositionPatient"),
            orientation=_numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient"),
            spacing=_numbers(groups, "PixelMeasuresSequence", "PixelSpacing"),
            shape=(int(dataset.Rows), int(dataset.Columns)),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"does not say where its slices lie: {error}", file=file.path) from error


def _diffusion(dataset: Any, groups: list[Any]) -> tuple[float | None, bool]:
    """b-value and whether the frame is a trace image: the standard's own elements first, then the makers'."""
    isotropic = "TRACEW" in [str(word).upper() for word in dataset.get("ImageType", [])]
    for group in groups:
        sequence = _first(group, "MRDiffusionSequence") or group
        if "DiffusionBValue" in sequence:
            directionality = str(sequence.get("DiffusionDirectionality", ""))
            return float(sequence.DiffusionBValue), isotropic or directionality == "ISOTROPIC"
    for place in (*groups, dataset):
        for tag in (SIEMENS_B_VALUE, PHILIPS_B_VALUE, GE_B_VALUE):
            value = _private_number(place, tag)
            if value is not None:
                return value % GE_OFFSET if tag == GE_B_VALUE else value, isotropic
    named = _SEQUENCE_NAME_B.search(str(dataset.get("SequenceName", "")))
    return (float(named[1]) if named else None), isotropic


def _private_number(place: Any, tag: tuple[int, int]) -> float | None:
    """The first number of a private element, whether its type is known to the file or not (then it is bytes)."""
    if tag not in place:
        return None
    value = place[tag].value
    if isinstance(value, bytes):
        if tag == PHILIPS_B_VALUE and len(value) == 4:
            return float(np.frombuffer(value, "<f4")[0])
        value = value.decode("ascii", errors="replace").replace("\0", " ").strip().split("\\")[0]
    elif isinstance(value, list | tuple | pydicom.multival.MultiValue):
        value = value[0] if len(value) else None
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _numbers(groups: list[Any], sequence: str, name: str) -> tuple[float, ...]:
    value = _lookup([_first(group, sequence) or group for group in groups], name, None)
    if value is None:
        raise ValueError(f"{name} is missing")
    return tuple(float(number) for number in value)


def _lookup(places: list[Any], name: str, default: Any) -> Any:
    return next((place.get(name) for place in places if place.get(name) is not None), default)


def _first(place: Any, sequence: str) -> Any:
    items = place.get(sequence)
    return items[0] if items else None
