from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless

from dicom_builders import Change, save_dicom, say, write, write_enhanced
from fvv.config import ListenConfig
from fvv.errors import InputError
from fvv.node.objects import facts_of

ALL = ListenConfig()


def one(folder: Path, **elements: object) -> Path:
    write(folder, 100, 0, change=say(**elements) if elements else None)
    return min(folder.rglob("*.dcm"))


def test_objects_of_one_person_and_study_belong_together(study: list[Path]) -> None:
    facts = [facts_of(file, ALL) for file in study]
    assert len({one.study for one in facts}) == 1
    assert len({one.file_name for one in facts}) == len(study)
    assert all(one.wanted for one in facts)


@pytest.mark.parametrize("change", [{"PatientID": "another"}, {"StudyInstanceUID": "1.3"}, {"IssuerOfPatientID": "B"}])
def test_another_person_or_study_never_shares_a_folder(
    tmp_path: Path, study: list[Path], change: dict[str, str]
) -> None:
    assert facts_of(one(tmp_path / "other", **change), ALL).study != facts_of(study[0], ALL).study


def test_the_name_of_a_study_does_not_name_its_person(study: list[Path]) -> None:
    facts = facts_of(study[0], ALL)
    assert all(word not in f"{facts.study} {facts.file_name}" for word in ("name", "id", "1950"))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: setattr(image, "PixelData", image.PixelData[::-1]),
        lambda image: setattr(image, "DiffusionBValue", 500.0),
        lambda image: setattr(image, "ImageOrientationPatient", [0, 1, 0, 1, 0, 0]),
        lambda image: setattr(image, "RescaleSlope", 2),
    ],
)
def test_another_image_under_one_uid_is_another_file_and_a_corrected_name_is_none(
    study: list[Path], change: Change
) -> None:
    before = facts_of(study[0], ALL)
    dataset = pydicom.dcmread(study[0])
    dataset.AccessionNumber = "corrected"
    save_dicom(dataset, study[0])
    assert facts_of(study[0], ALL) == before
    change(dataset)
    save_dicom(dataset, study[0])
    after = facts_of(study[0], ALL)
    assert after.file_name != before.file_name
    assert after.file_name.partition("-")[0] == before.file_name.partition("-")[0]


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.8, 0.99])
def test_an_object_that_was_cut_off_is_refused(study: list[Path], keep: float) -> None:
    content = study[0].read_bytes()
    study[0].write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError):
        facts_of(study[0], ALL)


def test_compressed_pixels_without_an_end_are_refused(study: list[Path]) -> None:
    dataset = pydicom.dcmread(study[0])
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f" * 50])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(study[0], enforce_file_format=True)
    assert facts_of(study[0], ALL).wanted
    study[0].write_bytes(study[0].read_bytes()[:-12])
    with pytest.raises(InputError, match="cut off"):
        facts_of(study[0], ALL)


def test_an_enhanced_object_is_whole(tmp_path: Path) -> None:
    from dicom_builders import image  # noqa: PLC0415

    write_enhanced(tmp_path / "e.dcm", {0: image(100), 1000: image(200)}, number=1, study="1.2")
    assert facts_of(tmp_path / "e.dcm", ALL).wanted


def test_without_a_study_or_a_person_nobody_knows_whose_it_is(study: list[Path]) -> None:
    dataset = pydicom.dcmread(study[0])
    for name in ("PatientID", "PatientName", "PatientBirthDate"):
        setattr(dataset, name, "")
    save_dicom(dataset, study[0])
    with pytest.raises(InputError, match="no person"):
        facts_of(study[0], ALL)


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ({"series": ("*DIFF*",)}, True),
        ({"series": ("*flair*",)}, False),
        ({"stations": ("MR1", "MR2")}, True),
        ({"stations": ("MR3",)}, False),
        ({"body_parts": ("HEAD", "BRAIN")}, False),
        ({"body_parts": ("HEAD", "")}, True),
        ({"series": ("*diff*",), "stations": ("mr9",)}, False),
    ],
)
def test_rules(tmp_path: Path, rules: dict[str, tuple[str, ...]], *, wanted: bool) -> None:
    file = one(tmp_path, StationName="MR2")
    assert facts_of(file, ListenConfig(**rules)).wanted is wanted


def test_our_own_results_are_not_wanted(tmp_path: Path) -> None:
    assert not facts_of(one(tmp_path, Manufacturer="fvv"), ALL).wanted
