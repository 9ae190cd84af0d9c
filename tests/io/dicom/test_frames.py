"""What one image says of itself: mosaics, character sets, compressed pixels, objects that are no slices."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_builders import (
    ORIGIN,
    SPACING,
    THICKNESS,
    Change,
    both,
    image,
    read_one,
    say,
    write,
    write_series,
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


def grid(folder: Path, value: float, b_value: float, change: Change, kind: str) -> None:
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


def test_a_siemens_diffusion_mosaic(tmp_path: Path) -> None:
    def mosaic(dataset: Dataset) -> None:
        # The mosaic's position is that of one slice as large as the picture with the same centre.
        shift = (8 / 2 * SPACING[0], 6 / 2 * SPACING[1])
        dataset.ImagePositionPatient = [ORIGIN[0] - shift[0], ORIGIN[1] - shift[1], ORIGIN[2]]
        dataset.SpacingBetweenSlices = THICKNESS
        entries = {"NumberOfImagesInMosaic": ["4"], "SliceNormalVector": ["0.0", "0.0", "1.0"]}
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa(entries))

    grid(tmp_path, 100, 0, mosaic, "MOSAIC")
    grid(tmp_path, 200, 1000, mosaic, "MOSAIC")
    case, source = read_one(tmp_path)
    np.testing.assert_array_equal(case.b1000.array, image(200))
    np.testing.assert_allclose(case.b1000.affine @ [0, 0, 0, 1], [-ORIGIN[0], -ORIGIN[1], ORIGIN[2], 1])
    np.testing.assert_allclose(case.b1000.affine @ [0, 0, 3, 1], [-ORIGIN[0], -ORIGIN[1], ORIGIN[2] + 30, 1])
    assert source.shape == (8, 6, 4)


def csa(entries: dict[str, list[str]]) -> bytes:
    """A CSA2 header, as nibabel's `csareader` describes it."""
    out = io.BytesIO()
    out.write(b"SV10" + b"\4\3\2\1" + struct.pack("<2I", len(entries), 77))
    for name, items in entries.items():
        out.write(struct.pack("<64si4siii", name.encode(), len(items), b"FD\0\0", 3, len(items), 77))
        for item in items:
            text = item.encode() + b"\0"
            out.write(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4))
    return out.getvalue()


def test_a_uih_grid(tmp_path: Path) -> None:
    def uih(dataset: Dataset) -> None:
        block = dataset.private_block(0x0065, "Image Private Header", create=True)
        items = []
        for k in range(4):
            item = Dataset()
            item.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + k * THICKNESS]
            items.append(item)
        block.add_new(0x50, "DS", "4")
        block.add_new(0x51, "SQ", Sequence(items))
        del dataset.ImagePositionPatient

    grid(tmp_path, 100, 0, uih, "GRID")
    grid(tmp_path, 200, 1000, uih, "GRID")
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
