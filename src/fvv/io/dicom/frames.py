"""One image of a DICOM object, classic or enhanced, and what it says of its person, its contrast and its place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.pixels.utils import pixel_array

from fvv.arrays import FloatArray
from fvv.errors import InputError
from fvv.io.dicom import MAKER
from fvv.io.dicom.diffusion import Weighting, first_item, lookup, weighting_of
from fvv.io.dicom.files import DAMAGE, MAX_FILE, DicomFile
from fvv.io.dicom.mosaic import Tile, is_mosaic, tiles_of

MAX_EDGE = 4096
"""Pixels of one picture, a mosaic of 16 x 16 slices of 256 x 256."""
MAX_FRAMES = 50_000
_IMAGES = "1.2.840.10008.5.1.4.1.1."
"""Storage classes of objects that belong to a patient; a CD's directory is none of them."""
_MR_IMAGES = {f"{_IMAGES}4", f"{_IMAGES}4.1", f"{_IMAGES}4.4"}
"""MR, enhanced MR, legacy converted enhanced MR."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice.

    Attributes:
        file, index: where it is; the index counts the frames of an enhanced object or the slices of a mosaic, from 0.
        sop: SOPInstanceUID.
        person: who was scanned: PatientID and its issuer; name and date of birth where there is no number.
        born: PatientBirthDate; "" where there is none.
        scanner: Manufacturer and DeviceSerialNumber, each "" where not stated.
        numbers: AcquisitionNumber and InstanceNumber; None where the latter is not stated.
        study, series: StudyInstanceUID, SeriesInstanceUID.
        study_time: StudyDate and StudyTime, by which studies are ordered.
        frame_of_reference: FrameOfReferenceUID; "" where there is none.
        series_number, description, protocol: for people.
        weighting: of diffusion.
        timing: EchoTime, RepetitionTime, InversionTime in ms; None where not stated.
        position, orientation: ImagePositionPatient and ImageOrientationPatient, LPS mm.
        spacing: PixelSpacing: between rows, between columns, mm.
        stated_step: SpacingBetweenSlices, mm, which may be wrong; None where there is none.
        shape: rows, columns.
        tile: its place in a mosaic.
    """

    file: DicomFile
    index: int
    sop: str
    person: tuple[str, ...]
    born: str
    scanner: tuple[str, str]
    numbers: tuple[str, str] | None
    study: str
    series: str
    study_time: str
    frame_of_reference: str
    series_number: int
    description: str
    protocol: str
    weighting: Weighting
    timing: tuple[float | None, ...]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    stated_step: float | None
    shape: tuple[int, int]
    tile: Tile | None = None

    @property
    def normal(self) -> FloatArray:
        """(3,) unit vector across the slice, LPS."""
        across = np.cross(self.orientation[:3], self.orientation[3:])
        return np.asarray(across / np.linalg.norm(across))

    @property
    def along_normal_mm(self) -> float:
        """Distance of the slice from the scanner's origin along its normal."""
        return float(np.dot(self.normal, self.position))


def person_of(dataset: Any) -> tuple[str, ...]:
    """Who was scanned, as far as the header tells."""
    number = str(dataset.get("PatientID") or "").strip()
    if number:
        return number, str(dataset.get("IssuerOfPatientID") or "").strip()
    name = str(dataset.get("PatientName") or "").strip().rstrip("^").casefold()
    return "", name, str(dataset.get("PatientBirthDate") or "").strip()


def frames_of(file: DicomFile, dataset: Any) -> tuple[list[Frame], str]:
    """The slices of one object that lie in space, and why there are none or fewer.

    Args:
        file: where it is.
        dataset: its header.

    Returns:
        The slices, and the reason for which images of it are left out ("" where none are).
    """
    reason = _no_slice(dataset)
    if reason:
        return [], reason
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is not None:
        if len(per_frame) > MAX_FRAMES:
            raise InputError(f"holds over {MAX_FRAMES} frames", file=file.path)
        shared = first_item(dataset, "SharedFunctionalGroupsSequence")
        found = [_frame(file, n, dataset, [groups, shared], None) for n, groups in enumerate(per_frame)]
    elif is_mosaic(dataset):
        tiles = tiles_of(dataset)
        if not tiles:
            return [], "mosaics whose slices the header does not place"
        found = [_frame(file, n, dataset, [dataset], tile) for n, tile in enumerate(tiles)]
    else:
        found = [_frame(file, 0, dataset, [dataset], None)]
    frames = [frame for frame in found if frame is not None]
    return frames, "" if len(frames) == len(found) else "images without a place in space"


def _no_slice(dataset: Any) -> str:
    """Why an object holds no slices; "" where it may."""
    if str(dataset.get("Manufacturer") or "") == MAKER:
        return "results of an earlier run"
    modality, storage = dataset.get("Modality"), _storage_class(dataset)
    if modality is None and "Rows" not in dataset and storage.startswith(_IMAGES):
        raise ValueError("it ends before it says what it is")
    is_mr = modality == "MR" or (modality is None and storage in _MR_IMAGES)
    if not is_mr or "Rows" not in dataset or "Columns" not in dataset:
        return "objects that are no MR images"
    if str(dataset.get("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE):
        return "localisers and screen saves"
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        return "images in colour"
    fits = 1 <= int(dataset.Rows) <= MAX_EDGE and 1 <= int(dataset.Columns) <= MAX_EDGE
    return "" if fits else f"images over {MAX_EDGE} pixels wide"


def _storage_class(dataset: Any) -> str:
    meta = getattr(dataset, "file_meta", None) or {}
    return str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")


def pixels_of(dataset: Any, frame: Frame) -> FloatArray:
    """(rows, columns) float64: the stored values of a frame, with its rescale slope and intercept.

    Raises:
        InputError: compressed in a way nothing here can read, or not of the size that the header states.
    """
    if frame.file.path.stat().st_size > MAX_FILE and not frame.file.member:
        raise InputError(f"holds more than {MAX_FILE} bytes", file=frame.file.path)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    index = frame.index if per_frame is not None else None
    try:
        stored = pixel_array(dataset, index=index)
    except (NotImplementedError, RuntimeError, AttributeError, ValueError) as error:
        hint = "install the decoders (`pip install 'fvv[dicom]'`), or decompress it: dcmdjpeg, gdcmconv --raw"
        raise InputError(f"its pixels cannot be decoded: {error}", file=frame.file.path, hint=hint) from error
    if stored.ndim == 3 and stored.shape[0] == 1:
        stored = stored[0]
    if frame.tile is not None:
        (row, column), (rows, columns) = frame.tile.corner, frame.tile.shape
        stored = stored[row : row + rows, column : column + columns]
    if stored.shape != frame.shape:
        raise InputError(f"holds pixels of shape {stored.shape}, expected {frame.shape}", file=frame.file.path)
    groups = [dataset]
    if per_frame is not None:
        groups = [per_frame[frame.index], first_item(dataset, "SharedFunctionalGroupsSequence")]
    where = [first_item(group, "PixelValueTransformationSequence") or group for group in groups if group is not None]
    slope = lookup(where, "RescaleSlope", 1.0)
    intercept = lookup(where, "RescaleIntercept", 0.0)
    return np.asarray(stored, dtype=np.float64) * float(slope) + float(intercept)


def _frame(file: DicomFile, index: int, dataset: Any, groups: list[Any], tile: Tile | None) -> Frame | None:
    """One slice; None where it has no place in space."""
    groups = [group for group in groups if group is not None]
    position = tile.position if tile else _numbers(groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _numbers(groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    if not (position and orientation and spacing) or min(spacing) <= 0 or not _is_a_plane(orientation):
        return None
    step = _numbers(groups, "PixelMeasuresSequence", "SpacingBetweenSlices", 1)
    return Frame(
        file=file,
        index=index,
        sop=str(dataset.get("SOPInstanceUID") or ""),
        person=person_of(dataset),
        born=_text(dataset, "PatientBirthDate").strip(),
        scanner=(_maker(dataset), _text(dataset, "DeviceSerialNumber").strip()),
        numbers=_numbers_of(dataset),
        study=str(dataset.get("StudyInstanceUID") or ""),
        series=str(dataset.get("SeriesInstanceUID") or ""),
        study_time=f"{_text(dataset, 'StudyDate')} {_text(dataset, 'StudyTime')}",
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or "").strip(),
        series_number=int(dataset.get("SeriesNumber") or 0),
        description=_text(dataset, "SeriesDescription"),
        protocol=_text(dataset, "ProtocolName"),
        weighting=weighting_of(dataset, groups),
        timing=tuple(_time(dataset, groups, name) for name in ("EchoTime", "RepetitionTime", "InversionTime")),
        position=position,
        orientation=orientation,
        spacing=spacing,
        stated_step=step[0] if step else None,
        shape=tile.shape if tile else (int(dataset.Rows), int(dataset.Columns)),
        tile=tile,
    )


def _text(dataset: Any, name: str) -> str:
    """An element that only people read; "" where it is not there or damaged."""
    try:
        return str(dataset.get(name) or "")
    except DAMAGE:
        return ""


def _maker(dataset: Any) -> str:
    """First word of Manufacturer, whose further words change from one software to the next."""
    words = _text(dataset, "Manufacturer").casefold().split()
    return words[0] if words else ""


def _numbers_of(dataset: Any) -> tuple[str, str] | None:
    instance = _text(dataset, "InstanceNumber").strip()
    return (_text(dataset, "AcquisitionNumber").strip(), instance) if instance else None


def _is_a_plane(orientation: tuple[float, ...]) -> bool:
    """Whether row and column are unit vectors at a right angle (within a degree)."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    return bool(np.allclose(lengths, 1, atol=0.02) and abs(float(row @ column)) < 0.02)


def _time(dataset: Any, groups: list[Any], name: str) -> float | None:
    """EchoTime, RepetitionTime or InversionTime; of an enhanced object where its groups give it."""
    echo = [first_item(group, "MREchoSequence") for group in groups]
    timing = [first_item(group, "MRTimingAndRelatedParametersSequence") for group in groups]
    values = [item.get("EffectiveEchoTime") for item in echo if item is not None] if name == "EchoTime" else []
    values += [item.get(name) for item in timing if item is not None] + [dataset.get(name)]
    stated = next((value for value in values if value not in (None, "")), None)
    return None if stated is None else float(stated)


def _numbers(groups: list[Any], sequence: str, name: str, count: int) -> tuple[float, ...]:
    """Finite numbers of an element; empty where it is not there or holds something else."""
    value = lookup([first_item(group, sequence) or group for group in groups], name, None)
    if value is None:
        return ()
    numbers = tuple(float(number) for number in np.atleast_1d(value))
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else ()
