"""Which images become b0 and b1000: one contrast, kind, orientation and shell each, as each maker writes them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydicom
import pytest

pytest.importorskip("highdicom")

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_builders import ORIGIN, SPACING, THICKNESS, read_one, save_dicom, write_enhanced, write_series
from fvv.errors import GeometryError, InputError

Change = Callable[[Dataset], object]
GE = ("ORIGINAL", "PRIMARY", "OTHER")
SECONDARY = ("DERIVED", "SECONDARY", "PROCESSED")


def image(value: float, shape: tuple[int, int, int] = (8, 6, 4)) -> np.ndarray:
    return np.full(shape, value) + np.arange(shape[2])


def write(folder: Path, value: float, b_value: float | None, **about: Any) -> str:
    """One series' images of one b-value; those of a folder are of one series unless `series` says otherwise."""
    about = {"vendor": "standard", "number": 4, "study": "1.2", "series": "1.2.9", **about}
    series: str = write_series(folder / str(value), image(value), b_value=b_value, **about)
    return series


def both(folder: Path) -> tuple[float, float]:
    """By what they are known again."""
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


@pytest.mark.parametrize(
    ("others", "taken"),
    [((800,), 1000), ((900,), 1000), ((750, 1250), 1000), ((500, 2000), 1000)],
)
def test_one_shell(tmp_path: Path, others: Iterable[int], taken: int) -> None:
    for b_value in (0, *others, taken):
        write(tmp_path, 100 + b_value, b_value)
    assert both(tmp_path) == (100, 100 + taken)


def test_jitter_within_a_shell_and_low_b_values(tmp_path: Path) -> None:
    for b_value in (0, 50, 990, 1000, 1005):
        write(tmp_path, 100 if b_value < 60 and b_value else 100 + b_value // 100 * 100, b_value)
    case, _ = read_one(tmp_path)
    assert case.b0.array.min() == 100
    assert case.b_value == pytest.approx(1000, abs=10)


def test_one_b800_shell_is_read_and_its_b_value_told(tmp_path: Path) -> None:
    write(tmp_path, 100, 0)
    write(tmp_path, 200, 800)
    assert read_one(tmp_path)[0].b_value == 800


def test_an_adc_map_with_a_b_value_in_the_series(tmp_path: Path) -> None:
    """GE: the map is secondary, carries the tag, and has no direction where the images have one."""

    def directed(dataset: Dataset) -> None:
        for n, number in enumerate((1.0, 0.0, 0.0)):
            dataset.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0xBB + n, "DS", number)

    write(tmp_path, 100, 0, vendor="ge", kind=GE)
    write(tmp_path, 200, 1000, vendor="ge", kind=GE, change=directed)
    write(tmp_path, 700, 1000, vendor="ge", kind=SECONDARY)
    assert both(tmp_path) == (100, 200)


@pytest.mark.parametrize("elements", [{"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "SE"]}])
def test_phase_images_in_the_series(tmp_path: Path, elements: dict[str, Any]) -> None:
    magnitude = ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE")
    for value, b_value in ((100, 0), (200, 1000)):
        write(tmp_path, value, b_value, vendor="philips", kind=magnitude)
        write(tmp_path, value + 500, b_value, vendor="philips", change=say(**elements))
    assert both(tmp_path) == (100, 200)


def test_coronal_images_in_the_series(tmp_path: Path) -> None:
    write(tmp_path, 100, 0)
    write(tmp_path, 200, 1000)
    write(tmp_path, 900, 1000, change=say(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]))
    assert both(tmp_path) == (100, 200)


ISOTROPIC: dict[str, tuple[Change, Change]] = {
    "standard": (
        say(DiffusionDirectionality="DIRECTIONAL", DiffusionGradientOrientation=[1, 0, 0]),
        say(DiffusionDirectionality="ISOTROPIC"),
    ),
    "philips": (
        private(0x2001, "Philips Imaging DD 001", 0x04, "CS", "P"),
        private(0x2001, "Philips Imaging DD 001", 0x04, "CS", "I"),
    ),
    "by direction alone": (
        private(0x0019, "SIEMENS MR HEADER", 0x0E, "FD", [0.0, 1.0, 0.0]),
        lambda _: None,
    ),
}


@pytest.mark.parametrize("maker", ISOTROPIC.values(), ids=ISOTROPIC)
def test_the_isotropic_image_alone_and_not_with_its_directions(tmp_path: Path, maker: tuple[Change, Change]) -> None:
    write(tmp_path, 100, 0)
    for value in (300, 500):
        write(tmp_path, value, 1000, change=maker[0])
    write(tmp_path, 200, 1000, change=maker[1])
    assert both(tmp_path) == (100, 200)


def test_adc_frames_of_an_enhanced_object(tmp_path: Path) -> None:
    def adc(dataset: Dataset) -> None:
        for group, kind in zip(
            dataset.PerFrameFunctionalGroupsSequence, ["NONE"] * 4 + ["TRACEW"] * 4 + ["ADC"] * 4, strict=True
        ):
            frame_type = Dataset()
            frame_type.FrameType = ["DERIVED", "PRIMARY", "DIFFUSION", kind]
            group.MRImageFrameTypeSequence = Sequence([frame_type])
        for group in dataset.PerFrameFunctionalGroupsSequence[8:]:
            group.MRDiffusionSequence[0].DiffusionBValue = 1000.0

    images = {0: image(100), 1000: image(200), 1: image(900)}
    write_enhanced(tmp_path / "e.dcm", images, number=3, study="1.2", change=adc)
    assert both(tmp_path) == (100, 200)


@pytest.mark.parametrize("timing", [{"EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500}, {}])
def test_a_flair_with_b0_is_no_b0(tmp_path: Path, timing: dict[str, float]) -> None:
    flair = {"series": "1.2.1", "number": 3, "kind": GE, "vendor": "ge", "description": "Ax T2 FLAIR"}
    write(tmp_path, 700, 0, **flair, change=say(**timing))
    write(tmp_path, 200, 1000, vendor="ge", kind=GE, series="1.2.6", number=6)
    with pytest.raises(InputError, match="no b0"):
        read_one(tmp_path)
    write(tmp_path, 100, 0, vendor="ge", kind=GE, series="1.2.5", number=5)
    assert both(tmp_path) == (100, 200)


@pytest.mark.parametrize("description", ["Ax DWI TENSOR R2", "AX DWI + ADC", "FA_EXP dwi"])
def test_words_of_a_description_throw_nothing_away(tmp_path: Path, description: str) -> None:
    write(tmp_path, 100, 0, description=description, kind=GE, vendor="ge")
    write(tmp_path, 200, 1000, description=description, kind=GE, vendor="ge")
    assert both(tmp_path) == (100, 200)


def test_words_break_ties(tmp_path: Path) -> None:
    for number, description in ((3, "DWI ADC"), (4, "DWI")):
        for value, b_value in ((100, 0), (200, 1000)):
            write(tmp_path, value + number, b_value, description=description, series=f"1.{number}", number=number)
    assert both(tmp_path) == (104, 204)


def test_series_by_number_always_win(tmp_path: Path) -> None:
    for value, b_value in ((100, 0), (200, 1000)):
        write(tmp_path, value, b_value)
        write(tmp_path, value + 5, b_value, series="1.3", number=7, kind=("DERIVED", "PRIMARY", "DIFFUSION", "EXP"))
    assert both(tmp_path) == (100, 200)
    assert read_one(tmp_path, series=(7,))[0].b0.array.min() == 105


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
    for reason in ("without a place", "screen saves", "mosaics", "in colour", "no MR images"):
        assert reason in left_out, reason


def test_b0_without_a_b_value(tmp_path: Path) -> None:
    """Toshiba and Canon."""
    write(tmp_path, 100, None, kind=("ORIGINAL", "PRIMARY", "GDC"))
    write(tmp_path, 200, 1000, kind=("ORIGINAL", "PRIMARY", "GDC"))
    write(tmp_path, 900, None, kind=("DERIVED", "SECONDARY", "OTHER"))
    assert both(tmp_path) == (100, 200)


def test_uih_says_its_b_value(tmp_path: Path) -> None:
    for value, b_value in ((100, 0.0), (200, 1000.0)):
        write(tmp_path, value, None, change=private(0x0065, "Image Private Header", 0x09, "FD", b_value), kind=GE)
    assert both(tmp_path) == (100, 200)


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


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("meta", [True, False])
def test_files_without_preamble(tmp_path: Path, *, implicit: bool, meta: bool) -> None:
    write(tmp_path / "in", 100, 0)
    write(tmp_path / "in", 200, 1000)
    for file in (tmp_path / "in").rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        stream = io.BytesIO()
        syntax = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        if meta:
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(stream, dataset, implicit_vr=implicit, little_endian=True)
        assert stream.getvalue()[128:132] != b"DICM"
        file.write_bytes(stream.getvalue())
    assert both(tmp_path / "in") == (100, 200)


def test_positions_across_a_rounding_border(tmp_path: Path) -> None:
    """Two directions 2e-6 mm apart, on either side of half a hundredth of a millimetre."""
    for value, b_value, beyond in ((100, 0, -1e-6), (200, 1000, -1e-6), (202, 1000, 1e-6)):

        def shift(dataset: Dataset, beyond: float = beyond) -> None:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, float(z) + 0.005 + beyond]

        write(tmp_path, value, b_value, change=shift)
    case, _ = read_one(tmp_path)
    np.testing.assert_allclose(case.b1000.array, image(201), rtol=1e-4)


def test_orientations_that_differ_in_the_eighth_digit(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)

    def jitter(dataset: Dataset) -> None:
        angle = 0.3
        row = np.array([np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0]) + rng.normal(0, 1e-8, 6)
        dataset.ImageOrientationPatient = [round(float(number), 13) for number in row]

    write(tmp_path, 100, 0, change=jitter)
    write(tmp_path, 200, 1000, change=jitter)
    assert both(tmp_path) == (100, 200)


def irregular(dataset: Dataset) -> None:
    x, y, z = dataset.ImagePositionPatient
    k = round((float(z) - ORIGIN[2]) / THICKNESS)
    dataset.ImagePositionPatient = [x, y, float(z) + (0.1 if k % 2 else 0)]


@pytest.mark.parametrize("change", [irregular, say(SpacingBetweenSlices=1.0), say(SpacingBetweenSlices=10.7)])
def test_positions_win(tmp_path: Path, change: Change) -> None:
    write(tmp_path, 100, 0, change=change)
    write(tmp_path, 200, 1000, change=change)
    case, _ = read_one(tmp_path)
    assert case.b1000.affine[2, 2] == pytest.approx(THICKNESS, abs=0.05)
    assert any("SpacingBetweenSlices" in note for note in case.notes) == (change is not irregular)


def test_images_of_one_slice_must_lie_at_one_place(tmp_path: Path) -> None:
    write(tmp_path, 100, 0)
    write(tmp_path, 200, 1000)
    write(tmp_path, 201, 1000, change=say(ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2]]))
    (tmp_path / "201").rename(tmp_path / "gone")
    for file in sorted((tmp_path / "gone").iterdir())[1:]:
        file.unlink()
    dataset = pydicom.dcmread(next((tmp_path / "gone").iterdir()))
    dataset.ImagePositionPatient = [ORIGIN[0] + 20, ORIGIN[1], ORIGIN[2]]
    save_dicom(dataset, next((tmp_path / "gone").iterdir()))
    with pytest.raises(GeometryError, match="lie 20 mm apart"):
        read_one(tmp_path)


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


def test_a_deflated_object_and_a_deflated_bomb(tmp_path: Path) -> None:
    write(tmp_path / "in", 100, 0)
    write(tmp_path / "in", 200, 1000)
    for file in (tmp_path / "in").rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        pydicom.dcmwrite(file, dataset)
    assert both(tmp_path / "in") == (100, 200)
    one = sorted((tmp_path / "in").rglob("*.dcm"))[0]
    data = one.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    inside = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    parts = [deflate.compress(inside)] + [deflate.compress(bytes(2**24)) for _ in range(80)] + [deflate.flush()]
    one.write_bytes(data[:start] + b"".join(parts))
    assert one.stat().st_size < 3 * 2**20
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**28, hard))
    try:
        with pytest.raises(InputError, match="unpacks to more than"):
            read_one(tmp_path / "in")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
