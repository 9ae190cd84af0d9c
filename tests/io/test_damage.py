"""Damage that once passed unseen: every test here stands for a wrong number, a lost run or a full memory."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, save
from fvv.config import load_config
from fvv.data import Volume
from fvv.errors import ConfigError, GeometryError, InputError
from fvv.io.nifti import read_volume


@pytest.fixture
def image(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "b0.nii.gz"
    save(path, rng.normal(size=(16, 16, 8)))
    return path


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_flipped_bit_in_a_compressed_image_is_never_another_brightness(image: Path, share: float) -> None:
    flip(image, int(share * image.stat().st_size))
    with pytest.raises(InputError):
        read_volume(image)


def test_a_lost_checksum_and_a_lying_header_are_refused(image: Path) -> None:
    sound = image.read_bytes()
    image.write_bytes(sound[:-4])
    with pytest.raises(InputError, match="cut short"):
        read_volume(image)
    data = bytearray(gzip.decompress(sound))
    for slices, says in ((7, "holds more"), (9, "holds less"), (0, "empty|not a readable"), (30000, "largest")):
        struct.pack_into("<h", data, 46, slices)
        image.write_bytes(gzip.compress(bytes(data)))
        with pytest.raises(InputError, match=says):
            read_volume(image)


def test_a_voxel_size_of_zero_is_not_one_millimetre(image: Path) -> None:
    data = bytearray(gzip.decompress(image.read_bytes()))
    struct.pack_into("<3f", data, 80, 0, 4, 10)
    image.write_bytes(gzip.compress(bytes(data)))
    np.testing.assert_array_equal(read_volume(image).affine, AFFINE)  # The s-form holds; the size is not asked for.
    struct.pack_into("<2h", data, 252, 1, 0)
    image.write_bytes(gzip.compress(bytes(data)))
    with pytest.raises(InputError, match="voxel size"):
        read_volume(image)


def test_volumes_of_a_4d_file_are_read_one_by_one_and_averaged(tmp_path: Path, rng: np.random.Generator) -> None:
    volumes = rng.uniform(1, 9, (6, 6, 4, 5))
    for path in (tmp_path / "dwi.nii.gz", tmp_path / "flat.nii.gz"):
        array = volumes if path.name == "dwi.nii.gz" else volumes[..., None]
        nib.save(nib.Nifti1Image(array, AFFINE), path)
        path.with_name(path.name.replace(".nii.gz", ".bval")).write_text("0 1000 0 990 3000")
        np.testing.assert_allclose(read_volume(path, target_b=0.0).array, volumes[..., [0, 2]].mean(axis=3))
        expected = np.exp(np.log(volumes[..., [1, 3]]).mean(axis=3))
        np.testing.assert_allclose(read_volume(path, target_b=1000.0).array, expected)
        np.testing.assert_array_equal(read_volume(path, index=4).array, volumes[..., 4])


def test_sheared_voxels_have_no_volume_we_could_state() -> None:
    sheared = AFFINE @ np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(GeometryError, match="sheared"):
        Volume(np.zeros((2, 2, 2)), sheared)


def test_settings_that_nest_or_repeat_without_end(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("prepare: " + "[" * 20_000)
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(path)
    laughs = "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 12))
    path.write_text(f"x0: &x0 [a]\n{laughs}\nprepare: {{kfolds: *x11}}")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert len(str(caught.value)) < 1000
