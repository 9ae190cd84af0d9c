"""What one image says of itself: mosaics, character sets, compressed pixels, objects that are no slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_builders import (
    ORIGIN,
    both,
    image,
    read_one,
    say,
    siemens_mosaic,
    uih_grid,
    write,
    write_grid,
)


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
