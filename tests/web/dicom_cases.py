"""DICOM drops on which the page's reader must do as Python does: as scanners write them, damaged, of several people."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from builders import head
from dicom_builders import (
    ORIGIN,
    VENDORS,
    Change,
    image,
    irregular,
    private,
    say,
    siemens_mosaic,
    uih_grid,
    write,
    write_enhanced,
    write_grid,
    write_patient,
    write_series,
)

Writer = Callable[[Path], object]
GE = ("ORIGINAL", "PRIMARY", "OTHER")
_HEAD = {name: array[::-1, ::-1] for name, array in head(np.random.default_rng(1)).items()}


def pair(change: Change | None = None) -> Writer:
    """b0 and b1000 of one series."""

    def fill(folder: Path) -> None:
        write(folder, 100, 0, change=change)
        write(folder, 200, 1000, change=change)

    return fill


def shells(*b_values: float) -> Writer:
    """One series with images of several b-values."""
    return lambda folder: [write(folder, 100 + b_value, b_value) for b_value in b_values]


def then(first: Writer, change: Callable[[Iterable[Path]], object]) -> Writer:
    """What is written, and changed on disk."""

    def fill(folder: Path) -> None:
        first(folder)
        change(sorted(item for item in folder.rglob("*") if item.is_file()))

    return fill


def two(one: dict[str, str], other: dict[str, str]) -> Writer:
    """Complete images twice, under headers that differ."""

    def fill(folder: Path) -> None:
        for number, about in enumerate((one, other)):
            pair(say(**{"SeriesInstanceUID": f"7.{number}", **about}))(folder / str(number))

    return fill


def _each(change: Change) -> Callable[[Iterable[Path]], object]:
    def edit(files: Iterable[Path]) -> None:
        for file in files:
            dataset = pydicom.dcmread(file)
            change(dataset)
            dataset.save_as(file)

    return edit


def _encoded(syntax: str) -> Callable[[Iterable[Path]], object]:
    def edit(files: Iterable[Path]) -> None:
        for file in files:
            dataset = pydicom.dcmread(file)
            dataset.file_meta.TransferSyntaxUID = syntax
            pydicom.dcmwrite(file, dataset)

    return edit


def _without_preamble(files: Iterable[Path]) -> None:
    for file in files:
        file.write_bytes(file.read_bytes()[132:])


def _data_set_alone(files: Iterable[Path]) -> None:
    """Implicit little endian without any file meta information."""
    for file in files:
        dataset = pydicom.dcmread(file)
        del dataset.file_meta
        pydicom.dcmwrite(file, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)


def _undefined_lengths(dataset: Dataset) -> None:
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _undefined_lengths(item)


def _signed_twelve_bits(dataset: Dataset) -> None:
    """Overlays in the unused bits; values below zero."""
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 12, 11
    pixels = np.frombuffer(dataset.PixelData, np.uint16).copy()
    pixels[::3] = (pixels[::3] & 0x0FFF) | 0xA000
    pixels[1::7] = 0x0FF0
    dataset.PixelData = pixels.tobytes()


def _eight_bits(dataset: Dataset) -> None:
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = (np.frombuffer(dataset.PixelData, np.uint16) % 256).astype(np.uint8).tobytes()


def _frame_types(dataset: Dataset) -> None:
    kinds = ["NONE"] * 4 + ["TRACEW"] * 4 + ["ADC"] * 4
    for group, kind in zip(dataset.PerFrameFunctionalGroupsSequence, kinds, strict=True):
        frame_type = Dataset()
        frame_type.FrameType = ["DERIVED", "PRIMARY", "DIFFUSION", kind]
        group.MRImageFrameTypeSequence = Sequence([frame_type])
    for group in dataset.PerFrameFunctionalGroupsSequence[8:]:
        group.MRDiffusionSequence[0].DiffusionBValue = 1000.0


def _enhanced(change: Change | None = None, *, adc: bool = False) -> Writer:
    images = {0: image(100), 1000: image(200), **({1: image(900)} if adc else {})}
    return lambda folder: write_enhanced(folder / "e.dcm", images, number=3, study="1.2", change=change)


def _grid(change: Change, kind: str) -> Writer:
    return lambda folder: [write_grid(folder, value, b, change, kind) for value, b in ((100, 0), (200, 1000))]


def _shifted(folder: Path) -> None:
    for value, b_value, beyond in ((100, 0, -1e-6), (200, 1000, -1e-6), (202, 1000, 1e-6)):

        def shift(dataset: Dataset, beyond: float = beyond) -> None:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, float(z) + 0.005 + beyond]

        write(folder, value, b_value, change=shift)


def _directions(folder: Path) -> None:
    for n, factor in enumerate((0.5, 1.0, 2.0)):
        array = _HEAD["b1000"] * factor + 1
        write_series(folder / str(n), array, b_value=1000, vendor="ge", number=3, study="1.2", series="1.3")
    write_series(folder, _HEAD["b0"], b_value=0, vendor="ge", number=2, study="1.2")


def _isotropic(along: Change, average: Change) -> Writer:
    def fill(folder: Path) -> None:
        write(folder, 100, 0)
        for value in (300, 500):
            write(folder, value, 1000, change=along)
        write(folder, 200, 1000, change=average)

    return fill


def _phase(folder: Path) -> None:
    for value, b_value in ((100, 0), (200, 1000)):
        write(folder, value, b_value, vendor="philips", kind=("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"))
        phase = say(ImageType=["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "SE"])
        write(folder, value + 500, b_value, vendor="philips", change=phase)


def _with_other(*values: tuple[float, float | None], **about: object) -> Writer:
    """A good pair, and other images."""

    def fill(folder: Path) -> None:
        pair()(folder)
        for value, b_value in values:
            write(folder, value, b_value, **about)

    return fill


def _flair(*, alone: bool) -> Writer:
    def fill(folder: Path) -> None:
        about = {"series": "1.2.1", "number": 3, "kind": GE, "vendor": "ge", "description": "Ax T2 FLAIR"}
        write(folder, 700, 0, **about)
        write(folder, 200, 1000, vendor="ge", kind=GE, series="1.2.6", number=6)
        if not alone:
            write(folder, 100, 0, vendor="ge", kind=GE, series="1.2.5", number=5)

    return fill


def _ties(folder: Path) -> None:
    for number, description in ((3, "DWI ADC"), (4, "DWI"), (7, "DWI")):
        for value, b_value in ((100, 0), (200, 1000)):
            about = {"description": description, "series": f"1.{number}", "number": number}
            write(folder, value + number, b_value, **about)


def _silent(folder: Path) -> None:
    """Toshiba."""
    write(folder, 100, None, kind=("ORIGINAL", "PRIMARY", "GDC"))
    write(folder, 200, 1000, kind=("ORIGINAL", "PRIMARY", "GDC"))
    write(folder, 900, None, kind=("DERIVED", "SECONDARY", "OTHER"))


def _again(factor: float, most: int) -> Callable[[Iterable[Path]], object]:
    """Some images of b1000 sent again under other UIDs, with the values there are or others."""

    def send(files: Iterable[Path]) -> None:
        for file in [one for one in files if "b1000" in one.name][:most]:
            dataset = pydicom.dcmread(file)
            dataset.PixelData = (dataset.pixel_array * factor).astype(np.uint16).tobytes()
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.save_as(file.with_name(f"again_{file.name}"))

    return send


def _same_uids(folder: Path) -> None:
    for name, value in (("a", 100), ("b", 300)):
        for b_value in (0, 1000):

            def change(dataset: Dataset, b_value: int = b_value) -> None:
                dataset.SOPInstanceUID = f"7.8.{b_value}.{dataset.InstanceNumber}"

            write(folder / name, value + b_value / 10, b_value, change=change)


def _zipped(files: Iterable[Path], *, compression: int = zipfile.ZIP_DEFLATED) -> None:
    files = list(files)
    root = Path(os.path.commonpath(files))
    with zipfile.ZipFile(root / "images.zip", "w", compression) as archive:
        for file in files:
            archive.write(file, file.relative_to(root))
            file.unlink()


def _zip_in_zip(files: Iterable[Path]) -> None:
    files = list(files)
    root = Path(os.path.commonpath(files))
    _zipped(files)
    (root / "images.zip").rename(root / "inner.zip")
    with zipfile.ZipFile(root / "outer.zip", "w") as archive:
        archive.write(root / "inner.zip", "inner.zip")
    (root / "inner.zip").unlink()


def _damaged_zip(files: Iterable[Path]) -> None:
    files = list(files)
    root = Path(os.path.commonpath(files))
    _zipped(files, compression=zipfile.ZIP_STORED)
    content = bytearray((root / "images.zip").read_bytes())
    content[1000] ^= 0xFF
    (root / "images.zip").write_bytes(content)


def _cut(length: int) -> Callable[[Iterable[Path]], object]:
    def cut(files: Iterable[Path]) -> None:
        for file in files:
            if file.name.endswith("_003.dcm"):
                file.write_bytes(file.read_bytes()[:length])

    return cut


def _bad_type(files: Iterable[Path]) -> None:
    first = next(iter(files))
    first.write_bytes(first.read_bytes().replace(b"\x08\x00\x08\x00CS", b"\x08\x00\x08\x00ZZ"))


def _copies(files: Iterable[Path]) -> None:
    for file in files:
        file.with_name(f"copy_{file.name}").write_bytes(file.read_bytes())


def _without(name: str) -> Callable[[Iterable[Path]], object]:
    return lambda files: [file.unlink() for file in files if file.name.endswith(name)]


def _jitter() -> Change:
    rng = np.random.default_rng(1)

    def jitter(dataset: Dataset) -> None:
        row = np.array([np.cos(0.3), np.sin(0.3), 0, -np.sin(0.3), np.cos(0.3), 0]) + rng.normal(0, 1e-8, 6)
        dataset.ImageOrientationPatient = [round(float(number), 13) for number in row]

    return jitter


CASES: dict[str, Writer] = {
    **{f"maker_{vendor}": lambda folder, vendor=vendor: write_patient(folder, _HEAD, vendor) for vendor in VENDORS},
    "rescaled": lambda folder: write_patient(folder, _HEAD, "philips", rescale=2.5),
    "enhanced": _enhanced(),
    "enhanced_with_adc": _enhanced(_frame_types, adc=True),
    "enhanced_implicit": then(_enhanced(), _encoded(ImplicitVRLittleEndian)),
    "enhanced_undefined_lengths": then(_enhanced(), _each(_undefined_lengths)),
    "mosaic": _grid(siemens_mosaic, "MOSAIC"),
    "mosaic_implicit": then(_grid(siemens_mosaic, "MOSAIC"), _encoded(ImplicitVRLittleEndian)),
    "uih_grid": _grid(uih_grid, "GRID"),
    "uih_b_value": lambda folder: [
        write(folder, v, None, change=private(0x0065, "Image Private Header", 0x09, "FD", b), kind=("ORIGINAL",))
        for v, b in ((100, 0.0), (200, 1000.0))
    ],
    **{
        f"implicit_{vendor}": then(
            lambda folder, vendor=vendor: write_patient(folder, _HEAD, vendor), _encoded(ImplicitVRLittleEndian)
        )
        for vendor in VENDORS
    },
    "without_preamble": then(pair(), _without_preamble),
    "data_set_alone": then(pair(), _data_set_alone),
    "signed_twelve_bits": pair(_signed_twelve_bits),
    "eight_bits": pair(_eight_bits),
    "directions": _directions,
    "isotropic_standard": _isotropic(
        say(DiffusionDirectionality="DIRECTIONAL", DiffusionGradientOrientation=[1, 0, 0]),
        say(DiffusionDirectionality="ISOTROPIC"),
    ),
    "isotropic_philips": _isotropic(
        private(0x2001, "Philips Imaging DD 001", 0x04, "CS", "P"),
        private(0x2001, "Philips Imaging DD 001", 0x04, "CS", "I"),
    ),
    "isotropic_by_direction_alone": _isotropic(
        private(0x0019, "SIEMENS MR HEADER", 0x0E, "FD", [0.0, 1.0, 0.0]), lambda _: None
    ),
    "two_shells": shells(0, 800, 1000),
    "around_1000": shells(0, 750, 1250, 1000),
    "three_shells": shells(0, 500, 2000, 1000),
    "jitter": shells(0, 50, 990, 1000, 1005),
    "b_800": shells(0, 800),
    "b_300": shells(0, 300),
    "b1000_alone": shells(1000),
    "adc_in_the_series": _with_other((700, 1000), vendor="ge", kind=("DERIVED", "SECONDARY", "PROCESSED")),
    "adc_map": _with_other((700, 1000), kind=("DERIVED", "PRIMARY", "DIFFUSION", "ADC")),
    "phase": _phase,
    "coronal": _with_other((900, 1000), change=say(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])),
    "no_place": _with_other((301, 1000), change=lambda dataset: dataset.pop("ImagePositionPatient")),
    "screen_save": _with_other((302, 1000), change=say(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")),
    "other_mosaic": _with_other((303, 1000), change=say(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])),
    "colour": _with_other((304, 1000), change=say(SamplesPerPixel=3)),
    "computed_tomography": _with_other((305, 1000), change=say(Modality="CT")),
    "other_study": _with_other((7, 0), study="1.9", series="1.9.1", number=9, vendor="ge", kind=GE, description="knee"),
    "flair_alone": _flair(alone=True),
    "flair": _flair(alone=False),
    "words_and_ties": _ties,
    "silent_b0": _silent,
    "japanese": pair(say(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Name^Other")),
    "unicode": pair(say(SpecificCharacterSet="ISO_IR 192", SeriesDescription="dwi\x1b[31m\u202e é")),
    "rounding_border": _shifted,
    "eighth_digit": pair(_jitter()),
    "irregular": pair(irregular),
    "stated_step": pair(say(SpacingBetweenSlices=1.0)),
    "missing_slice": then(pair(), _without("_001.dcm")),
    "lost_image": then(shells(0, 1000), _again(1.5, 2)),
    "sent_again": then(shells(0, 1000), _again(1.0, 2)),
    "copies": then(pair(), _copies),
    "one_place_each": _with_other((201, 1000), change=say(ImagePositionPatient=[ORIGIN[0] + 20, *ORIGIN[1:]])),
    "two_people": two({"PatientID": "A"}, {"PatientID": "B"}),
    "two_issuers": two({"IssuerOfPatientID": "1"}, {"IssuerOfPatientID": "2"}),
    "two_names": two({"PatientID": "", "PatientName": "A^B"}, {"PatientID": "", "PatientName": "C^D"}),
    "two_studies": two({"StudyInstanceUID": "1.2.4"}, {"StudyInstanceUID": "1.2.5"}),
    "two_dates_of_birth": two({"PatientBirthDate": "19500101"}, {"PatientBirthDate": "19510101"}),
    "two_frames_of_reference": lambda folder: [
        write(folder, value, b, change=say(FrameOfReferenceUID=f"1.{b}")) for value, b in ((100, 0), (200, 1000))
    ],
    "two_scanners": lambda folder: [
        write(folder, value, b, change=say(DeviceSerialNumber=str(b))) for value, b in ((100, 0), (200, 1000))
    ],
    "same_uids": _same_uids,
    "bad_type": then(pair(), _bad_type),
    **{f"cut_at_{length}": then(pair(), _cut(length)) for length in (0, 100, 300, 900)},
    "big_endian": then(pair(), _encoded(ExplicitVRBigEndian)),
    "deflated": then(pair(), _encoded(DeflatedExplicitVRLittleEndian)),
    "run_lengths": then(pair(), _each(lambda dataset: dataset.compress(RLELossless))),
    "zipped": then(pair(), _zipped),
    "zip_of_people": then(two({"PatientID": "A"}, {"PatientID": "B"}), _zipped),
    "zip_in_zip": then(pair(), _zip_in_zip),
    "damaged_zip": then(pair(), _damaged_zip),
    "no_images": lambda folder: (folder / "notes.dcm").write_bytes(b"no image" * 40),
}
ONLY_PYTHON = {
    "big_endian": "big endian",
    "deflated": "deflated",
    "run_lengths": "compressed",
    "20_jpeg_lossless_sv1": "compressed",
}
"""What the page refuses, in one sentence with this word, and Python reads."""
