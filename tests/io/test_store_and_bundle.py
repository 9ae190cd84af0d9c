from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import prepared_case
from fvv.config import PROFILES
from fvv.data import Finding, Participant, Severity
from fvv.errors import StoreError
from fvv.io.store import CaseStore

PROFILE = PROFILES["robust-v1"]
WHO = Participant("p", "person", "Paris", dwi_flair_mismatch=True)


@pytest.fixture
def store(tmp_path: Path, rng: np.random.Generator) -> CaseStore:
    store = CaseStore.create(tmp_path / "store", PROFILE, {"kfolds": 3})
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


def test_a_damaged_patient_is_named(store: CaseStore) -> None:
    (chunk,) = [path for path in store.path.rglob("images/c/*/*/*/*") if path.is_file()]
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    with pytest.raises(StoreError, match=r"patient p.*damaged"):
        store.read("p")


def test_no_store_and_a_store_of_the_future(tmp_path: Path, store: CaseStore) -> None:
    with pytest.raises(StoreError, match="no prepared data"):
        CaseStore.open(tmp_path / "none")
    file = store.path / "store.json"
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(StoreError, match="schema 99"):
        CaseStore.open(store.path)
    file.write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        CaseStore.open(store.path)
