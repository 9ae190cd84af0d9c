"""DICOM of several people and studies: one examination each, never mixed; each file read once, copies count once."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicom_builders import Change, read_one, save_dicom, write_enhanced, write_patient, write_series
from fvv.config import PredictConfig
from fvv.errors import InputError
from fvv.io.dicom import find
from fvv.io.dicom.group import examinations_of, index_place
from fvv.io.inputs import Examination, find_examinations

CONFIG = PredictConfig(compute={"device": "cpu"})


def image(value: float) -> np.ndarray:
    return np.full((8, 6, 4), value) + np.arange(4)


def write(folder: Path, value: float, b_values: tuple[int, ...] = (0, 1000), number: int = 4, **about: str) -> None:
    """b0 and b1000 with a value by which they are known again; `about` is what the header says."""
    about = {"StudyInstanceUID": "1.2.3", "PatientID": "id", **about}

    def change(dataset: Dataset) -> None:
        for keyword, text in about.items():
            setattr(dataset, keyword, text)

    for b_value in b_values:
        array = image(value + b_value / 10)
        write_series(folder, array, b_value=b_value, vendor="siemens", number=number, study="", change=change)
        number += 1


def values(examinations: list[Examination]) -> dict[str, tuple[float, float]]:
    """Which images each examination is made of."""
    read = {one.name: one.read(CONFIG)[0] for one in examinations}
    return {name: (float(case.b0.array.min()), float(case.b1000.array.min())) for name, case in read.items()}


PAIRS = {
    "people": ({"PatientID": "A"}, {"PatientID": "B"}),
    "people by issuer": ({"IssuerOfPatientID": "hospital 1"}, {"IssuerOfPatientID": "hospital 2"}),
    "people by name": ({"PatientID": "", "PatientName": "A^B"}, {"PatientID": "", "PatientName": "C^D"}),
    "people by birth": ({"PatientID": "", "PatientBirthDate": "19400101"}, {"PatientID": ""}),
    "studies": ({"StudyInstanceUID": "1.2.4"}, {"StudyInstanceUID": "1.2.5"}),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_b0_of_one_and_b1000_of_another_are_never_paired(tmp_path: Path, pair: tuple[dict[str, str], ...]) -> None:
    write(tmp_path / "in", 100, (0,), number=1, **pair[0])
    write(tmp_path / "in", 100, (1000,), number=2, **pair[1])
    found = find_examinations(tmp_path / "in")
    assert sorted(one.name for one in found) == ["in_1", "in_2"]
    reasons = []
    for one in found:
        with pytest.raises(InputError, match="never mixed") as refused:
            one.read(CONFIG)
        reasons.append(refused.value.message.partition(" among")[0])
    assert sorted(reasons) == ["no b0", "no b1000"]


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_each_complete_one_is_an_examination(tmp_path: Path, pair: tuple[dict[str, str], ...]) -> None:
    write(tmp_path / "cd" / "IMAGES", 500, number=1, **pair[0], StudyDate="20250102")
    write(tmp_path / "cd" / "IMAGES", 100, number=5, **pair[1], StudyDate="20250101")
    _directory_file(tmp_path / "cd" / "DICOMDIR")
    _zip(tmp_path / "cd", tmp_path / "cd.zip")
    expected = [(100, 200), (500, 600)]
    for place, name in ((tmp_path / "cd", "cd"), (tmp_path / "cd.zip", "cd")):
        found = find_examinations(place)
        assert values(found) == {f"{name}_{number}": pair for number, pair in enumerate(expected, start=1)}
        assert len({one.home for one in found}) == 2


def _directory_file(path: Path) -> None:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.1.3.10", generate_uid()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    save_dicom(dataset, path)


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(item for item in folder.rglob("*") if item.is_file()):
            archive.write(file, file.relative_to(folder))


def test_other_studies_without_diffusion_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "in", 100)
    knee = {"StudyInstanceUID": "1.9", "vendor": "ge", "kind": ("ORIGINAL", "PRIMARY", "OTHER")}
    write_series(
        tmp_path / "in", image(7), b_value=0, vendor="ge", number=9, study="1.9", kind=knee["kind"], description="knee"
    )
    (one,) = find_examinations(tmp_path / "in")
    case, _ = one.read(CONFIG)
    assert one.name == "in"
    assert "left out: 4 images of studies without diffusion images" in case.notes


def test_frames_of_reference_are_never_mixed(tmp_path: Path) -> None:
    write(tmp_path, 100, (0,), number=1, FrameOfReferenceUID="1.1")
    write(tmp_path, 100, (1000,), number=2, FrameOfReferenceUID="1.2")
    with pytest.raises(InputError, match="different frames of reference"):
        read_one(tmp_path)


def test_without_a_frame_of_reference_the_grid_decides(tmp_path: Path) -> None:
    write(tmp_path, 100, (0,), number=1, FrameOfReferenceUID="")
    write(tmp_path, 100, (1000,), number=2)
    assert read_one(tmp_path)[0].b1000.array.min() == 200


def test_a_folder_for_each_series_of_two_studies(tmp_path: Path) -> None:
    for study in ("1.1", "1.2"):
        for n, b_value in enumerate((0, 1000)):
            value = 100 if study == "1.1" else 500
            folder = tmp_path / f"{study}_{n}"
            write(folder, value, (b_value,), number=n, StudyInstanceUID=study)
    assert values(find_examinations(tmp_path)) == {
        f"{tmp_path.name}_1": (100, 200),
        f"{tmp_path.name}_2": (500, 600),
    }


def test_copies_of_a_patient_are_folders_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "in" / "anna", 100)
    for file in list((tmp_path / "in" / "anna").iterdir()):
        (tmp_path / "in" / "anna_copy").mkdir(exist_ok=True)
        (tmp_path / "in" / "anna_copy" / file.name).write_bytes(file.read_bytes())
    assert [one.name for one in find_examinations(tmp_path / "in")] == ["anna", "anna_copy"]


def test_two_complete_sets_are_said(tmp_path: Path) -> None:
    for number in (7, 3):
        series = write_series(tmp_path, image(number), b_value=0, vendor="ge", number=number, study="1")
        write_series(
            tmp_path, image(number * 10), b_value=1000, vendor="ge", number=number, study="1", series=series
        )  # fmt: skip
    case, _ = read_one(tmp_path)
    assert case.b1000.array.min() == 30
    assert "b1000 could also be series 7" in case.notes[1]
    assert "--series chooses another" in case.notes[1]


def test_a_damaged_header_fails_those_beside_it_alone(tmp_path: Path) -> None:
    write(tmp_path / "cd" / "a", 100, PatientID="A")
    write(tmp_path / "cd" / "b", 500, PatientID="B")
    _directory_file(tmp_path / "cd" / "DICOMDIR")
    broken = sorted((tmp_path / "cd" / "a").iterdir())[0]
    data = broken.read_bytes()
    broken.write_bytes(data.replace(b"\x08\x00\x08\x00CS", b"\x08\x00\x08\x00ZZ"))
    first, second = find_examinations(tmp_path / "cd")
    with pytest.raises(InputError, match="not readable as DICOM"):
        first.read(CONFIG)
    assert second.read(CONFIG)[0].b0.array.min() == 500


def test_an_image_that_is_a_link_into_nowhere_is_no_missing_slice(tmp_path: Path) -> None:
    write(tmp_path / "in", 100)
    for file in (tmp_path / "in").glob("*_003.dcm"):  # The last slice of each: no gap shows.
        file.unlink()
        file.symlink_to(tmp_path / "annex" / file.name)
    (one,) = find_examinations(tmp_path / "in")
    with pytest.raises(InputError, match="a broken link"):
        one.read(CONFIG)


@pytest.mark.parametrize("length", [0, 100, 300, 900])
@pytest.mark.parametrize("zipped", [True, False])
def test_an_image_that_is_cut_off_is_no_missing_slice(tmp_path: Path, length: int, *, zipped: bool) -> None:
    write(tmp_path / "in", 100)
    for file in (tmp_path / "in").glob("*_003.dcm"):
        file.write_bytes(file.read_bytes()[:length])
    place = tmp_path / "in"
    if zipped:
        _zip(place, tmp_path / "in.zip")
        place = tmp_path / "in.zip"
    (one,) = find_examinations(place)
    with pytest.raises(InputError, match=r"cut off|ends before|not readable"):
        one.read(CONFIG)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "in" / "anna", 100)
    os.mkfifo(tmp_path / "in" / "anna" / "pipe.dcm")
    os.mkfifo(tmp_path / "in" / "berta.zip")
    anna, berta = find_examinations(tmp_path / "in")
    assert anna.read(CONFIG)[0].b0.array.min() == 100
    with pytest.raises(InputError, match="expected a regular file"):
        berta.read(CONFIG)
    with pytest.raises(InputError, match="expected a regular file"):
        find_examinations(tmp_path / "in" / "berta.zip")


def test_names_from_files_are_safe_to_show(tmp_path: Path) -> None:
    write(tmp_path / "in", 100, SeriesDescription="dwi\x1b[31m\u202e", SpecificCharacterSet="ISO_IR 192")
    evil = tmp_path / "a\x1b[31mb.zip"
    _zip(tmp_path / "in", evil)
    (one,) = find_examinations(evil)
    assert one.name.isprintable()
    with pytest.raises(InputError, match="rename it") as refused:
        one.read(CONFIG)
    assert str(refused.value).isprintable()
    case, _ = read_one(tmp_path / "in")
    assert all(note.isprintable() for note in case.notes)


def test_headers_are_read_once_and_a_zip_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in", 100)
    _zip(tmp_path / "in", tmp_path / "in.zip")
    opened: list[object] = []
    read: list[bool] = []
    zip_file, dcmread = zipfile.ZipFile, find.pydicom.dcmread

    def count_opened(*words: object, **named: object) -> zipfile.ZipFile:
        opened.append(words)
        return zip_file(*words, **named)  # type: ignore[call-overload]

    def count_read(*words: object, stop_before_pixels: bool, **named: object) -> object:
        read.append(stop_before_pixels)
        return dcmread(*words, stop_before_pixels=stop_before_pixels, **named)

    monkeypatch.setattr(find.zipfile, "ZipFile", count_opened)
    monkeypatch.setattr(find.pydicom, "dcmread", count_read)
    for place in (tmp_path / "in", tmp_path / "in.zip"):
        opened.clear()
        read.clear()
        (one,) = find_examinations(place)
        assert (len(read), sum(read)) == (8, 8)
        one.read(CONFIG)
        assert (len(read), sum(read)) == (16, 8)
        assert len(opened) == (2 if place.suffix else 0)  # Once to find, once to read.


def test_each_image_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "in", 100)
    for file in list((tmp_path / "in").iterdir()):
        (tmp_path / "in" / f"copy_{file.name}").write_bytes(file.read_bytes())
    assert len(index_place(tmp_path / "in").frames) == 8


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


def write_two(folder: Path, value: float, number: int = 1, change: Change | None = None, series: str = "7.7") -> None:
    """b0 and b1000 of constant slices."""
    for b_value, name in ((0, f"{series}.{number}"), (1000, f"{series}.{number + 1}")):
        image = np.full((8, 6, 4), value + b_value / 10) + np.arange(4)
        about = {"vendor": "siemens", "number": number, "study": "1.2.3", "series": name}
        write_series(folder, image, b_value=b_value, change=change, **about)  # type: ignore[arg-type]
        number += 1


def _one_uid(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = f"7.8.{dataset.SeriesNumber}.{dataset.InstanceNumber}"


def _send_again(folder: Path, target: Path, factor: float = 1.0, pattern: str = "*.dcm") -> None:
    """The same series under new SOPInstanceUIDs, as some archives send it."""
    target.mkdir(exist_ok=True)
    for file in sorted(folder.glob(pattern)):
        dataset = pydicom.dcmread(file)
        dataset.PixelData = (dataset.pixel_array * factor).astype(np.uint16).tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(target / f"again_{file.name}")


@pytest.mark.parametrize("change", [_one_uid, None], ids=["one UID", "one number"])
def test_two_people_under_the_same_uids_are_never_averaged_nor_dropped(tmp_path: Path, change: Change | None) -> None:
    write_two(tmp_path / "a", 100, change=change)
    write_two(tmp_path / "b", 300, change=change)
    with pytest.raises(InputError, match="not the image that"):
        read_one(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PatientID", "another"), ("ImageOrientationPatient", [0, 1, 0, 1, 0, 0]), ("PixelSpacing", [2, 2])],
)
def test_the_same_pixels_of_another_person_or_place_under_one_uid_are_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    write_two(tmp_path, 100, change=_one_uid)
    file = min(tmp_path.glob("*.dcm"))
    dataset = pydicom.dcmread(file)
    dataset.save_as(tmp_path / "z_copy.dcm")
    read_one(tmp_path)
    setattr(dataset, name, value)
    dataset.save_as(tmp_path / "z_copy.dcm")
    with pytest.raises(InputError, match="not the image that"):
        read_one(tmp_path)


def test_every_frame_of_two_objects_under_one_uid_is_compared(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "a.dcm", {0: image(100), 1000: image(200)}, number=1, study="1.2")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.save_as(tmp_path / "b.dcm")
    read_one(tmp_path)
    dataset.PixelData = dataset.PixelData[:-2] + b"\1\2"
    dataset.save_as(tmp_path / "b.dcm")
    with pytest.raises(InputError, match="not the image that"):
        read_one(tmp_path)


def test_a_series_sent_twice_counts_once(tmp_path: Path) -> None:
    write_two(tmp_path, 100)
    _send_again(tmp_path, tmp_path, pattern="s002*_00[01].dcm")
    case, _ = read_one(tmp_path)
    assert case.b1000.array.min() == 200
    assert not case.warnings
    assert "1 images a slice); b1000" in case.notes[0]


def test_other_versions_of_some_slices_are_said(tmp_path: Path) -> None:
    write_two(tmp_path, 100)
    _send_again(tmp_path, tmp_path, 1.5, "s002*_00[01].dcm")
    case, _ = read_one(tmp_path)
    assert [said.partition(":")[2][:27] for said in case.warnings] == [
        " the number of images a sli",
        " 2 different images with on",
    ]


def test_another_date_of_birth_is_another_person(tmp_path: Path) -> None:
    write_two(tmp_path / "in", 100, change=lambda d: setattr(d, "PatientBirthDate", f"195{d.SeriesNumber}0101"))
    with pytest.raises(InputError, match="another date of birth"):
        read_one(tmp_path / "in")
    write_two(tmp_path / "derived", 100, change=lambda d: d.SeriesNumber == 2 and setattr(d, "PatientBirthDate", ""))
    read_one(tmp_path / "derived")


@pytest.mark.parametrize("keyword", ["Manufacturer", "DeviceSerialNumber"])
def test_b0_and_b1000_come_from_one_scanner(tmp_path: Path, keyword: str) -> None:
    write_two(tmp_path, 100, change=lambda d: setattr(d, keyword, f"maker{d.SeriesNumber} of scanners"))
    with pytest.raises(InputError, match="two scanners"):
        read_one(tmp_path)
    read_one(tmp_path, series=(1, 2))


def test_software_does_not_make_another_scanner(tmp_path: Path) -> None:
    write_two(
        tmp_path,
        100,
        change=lambda d: setattr(d, "Manufacturer", ("SIEMENS", "Siemens Healthineers")[d.SeriesNumber - 1]),
    )
    read_one(tmp_path)


def test_images_without_modality_are_known_by_their_class(tmp_path: Path) -> None:
    write_two(tmp_path, 100, change=lambda d: d.pop("Modality"))
    assert read_one(tmp_path)[0].b1000.array.min() == 200


def _zipped(folder: Path, target: Path, name: Callable[[Path], str]) -> None:
    with zipfile.ZipFile(target, "w") as archive, pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # Of the name that is there.
        for file in sorted(folder.rglob("*.*")):
            if file.is_file():
                archive.write(file, name(file))


def test_files_of_one_name_in_a_zip_file(tmp_path: Path) -> None:
    write_two(tmp_path / "in" / "a", 100)
    write_two(tmp_path / "in" / "b", 300)
    _zipped(tmp_path / "in", tmp_path / "x.zip", lambda file: file.name)
    with pytest.raises(InputError, match="two files named"):
        read_one(tmp_path / "x.zip")


def test_zip_files_in_zip_files(tmp_path: Path) -> None:
    write_two(tmp_path / "in", 100)
    _zipped(tmp_path / "in", tmp_path / "inner.zip", lambda file: file.name)
    shutil.copy(tmp_path / "inner.zip", tmp_path / "in")
    _zipped(tmp_path / "in", tmp_path / "outer.zip", lambda file: file.name)
    with pytest.raises(InputError, match="another zip file"):
        read_one(tmp_path / "outer.zip")
    with zipfile.ZipFile(tmp_path / "in" / "inner.zip", "w") as viewer:
        viewer.writestr("viewer.js", "no images")
    _zipped(tmp_path / "in", tmp_path / "viewer.zip", lambda file: file.name)
    read_one(tmp_path / "viewer.zip")


def test_a_zip_file_without_images_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("b0.nii.gz", b"no DICOM")
    (one,) = find_examinations(tmp_path / "x.zip")
    (found,) = examinations_of(tmp_path / "x.zip", index_place(tmp_path / "x.zip"))
    assert found == one.dicom
    with pytest.raises(InputError, match="no slices of MR images"):
        read_one(tmp_path / "x.zip")


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_long_description_is_shown_in_part(tmp_path: Path) -> None:
    write_two(tmp_path, 100, change=lambda d: d.__setattr__("SeriesDescription", "x" * 60 + "y" * 40))
    assert "yyyy..." in read_one(tmp_path)[0].notes[0]


def test_an_export_to_a_cd(tmp_path: Path) -> None:
    """A DICOMDIR, names without a suffix, no preamble, other files, two people, three studies: by date of study."""
    place = tmp_path / "cd"
    exported = (("A", "1.2.8", "20260301"), ("A", "1.2.9", "20250101"), ("B", "1.2.1", "20260201"))
    for number, (person, study, date) in enumerate(exported, start=1):
        write(tmp_path / "series", 100 * number, PatientID=person, StudyInstanceUID=study, StudyDate=date)
        (place / "DICOM" / person / f"ST{number}").mkdir(parents=True)
        for image_number, file in enumerate(sorted((tmp_path / "series").iterdir())):
            content = file.read_bytes()
            start = content.index(b"DICM") + 4 if number == 3 else 0
            (place / "DICOM" / person / f"ST{number}" / f"IM{image_number:05d}").write_bytes(content[start:])
            file.unlink()
    (place / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(100))
    (place / "VIEWER").mkdir()
    for name in ("VIEWER/run.exe", "VIEWER/help.pdf", "autorun.inf", "README"):
        (place / name).write_bytes(b"no image " * 50)
    read = values(find_examinations(place))
    assert read == {"cd_1": (200, 300), "cd_2": (300, 400), "cd_3": (100, 200)}
