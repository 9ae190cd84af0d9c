"""DICOM out for sources as they really are: incomplete, rounded, in other character sets; read back independently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom")

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_builders import ENHANCED_MR, SPACING, THICKNESS, read_one, write_enhanced, write_series
from fvv.data import Channel, Decision, DecisionState, Prediction
from fvv.errors import FvvError
from fvv.io.dicom.read import DicomSource
from fvv.io.dicom.write import write_dicom_results
from fvv.io.result_files import DICOM_FILES

Change = Callable[[Dataset], object]
SHAPE = (12, 10, 8)
VOXEL_ML = SPACING[0] * SPACING[1] * THICKNESS / 1000


def prediction() -> Prediction:
    """A brain, a stroke of three slices, a vote for a part of it."""
    brain = np.zeros(SHAPE, dtype=bool)
    brain[2:-2, 1:-1, 1:-1] = True
    stroke = np.zeros(SHAPE, dtype=bool)
    stroke[3:6, 4:8, 3:6] = True
    votes = np.zeros(SHAPE, dtype=np.uint8)
    votes[3, 4, 4] = 2
    counts = [int(brain.sum()), int(stroke.sum()), 1]
    decision = Decision(DecisionState.MISMATCH_UNLIKELY, 0.5)
    return Prediction("p", decision, 2, VOXEL_ML, *counts, brain, stroke, votes)


@pytest.fixture(scope="module")
def png() -> bytes:
    from fvv.analysis.figures import figure_png  # noqa: PLC0415

    figure_module = pytest.importorskip("matplotlib.figure")
    return figure_png(figure_module.Figure(figsize=(1, 1)))


def images() -> dict[float, np.ndarray]:
    return {0: np.full(SHAPE, 100.0), 1000: np.full(SHAPE, 200.0)}


def classic(folder: Path, change: Change) -> DicomSource:
    for number, (b_value, image) in enumerate(images().items()):
        write_series(folder, image, b_value=b_value, vendor="standard", number=number, study="1.2", change=change)
    return read_one(folder)[1]


def without(*names: str) -> Change:
    def change(dataset: Dataset) -> None:
        for name in names:
            dataset.pop(name, None)

    return change


def say(**elements: Any) -> Change:
    def change(dataset: Dataset) -> None:
        for name, value in elements.items():
            setattr(dataset, name, value)

    return change


def oblique(dataset: Dataset) -> None:
    """As GE writes it: another last digit in each slice."""
    k = round((float(dataset.ImagePositionPatient[2]) + 40) / THICKNESS)
    cosine, sine = np.cos(0.3), np.sin(0.3)
    row = np.array([cosine, sine, 0, -sine, cosine, 0]) + 1e-8 * (-1) ** k
    dataset.ImageOrientationPatient = [round(float(number), 12) for number in row]


def irregular(dataset: Dataset) -> None:
    x, y, z = dataset.ImagePositionPatient
    k = round((float(z) + 40) / THICKNESS)
    dataset.ImagePositionPatient = [x, y, float(z) + (0.1 if k % 2 else 0.0)]


TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
SOURCES: dict[str, Change] = {
    "sound": lambda _: None,
    "anonymised": without(*TYPE_2),
    "no frame of reference": without("FrameOfReferenceUID", "PositionReferenceIndicator"),
    "oblique": oblique,
    "irregular": irregular,
    "japanese": say(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "korean": say(SpecificCharacterSet=["", "ISO 2022 IR 149"], PatientName="Hong^Gildong=洪^吉洞=홍^길동"),
    "gap stated as spacing": say(SpacingBetweenSlices=1.0),
    "spacing seven per cent off": say(SpacingBetweenSlices=10.7),
    "odd values": say(PatientSex="male", PatientBirthDate="1950", StudyTime="noon", PatientName="no caret"),
}


@pytest.mark.parametrize("change", SOURCES.values(), ids=SOURCES)
def test_every_source_gives_results(
    tmp_path: Path, png: bytes, change: Change, capfd: pytest.CaptureFixture[str]
) -> None:
    source = classic(tmp_path / "in", change)
    assert write_dicom_results(tmp_path / "out", source, prediction(), synthesis_png=png) == ()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(DICOM_FILES)
    check_segmentation(tmp_path / "out" / "segmentation.dcm", source)
    for name in DICOM_FILES:
        dataset = pydicom.dcmread(tmp_path / "out" / name)
        assert all(keyword in dataset for keyword in TYPE_2[:-1]), name
        assert str(dataset.StudyInstanceUID) == "1.2"
    assert capfd.readouterr().err == ""


def check_segmentation(path: Path, source: DicomSource) -> None:
    """By pydicom alone, as other readers do: volume by stated spacing, places by positions."""
    read = pydicom.dcmread(path)
    measures = read.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel = float(np.prod([float(n) for n in measures.PixelSpacing])) * float(measures.SpacingBetweenSlices) / 1000
    pixels = read.pixel_array
    numbers = [
        int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for group in read.PerFrameFunctionalGroupsSequence
    ]
    expected = prediction()
    masks = (expected.brain, expected.stroke)
    for number, mask in enumerate(masks, start=1):
        assert mask is not None
        frames = [k for k, segment in enumerate(numbers) if segment == number]
        step = float(np.linalg.norm(source.affine[:3, 2]))
        assert voxel * pixels[frames].sum() == pytest.approx(VOXEL_ML / THICKNESS * step * mask.sum(), rel=1e-4)
        found = {}
        for frame in frames:
            position = read.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0].ImagePositionPatient
            place = np.linalg.solve(source.affine, [*map(float, position), 1])
            np.testing.assert_allclose(place[:2], 0, atol=1e-3)
            found[round(place[2])] = pixels[frame].T > 0
            assert place[2] == pytest.approx(round(place[2]), abs=1e-3)
        assert sorted(found) == np.flatnonzero(mask.any(axis=(0, 1))).tolist()
        for k, pixels_there in found.items():
            np.testing.assert_array_equal(pixels_there, mask[:, :, k])


def xa(dataset: Dataset) -> None:
    """Siemens XA: measures and orientation in each frame, none shared."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            setattr(group, name, Sequence([shared[name].value[0]]))
    dataset.SharedFunctionalGroupsSequence = Sequence([Dataset()])


@pytest.mark.parametrize("change", [lambda _: None, xa], ids=["shared", "per frame"])
@pytest.mark.parametrize("objects", [1, 2], ids=["one object", "an object each"])
def test_enhanced_sources(tmp_path: Path, png: bytes, change: Change, objects: int) -> None:
    if objects == 1:
        write_enhanced(tmp_path / "in" / "e.dcm", images(), number=3, study="1.2", change=change)
    else:
        for b_value, image in images().items():
            file = tmp_path / "in" / f"{b_value}.dcm"
            write_enhanced(file, {b_value: image}, number=3, study="1.2", change=change)
    _, source = read_one(tmp_path / "in")
    assert write_dicom_results(tmp_path / "out", source, prediction(), synthesis_png=png) == ()
    check_segmentation(tmp_path / "out" / "segmentation.dcm", source)
    assert ENHANCED_MR in classes_of(tmp_path / "out" / "report.dcm")


def classes_of(path: Path) -> set[str]:
    """Of the objects that an object refers to."""
    return {str(one.value) for one in pydicom.dcmread(path).iterall() if one.keyword == "ReferencedSOPClassUID"}


def test_an_enhanced_object_for_each_slice(tmp_path: Path, png: bytes) -> None:
    for b_value, image in images().items():
        for k in range(SHAPE[2]):

            def place(dataset: Dataset, k: int = k, b_value: float = b_value) -> None:
                dataset.SeriesInstanceUID = f"1.2.{int(b_value)}"
                frame = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
                x, y, z = frame.ImagePositionPatient
                frame.ImagePositionPatient = [x, y, z + k * THICKNESS]

            file = tmp_path / "in" / f"{b_value}_{k}.dcm"
            write_enhanced(file, {b_value: image[:, :, k : k + 1]}, number=3, study="1.2", change=place)
    _, source = read_one(tmp_path / "in")
    write_dicom_results(tmp_path / "out", source, prediction(), synthesis_png=png)
    check_segmentation(tmp_path / "out" / "segmentation.dcm", source)
    for name in ("segmentation.dcm", "report.dcm"):
        assert ENHANCED_MR in classes_of(tmp_path / "out" / name)


def test_a_mosaic(tmp_path: Path, png: bytes) -> None:
    """All slices of the source are one object, which the segmentation names once."""
    for b_value, image in images().items():
        padded = np.concatenate([image, np.zeros((*SHAPE[:2], 1))], axis=2)
        rows = [np.concatenate([padded[..., 3 * row + n].T for n in range(3)], axis=1) for row in range(3)]

        def uih(dataset: Dataset) -> None:
            items = []
            for k in range(SHAPE[2]):
                item = Dataset()
                item.ImagePositionPatient = [-126, -100, -40 + k * THICKNESS]
                items.append(item)
            dataset.private_block(0x0065, "Image Private Header", create=True).add_new(0x51, "SQ", Sequence(items))

        picture = np.concatenate(rows, axis=0).T[:, :, None]
        write_series(tmp_path / "in", picture, b_value=b_value, vendor="standard", number=1, study="1.2", change=uih)
    _, source = read_one(tmp_path / "in")
    assert source.shape == SHAPE
    write_dicom_results(tmp_path / "out", source, prediction(), synthesis_png=png)
    check_segmentation(tmp_path / "out" / "segmentation.dcm", source)
    read = pydicom.dcmread(tmp_path / "out" / "segmentation.dcm")
    assert len(read.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1


def test_who_acquired_and_what_is_burnt_in(tmp_path: Path, png: bytes) -> None:
    """The acquisition's equipment is the scanner; the picture names the examination."""
    source = classic(tmp_path / "in", say(ManufacturerModelName="Scanner", DeviceSerialNumber="7"))
    write_dicom_results(tmp_path / "out", source, prediction(), synthesis_png=png)
    for name in DICOM_FILES:
        dataset = pydicom.dcmread(tmp_path / "out" / name)
        assert dataset.Manufacturer == "fvv"
        (acquired,) = [
            item
            for item in dataset.ContributingEquipmentSequence
            if item.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
        ]
        assert acquired.Manufacturer == "maker", name
    assert pydicom.dcmread(tmp_path / "out" / "synthesis.dcm").BurnedInAnnotation == "YES"


def test_a_segmentation_that_does_not_read_back_is_not_left(
    tmp_path: Path, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = classic(tmp_path / "in", lambda _: None)
    moved = source.affine.copy()
    moved[:3, 2] *= 1.1
    headers = "fvv.io.dicom.write._save"
    from fvv.io.dicom import write  # noqa: PLC0415

    save = write._save

    def wrong(path: Path, dataset: Any) -> None:
        if path.name == "segmentation.dcm":
            dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 1.0
        save(path, dataset)

    monkeypatch.setattr(headers, wrong)
    with pytest.raises(FvvError, match=r"states slices 1\.0 mm apart"):
        write_dicom_results(tmp_path / "out", source, prediction(), synthesis_png=png)
    assert list((tmp_path / "out").iterdir()) == []


def test_flair_visible_to_half_and_no_segment_at_all(tmp_path: Path, png: bytes) -> None:
    source = classic(tmp_path / "in", lambda _: None)
    nothing = np.zeros(SHAPE, dtype=bool)
    empty = replace(prediction(), brain=nothing, stroke=nothing, flair_visible_votes=nothing.astype(np.uint8))
    with pytest.raises(FvvError, match="no DICOM results could be made"):
        write_dicom_results(tmp_path / "out", source, empty, synthesis_png=png)
    write_dicom_results(tmp_path / "out", source, prediction(), synthesis_png=png)
    read = pydicom.dcmread(tmp_path / "out" / "segmentation.dcm")
    assert [one.SegmentLabel for one in read.SegmentSequence] == [channel.label for channel in Channel]
