"""DICOM out, for sources as they are: read back independently, overlaid, and judged by dciodvfy."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from builders import head, save, write_onnx
from dicom_builders import (
    ENHANCED_MR,
    LPS_AFFINE,
    SPACING,
    THICKNESS,
    Change,
    irregular,
    read_one,
    say,
    write_enhanced,
    write_patient,
    write_series,
)
from fvv.config import PredictConfig
from fvv.data import Channel, Decision, DecisionState, Prediction, Severity
from fvv.errors import FvvError
from fvv.io.dicom.stack import DicomSource
from fvv.io.dicom.write import write_dicom_results
from fvv.io.result_files import DICOM_FILES, IN_FOLDER, RESULT_FILE
from fvv.stages.predict import predict

SHAPE = (12, 10, 8)


NOT_ASKED = {IN_FOLDER[kind] for kind in ("probabilities", "nrrd", "mha")}
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


def two_images() -> dict[float, np.ndarray]:
    return {0: np.full(SHAPE, 100.0), 1000: np.full(SHAPE, 200.0)}


def classic(folder: Path, change: Change) -> DicomSource:
    for number, (b_value, image) in enumerate(two_images().items()):
        write_series(folder, image, b_value=b_value, vendor="standard", number=number, study="1.2", change=change)
    return read_one(folder)[1]


def without(*names: str) -> Change:
    def change(dataset: Dataset) -> None:
        for name in names:
            dataset.pop(name, None)

    return change


def oblique(dataset: Dataset) -> None:
    """As GE writes it: another last digit in each slice."""
    k = round((float(dataset.ImagePositionPatient[2]) + 40) / THICKNESS)
    cosine, sine = np.cos(0.3), np.sin(0.3)
    row = np.array([cosine, sine, 0, -sine, cosine, 0]) + 1e-8 * (-1) ** k
    dataset.ImageOrientationPatient = [round(float(number), 12) for number in row]


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
    capfd.readouterr()  # Reading logs; what libraries print while writing would reach people.
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
        write_enhanced(tmp_path / "in" / "e.dcm", two_images(), number=3, study="1.2", change=change)
    else:
        for b_value, image in two_images().items():
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
    for b_value, image in two_images().items():
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
    for b_value, image in two_images().items():
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


CONFIG = PredictConfig(compute={"device": "cpu"})


def write_form(folder: Path, images: dict[str, np.ndarray], form: str) -> None:
    """As one maker's classic objects, or as an enhanced one."""
    if form == "enhanced":
        both = {0: images["b0"], 1000: images["b1000"]}
        write_enhanced(folder / "e.dcm", both, number=3, study=generate_uid())
    else:
        write_patient(folder, images, form)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_onnx(folder / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    return folder


@pytest.mark.parametrize("form", ["standard", "siemens", "ge", "philips", "enhanced"])
def test_results_as_dicom(tmp_path: Path, images: dict[str, np.ndarray], models: Path, form: str) -> None:
    """FVV is that of the NIfTI path; the segmentation lies on the right voxels; the report holds the volumes."""
    write_form(tmp_path / "anna", images, form)
    for name in ("b0", "b1000"):
        save(tmp_path / "nifti" / f"{name}.nii.gz", images[name], LPS_AFFINE)
    (expected,) = predict(tmp_path / "nifti", models, tmp_path / "out1", CONFIG).predictions
    (prediction,) = predict(tmp_path / "anna", models, tmp_path / "out2", CONFIG).predictions
    assert prediction.fvv_ml == pytest.approx(expected.fvv_ml, rel=1e-3)
    folder = tmp_path / "out2" / "anna" / "dicom"

    import nibabel as nib  # noqa: PLC0415

    masks = nib.load(tmp_path / "out2" / "anna" / "predictions.nii.gz")
    segmentation = hd.seg.segread(folder / "segmentation.dcm")
    for number, channel in enumerate((Channel.BRAIN, Channel.STROKE), start=1):
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=False)
        found = volume.array[..., 0] > 0
        ours = np.asarray(masks.dataobj)[..., channel.value] > 0
        assert found.sum() == ours.sum()
        # Voxel centres in LPS mm, from DICOM's geometry and from NIfTI's: the same places.
        dicom = np.argwhere(found) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        nifti = np.argwhere(ours) @ masks.affine[:3, :3].T + masks.affine[:3, 3]
        np.testing.assert_allclose(
            sorted(map(tuple, np.round(dicom, 3))), sorted(map(tuple, np.round(nifti * [-1, -1, 1], 3))), atol=2e-3
        )
    report = hd.sr.srread(folder / "report.dcm")
    volumes = volumes_of(report.content.get_volumetric_roi_measurement_groups())
    assert volumes == pytest.approx({c.label: prediction.volume_ml(c) for c in Channel}, abs=1e-3)
    source = pydicom.dcmread(next((tmp_path / "anna").glob("*.dcm")))
    for name in ("segmentation", "report", "synthesis"):
        assert pydicom.dcmread(folder / f"{name}.dcm").StudyInstanceUID == source.StudyInstanceUID
    picture = pydicom.dcmread(folder / "synthesis.dcm")
    assert picture.pixel_array.shape[2] == 3


def test_a_header_damaged_where_only_the_results_need_it(
    tmp_path: Path, images: dict[str, np.ndarray], models: Path
) -> None:
    """The answer stands; the DICOM results lack the element, and a warning names it."""
    write_patient(tmp_path / "anna", images)
    study_date = b"\x08\x00\x20\x00DA"
    for file in (tmp_path / "anna").iterdir():
        data = file.read_bytes()
        assert data.count(study_date) == 1
        file.write_bytes(data.replace(study_date, study_date[:4] + b"ZZ"))
    (prediction,) = predict(tmp_path / "anna", models, tmp_path / "out", CONFIG).predictions
    assert "damaged elements" in warning_of(prediction)
    assert "(0008,0020)" in warning_of(prediction)
    folder = tmp_path / "out" / "anna"
    assert {path.name for path in folder.iterdir()} >= {*IN_FOLDER.values(), "dicom"} - NOT_ASKED
    assert hd.seg.segread(folder / "dicom" / "segmentation.dcm").StudyDate == ""


@pytest.mark.parametrize("error", [AttributeError("no attribute 'X'"), ValueError("shared orientation"), MemoryError()])
def test_the_answer_stands_whatever_the_dicom_output_raises(
    tmp_path: Path,
    images: dict[str, np.ndarray],
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def faulty(*_: object) -> None:
        raise error

    monkeypatch.setattr("fvv.io.dicom.write._report", faulty)
    for name in ("anna", "berta"):
        write_patient(tmp_path / "in" / name, images)
    done = predict(tmp_path / "in", models, tmp_path / "out", CONFIG)
    assert done.failures == ()
    for name, prediction in zip(("anna", "berta"), done.predictions, strict=True):
        assert f"no DICOM results could be made: {type(error).__name__}" in warning_of(prediction)
        assert {path.name for path in (tmp_path / "out" / name).iterdir()} >= {*IN_FOLDER.values()} - NOT_ASKED
        assert "dicom-output" in (tmp_path / "out" / name / RESULT_FILE).read_text()
        assert not list((tmp_path / "out" / name / "dicom").iterdir())  # No part of a set.


def warning_of(prediction: Prediction) -> str:
    """What is said of the DICOM output."""
    (found,) = [one for one in prediction.decision.reasons if one.code == "dicom-output"]
    assert found.severity is Severity.WARNING
    return found.message


def test_results_beside_dicom_images(tmp_path: Path, images: dict[str, np.ndarray], models: Path) -> None:
    """They are no part of the examination the second time; what others wrote under their names is left alone."""
    write_patient(tmp_path / "anna", images)
    predict(tmp_path / "anna", models, None, CONFIG)
    stamp = (tmp_path / "anna" / "results.json").stat().st_mtime_ns
    predict(tmp_path / "anna", models, None, CONFIG)
    assert (tmp_path / "anna" / "results.json").stat().st_mtime_ns == stamp
    theirs = tmp_path / "anna" / "dicom" / "report.dcm"
    shutil.copy(next((tmp_path / "anna").glob("*.dcm")), theirs)
    before = theirs.read_bytes()
    (prediction,) = predict(tmp_path / "anna", models, None, CONFIG.model_copy(update={"overwrite": True})).predictions
    assert "not written by fvv" in warning_of(prediction)
    assert theirs.read_bytes() == before


def test_damaged_dicom_results_are_made_again(tmp_path: Path, images: dict[str, np.ndarray], models: Path) -> None:
    write_patient(tmp_path / "anna", images)
    (first,) = predict(tmp_path / "anna", models, tmp_path / "out", CONFIG).predictions
    report = tmp_path / "out" / "anna" / "dicom" / "report.dcm"
    for damage in (report.unlink, lambda: report.write_bytes(report.read_bytes()[:100])):
        damage()
        result = predict(tmp_path / "anna", models, tmp_path / "out", CONFIG)
        assert (result.kept, result.predictions[0].decision.reasons) == (0, first.decision.reasons)
        assert pydicom.dcmread(report).Modality == "SR"


def volumes_of(groups: list[Any]) -> dict[str, float]:
    """mL by what was measured."""
    return {group.tracking_identifier: group.get_measurements()[0].value for group in groups}


@pytest.mark.parametrize("visible", [(-100.0, -100.0, -100.0), (-3.0, -100.0, -100.0)])
def test_fvv_is_reported_also_where_nothing_is_outlined(
    tmp_path: Path, images: dict[str, np.ndarray], visible: tuple[float, ...]
) -> None:
    """A measured 0 mL, and the mean over models, of which one in three sees anything."""
    for number, bias in enumerate(visible, start=1):
        write_onnx(tmp_path / "models" / f"model{number}.onnx", whole_volume=False, biases=(1.5, -2.0, bias))
    write_patient(tmp_path / "anna", images)
    (prediction,) = predict(tmp_path / "anna", tmp_path / "models", tmp_path / "out", CONFIG).predictions
    assert prediction.fvv_ml is not None
    assert (prediction.fvv_ml > 0) == (max(visible) > -100)
    folder = tmp_path / "out" / "anna" / "dicom"
    assert len(hd.seg.segread(folder / "segmentation.dcm").SegmentSequence) == 2
    report = hd.sr.srread(folder / "report.dcm").content
    fvv = volumes_of(report.get_image_measurement_groups())
    assert fvv == pytest.approx({Channel.FLAIR_VISIBLE.label: prediction.fvv_ml}, abs=1e-4)


def test_what_is_not_assessable_has_a_picture_and_a_report_of_the_reasons_without_a_volume(
    tmp_path: Path, images: dict[str, np.ndarray], models: Path
) -> None:
    write_patient(tmp_path / "anna", {"b0": images["b1000"], "b1000": images["b0"]})
    (prediction,) = predict(tmp_path / "anna", models, tmp_path / "out", CONFIG).predictions
    assert prediction.decision.state is DecisionState.NOT_ASSESSABLE
    folder = tmp_path / "out" / "anna" / "dicom"
    assert sorted(file.name for file in folder.iterdir()) == ["report.dcm", "synthesis.dcm"]
    (group,) = hd.sr.srread(folder / "report.dcm").content.get_image_measurement_groups()
    assert group.get_measurements() == []
    said = [str(item.get("TextValue") or "") for item in group[0].ContentSequence]
    assert all(any(finding.message[:900] in text for text in said) for finding in prediction.decision.reasons)


def test_the_same_inputs_and_models_give_the_same_uids(tmp_path: Path, png: bytes) -> None:
    source = classic(tmp_path / "in", lambda _: None)
    uids = []
    for run, made_from in enumerate(("one", "one", "other")):
        write_dicom_results(tmp_path / str(run), source, prediction(), synthesis_png=png, made_from=made_from)
        uids.append([pydicom.dcmread(tmp_path / str(run) / name).SOPInstanceUID for name in DICOM_FILES])
    assert uids[0] == uids[1]
    assert set(uids[0]).isdisjoint(uids[2])
    assert len(set(uids[0])) == len(DICOM_FILES)


@pytest.mark.parametrize("form", ["siemens", "enhanced"])
def test_no_lesion_as_dicom(tmp_path: Path, rng: np.random.Generator, models: Path, form: str) -> None:
    """The brain is the only segment."""
    images = {name: array[::-1, ::-1] for name, array in head(rng, lesion=False).items()}
    write_form(tmp_path / "anna", images, form)
    done = predict(tmp_path / "anna", models, tmp_path / "out", CONFIG)
    assert done.failures == ()
    assert done.predictions[0].decision.state is DecisionState.NO_LESION_FOUND
    folder = tmp_path / "out" / "anna" / "dicom"
    segmentation = hd.seg.segread(folder / "segmentation.dcm")
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == [Channel.BRAIN.label]
    report = hd.sr.srread(folder / "report.dcm").content
    (group,) = report.get_volumetric_roi_measurement_groups()
    without_segment = volumes_of(report.get_image_measurement_groups())
    assert without_segment == {Channel.STROKE.label: 0, Channel.FLAIR_VISIBLE.label: 0}
    # One source slice, or one frame of the enhanced object, for each of the segment's own.
    sources = group.referenced_segment.source_images_for_segmentation
    frames = [one.referenced_frame_numbers for one in sources]
    assert len(sources if form == "siemens" else frames[0]) == segmentation.NumberOfFrames


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not here")
@pytest.mark.parametrize("lesion", [True, False])
@pytest.mark.parametrize("form", ["siemens", "enhanced"])
def test_dciodvfy_finds_no_error(
    tmp_path: Path, rng: np.random.Generator, models: Path, form: str, lesion: bool
) -> None:
    images = {name: array[::-1, ::-1] for name, array in head(rng, lesion=lesion).items()}
    write_form(tmp_path / "anna", images, form)
    predict(tmp_path / "anna", models, tmp_path / "out", CONFIG)
    for file in (tmp_path / "out" / "anna" / "dicom").iterdir():
        done = subprocess.run([shutil.which("dciodvfy") or "", str(file)], capture_output=True, text=True, check=False)
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == [], file.name
