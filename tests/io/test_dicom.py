"""DICOM in: which series, which numbers, which place. DICOM out: read back, overlaid, and judged by dciodvfy."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highdicom")

import highdicom as hd
import pydicom
from pydicom.uid import generate_uid

from builders import head, save, write_onnx
from dicom_builders import VENDORS, read_one, write_enhanced, write_series
from fvv.config import PredictConfig
from fvv.data import Channel, DecisionState, Prediction, Severity
from fvv.errors import GeometryError, InputError
from fvv.io.inputs import find_examinations
from fvv.io.result_files import IN_FOLDER, RESULT_FILE
from fvv.stages.predict import predict

CONFIG = PredictConfig(device="cpu")
LPS_AFFINE = np.array([[-4.0, 0, 0, 126], [0, -4, 0, 100], [0, 0, 10, -40], [0, 0, 0, 1]])
"""RAS affine of what `dicom_builders` writes."""


@pytest.fixture
def images(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A head whose first axis runs to the left and second to the back, as scanners store it."""
    return {name: array[::-1, ::-1] for name, array in head(rng).items()}


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


def write_form(folder: Path, images: dict[str, np.ndarray], form: str) -> None:
    """As one maker's classic objects, or as an enhanced one."""
    if form == "enhanced":
        both = {0: images["b0"], 1000: images["b1000"]}
        write_enhanced(folder / "e.dcm", both, number=3, study=generate_uid())
    else:
        write_patient(folder, images, form)


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_maker_says_its_b_value(tmp_path: Path, images: dict[str, np.ndarray], vendor: str) -> None:
    write_patient(tmp_path / "p", images, vendor)
    case, source = read_one(tmp_path / "p")
    np.testing.assert_array_equal(case.b0.array, images["b0"])
    np.testing.assert_array_equal(case.b1000.array, images["b1000"])
    np.testing.assert_allclose(case.b1000.affine, LPS_AFFINE)
    assert case.b_value == 1000
    assert "series 4" in case.notes[0]
    assert len(source.b1000) == images["b0"].shape[2]


def test_an_enhanced_object(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    write_enhanced(tmp_path / "p" / "e.dcm", {0: images["b0"], 1000: images["b1000"]}, number=3, study=generate_uid())
    case, source = read_one(tmp_path / "p")
    np.testing.assert_array_equal(case.b0.array, images["b0"])
    np.testing.assert_array_equal(case.b1000.array, images["b1000"])
    np.testing.assert_allclose(case.b1000.affine, LPS_AFFINE)
    assert source.frames == tuple(range(10, 20))


def test_directions_are_averaged_geometrically(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    study = generate_uid()
    write_series(tmp_path, images["b0"], b_value=0, vendor="ge", number=2, study=study)
    series = None
    for n, factor in enumerate((0.5, 1.0, 2.0)):
        series = write_series(
            tmp_path / str(n), images["b1000"] * factor + 1, b_value=1000, vendor="ge", number=3, study=study,
            series=series,
        )  # fmt: skip
    case, _ = read_one(tmp_path)
    np.testing.assert_allclose(case.b1000.array, images["b1000"] + 1, rtol=0.06, atol=2)


def test_stored_values_are_rescaled(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    write_patient(tmp_path, images, "philips", rescale=2.5)
    case, _ = read_one(tmp_path)
    np.testing.assert_allclose(case.b0.array, images["b0"], atol=1.26)


def test_the_choice_can_be_forced(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    study = generate_uid()
    for number in (7, 8):
        folder = tmp_path / str(number)
        series = write_series(folder, images["b0"] + number, b_value=0, vendor="ge", number=number, study=study)
        write_series(folder, images["b1000"], b_value=1000, vendor="ge", number=number, study=study, series=series)
    case, _ = read_one(tmp_path, series=(8,))
    np.testing.assert_array_equal(case.b0.array, images["b0"] + 8)
    with pytest.raises(InputError, match="no b0 among its series"):
        read_one(tmp_path, series=(9,))


def test_a_missing_slice_is_refused(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    write_patient(tmp_path, images)
    for file in tmp_path.glob("*_005.dcm"):
        file.unlink()
    with pytest.raises(GeometryError, match="slices are missing"):
        read_one(tmp_path)


def test_folders_zip_files_and_studies_of_several_series(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    write_patient(tmp_path / "in" / "anna", images)
    write_patient(tmp_path / "in" / "berta", images)
    with zipfile.ZipFile(tmp_path / "in" / "clara.zip", "w") as archive:
        for file in (tmp_path / "in" / "anna").iterdir():
            archive.write(file, f"deep/{file.name}")
    found = find_examinations(tmp_path / "in")
    (tmp_path / "in" / "clara_fvv").mkdir()  # Results of an earlier run, where no other place was named.
    assert find_examinations(tmp_path / "in") == found
    assert [(one.name, one.dicom is not None) for one in found] == [("anna", True), ("berta", True), ("clara", True)]
    first, _ = found[0].read(CONFIG)
    zipped, _ = found[2].read(CONFIG)
    np.testing.assert_array_equal(first.b1000.array, zipped.b1000.array)
    study = tmp_path / "one"
    for file in sorted((tmp_path / "in" / "anna").iterdir()):
        (study / file.name[:4]).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, study / file.name[:4])
    assert [one.name for one in find_examinations(study)] == ["one"]


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
    assert {path.name for path in folder.iterdir()} >= {*IN_FOLDER.values(), "dicom"}
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
        assert {path.name for path in (tmp_path / "out" / name).iterdir()} >= {*IN_FOLDER.values()}
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
    """A measured 0 mL, and the mean over models of whom one in three sees anything."""
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


def test_what_is_not_assessable_has_a_picture_alone(
    tmp_path: Path, images: dict[str, np.ndarray], models: Path
) -> None:
    write_patient(tmp_path / "anna", {"b0": images["b1000"], "b1000": images["b0"]})
    (prediction,) = predict(tmp_path / "anna", models, tmp_path / "out", CONFIG).predictions
    assert prediction.decision.state is DecisionState.NOT_ASSESSABLE
    assert [file.name for file in (tmp_path / "out" / "anna" / "dicom").iterdir()] == ["synthesis.dcm"]


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
