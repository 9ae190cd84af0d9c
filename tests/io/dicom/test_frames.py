"""What one image says of itself: mosaics, character sets, compressed pixels, objects that are no slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.tag import Tag

from dicom_builders import (
    ORIGIN,
    VENDORS,
    both,
    image,
    read_one,
    say,
    siemens_mosaic,
    uih_grid,
    write,
    write_enhanced,
    write_grid,
    write_patient,
)
from fvv.io.dicom.find import DicomFile, DicomReader
from fvv.io.dicom.frames import LOOKED_AT, frames_of


def test_objects_that_are_no_slices_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, 100, 0)
    write(tmp_path, 200, 1000)
    write(tmp_path, 301, 1000, change=lambda dataset: dataset.pop("ImagePositionPatient"))
    write(tmp_path, 302, 1000, change=say(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))
    write(tmp_path, 303, 1000, change=say(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]))
    write(tmp_path, 304, 1000, change=say(SamplesPerPixel=3))
    write(tmp_path, 305, 1000, change=say(Modality="CT"))
    case, _ = read_one(tmp_path)
    assert case.b1000.array.min() == 200
    left_out = " ".join(case.notes)
    for reason in ("without a position", "screen saves", "mosaics", "in colour", "not MR images"):
        assert reason in left_out, reason


def test_a_siemens_diffusion_mosaic(tmp_path: Path) -> None:
    write_grid(tmp_path, 100, 0, siemens_mosaic, "MOSAIC")
    write_grid(tmp_path, 200, 1000, siemens_mosaic, "MOSAIC")
    case, source = read_one(tmp_path)
    np.testing.assert_array_equal(case.b1000.array, image(200))
    np.testing.assert_allclose(case.b1000.affine @ [0, 0, 0, 1], [-ORIGIN[0], -ORIGIN[1], ORIGIN[2], 1])
    np.testing.assert_allclose(case.b1000.affine @ [0, 0, 3, 1], [-ORIGIN[0], -ORIGIN[1], ORIGIN[2] + 30, 1])
    assert source.shape == (8, 6, 4)


def _looked_at(place: Path) -> set[int]:
    """Tags of the elements at the top of some objects at which `frames_of` looks."""
    seen: set[int] = set()

    class Watched(pydicom.FileDataset):
        def __contains__(self, name: object) -> bool:
            seen.add(Tag(name))  # type: ignore[arg-type]
            return super().__contains__(name)  # type: ignore[arg-type]

        def __getitem__(self, key: Any) -> Any:
            if not isinstance(key, slice):  # nibabel looks through Siemens' group.
                seen.add(Tag(key))
            return super().__getitem__(key)

        def get(self, key: Any, default: Any = None) -> Any:
            seen.add(Tag(key))
            return super().get(key, default)

    for file in place.rglob("*.dcm"):
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        watched = Watched(file, dict(dataset), file_meta=dataset.file_meta)
        watched.set_original_encoding(*dataset.original_encoding)
        with DicomReader() as reader:
            read = reader.read(DicomFile(file), pixels=False, only=LOOKED_AT)
        assert frames_of(DicomFile(file), watched) == frames_of(DicomFile(file), read)
    return seen


@pytest.mark.parametrize("form", [*VENDORS, "enhanced", "mosaic", "grid"])
def test_an_index_reads_every_element_that_is_looked_at(
    tmp_path: Path, images: dict[str, np.ndarray], form: str
) -> None:
    if form == "enhanced":
        write_enhanced(tmp_path / "e.dcm", {0: image(100), 1000: image(200)}, number=3, study="1.2")
    elif form in VENDORS:
        write_patient(tmp_path, images, form)
    else:
        write_grid(tmp_path, 100, 0, siemens_mosaic if form == "mosaic" else uih_grid, form.upper())
    seen = _looked_at(tmp_path)
    assert len(seen) > 20
    assert seen <= {*LOOKED_AT, Tag("SpecificCharacterSet")}


def test_a_uih_grid(tmp_path: Path) -> None:
    write_grid(tmp_path, 100, 0, uih_grid, "GRID")
    write_grid(tmp_path, 200, 1000, uih_grid, "GRID")
    np.testing.assert_array_equal(read_one(tmp_path)[0].b1000.array, image(200))


@pytest.mark.parametrize("charset", ["\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "ISO_IR 192", "ISO_IR 13"])
def test_character_sets(tmp_path: Path, charset: str) -> None:
    change = say(SpecificCharacterSet=charset.split("\\"), PatientName="Name^Other")
    write(tmp_path, 100, 0, change=change)
    write(tmp_path, 200, 1000, change=change)
    assert both(tmp_path) == (100, 200)


def test_jpeg_lossless(tmp_path: Path) -> None:
    """Selection value 1, as archives send it; made by gdcm, which also reads it."""
    gdcm = pytest.importorskip("gdcm")
    write(tmp_path, 100, 0)
    write(tmp_path, 200, 1000)
    for file in tmp_path.rglob("*.dcm"):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(file))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(file))
        assert writer.Write()
    assert pydicom.dcmread(next(tmp_path.rglob("*.dcm"))).file_meta.TransferSyntaxUID.endswith("4.70")
    assert both(tmp_path) == (100, 200)
