"""DICOM series as scanners write them, made of arrays."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from fvv.config import PreprocessConfig
from fvv.data import Case
from fvv.io.dicom.group import examinations_of, index_place
from fvv.io.dicom.stack import DicomSource, read_dicom

Change = Callable[[Dataset], object]
"""Edits a dataset before it is written."""
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
SPACING, THICKNESS = (4.0, 4.0), 10.0
ORIENTATION = [1, 0, 0, 0, 1, 0]
ORIGIN = (-126.0, -100.0, -40.0)
LPS_AFFINE = np.array([[-4.0, 0, 0, 126], [0, -4, 0, 100], [0, 0, 10, -40], [0, 0, 0, 1]])
"""Voxel to RAS+ mm, of all that is written here."""
VENDORS = ("standard", "siemens", "ge", "philips")


def write_series(
    folder: Path,
    image: np.ndarray,
    *,
    b_value: float | None,
    vendor: str,
    number: int,
    study: str,
    kind: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"),
    description: str = "ep2d_diff",
    frame_of_reference: str = "1.2.3.4",
    rescale: float = 1.0,
    series: str | None = None,
    change: Change | None = None,
) -> str:
    """One classic object a slice. `image` is (i, j, k): i to the patient's left, j to the back, k to the head.

    `change` edits each dataset last.
    """
    series = series or generate_uid()
    for k in range(image.shape[2]):
        dataset = _common(study, series, number, kind, description, frame_of_reference)
        dataset.SOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + k * THICKNESS]
        dataset.ImageOrientationPatient = ORIENTATION
        dataset.PixelSpacing = list(SPACING)
        dataset.SliceThickness = THICKNESS
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "EP", "SK", "PFP"
        dataset.MRAcquisitionType, dataset.EchoTime, dataset.RepetitionTime, dataset.EchoTrainLength = "2D", 80, 5000, 1
        _pixels(dataset, image[:, :, k].T, rescale)
        if b_value is not None:
            _say_b_value(dataset, b_value, vendor)
        if change is not None:
            change(dataset)
        save_dicom(dataset, folder / f"s{number:03d}_b{b_value}_{k:03d}.dcm")
    return series


def write_enhanced(
    file: Path,
    images: dict[float, np.ndarray],
    *,
    number: int,
    study: str,
    change: Change | None = None,
) -> None:
    """One enhanced object with a frame for each b-value and slice."""
    frames = [(b, k, image[:, :, k].T) for b, image in images.items() for k in range(image.shape[2])]
    dataset = _common(study, generate_uid(), number, ("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"), "dwi", "1.2.3.4")
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.InstanceNumber = ENHANCED_MR, generate_uid(), 1
    dataset.NumberOfFrames = len(frames)
    _pixels(dataset, np.stack([pixels for _, _, pixels in frames]), 1.0)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = list(SPACING), THICKNESS, THICKNESS
    orientation.ImageOrientationPatient = ORIENTATION
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for b, k, _ in frames:
        group, position, diffusion = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + k * THICKNESS]
        diffusion.DiffusionBValue = float(b)
        diffusion.DiffusionDirectionality = "NONE" if b == 0 else "ISOTROPIC"
        group.PlanePositionSequence, group.MRDiffusionSequence = Sequence([position]), Sequence([diffusion])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    if change is not None:
        change(dataset)
    save_dicom(dataset, file)


def write_grid(folder: Path, value: float, b_value: float, change: Change, kind: str) -> None:
    """Four slices side by side in one picture of 16 x 12."""
    slices = image(value)
    picture = np.block([[slices[..., 0].T, slices[..., 1].T], [slices[..., 2].T, slices[..., 3].T]])
    write_series(
        folder / str(value),
        picture.T[:, :, None],
        b_value=b_value,
        vendor="siemens",
        number=4,
        study="1.2",
        series="1.2.9",
        kind=("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE", kind),
        change=change,
    )


def siemens_mosaic(dataset: Dataset) -> None:
    """The place of the slices of `write_grid` as Siemens states it."""
    # The mosaic's position is that of one slice as large as the picture with the same centre.
    shift = (8 / 2 * SPACING[0], 6 / 2 * SPACING[1])
    dataset.ImagePositionPatient = [ORIGIN[0] - shift[0], ORIGIN[1] - shift[1], ORIGIN[2]]
    dataset.SpacingBetweenSlices = THICKNESS
    entries = {"NumberOfImagesInMosaic": ["4"], "SliceNormalVector": ["0.0", "0.0", "1.0"]}
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", _csa(entries))


def _csa(entries: dict[str, list[str]]) -> bytes:
    """A CSA2 header, as nibabel's `csareader` describes it."""
    out = io.BytesIO()
    out.write(b"SV10" + b"\4\3\2\1" + struct.pack("<2I", len(entries), 77))
    for name, items in entries.items():
        out.write(struct.pack("<64si4siii", name.encode(), len(items), b"FD\0\0", 3, len(items), 77))
        for item in items:
            text = item.encode() + b"\0"
            out.write(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4))
    return out.getvalue()


def uih_grid(dataset: Dataset) -> None:
    """The same as UIH states it."""
    block = dataset.private_block(0x0065, "Image Private Header", create=True)
    items = []
    for k in range(4):
        item = Dataset()
        item.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + k * THICKNESS]
        items.append(item)
    block.add_new(0x50, "DS", "4")
    block.add_new(0x51, "SQ", Sequence(items))
    del dataset.ImagePositionPatient


def read_one(
    place: Path, series: tuple[int, ...] = (), config: PreprocessConfig | None = None
) -> tuple[Case, DicomSource]:
    """The one examination of a folder or zip file."""
    (found,) = examinations_of(place, index_place(place))
    return read_dicom(found, name="p", config=config or PreprocessConfig(), series=series)


def _common(study: str, series: str, number: int, kind: tuple[str, ...], description: str, frame: str) -> Dataset:
    dataset = Dataset()
    dataset.Modality, dataset.Manufacturer, dataset.ImageType = "MR", "maker", list(kind)
    dataset.PatientID, dataset.PatientName = "id", "name"
    dataset.PatientBirthDate, dataset.PatientSex = "19500101", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = dataset.AcquisitionDate = "20260101"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = dataset.AcquisitionTime = "120000"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
    dataset.SeriesNumber, dataset.SeriesDescription = number, description
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator, dataset.PatientPosition = frame, "", "HFS"
    dataset.Laterality = ""
    return dataset


def _pixels(dataset: Dataset, pixels: np.ndarray, rescale: float) -> None:
    stored = np.rint(np.clip(pixels / rescale, 0, 65535)).astype(np.uint16)
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    if rescale != 1.0:
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = rescale, 0.0, "normalized"
    dataset.PixelData = stored.tobytes()


def _say_b_value(dataset: Dataset, b_value: float, vendor: str) -> None:
    if vendor == "standard":
        dataset.DiffusionBValue = b_value
    elif vendor == "siemens":
        dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", str(int(b_value)))
    elif vendor == "ge":
        values = [str(int(b_value) + 1_000_000_000), "8", "0", "0"]
        dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", values)
    else:
        dataset.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", float(b_value))


def save_dicom(dataset: Dataset, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)


def image(value: float, shape: tuple[int, int, int] = (8, 6, 4)) -> np.ndarray:
    return np.full(shape, value) + np.arange(shape[2])


def write(folder: Path, value: float, b_value: float | None, **about: Any) -> str:
    """One series' images of one b-value; those of a folder are of one series unless `series` says otherwise."""
    about = {"vendor": "standard", "number": 4, "study": "1.2", "series": "1.2.9", **about}
    series: str = write_series(folder / str(value), image(value), b_value=b_value, **about)
    return series


def both(folder: Path) -> tuple[float, float]:
    """Lowest values of b0 and b1000."""
    case, _ = read_one(folder)
    return float(case.b0.array.min()), float(case.b1000.array.min())


def say(**elements: Any) -> Change:
    def change(dataset: Dataset) -> None:
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)

    return change


def private(group: int, creator: str, offset: int, kind: str, value: Any) -> Change:
    def change(dataset: Dataset) -> None:
        dataset.private_block(group, creator, create=True).add_new(offset, kind, value)

    return change


def irregular(dataset: Dataset) -> None:
    x, y, z = dataset.ImagePositionPatient
    k = round((float(z) - ORIGIN[2]) / THICKNESS)
    dataset.ImagePositionPatient = [x, y, float(z) + (0.1 if k % 2 else 0)]


def write_patient(folder: Path, images: dict[str, np.ndarray], vendor: str = "siemens", rescale: float = 1.0) -> None:
    """b0 and a trace in one series, a localiser, an ADC map and a higher b-value."""
    study = generate_uid()
    series = write_series(folder, images["b0"], b_value=0, vendor=vendor, number=4, study=study, rescale=rescale)
    trace = ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW")
    common = {"vendor": vendor, "study": study, "rescale": rescale}
    write_series(folder, images["b1000"], b_value=1000, number=4, kind=trace, series=series, **common)
    write_series(folder, images["b1000"] * 0.3, b_value=2000, number=4, kind=trace, series=series, **common)
    write_series(folder, images["b0"], b_value=None, number=1, kind=("ORIGINAL", "PRIMARY", "LOCALIZER"), **common)
    adc = ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")
    write_series(folder, images["b0"], b_value=1000, number=5, kind=adc, description="diff_ADC", **common)
