from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import prepared_case, write_onnx
from fvv.config import PROFILES, DecisionConfig, EvaluateConfig
from fvv.data import Finding, Participant, Severity
from fvv.errors import ModelError, StoreError
from fvv.io.bundle import BundleFile, BundleManifest, ModelBundle, ModelEntry, file_sha256, write_manifest
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


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    entries = []
    for fold in range(2):
        path = write_onnx(folder / f"model{fold + 1}.onnx")
        entries.append(ModelEntry(file=path.name, sha256=file_sha256(path), fold=fold, trained_on=("ab",)))
    write_manifest(
        folder,
        BundleManifest(software="x", run_name="r", profile=PROFILE, channels=("brain",), models=tuple(entries)),
    )
    return folder


def test_a_bundle_is_read_as_written(bundle: Path) -> None:
    opened = ModelBundle.open(bundle)
    assert opened.profile == PROFILE
    assert opened.model_of_fold(1).file == "model2.onnx"
    with pytest.raises(ModelError, match="0 models for fold 7"):
        opened.model_of_fold(7)


def test_one_changed_byte_is_refused(bundle: Path) -> None:
    path = bundle / "model1.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"model1\.onnx: changed since it was converted"):
        ModelBundle.open(bundle)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (('"name": "robust-v1"', '"name": "robust-v9"'), "robust-v9"),
        (('"schema_version": 1', '"schema_version": 7'), "schema 7"),
        (("model1.onnx", "../model1.onnx"), "outside the bundle"),
        (("model1.onnx", "model9.onnx"), "missing from the bundle"),
        (('"run_name"', '"run_nam"'), "run_nam"),
        (('"fold": 1', '"fold": 0'), r"folds \[0, 0\]"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused(bundle: Path, change: tuple[str, str], match: str) -> None:
    file = bundle / "bundle.json"
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(ModelError, match=match):
        ModelBundle.open(bundle)


def test_every_file_the_bundle_names_is_checked(bundle: Path) -> None:
    (bundle / "golden.npz").write_bytes(b"1")
    golden = BundleFile(file="golden.npz", sha256=file_sha256(bundle / "golden.npz"))
    write_manifest(bundle, ModelBundle.open(bundle).manifest.model_copy(update={"golden": golden}))
    ModelBundle.open(bundle)
    (bundle / "golden.npz").write_bytes(b"2")
    with pytest.raises(ModelError, match=r"golden\.npz: changed since it was converted"):
        ModelBundle.open(bundle)


def test_a_bundles_cutoff_holds_unless_one_is_named(bundle: Path) -> None:
    manifest = ModelBundle.open(bundle).manifest
    own = ModelBundle(bundle, manifest.model_copy(update={"cutoff_ml": 0.8}))
    lesions = EvaluateConfig(decision=DecisionConfig(minimum_lesion_ml=0.1))
    named = EvaluateConfig(decision=DecisionConfig(cutoff_ml=0.5))
    assert own.completed(lesions).decision == DecisionConfig(cutoff_ml=0.8, minimum_lesion_ml=0.1)
    assert own.completed(named).decision.cutoff_ml == 0.5
    assert ModelBundle(bundle, manifest).completed(lesions).decision == lesions.decision


def test_published_format_needs_no_manifest(tmp_path: Path) -> None:
    for number in range(1, 12):
        write_onnx(tmp_path / f"model{number}.onnx", whole_volume=False)
    opened = ModelBundle.open(tmp_path)
    assert [model.file for model in opened.models] == [f"model{n}.onnx" for n in range(1, 12)]
    assert opened.profile.name == "reference-v1"
    (tmp_path / "model3.onnx").unlink()
    with pytest.raises(ModelError, match="expected model1"):
        ModelBundle.open(tmp_path)


def test_a_folder_without_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither bundle"):
        ModelBundle.open(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        ModelBundle.open(tmp_path / "none")
