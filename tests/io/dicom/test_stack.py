"""Which numbers and which place: slices of classic and enhanced objects, and of examinations as scanners write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_builders import (
    LPS_AFFINE,
    ORIGIN,
    THICKNESS,
    Change,
    both,
    image,
    irregular,
    read_one,
    save_dicom,
    say,
    write,
    write_enhanced,
    write_patient,
    write_series,
)
from fvv.config import PredictConfig
from fvv.errors import GeometryError
from fvv.io.inputs import find_examinations


def test_an_enhanced_object(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    write_enhanced(tmp_path / "p" / "e.dcm", {0: images["b0"], 1000: images["b1000"]}, number=3, study=generate_uid())
    case, source = read_one(tmp_path / "p")
    np.testing.assert_array_equal(case.b0.array, images["b0"])
    np.testing.assert_array_equal(case.b1000.array, images["b1000"])
    np.testing.assert_allclose(case.b1000.affine, LPS_AFFINE)
    assert source.frames == tuple(range(10, 20))


def test_stored_values_are_rescaled(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    write_patient(tmp_path, images, "philips", rescale=2.5)
    case, _ = read_one(tmp_path)
    np.testing.assert_allclose(case.b0.array, images["b0"], atol=1.26)


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


def test_a_missing_slice_is_refused(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    write_patient(tmp_path, images)
    for file in tmp_path.glob("*_005.dcm"):
        file.unlink()
    with pytest.raises(GeometryError, match="slices are missing"):
        read_one(tmp_path)


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


FAULTS = Path(__file__).resolve().parents[4] / "shared" / "faults" / "dicom"


FILES = sorted(FAULTS.glob("*.zip"))


JPEG = "20_jpeg_lossless_sv1"


@pytest.mark.skipif(not FILES, reason="the examinations are not here")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_images_are_those_of_the_sound_control(file: Path) -> None:
    if file.stem == JPEG:
        pytest.importorskip("gdcm")
    config = PredictConfig(compute={"device": "cpu"})
    (control,) = find_examinations(FILES[0])
    (one,) = find_examinations(file)
    expected, _ = control.read(config)
    case, _ = one.read(config)
    np.testing.assert_allclose(case.b0.array, expected.b0.array)
    np.testing.assert_allclose(case.b1000.array, expected.b1000.array, atol=2e-6)
    assert case.b_value == 1000
    if not file.stem.startswith("01"):  # The oblique one lies elsewhere.
        np.testing.assert_allclose(case.b1000.affine, expected.b1000.affine, atol=0.006)
