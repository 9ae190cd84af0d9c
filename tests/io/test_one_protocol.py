"""One acquisition has one answer, whichever way it comes in: two NIfTI files, a 4D file, BIDS, DICOM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from builders import head, write_onnx
from fvv.config import PredictConfig
from fvv.data import Case, Volume
from fvv.io.inputs import READERS, Examination, Reader, find_examinations
from fvv.stages.predict import predict

AFFINE = np.array([[-4.0, 0, 0, 126], [0, -4, 0, 100], [0, 0, 10, -40], [0, 0, 0, 1]])
"""Of what `dicom_builders` writes, voxel to RAS+ mm."""
CONFIG = PredictConfig(compute={"device": "cpu"})
Acquisition = list[tuple[int, np.ndarray]]
"""b-value and image of each volume."""


def acquired(rng: np.random.Generator, b_values: tuple[int, ...]) -> Acquisition:
    """A head at b = 0 and at these b-values, in whole numbers, which DICOM stores exactly."""
    images = {name: array[::-1, ::-1] for name, array in head(rng).items() if name in {"b0", "b1000"}}
    decayed = [(b, np.round(images["b1000"] * (1 + rng.random()) + b / 10)) for b in b_values]
    return [(0, images["b0"]), *decayed]


def save(file: Path, volumes: Acquisition) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    array = np.stack([image for _, image in volumes], axis=-1).squeeze().astype(np.float32)
    nib.save(nib.Nifti1Image(array, AFFINE), file)
    file.with_name(file.name.replace(".nii.gz", ".bval")).write_text(" ".join(str(b) for b, _ in volumes))


def two_files(root: Path, volumes: Acquisition) -> None:
    save(root / "b0.nii.gz", volumes[:1])
    save(root / "b1000.nii.gz", volumes[1:])


def one_file(root: Path, volumes: Acquisition) -> None:
    for name in ("b0", "b1000"):
        save(root / f"{name}.nii.gz", volumes)


def bids(root: Path, volumes: Acquisition) -> None:
    save(root / "sub-1" / "dwi" / "sub-1_dwi.nii.gz", volumes)


def bids_in_two_files(root: Path, volumes: Acquisition) -> None:
    save(root / "sub-1" / "dwi" / "sub-1_acq-b0_dwi.nii.gz", volumes[:1])
    save(root / "sub-1" / "dwi" / "sub-1_acq-trace_dwi.nii.gz", volumes[1:])


def acquisition(number: int) -> Callable[[Any], None]:
    def change(dataset: Any) -> None:
        dataset.SeriesInstanceUID, dataset.AcquisitionNumber = "1.2.4", number

    return change


def dicom(root: Path, volumes: Acquisition) -> None:
    from dicom_builders import write_series  # noqa: PLC0415

    for n, (b, image) in enumerate(volumes):
        about = {"vendor": "siemens", "number": 4, "study": "1.2", "series": "1.2.4"}
        write_series(root / str(n), image, b_value=b, change=acquisition(n), **about)  # type: ignore[arg-type]


def enhanced_dicom(root: Path, volumes: Acquisition) -> None:
    from dicom_builders import write_enhanced  # noqa: PLC0415

    for n, volume in enumerate(volumes):
        write_enhanced(root / f"{n}.dcm", dict([volume]), number=4, study="1.2", change=acquisition(n))


WAYS: list[Callable[[Path, Acquisition], None]] = [
    two_files, one_file, bids, bids_in_two_files, dicom, enhanced_dicom
]  # fmt: skip


def by_every_way(root: Path, volumes: Acquisition) -> dict[str, Path]:
    pytest.importorskip("highdicom")
    places = {way.__name__: root / way.__name__ for way in WAYS}
    for way in WAYS:
        way(places[way.__name__], volumes)
    return places


def read_only(place: Path) -> Case:
    (examination,) = find_examinations(place)
    return examination.read(CONFIG)[0]


def said_of_shells(case: Case) -> list[str]:
    """Without the file or series."""
    return [note.partition(": ")[2] for note in case.notes if "also holds" in note]


@pytest.mark.parametrize(
    "b_values", [(800,), (950,), (1000,), (1200,), (650,), (800, 950, 1200), (1200, 800), (500,), (2500, 1500)]
)
def test_one_case(tmp_path: Path, rng: np.random.Generator, b_values: tuple[int, ...]) -> None:
    volumes = acquired(rng, b_values)
    cases = {way: read_only(place) for way, place in by_every_way(tmp_path, volumes).items()}
    taken = min(b_values, key=lambda b: (abs(b - 1000), b))
    for way, case in cases.items():
        np.testing.assert_array_equal(case.b0.array, volumes[0][1], err_msg=way)
        np.testing.assert_array_equal(case.b1000.array, dict(volumes)[taken], err_msg=way)
        np.testing.assert_array_equal(case.b1000.affine, AFFINE, err_msg=way)
        assert case.b_value == taken, way
        assert said_of_shells(case) == said_of_shells(cases["two_files"]), way
        assert bool(said_of_shells(case)) is (len(b_values) > 1), way
        assert case.warnings == (), way


@pytest.mark.parametrize("b_values", [(990, 1000, 1010), (50, 0, 1000, 1000, 5, 2000)])
def test_one_average(tmp_path: Path, rng: np.random.Generator, b_values: tuple[int, ...]) -> None:
    """Directions and repeats; b = 50 is not averaged into b = 0."""
    volumes = acquired(rng, b_values)
    low = [image for b, image in volumes if b < 50]
    high = [image for b, image in volumes if 900 < b < 1100]
    for place in by_every_way(tmp_path, volumes).values():
        if place.name in {"two_files", "bids_in_two_files"} and len(low) > 1:
            continue  # Not all b0 lie in the first file.
        case = read_only(place)
        np.testing.assert_allclose(case.b0.array, np.mean(low, axis=0), rtol=1e-12, err_msg=place.name)
        mean = np.exp(np.mean(np.log(high), axis=0))
        np.testing.assert_allclose(case.b1000.array, mean, rtol=1e-12, err_msg=place.name)
        assert case.b_value == 1000


@pytest.mark.parametrize("b_value", [800, 950, 2000])
def test_one_answer(tmp_path: Path, rng: np.random.Generator, b_value: int) -> None:
    images = {name: array[::-1, ::-1] for name, array in head(rng).items()}
    acquired_at = np.round(images["b0"] * (images["b1000"] / np.maximum(images["b0"], 1)) ** (b_value / 1000))
    places = by_every_way(tmp_path / "in", [(0, images["b0"]), (b_value, acquired_at)])
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False)
    write_onnx(tmp_path / "models" / "model2.onnx", whole_volume=False, biases=(1.5, -1.8, -1.5))
    answers = set()
    for way, place in places.items():
        (one,) = predict(place, tmp_path / "models", tmp_path / "out" / way, CONFIG).predictions
        # Notes name files, or series.
        reasons = tuple(reason for reason in one.decision.reasons if reason.code != "reader-note")
        answers.add((one.decision.state, one.stroke_voxels, one.fvv_per_model_ml, one.fvv_ml, one.lesion_adc, reasons))
    assert len(answers) == 1
    ((_, stroke_voxels, *_, reasons),) = answers
    assert stroke_voxels
    assert ("b-value" in {reason.code for reason in reasons}) is (b_value != 950)


def test_a_new_format_is_one_reader(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a folder of patients, beside those of other formats."""
    volumes = acquired(rng, (1000,))
    two_files(tmp_path / "in" / "anna", volumes)
    (tmp_path / "in" / "berta").mkdir()
    np.savez(tmp_path / "in" / "berta" / "images.npz", b0=volumes[0][1], b1000=volumes[1][1])

    def recognise(place: Path) -> list[Examination]:
        return [Examination(place.name, place, place, "npz")] if (place / "images.npz").is_file() else []

    def read(one: Examination, _: PredictConfig) -> tuple[Case, None]:
        arrays = np.load(one.place / "images.npz")
        return Case(one.name, *(Volume(arrays[name], AFFINE) for name in ("b0", "b1000"))), None

    monkeypatch.setitem(READERS, "npz", Reader(recognise, read, files=lambda one: [one.place / "images.npz"]))
    anna, berta = find_examinations(tmp_path / "in")
    assert find_examinations(tmp_path / "in" / "berta") == [berta]
    np.testing.assert_array_equal(anna.read(CONFIG)[0].b1000.array, berta.read(CONFIG)[0].b1000.array)
    assert berta.sha256() != anna.sha256()
