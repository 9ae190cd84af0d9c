from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import AFFINE, case_of, head, save, write_patient
from fvv.config import PROFILES, PreprocessConfig, PreprocessingProfile
from fvv.data import Volume
from fvv.errors import ConfigError, FvvError, GeometryError, InputError, MaskError
from fvv.io.case import image_sha256, list_patients, read_case, refuse_missing_folder
from fvv.io.mask_command import with_commanded_mask

CONFIG = PreprocessConfig()


def shifted(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] = mm
    return affine


def test_a_whole_patient_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    written = write_patient(tmp_path / "anna", rng)
    case = read_case(tmp_path / "anna", CONFIG, labelled=True)
    assert case.examination_id == "anna"
    np.testing.assert_array_equal(case.b1000.array, written["b1000"])
    assert case.stroke_roi is not None
    assert case.stroke_roi.array.dtype == bool
    assert case.notes == ()


def test_a_new_patients_rois_are_not_looked_at(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "p", rng)
    (tmp_path / "p" / "stroke_roi.nii.gz").write_text("broken")
    assert read_case(tmp_path / "p", CONFIG, labelled=False).stroke_roi is None


@pytest.mark.parametrize("name", ["b0", "b1000", "stroke_roi", "flairviz_roi"])
def test_a_missing_file_is_named_with_its_patient(tmp_path: Path, rng: np.random.Generator, name: str) -> None:
    write_patient(tmp_path / "p", rng)
    (tmp_path / "p" / f"{name}.nii.gz").unlink()
    with pytest.raises(InputError, match=rf"patient p, .*{name}\.nii\.gz: missing"):
        read_case(tmp_path / "p", CONFIG, labelled=True)


def test_the_other_name_of_the_mask_is_known(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "p", rng)
    (tmp_path / "p" / "mask.nii.gz").rename(tmp_path / "p" / "mask_roi.nii.gz")
    assert read_case(tmp_path / "p", CONFIG, labelled=True).mask is not None


def test_b0_on_another_grid(tmp_path: Path, rng: np.random.Generator) -> None:
    images = write_patient(tmp_path / "p", rng)
    save(tmp_path / "p" / "b0.nii.gz", images["b0"], shifted(2.0))
    with pytest.raises(GeometryError, match=r"b0\.nii\.gz: not on the grid of b1000.*2 mm apart.*--resample-b0"):
        read_case(tmp_path / "p", CONFIG, labelled=True)
    case = read_case(tmp_path / "p", PreprocessConfig(resample_b0=True), labelled=True)
    assert case.notes == ("b0 resampled onto b1000's grid",)
    np.testing.assert_array_equal(case.b0.affine, AFFINE)


def test_the_b_value_is_that_of_the_file_or_the_users(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "p", rng)
    assert read_case(tmp_path / "p", CONFIG, labelled=True).b_value is None
    asked = PreprocessConfig(b_value=1500)
    assert read_case(tmp_path / "p", asked, labelled=True).b_value == 1500
    (tmp_path / "p" / "b1000.bval").write_text("1490")
    assert read_case(tmp_path / "p", asked, labelled=True).b_value == 1490
    (tmp_path / "p" / "b1000.bval").write_text("1000")
    with pytest.raises(InputError, match=r"patient p, .*b = 1500 s/mm\^2 was asked for, the file states 1000"):
        read_case(tmp_path / "p", asked, labelled=True)


@pytest.mark.parametrize("index", [None, 0])
@pytest.mark.parametrize("b_value", [300, 1000])
def test_a_file_that_says_it_is_no_b0_is_none(
    tmp_path: Path, rng: np.random.Generator, b_value: int, index: int | None
) -> None:
    images = write_patient(tmp_path / "p", rng)
    config = PreprocessConfig(b0_index=index)
    if index is not None:
        save(tmp_path / "p" / "b0.nii.gz", np.stack([images["b0"], images["b0"]], axis=3))
    more = "" if index is None else " 0"
    (tmp_path / "p" / "b0.bval").write_text(f"{b_value}{more}")
    with pytest.raises(InputError, match=rf"b0\.nii\.gz: expected b0 \(at most 50 .*the file states b = {b_value}"):
        read_case(tmp_path / "p", config, labelled=True)
    (tmp_path / "p" / "b0.bval").write_text(f"5{more}")
    np.testing.assert_array_equal(read_case(tmp_path / "p", config, labelled=True).b0.array, images["b0"])


def test_b0_of_another_shape(tmp_path: Path, rng: np.random.Generator) -> None:
    images = write_patient(tmp_path / "p", rng)
    save(tmp_path / "p" / "b0.nii.gz", images["b0"][:-1])
    with pytest.raises(GeometryError, match=r"shape \(63, 64, 10\) against \(64, 64, 10\)"):
        read_case(tmp_path / "p", CONFIG, labelled=True)


def test_a_thousandth_of_a_millimetre_is_no_difference(tmp_path: Path, rng: np.random.Generator) -> None:
    images = write_patient(tmp_path / "p", rng)
    save(tmp_path / "p" / "b0.nii.gz", images["b0"], shifted(0.0005))
    assert read_case(tmp_path / "p", CONFIG, labelled=True).notes == ()


def test_roi_on_another_grid(tmp_path: Path, rng: np.random.Generator) -> None:
    images = write_patient(tmp_path / "p", rng)
    fine = np.diag([2.0, 2.0, 10.0, 1.0])
    fine[:2, 3] = -1.0  # the same field of view in voxels of half the size
    save(tmp_path / "p" / "stroke_roi.nii.gz", images["stroke_roi"].repeat(2, axis=0).repeat(2, axis=1), fine)
    with pytest.raises(GeometryError, match="--resample-rois"):
        read_case(tmp_path / "p", CONFIG, labelled=True)
    case = read_case(tmp_path / "p", PreprocessConfig(resample_rois=True), labelled=True)
    assert case.stroke_roi is not None
    overlap = (case.stroke_roi.array & images["stroke_roi"]).sum() / images["stroke_roi"].sum()
    assert overlap > 0.9


def test_roi_that_is_not_binary_is_cut_at_half_and_noted(tmp_path: Path, rng: np.random.Generator) -> None:
    images = write_patient(tmp_path / "p", rng)
    save(tmp_path / "p" / "stroke_roi.nii.gz", images["stroke_roi"] * 255.0)
    case = read_case(tmp_path / "p", CONFIG, labelled=True)
    assert case.stroke_roi is not None
    np.testing.assert_array_equal(case.stroke_roi.array, images["stroke_roi"])
    assert "not 0/1" in case.notes[0]


def test_an_examination_is_known_again_by_its_values(rng: np.random.Generator) -> None:
    images = head(rng)
    assert image_sha256(case_of(images, examination_id="a")) == image_sha256(case_of(images, examination_id="b"))
    other = {**images, "b0": images["b0"] + 1}
    assert image_sha256(case_of(images)) != image_sha256(case_of(other))


def commanding(command: str) -> PreprocessingProfile:
    return PROFILES["robust-v2"].model_copy(update={"mask_method": "command", "mask_command": command})


TOOL = """
import sys, nibabel as nib
image = nib.load(sys.argv[1])
nib.save(nib.Nifti1Image((image.get_fdata() > 250) * 1.0, image.affine), sys.argv[2])
"""


def test_an_outside_tool_gives_the_mask(tmp_path: Path, rng: np.random.Generator) -> None:
    script = tmp_path / "my tool.py"
    script.write_text(TOOL)
    images = head(rng)
    command = f"{sys.executable} '{script}' {{b0}} {{mask}}"
    case = with_commanded_mask(replace(case_of(images), mask=None), commanding(command))
    assert case.mask is not None
    np.testing.assert_array_equal(case.mask.array, images["b0"] > 250)


def test_no_outside_tool_runs_where_a_mask_is_given_or_none_is_asked_of_it(rng: np.random.Generator) -> None:
    images = head(rng)
    masked = replace(case_of(images), mask=Volume(images["b0"] > 250, np.eye(4)))
    assert with_commanded_mask(masked, commanding("no-such-tool-anywhere {mask}")) is masked
    bare = replace(masked, mask=None)
    assert with_commanded_mask(bare, PROFILES["robust-v2"]) is bare


@pytest.mark.parametrize(
    ("template", "error", "match"),
    [
        ("tool {b0}", ConfigError, "must contain"),
        ("tool {b7} {mask}", ConfigError, "cannot fill in"),
        ("no-such-tool-anywhere {mask}", MaskError, "could not run"),
        (f"{sys.executable} -c 'raise SystemExit(\"no brain\")' {{mask}}", MaskError, "ended with 1: no brain"),
        (f"{sys.executable} -c pass {{mask}}", InputError, "no such file"),
    ],
)
def test_a_failing_tool_is_said(rng: np.random.Generator, template: str, error: type[FvvError], match: str) -> None:
    with pytest.raises(error, match=match):
        with_commanded_mask(replace(case_of(head(rng)), mask=None), commanding(template))


def test_where_b1000_is_missing_what_may_be_meant_is_named(tmp_path: Path) -> None:
    patient = tmp_path / "site" / "anna"
    patient.mkdir(parents=True)
    (patient / "b1000.nii.gz").touch()
    with pytest.raises(InputError, match=r"anna in it holds b1000: give .*site as the folder of patients"):
        read_case(patient.parent, CONFIG, labelled=False)
    (patient / "b1000.nii.gz").rename(patient / "dwi.nii.gz")
    with pytest.raises(InputError, match=r"the folder holds dwi\.nii\.gz"):
        read_case(patient, CONFIG, labelled=False)


def test_no_folder_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list_patients(tmp_path / "none")
    with pytest.raises(InputError, match="holds no patient"):
        list_patients(tmp_path)


def test_a_link_to_a_folder_that_is_missing_is_a_patient_and_one_to_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "p0").mkdir()
    (tmp_path / "p1").symlink_to("unmounted/p1")
    (tmp_path / "README.md").symlink_to("nowhere")
    (tmp_path / "LICENSE").symlink_to(".git/annex/objects/x/MD5E-s1--a")
    (tmp_path / "a_file").write_text("")
    assert list_patients(tmp_path) == ("p0", "p1")
    for name, words in (("p1", "broken link to unmounted/p1"), ("a_file", "found a file"), ("p2", "no such folder")):
        with pytest.raises(InputError, match=words):
            refuse_missing_folder(tmp_path / name)


@pytest.mark.parametrize("pair", [("Anna", "anna"), ("Ren\u00e9", "Rene\u0301")])
def test_two_folders_that_many_disks_take_for_one_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    for name in pair:
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="same name but for case or accents"):
        list_patients(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\udcff"])
def test_folder_names_that_would_spoil_tables_and_terminals(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="rename"):
        list_patients(tmp_path)
