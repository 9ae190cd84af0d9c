from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, save
from fvv.errors import InputError
from fvv.io.nifti import find_image, read_volume, read_weighted, write_rgb, write_volume


@pytest.fixture
def image(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "image.nii.gz"
    save(path, rng.random((6, 5, 4)))
    return path


def test_what_is_written_is_read_again(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.random((6, 5, 4)).astype(np.float32)
    write_volume(tmp_path / "v.nii.gz", array, AFFINE)
    volume = read_volume(tmp_path / "v.nii.gz")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert volume.array.dtype == np.float64


def test_same_array_same_bytes_and_no_leftovers(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.random((6, 5, 4))
    for name in ("a", "b"):
        write_volume(tmp_path / name / "v.nii.gz", array, AFFINE)
    assert (tmp_path / "a" / "v.nii.gz").read_bytes() == (tmp_path / "b" / "v.nii.gz").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["v.nii.gz"]


def test_forms_of_the_input_are_kept_to_the_bit(tmp_path: Path) -> None:
    source = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), None)
    oblique = np.array([[1.9, 0.1, 0, -20], [-0.1, 1.9, 0.3, 30], [0, -0.2, 5, 7], [0, 0, 0, 1]])
    source.set_qform(oblique, code=1)
    source.set_sform(oblique + 0.01, code=2)
    nib.save(source, tmp_path / "source.nii.gz")
    affine = nib.load(tmp_path / "source.nii.gz").affine
    write_volume(tmp_path / "out.nii.gz", np.ones((4, 4, 4, 2), np.uint8), affine, like=tmp_path / "source.nii.gz")
    before, after = (nib.load(tmp_path / name).header for name in ("source.nii.gz", "out.nii.gz"))
    for field in ("qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(before[field], after[field])
    np.testing.assert_array_equal(before["pixdim"][:4], after["pixdim"][:4])


def test_colour_image_keeps_its_colours(tmp_path: Path, rng: np.random.Generator) -> None:
    rgb = rng.integers(0, 256, (4, 3, 2, 3), dtype=np.uint8)
    write_rgb(tmp_path / "rgb.nii.gz", rgb, AFFINE)
    read = np.asarray(nib.load(tmp_path / "rgb.nii.gz").dataobj)
    np.testing.assert_array_equal(np.stack([read[c] for c in "RGB"], axis=-1), rgb)


def test_trailing_axis_of_one_is_dropped(tmp_path: Path) -> None:
    save(tmp_path / "v.nii.gz", np.ones((4, 4, 3, 1)))
    assert read_volume(tmp_path / "v.nii.gz").array.shape == (4, 4, 3)


def test_4d_needs_a_choice(tmp_path: Path) -> None:
    save(tmp_path / "v.nii.gz", np.arange(3) * np.ones((4, 4, 2, 1)))
    with pytest.raises(InputError, match=r"4D with 3 volumes.*--b0-index"):
        read_volume(tmp_path / "v.nii.gz", target_b=0.0)
    assert (read_volume(tmp_path / "v.nii.gz", index=2).array == 2).all()
    with pytest.raises(InputError, match="volume 3 asked for, the file holds 0 to 2"):
        read_volume(tmp_path / "v.nii.gz", index=3)


def test_4d_with_bvals_takes_mean_b0_and_geometric_mean_b1000(tmp_path: Path) -> None:
    save(tmp_path / "v.nii.gz", np.array([10.0, 20.0, 1.0, 4.0, 50.0]) * np.ones((4, 4, 2, 1)))
    (tmp_path / "v.bval").write_text("0 5 1000 995 2000\n")
    assert read_volume(tmp_path / "v.nii.gz", target_b=0.0).array == pytest.approx(15.0)
    assert read_volume(tmp_path / "v.nii.gz", target_b=1000.0).array == pytest.approx(2.0)


def test_4d_without_the_wanted_b_value(tmp_path: Path) -> None:
    save(tmp_path / "v.nii.gz", np.ones((4, 4, 2, 2)))
    (tmp_path / "v.bval").write_text("0 3000")
    with pytest.raises(InputError, match="no volume near b = 1000"):
        read_volume(tmp_path / "v.nii.gz", target_b=1000.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_values_are_refused(tmp_path: Path, value: float) -> None:
    array = np.ones((4, 4, 2))
    array[1, 1, 1] = value
    save(tmp_path / "v.nii.gz", array)
    with pytest.raises(InputError, match="1 voxels are not finite"):
        read_volume(tmp_path / "v.nii.gz")


def test_missing_folder_and_text_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_volume(tmp_path / "none.nii.gz")
    (tmp_path / "folder.nii.gz").mkdir()
    with pytest.raises(InputError, match="found a folder"):
        read_volume(tmp_path / "folder.nii.gz")
    (tmp_path / "text.nii.gz").write_text("hello")
    with pytest.raises(InputError, match=r"text\.nii\.gz"):
        read_volume(tmp_path / "text.nii.gz")
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    with pytest.raises(InputError):
        read_volume(tmp_path / "empty.nii.gz")


@pytest.mark.parametrize("keep", [30, 200, -20])
def test_truncated_file(image: Path, keep: int) -> None:
    image.write_bytes(image.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"image\.nii\.gz"):
        read_volume(image)


def test_a_header_that_claims_terabytes_takes_no_memory(image: Path, tmp_path: Path) -> None:
    raw = bytearray(gzip.decompress(image.read_bytes()))
    raw[42:48] = np.array([30000, 30000, 3000], "<i2").tobytes()
    (tmp_path / "lie.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(InputError, match="claims"):
        read_volume(tmp_path / "lie.nii.gz")


def test_complex_and_colour_images_are_no_b0(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.complex64), AFFINE), tmp_path / "c.nii.gz")
    write_rgb(tmp_path / "rgb.nii.gz", np.zeros((3, 3, 3, 3), np.uint8), AFFINE)
    for name in ("c.nii.gz", "rgb.nii.gz"):
        with pytest.raises(InputError, match="expected numbers"):
            read_volume(tmp_path / name)


def test_two_candidates_are_ambiguous(tmp_path: Path) -> None:
    save(tmp_path / "b0.nii", np.ones((3, 3, 3)))
    assert find_image(tmp_path, "b0") == tmp_path / "b0.nii"
    save(tmp_path / "b0.nii.gz", np.ones((3, 3, 3)))
    with pytest.raises(InputError, match="both there"):
        find_image(tmp_path, "b0")
    assert find_image(tmp_path, "b1000") is None


def test_a_voxel_size_given_twice_and_not_the_same(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((4, 4, 3)), np.diag([1.0, 1, 1, 1]))
    image.header.set_zooms((0.97, 0.97, 4.76))
    nib.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"0\.97, 4\.76.* mm \(pixdim\), but \[1\.0, 1\.0, 1\.0\] mm by"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(("text", "found"), [("2000", 2000.0), ("0 2000", None), ("0 1000 2000", None)])
def test_b_values_of_other_volumes_are_no_b_value(tmp_path: Path, text: str, found: float | None) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 4, 3)), np.eye(4)), tmp_path / "b1000.nii.gz")
    (tmp_path / "b1000.bval").write_text(text)
    if found is not None:
        assert read_weighted(tmp_path / "b1000.nii.gz", target_b=1000.0)[1] == found
        return
    with pytest.raises(InputError, match=r"1 volume but . b-values"):
        read_weighted(tmp_path / "b1000.nii.gz", target_b=1000.0)


def with_extension(path: Path, esize: int, *, held: int = 16, offset: float | None = None) -> Path:
    """An image whose header announces an extension of so many bytes, of which it holds some."""
    save(path, np.ones((4, 4, 3)))
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[348] = 1
    raw[108:112] = np.float32(352 + held if offset is None else offset).tobytes()
    start = bytes(raw[:352]) + np.array([esize, 6], "<i4").tobytes() + bytes(held - 8)
    path.write_bytes(gzip.compress(start + bytes(raw[352:])))
    return path


def test_an_extension_within_its_room_is_read_over(tmp_path: Path) -> None:
    assert (read_volume(with_extension(tmp_path / "v.nii.gz", 16)).array == 1).all()


@pytest.mark.parametrize("esize", [2**31 - 16, 32, 0, -16])
def test_an_extension_that_claims_more_than_there_is_takes_no_memory(tmp_path: Path, esize: int) -> None:
    with pytest.raises(InputError, match="an extension of the header claims"):
        read_volume(with_extension(tmp_path / "v.nii.gz", esize))


def test_extensions_are_bounded_in_all(tmp_path: Path) -> None:
    path = with_extension(tmp_path / "v.nii.gz", 2**30, offset=float(2**30 + 352))
    with pytest.raises(InputError, match="bytes of extensions: over the most"):
        read_volume(path)


def test_a_header_with_its_voxels_in_another_file_is_no_image(tmp_path: Path) -> None:
    save(tmp_path / "v.nii.gz", np.ones((4, 4, 3)))
    raw = bytearray(gzip.decompress((tmp_path / "v.nii.gz").read_bytes()))
    raw[344:348] = b"ni1\0"
    raw[348] = 1
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(InputError, match="not a readable NIfTI image"):
        read_volume(tmp_path / "v.nii.gz")


def test_a_link_to_nothing_is_not_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "mask.nii.gz").symlink_to("annex/mask.nii.gz")
    with pytest.raises(InputError, match=r"broken link to annex/mask\.nii\.gz"):
        find_image(tmp_path, "mask")
    (tmp_path / "b1000.bval").symlink_to("annex/b1000.bval")
    save(tmp_path / "b1000.nii.gz", np.ones((4, 4, 3)))
    with pytest.raises(InputError, match=r"broken link to annex/b1000\.bval"):
        read_weighted(tmp_path / "b1000.nii.gz", target_b=1000.0)
