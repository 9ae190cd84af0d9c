from __future__ import annotations

from pathlib import Path

import pytest

from builders import write_onnx
from fvv.config import PROFILES, DecisionConfig, EvaluateConfig
from fvv.errors import ModelError
from fvv.io.bundle import BundleFile, BundleManifest, ModelBundle, ModelEntry, file_sha256, write_manifest

PROFILE = PROFILES["robust-v1"]


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
