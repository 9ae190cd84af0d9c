"""One image of a DICOM object, classic, enhanced or a mosaic: what it says of its person, its contrast, its place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.pixels.utils import pixel_array
from pydicom.tag import Tag

from fvv.arrays import FloatArray
from fvv.errors import InputError, install_hint
from fvv.io.dicom import MAKER, weighting
from fvv.io.dicom.find import DAMAGE, DicomFile
from fvv.io.dicom.weighting import Weighting, first_item, kind_of, lookup, siemens_csa, weighting_of

OURS = "results of an earlier run"
"""Why an object that this program wrote is left out."""
MAX_EDGE = 4096
"""Pixels of one picture, a mosaic of 16 x 16 slices of 256 x 256."""
MAX_FRAMES = 50_000
_MOST_TILES = 400
"""Slices in one picture."""
_UIH_SLICES = (0x0065, 0x1051)
"""A sequence with the place of each slice in UIH's grids."""
_IMAGES = "1.2.840.10008.5.1.4.1.1."
"""Storage classes of objects that belong to a patient; a CD's directory is none of them."""
_MR_IMAGES = {f"{_IMAGES}4", f"{_IMAGES}4.1", f"{_IMAGES}4.4"}
"""MR, enhanced MR, legacy converted enhanced MR."""
_SECONDARY_CAPTURE = f"{_IMAGES}7"

_NAMED: tuple[str | tuple[int, int], ...] = (
    *("Manufacturer", "Modality", "SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "SamplesPerPixel"),
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "DeviceSerialNumber", "ProtocolName"),
    *("StudyInstanceUID", "SeriesInstanceUID", "StudyDate", "StudyTime", "SeriesNumber", "SeriesDescription"),
    *("AcquisitionNumber", "InstanceNumber", "FrameOfReferenceUID", "EchoTime", "RepetitionTime", "InversionTime"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "EffectiveEchoTime"),
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "MREchoSequence"),
    *("MRTimingAndRelatedParametersSequence", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"),
    *((_UIH_SLICES[0], element) for element in (_UIH_SLICES[1], _UIH_SLICES[1] >> 8)),
    *weighting.LOOKED_AT,
)
LOOKED_AT = tuple(map(Tag, _NAMED))
"""Top-level elements that `frames_of` reads: an index of many files reads no others."""

_Tile = tuple[tuple[float, ...], tuple[int, int], tuple[int, int]]
"""Position, corner and shape of a slice of a mosaic, as in `Frame`."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice.

    Attributes:
        file, index: where it is; the index counts the frames of an enhanced object or the slices of a mosaic, from 0.
        sop: SOPInstanceUID.
        person: who was scanned: PatientID and its issuer; name and date of birth where there is no number.
        born: PatientBirthDate; "" where there is none.
        scanner: Manufacturer (its first word: the others change with the software) and DeviceSerialNumber, each ""
            where not stated.
        numbers: AcquisitionNumber and InstanceNumber; None where the latter is not stated.
        study, series: StudyInstanceUID, SeriesInstanceUID.
        study_time: StudyDate and StudyTime, by which studies are ordered.
        frame_of_reference: FrameOfReferenceUID; "" where there is none.
        timing: EchoTime, RepetitionTime, InversionTime in ms; None where not stated.
        position, orientation: ImagePositionPatient and ImageOrientationPatient, LPS mm.
        spacing: PixelSpacing: between rows, between columns, mm.
        stated_step: SpacingBetweenSlices, mm, which may be wrong; None where there is none.
        shape: rows, columns.
        corner: its first row and column in a mosaic; None elsewhere.
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
    corner: tuple[int, int] | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Its SOPInstanceUID (the file, where it has none) and index."""
        return self.sop or str(self.file), self.index

    def along(self, other: Frame) -> float:
        """Distance of another slice from the scanner's origin along this one's normal, mm."""
        across = np.cross(self.orientation[:3], self.orientation[3:])
        return float(across / np.linalg.norm(across) @ np.array(other.position))


def frames_of(file: DicomFile, dataset: Any) -> tuple[list[Frame], str]:
    """The slices of one object that lie in space, and why there are none or fewer.

    Returns:
        The slices, and the reason for which images of it are left out ("" where none are).
    """
    if reason := _no_slice(dataset):
        return [], reason
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is not None:
        if len(per_frame) > MAX_FRAMES:
            raise InputError(f"holds over {MAX_FRAMES} frames", file=file.path)
        shared = first_item(dataset, "SharedFunctionalGroupsSequence")
        found = [_frame(file, n, dataset, [groups, shared]) for n, groups in enumerate(per_frame)]
    elif {"MOSAIC", "GRID"} & set(kind_of(dataset.get("ImageType"))) or _UIH_SLICES in dataset:
        places = _uih_places(dataset) if _UIH_SLICES in dataset else _siemens_places(dataset)
        shape = _tile_shape(dataset, len(places))
        if shape is None:
            return [], "mosaics without slice positions in the header"
        edge = math.ceil(math.sqrt(len(places)))
        tiles = [(place, (n // edge * shape[0], n % edge * shape[1]), shape) for n, place in enumerate(places)]
        found = [_frame(file, n, dataset, [dataset], tile) for n, tile in enumerate(tiles)]
    else:
        found = [_frame(file, 0, dataset, [dataset])]
    frames = [frame for frame in found if frame is not None]
    return frames, "" if len(frames) == len(found) else "images without a position in space"


def pixels_of(dataset: Any, frame: Frame) -> FloatArray:
    """(rows, columns) float64: the stored values of a frame, with its rescale slope and intercept."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    try:
        stored = pixel_array(dataset, index=None if per_frame is None else frame.index)
    except (NotImplementedError, RuntimeError, AttributeError, ValueError) as error:
        hint = f"{install_hint('dicom')}; or decompress it: dcmdjpeg, gdcmconv --raw"
        raise InputError(f"its pixels cannot be decoded: {error}", file=frame.file.path, hint=hint) from error
    if stored.ndim == 3 and stored.shape[0] == 1:
        stored = stored[0]
    if frame.corner is not None:
        (row, column), (rows, columns) = frame.corner, frame.shape
        stored = stored[row : row + rows, column : column + columns]
    if stored.shape != frame.shape:
        raise InputError(f"holds pixels of shape {stored.shape}, expected {frame.shape}", file=frame.file.path)
    groups = [dataset]
    if per_frame is not None:
        groups = [per_frame[frame.index], first_item(dataset, "SharedFunctionalGroupsSequence")]
    where = [first_item(group, "PixelValueTransformationSequence") or group for group in groups if group is not None]
    slope, intercept = lookup(where, "RescaleSlope", 1.0), lookup(where, "RescaleIntercept", 0.0)
    return np.asarray(stored, dtype=np.float64) * float(slope) + float(intercept)


def _no_slice(dataset: Any) -> str:
    if str(dataset.get("Manufacturer") or "") == MAKER:
        return OURS
    meta = getattr(dataset, "file_meta", None) or {}
    modality = dataset.get("Modality")
    storage = str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    if "Rows" not in dataset and (storage in _MR_IMAGES or (modality is None and storage.startswith(_IMAGES))):
        raise ValueError("it is cut off before its type and size are stated")
    is_mr = modality == "MR" or (modality is None and storage in _MR_IMAGES)
    if not is_mr or "Rows" not in dataset or "Columns" not in dataset:
        return "objects that are not MR images"
    if str(dataset.get("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE):
        return "localisers and screen saves"
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        return "images in colour"
    fits = 1 <= int(dataset.Rows) <= MAX_EDGE and 1 <= int(dataset.Columns) <= MAX_EDGE
    return "" if fits else f"images over {MAX_EDGE} pixels wide"


def _frame(file: DicomFile, index: int, dataset: Any, groups: list[Any], tile: _Tile | None = None) -> Frame | None:
    groups = [group for group in groups if group is not None]
    own = _numbers(groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    position, corner, shape = tile or (own, None, (int(dataset.Rows), int(dataset.Columns)))
    orientation = _numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _numbers(groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    if not (position and orientation and spacing) or min(spacing) <= 0 or not _is_a_plane(orientation):
        return None
    step = _numbers(groups, "PixelMeasuresSequence", "SpacingBetweenSlices", 1)
    instance = _text(dataset, "InstanceNumber")
    return Frame(
        file=file,
        index=index,
        sop=str(dataset.get("SOPInstanceUID") or ""),
        person=person_of(dataset),
        born=_text(dataset, "PatientBirthDate"),
        scanner=(
            next(iter(_text(dataset, "Manufacturer").casefold().split()), ""),
            _text(dataset, "DeviceSerialNumber"),
        ),
        numbers=(_text(dataset, "AcquisitionNumber"), instance) if instance else None,
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
        shape=shape,
        corner=corner,
    )


def person_of(dataset: Any) -> tuple[str, ...]:
    """Who was scanned: PatientID and its issuer; name and date of birth where there is no number.

    Damage of these elements is an error: it does not say which person the image is of.
    """
    if number := str(dataset.get("PatientID") or "").strip():
        return number, str(dataset.get("IssuerOfPatientID") or "").strip()
    name = str(dataset.get("PatientName") or "").strip().rstrip("^").casefold()
    return "", name, str(dataset.get("PatientBirthDate") or "").strip()


def _text(dataset: Any, name: str) -> str:
    """An element that may be missing; "" where it is, or is damaged."""
    try:
        return str(dataset.get(name) or "").strip()
    except DAMAGE:
        return ""


def _is_a_plane(orientation: tuple[float, ...]) -> bool:
    """Whether row and column are unit vectors at a right angle (within a degree)."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    return bool(np.allclose(lengths, 1, atol=0.02) and abs(float(row @ column)) < 0.02)


def _time(dataset: Any, groups: list[Any], name: str) -> float | None:
    """EchoTime, RepetitionTime or InversionTime; of an enhanced object where its groups give it."""
    echo = [item for group in groups if (item := first_item(group, "MREchoSequence")) is not None]
    timing = [item for group in groups if (item := first_item(group, "MRTimingAndRelatedParametersSequence"))]
    stated = lookup(echo, "EffectiveEchoTime", None) if name == "EchoTime" else None
    stated = lookup([*timing, dataset], name, None) if stated is None else stated
    return None if stated is None else float(stated)


def _numbers(groups: list[Any], sequence: str, name: str, count: int) -> tuple[float, ...]:
    """Finite numbers of an element; empty where it is not there or holds something else."""
    value = lookup([first_item(group, sequence) or group for group in groups], name, None)
    if value is None:
        return ()
    numbers = tuple(float(number) for number in np.atleast_1d(value))
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else ()


def _tile_shape(dataset: Any, n: int) -> tuple[int, int] | None:
    """Rows and columns of each of n slices in one picture; None where they do not fit."""
    edge = math.ceil(math.sqrt(n)) if 1 <= n <= _MOST_TILES else 0
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    return None if not edge or rows % edge or columns % edge else (rows // edge, columns // edge)


def _uih_places(dataset: Any) -> list[tuple[float, ...]]:
    items = dataset[_UIH_SLICES].value
    positions = (
        [] if isinstance(items, bytes) or items is None else [item.get("ImagePositionPatient") for item in items]
    )
    if any(position is None or len(position) != 3 for position in positions):
        return []
    return [tuple(float(number) for number in position) for position in positions]


def _siemens_places(dataset: Any) -> list[tuple[float, ...]]:
    """The same in a Siemens mosaic, by number of images and slice normal in the CSA header.

    ImagePositionPatient of a mosaic is that of a single slice as large as the picture, with the same centre: the first
    slice begins half of the difference further in (nibabel.org/nibabel/dicom/dicom_mosaic.html).
    """
    number, normal = siemens_csa(dataset, "NumberOfImagesInMosaic"), siemens_csa(dataset, "SliceNormalVector")
    orientation, spacing = dataset.get("ImageOrientationPatient"), dataset.get("PixelSpacing")
    step = dataset.get("SpacingBetweenSlices")
    if not number or len(normal) != 3 or not orientation or not spacing or not step:
        return []
    n = int(number[0])
    shape = _tile_shape(dataset, n)
    if shape is None:
        return []
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    rows, columns = (int(dataset.Rows) - shape[0]) / 2, (int(dataset.Columns) - shape[1]) / 2
    first = np.array(dataset.ImagePositionPatient, float)
    first += column * float(spacing[0]) * rows + row * float(spacing[1]) * columns
    along = np.array(normal, float) * float(step)
    return [tuple((first + k * along).tolist()) for k in range(n)]
