"""NRRD and MetaImage files: the same image as the NIfTI file that they were made of, or a refusal."""

import sys

import nibabel as nib
import numpy as np
import pytest

from fvv.config import PreprocessConfig
from fvv.errors import InputError
from fvv.imaging.geometry import same_grid
from fvv.io.case import case_files, read_case
from fvv.io.itk import write_label_map
from fvv.io.nifti import read_volume, read_weighted, write_volume

sitk = pytest.importorskip("SimpleITK")

KINDS = (".nrrd", ".mha")
OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, -0.1, 0.3) * (1.1, 0.9, 5.5), (-90.5, 70.25, 13))
AFFINES = {
    "ras": np.diag([1.5, 2.0, 5.0, 1.0]),
    "las": np.array([[-1.0, 0, 0, 90], [0, 1, 0, -70], [0, 0, 6, -50], [0, 0, 0, 1]]),
    "sagittal": np.array([[0, 0, 3.0, -80], [-1, 0, 0, 100], [0, 1, 0, -60], [0, 0, 0, 1]]),
    "oblique": OBLIQUE,
}


def convert(source, target):
    """By ITK's own way from NIfTI: not by the code under test."""
    sitk.WriteImage(sitk.ReadImage(str(source)), str(target), useCompression=True)
    return target


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
def test_the_same_volume_as_the_nifti_file(tmp_path, rng, kind, name, dtype):
    array = rng.uniform(0, 200, (5, 6, 4)).astype(dtype)
    write_volume(tmp_path / "image.nii.gz", array, AFFINES[name])
    expected = read_volume(tmp_path / "image.nii.gz")
    found = read_volume(convert(tmp_path / "image.nii.gz", tmp_path / f"image{kind}"))
    assert found.array.dtype == expected.array.dtype
    assert np.array_equal(found.array, expected.array)
    assert same_grid(found, expected)
    # NIfTI's own affine has 24 bits, and a rotation is stored as a quaternion or as a text.
    np.testing.assert_allclose(found.affine, expected.affine, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_grid_is_the_same_to_the_bit(tmp_path, rng, kind):
    write_volume(tmp_path / "image.nii", rng.normal(size=(4, 5, 3)).astype(np.float32), AFFINES["las"])
    found = read_volume(convert(tmp_path / "image.nii", tmp_path / f"image{kind}"))
    expected = read_volume(tmp_path / "image.nii")
    assert np.array_equal(found.array, expected.array)
    assert np.array_equal(found.affine, expected.affine)


@pytest.mark.parametrize("kind", KINDS)
def test_a_patients_folder_may_hold_them(tmp_path, rng, kind):
    names = ("b0", "b1000", "mask", "stroke_roi", "flairviz_roi")
    for folder in ("nifti", "itk"):
        (tmp_path / folder).mkdir()
    for name in names:
        array = rng.normal(size=(32, 32, 4)) if name in {"b0", "b1000"} else rng.integers(0, 2, (32, 32, 4))
        write_volume(tmp_path / "nifti" / f"{name}.nii.gz", array.astype(np.float32), AFFINES["las"])
        convert(tmp_path / "nifti" / f"{name}.nii.gz", tmp_path / "itk" / f"{name}{kind}")
    expected, found = (read_case(tmp_path / name, PreprocessConfig(), labelled=True) for name in ("nifti", "itk"))
    for one in ("b0", "b1000", "mask", "stroke_roi", "flair_visible_roi"):
        assert np.array_equal(getattr(found, one).array, getattr(expected, one).array)
        assert np.array_equal(getattr(found, one).affine, getattr(expected, one).affine)
    assert len(case_files(tmp_path / "itk")) == len(names)


def test_volumes_of_a_4d_file_by_its_b_values(tmp_path, rng):
    array = rng.normal(size=(4, 5, 3, 2)).astype(np.float32)
    volumes = []
    for n in range(2):
        write_volume(tmp_path / f"{n}.nii", array[..., n], AFFINES["ras"])
        volumes.append(sitk.ReadImage(str(tmp_path / f"{n}.nii")))
    sitk.WriteImage(sitk.JoinSeries(volumes), str(tmp_path / "dwi.mha"))
    (tmp_path / "dwi.bval").write_text("0 1000")
    volume, b_value, _ = read_weighted(tmp_path / "dwi.mha", target_b=1000)
    assert b_value == 1000
    assert np.array_equal(volume.array, array[..., 1].astype(np.float64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 40, 300, 1000])
def test_a_file_cut_short_is_refused(tmp_path, rng, kind, size):
    write_volume(tmp_path / "image.nii", rng.normal(size=(16, 16, 8)).astype(np.float32), AFFINES["las"])
    for compressed in (False, True):
        path = tmp_path / f"image{compressed}{kind}"
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "image.nii")), str(path), useCompression=compressed)
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(InputError, match=path.name):
            read_volume(path)


def test_what_is_not_said_or_lies_elsewhere_is_refused(tmp_path, rng):
    write_volume(tmp_path / "image.nii", rng.normal(size=(4, 4, 4)).astype(np.float32), AFFINES["las"])
    nrrd = convert(tmp_path / "image.nii", tmp_path / "image.nrrd").read_bytes()
    mha = convert(tmp_path / "image.nii", tmp_path / "image.mha").read_bytes()
    (tmp_path / "nowhere.nrrd").write_bytes(nrrd.replace(b"space: left-posterior-superior\n", b""))
    (tmp_path / "scanner.nrrd").write_bytes(nrrd.replace(b"space: left-posterior-superior", b"space: scanner-xyz"))
    (tmp_path / "detached.nrrd").write_bytes(nrrd.replace(b"\n\n", b"\ndata file: secret.raw\n\n", 1))
    (tmp_path / "detached.mha").write_bytes(mha.replace(b"LOCAL", b"secret.raw", 1))
    for name, words in (
        ("nowhere.nrrd", "where left is"),
        ("scanner.nrrd", "where left is"),
        ("detached.nrrd", "another file"),
        ("detached.mha", "another"),
    ):
        with pytest.raises(InputError, match=words):
            read_volume(tmp_path / name)
    colours = sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3)
    sitk.WriteImage(colours, str(tmp_path / "colours.mha"))
    with pytest.raises(InputError, match="one number a voxel"):
        read_volume(tmp_path / "colours.mha")


@pytest.mark.parametrize(
    ("space", "signs"),
    [("LPS", (-1, -1, 1)), ("left-anterior-superior", (-1, 1, 1)), ("RAS", (1, 1, 1))],
)
def test_the_spaces_of_an_nrrd_file(tmp_path, space, signs):
    header = (
        f"NRRD0004\ntype: uchar\ndimension: 3\nspace: {space}\nsizes: 2 3 4\nencoding: raw\n"
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)\n\n"
    )
    (tmp_path / "image.nrrd").write_bytes(header.encode() + bytes(24))
    expected = np.diag([*signs, 1]) @ nib.affines.from_matvec(np.diag([2, 3, 4]), (10, 20, 30))
    np.testing.assert_allclose(read_volume(tmp_path / "image.nrrd").affine, expected)


def test_too_large_is_refused_before_memory_is_taken(tmp_path):
    (tmp_path / "huge.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nBinaryData = True\nElementSpacing = 1 1 1\nDimSize = 60000 60000 60000\n"
        b"ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )
    with pytest.raises(InputError, match="over the largest"):
        read_volume(tmp_path / "huge.mha")


def test_without_simpleitk_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "image.mha").write_bytes(b"ElementDataFile = LOCAL\n")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(InputError, match=r"\[itk\]"):
        read_volume(tmp_path / "image.mha")


@pytest.mark.parametrize("kind", [".seg.nrrd", ".mha"])
@pytest.mark.parametrize("name", AFFINES)
def test_a_label_map_lies_where_the_nifti_file_does(tmp_path, rng, kind, name):
    labels = rng.integers(0, 4, (5, 6, 4)).astype(np.uint8)
    write_label_map(tmp_path / f"labels{kind}", labels, AFFINES[name], {1: "Brain", 2: "Stroke"})
    write_volume(tmp_path / "labels.nii.gz", labels, AFFINES[name])
    found, expected = sitk.ReadImage(str(tmp_path / f"labels{kind}")), sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))
    for index in ((0, 0, 0), (4, 5, 3)):
        places = (image.TransformIndexToPhysicalPoint(index) for image in (found, expected))
        np.testing.assert_allclose(next(places), next(places), atol=1e-3)
    np.testing.assert_allclose(read_volume(tmp_path / f"labels{kind}").affine, AFFINES[name], atol=1e-9)
    if kind == ".seg.nrrd":
        named = {key: found.GetMetaData(key) for key in ("Segment1_Name", "Segment1_LabelValue", "Segment1_ID")}
        assert named == {"Segment1_Name": "Stroke", "Segment1_LabelValue": "2", "Segment1_ID": "Segment_2"}
