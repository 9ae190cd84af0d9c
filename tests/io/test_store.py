"""The store: what is written comes back, and damage is never read as another number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import prepared_case
from fvv.config import PROFILES
from fvv.data import Finding, Participant, Severity
from fvv.errors import StoreError
from fvv.io.sealed import write_sealed
from fvv.io.store import CaseStore

PROFILE = PROFILES["robust-v1"]
WHO = Participant("p", "person", "Paris", dwi_flair_mismatch=True)


@pytest.fixture
def store(tmp_path: Path, rng: np.random.Generator) -> CaseStore:
    store = CaseStore.create(tmp_path / "store", PROFILE)
    case = replace(prepared_case(rng), findings=(Finding("roi-cut", "3 voxels", Severity.NOTE),))
    store.write(case, WHO, image_sha256="i", source_sha256="s")
    return CaseStore.open(tmp_path / "store")


def test_a_patient_comes_back_whole(store: CaseStore) -> None:
    case, again = prepared_case(np.random.default_rng(20251123)), store.read("p")
    for name in ("b0", "b1000", "brain", "stroke", "flair_visible"):
        np.testing.assert_array_equal(getattr(again, name), getattr(case, name))
        assert getattr(again, name).dtype == getattr(case, name).dtype
    np.testing.assert_array_equal(again.grid.native_affine, case.grid.native_affine)
    assert again.grid.orientation == case.grid.orientation
    assert again.findings[0].code == "roi-cut"
    assert store.profile == PROFILE
    assert store.participants == ("p",)


def test_the_record_says_what_the_images_hold(store: CaseStore) -> None:
    record, case = store.record("p"), store.read("p")
    assert record.participant == WHO
    assert case.stroke is not None
    assert record.stroke_voxels == tuple(case.stroke.sum(axis=(0, 1)))
    assert record.stroke_ml == pytest.approx(case.stroke.sum() * case.voxel_volume_ml)
    assert record.pad_value == min(case.b0.min(), case.b1000.min())


def test_slabs_beyond_the_volume_hold_the_pad_value(store: CaseStore) -> None:
    case = store.read("p")
    images, labels = store.read_slab("p", -2, 5)
    assert images.shape == (2, 7, 256, 256)
    assert labels.shape == (3, 7, 256, 256)
    np.testing.assert_array_equal(images[0, 2:], np.moveaxis(case.b1000, 2, 0)[:5])
    np.testing.assert_array_equal(images[1, 2:], np.moveaxis(case.b0, 2, 0)[:5])
    assert (images[:, :2] == store.record("p").pad_value).all()
    assert not labels[:, :2].any()


def test_removed_patients_are_gone(store: CaseStore) -> None:
    store.remove("p")
    store.remove("p")
    assert CaseStore.open(store.path).participants == ()
    with pytest.raises(StoreError, match="not in the store"):
        store.record("p")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(bytes(data))


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


def test_no_store_and_a_store_of_the_future(tmp_path: Path, store: CaseStore) -> None:
    with pytest.raises(StoreError, match="no prepared data"):
        CaseStore.open(tmp_path / "none")
    file = store.path / "store.json"
    content = json.loads(file.read_text())
    write_sealed(file, {**content, "schema_version": 99})
    with pytest.raises(StoreError, match=r"newer version.*99"):
        CaseStore.open(store.path)
    file.write_text(json.dumps({**content, "software": "mine"}))
    with pytest.raises(StoreError, match="edited or damaged"):
        CaseStore.open(store.path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": 1}', "[" * 100_000])
def test_a_store_that_does_not_say_what_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(StoreError):
        CaseStore.open(tmp_path)
