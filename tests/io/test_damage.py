"""Damage that once passed unseen: every test here stands for a wrong number, a lost run or a full memory."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, prepared_case, save
from fvv.config import PROFILES, load_config
from fvv.data import Participant, Volume
from fvv.errors import ConfigError, FvvError, GeometryError, InputError, StoreError
from fvv.io.atomic import atomic_write, clear_remains
from fvv.io.lock import only_writer
from fvv.io.manifest import list_patients, read_table
from fvv.io.nifti import read_volume
from fvv.io.store import CaseStore


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


@pytest.fixture
def store(tmp_path: Path, rng: np.random.Generator) -> CaseStore:
    store = CaseStore.create(tmp_path / "store", PROFILES["robust-v1"], {})
    case = prepared_case(rng, slices=3, patient="p")
    store.write(case, Participant("p", "person"), image_sha256="i", source_sha256="s")
    np.testing.assert_array_equal(store.read("p").b0, case.b0)
    return store


@pytest.mark.parametrize("name", ["images", "labels"])
def test_damaged_or_lost_voxels_of_a_stored_patient_are_never_read(store: CaseStore, name: str) -> None:
    shard = store.path / "cases" / "p.zarr" / name / "c" / "0" / "0" / "0" / "0"
    flip(shard, shard.stat().st_size // 2)
    with pytest.raises(StoreError, match="damaged"):
        store.read("p")
    shard.write_bytes(b"")
    with pytest.raises(StoreError, match="lost its voxels"):
        store.read("p")
    shard.unlink()  # Zarr takes a missing or empty file for zeros.
    with pytest.raises(StoreError, match="lost its voxels"):
        store.read_slab("p", 0, 2)


def test_a_changed_description_of_a_stored_patient_is_refused(store: CaseStore) -> None:
    case = store.path / "cases" / "p.zarr"
    file = case / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"]["grid"]["scale"] = 2.0
    file.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="has changed"):
        store.record("p")
    case.rename(case.with_name("q.zarr"))
    with pytest.raises(StoreError, match=r"changed|another name"):
        store.record("q")


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": 1}', "[" * 100_000])
def test_a_store_that_does_not_say_what_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(StoreError):
        CaseStore.open(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\udcff"])
def test_folder_names_that_would_spoil_tables_and_terminals(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="rename"):
        list_patients(tmp_path)


def test_a_column_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b, a\n1,2,3\n")
    with pytest.raises(InputError, match="twice"):
        read_table(tmp_path / "t.csv")


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


def test_what_a_killed_run_left_is_cleared_and_what_it_moved_aside_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".partial-0011aabb-p.json").write_text("half")
    (tmp_path / ".partial-0011aabb-old-p").mkdir()
    (tmp_path / ".replaced-0011aabb-lost" / "inner").mkdir(parents=True)
    (tmp_path / ".replaced-0011aabb-kept").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / ".partial-mine").write_text("not ours")
    clear_remains(tmp_path)
    assert {item.name for item in tmp_path.iterdir()} == {"lost", "kept", ".partial-mine"}
    assert (tmp_path / "lost" / "inner").is_dir()


def test_a_second_writer_is_refused_and_the_first_clears_up(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / ".partial-0011aabb-p.zarr").mkdir()
    with only_writer(tmp_path):
        assert not list((tmp_path / "cases").iterdir())
        with pytest.raises(FvvError, match="another fvv process"), only_writer(tmp_path):
            pass
    with only_writer(tmp_path / "bundle", replaced=True), atomic_write(tmp_path / "bundle") as folder:
        folder.mkdir()
        with pytest.raises(FvvError, match="another"), only_writer(tmp_path / "bundle", replaced=True):
            pass
    assert (tmp_path / "bundle").is_dir()
