"""Conversion: the bundle agrees with PyTorch, keeps the published contract and never mixes runs."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from fvv.config import ComputeConfig, ConvertConfig, EvaluateConfig, PostprocessConfig
from fvv.data import ALL_FOLDS, DecisionState, Role, hashed_ids
from fvv.errors import ModelError, OutputExistsError
from fvv.imaging.quality.usual import unlike_training
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle, write_manifest
from fvv.io.ownership import claimed
from fvv.io.store import CaseStore
from fvv.recipes.parity import compare_forms
from fvv.schemas.bundle import Calibration
from fvv.stages.convert import convert
from fvv.stages.doctor import doctor
from fvv.stages.evaluate import evaluate
from fvv.stages.train import train_all_folds, train_fold
from fvv.training.checkpoint import read_checkpoint
from store_builders import PROFILE, TINY, write_store

pytestmark = pytest.mark.usefixtures("plain_trainings", "plain_evaluations")

TIDY = PostprocessConfig(minimum_lesion_mm3=30)
CONFIG = ConvertConfig(check_patients=1, notice="trained on noise", postprocess=TIDY)
QUICK = TINY.model_copy(update={"epochs": 1})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A store and a run trained on it."""
    folder = tmp_path_factory.mktemp("convert")
    write_store(folder / "store")
    train_all_folds(folder / "store", folder / "saved_models", QUICK)
    return folder


@pytest.fixture(scope="module")
def converted(base):
    return convert(base / "saved_models", base / "store", base / "onnx", CONFIG, name="tiny")


def test_onnxruntime_agrees_with_torch_on_real_volumes(converted):
    assert ModelBundle.open(converted.bundle).models == converted.models
    for model in converted.models:
        assert 0 <= model.parity.largest_logit_difference < 1e-4
        assert model.parity.largest_slab_difference < 1e-4
        assert model.parity.voxels == 3 * 6 * 256 * 256
        assert model.parity.decisions_changed == 0
    assert "model2.onnx" in converted.summary()


def test_the_bundle_opens_and_knows_its_folds_and_persons(converted, base):
    bundle = ModelBundle.open(converted.bundle)
    assert bundle.profile == PROFILE
    assert bundle.manifest.description(2) == "tiny (2 of 2 models; trained on noise)"
    assert bundle.manifest.postprocess == TIDY
    assert [model.fold for model in bundle.models] == [0, 1]
    store = CaseStore.open(base / "store")
    for fold, model in enumerate(bundle.models):
        for role, inside in ((Role.TRAIN, True), (Role.VALID, True), (Role.TEST, False)):
            for patient in store.folds.participants(fold, role):
                person = hashed_ids([store.folds.person_of(patient)])[0]
                image = hashed_ids([store.record(patient).image_sha256])[0]
                assert ({person, image} <= set(model.trained_on)) is inside


def test_the_bundle_knows_what_its_training_patients_look_like(converted, base):
    cohort = ModelBundle.open(converted.bundle).manifest.intensity_range
    store = CaseStore.open(base / "store")
    case = store.read(store.folds.participants(0, Role.TRAIN)[0])
    assert not list(unlike_training(SimpleNamespace(prepared=case, usual_range=cohort)))
    odd = list(unlike_training(SimpleNamespace(prepared=replace(case, b1000=case.b1000 + 20), usual_range=cohort)))
    assert {finding.code for finding in odd} == {"unlike-training"}
    assert any("brightest tissue on b1000" in finding.message for finding in odd)


def test_a_file_says_what_it_is(converted):
    graph = onnx.load(converted.bundle / "model2.onnx")
    said = {entry.key: entry.value for entry in graph.metadata_props}
    assert said["fold"] == "1"
    assert said["run_name"] == "tiny"
    assert said["profile_sha256"] == PROFILE.sha256
    assert json.loads(said["profile"]) == PROFILE.model_dump(mode="json")
    assert json.loads(said["output_channels"]) == ["brain", "stroke", "flair_visible"]
    assert len(json.loads(said["training_person_ids"])) == 3
    assert said["software"].startswith("fvv ")


def test_published_contract_and_whole_volume_give_the_same_numbers(converted, base):
    session = ort.InferenceSession(converted.bundle / "model1.onnx")
    assert session.get_inputs()[0].name == "modelInput"
    store = CaseStore.open(base / "store")
    padded = network_input(store.read(store.participants[1]), 3)
    slabs = np.stack([padded[:, k : k + 7] for k in range(6)])
    (by_slab,) = session.run(None, {"modelInput": slabs})
    (at_once,) = session.run(None, {"modelInput": padded[None]})
    assert by_slab.shape == at_once.shape == (6, 3, 256, 256)
    np.testing.assert_allclose(by_slab, at_once, atol=1e-4, rtol=0)
    network = read_checkpoint(base / "saved_models" / "tiny" / "fold_0" / "best.ckpt").build()
    with torch.inference_mode():
        expected = network(torch.from_numpy(slabs))[:, :, 0]
    np.testing.assert_allclose(by_slab, expected.numpy(), atol=1e-4, rtol=0)


def test_one_checkpoint_makes_a_bundle_of_one_model(base, tmp_path):
    checkpoint = base / "saved_models" / "tiny" / "fold_1" / "best.ckpt"
    result = convert(checkpoint, base / "store", tmp_path / "onnx", CONFIG, name="another")
    assert [(model.file, model.fold) for model in result.models] == [("model2.onnx", 1)]
    assert len(OnnxEnsemble.from_bundle(ModelBundle.open(tmp_path / "onnx"), device="cpu")) == 1
    with pytest.raises(ModelError, match="--model or --models-file names others"):
        convert(checkpoint, base / "store", tmp_path / "onnx", CONFIG, name="another", chosen={0: checkpoint})


def test_a_converted_bundle_passes_the_doctor(converted):
    assert doctor(converted.bundle, ComputeConfig(device="cpu")).failures == ()


def test_a_decision_that_changes_leaves_no_bundle(base, tmp_path, monkeypatch):
    def apart(*forms, **options):
        change = ("sim_1", DecisionState.MISMATCH_LIKELY, DecisionState.MISMATCH_UNLIKELY)
        return compare_forms(*forms, **options)[0], (change,)

    monkeypatch.setattr("fvv.stages.convert.compare_forms", apart)
    with pytest.raises(ModelError, match="fold 0: onnxruntime changes the decision of sim_1 from"):
        convert(base / "saved_models", base / "store", tmp_path / "onnx", CONFIG, name="tiny")
    assert not (tmp_path / "onnx").exists()


def test_a_checkpoint_of_the_users_choice_is_taken(base, tmp_path):
    last = base / "saved_models" / "tiny" / "fold_1" / "last.ckpt"
    other_place = tmp_path / "mine.ckpt"
    other_place.write_bytes(last.read_bytes())
    result = convert(
        base / "saved_models", base / "store", tmp_path / "onnx", CONFIG, name="tiny", chosen={1: other_place}
    )
    assert [model.fold for model in result.models] == [0, 1]


def test_an_older_bundle_is_replaced_and_anything_else_is_not(converted, base, tmp_path):
    convert(base / "saved_models", base / "store", converted.bundle, CONFIG, name="tiny")
    assert len(ModelBundle.open(converted.bundle).models) == 2
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(OutputExistsError, match="other than a bundle"):
        convert(base / "saved_models", base / "store", tmp_path, CONFIG, name="tiny")
    assert (tmp_path / "thesis.doc").exists()


def test_a_difference_over_the_tolerance_leaves_no_bundle(base, tmp_path):
    strict = ConvertConfig(check_patients=1, logit_tolerance=1e-12)
    with pytest.raises(ModelError, match="differ by"):
        convert(base / "saved_models", base / "store", tmp_path / "onnx", strict, name="tiny")
    assert not (tmp_path / "onnx").exists()


def test_a_missing_fold_is_named(base, tmp_path):
    with pytest.raises(ModelError, match="no checkpoint for fold 0, 1"):
        convert(base / "saved_models", base / "store", tmp_path / "onnx", CONFIG, name="another")


def test_a_bundle_of_the_folds_there_are(base, tmp_path, caplog):
    shutil.copytree(base / "saved_models" / "tiny" / "fold_1", tmp_path / "models" / "tiny" / "fold_1")
    result = convert(tmp_path / "models", base / "store", tmp_path / "onnx", CONFIG, name="tiny", incomplete=True)
    assert [(model.file, model.fold) for model in result.models] == [("model2.onnx", 1)]
    assert "no checkpoint for fold 0" in caplog.text
    config = EvaluateConfig(heatmaps=False, bootstrap_samples=10, compute={"workers": 1})
    found = evaluate(base / "store", result.bundle, tmp_path / "out", config)
    tested = CaseStore.open(base / "store").folds.participants(1, Role.TEST)
    assert {patient.examination_id for patient in found.patients} == set(tested)


def test_one_model_of_everybody_leaves_nobody_to_test(base, tmp_path, caplog):
    cases = CaseStore.open(base / "store")
    trained = train_fold(base / "store", tmp_path / "models", ALL_FOLDS, QUICK)
    assert trained.folder.name == "fold_all"
    assert "left to test" in trained.summary()
    everybody = {cases.record(name).participant.person_id for name in cases.participants}
    assert read_checkpoint(trained.checkpoint).training_person_ids == hashed_ids(everybody)
    result = convert(trained.checkpoint, base / "store", tmp_path / "onnx", CONFIG, name="tiny")
    assert [(model.file, model.fold) for model in result.models] == [("model1.onnx", ALL_FOLDS)]
    assert "only other patients can test it" in result.summary()
    with pytest.raises(ModelError, match="nobody of it is left"):
        evaluate(base / "store", result.bundle, tmp_path / "out", EvaluateConfig())


def test_the_wrong_fold_is_refused(base, tmp_path):
    first = base / "saved_models" / "tiny" / "fold_0" / "best.ckpt"
    with pytest.raises(ModelError, match="trained on fold 0 of 2, given for fold 1"):
        convert(base / "saved_models", base / "store", tmp_path / "onnx", CONFIG, name="tiny", chosen={1: first})
    with pytest.raises(ModelError, match="folds 0 to 1"):
        convert(base / "saved_models", base / "store", tmp_path / "onnx", CONFIG, name="tiny", chosen={2: first})


def test_runs_are_never_mixed(base, tmp_path):
    other = train_fold(base / "store", tmp_path / "models", 1, QUICK.model_copy(update={"seed": 5}))
    with pytest.raises(ModelError, match="one run"):
        convert(
            base / "saved_models", base / "store", tmp_path / "onnx", CONFIG, name="tiny", chosen={1: other.checkpoint}
        )


@pytest.mark.parametrize("content", [b"not a checkpoint", b""])
def test_a_damaged_checkpoint_is_one_clear_error(tmp_path, content):
    path = tmp_path / "best.ckpt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(path)


def test_a_foreign_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ModelError, match="not a checkpoint of this software"):
        read_checkpoint(tmp_path / "foreign.ckpt")


CALIBRATION = Calibration(intercept=-1.0, slope=-1.0, pseudo_volume_ml=0.1)


@pytest.fixture
def measured(converted, tmp_path):
    """A bundle with all that other verbs and the user put into its folder."""
    folder = tmp_path / "onnx"
    shutil.copytree(converted.bundle, folder)
    manifest = ModelBundle.open(folder).manifest
    write_manifest(folder, manifest.model_copy(update={"calibration": CALIBRATION}))
    (folder / "MODEL_CARD.md").write_text("what it is good for")
    (folder / "notes.md").write_text("years of work")
    (folder / "plots").mkdir()
    (folder / "plots" / "roc.txt").write_text("a curve")
    (folder / "link").symlink_to("notes.md")
    return folder


def assert_notes_are_there(folder):
    assert (folder / "notes.md").read_text() == "years of work"
    assert (folder / "plots" / "roc.txt").read_text() == "a curve"
    assert (folder / "link").is_symlink()


def test_converting_again_keeps_what_was_measured_and_what_is_not_the_bundles(base, measured):
    before = ModelBundle.open(measured).manifest
    convert(base / "saved_models", base / "store", measured, CONFIG, name="tiny")
    assert ModelBundle.open(measured).manifest == before
    assert (measured / "MODEL_CARD.md").read_text() == "what it is good for"
    assert not {"MODEL_CARD.md", "notes.md"} & claimed(measured)
    assert_notes_are_there(measured)


def test_a_bundle_of_other_models_is_replaced_on_request_only(base, measured, tmp_path):
    before = ModelBundle.open(measured).manifest
    train_all_folds(base / "store", tmp_path / "models", QUICK.model_copy(update={"seed": 5}))
    other = (tmp_path / "models", base / "store", measured, CONFIG)
    with pytest.raises(OutputExistsError, match=r"bundle of other models.*--overwrite"):
        convert(*other, name="tiny")
    assert ModelBundle.open(measured).manifest == before
    convert(*other, name="tiny", overwrite=True)
    after = ModelBundle.open(measured).manifest
    assert after.models[0].run_id != before.models[0].run_id
    assert after.calibration is None
    assert not (measured / "MODEL_CARD.md").exists()
    assert [card.read_text() for card in measured.glob("MODEL_CARD.*.md")] == ["what it is good for"]
    assert_notes_are_there(measured)


def test_other_postprocessing_does_not_lose_a_calibration_by_the_way(base, measured):
    config = CONFIG.model_copy(update={"postprocess": PostprocessConfig()})
    with pytest.raises(OutputExistsError, match="calibration"):
        convert(base / "saved_models", base / "store", measured, config, name="tiny")
    assert ModelBundle.open(measured).manifest.calibration == CALIBRATION


def test_a_file_of_somebody_else_with_a_models_name_is_not_replaced(base, measured):
    checkpoint = base / "saved_models" / "tiny" / "fold_1" / "best.ckpt"
    convert(checkpoint, base / "store", measured, CONFIG, name="tiny", overwrite=True)
    (measured / "model1.onnx").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"model1\.onnx: already there, and not written by fvv"):
        convert(base / "saved_models", base / "store", measured, CONFIG, name="tiny", overwrite=True)
    assert (measured / "model1.onnx").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, bytes(range(256))])
def test_a_damaged_bundle_is_replaced_on_request_only_and_notes_stay(base, measured, content):
    (measured / "bundle.json").write_bytes(content)
    with pytest.raises(OutputExistsError, match="damaged bundle"):
        convert(base / "saved_models", base / "store", measured, CONFIG, name="tiny")
    if content == b"":
        convert(base / "saved_models", base / "store", measured, CONFIG, name="tiny", overwrite=True)
        assert len(ModelBundle.open(measured).models) == 2
        assert_notes_are_there(measured)
    (measured / ".fvv.json").unlink()  # written by nobody known
    (measured / "bundle.json").write_bytes(content)
    with pytest.raises(OutputExistsError, match="not known what else here belongs"):
        convert(base / "saved_models", base / "store", measured, CONFIG, name="tiny", overwrite=True)


def test_the_current_folder_is_not_replaced_under_the_users_feet(base, measured, monkeypatch):
    monkeypatch.chdir(measured)
    with pytest.raises(OutputExistsError, match="current folder"):
        convert(base / "saved_models", base / "store", measured, CONFIG, name="tiny")


def test_a_conversion_that_fails_in_the_end_leaves_everything_as_it_was(base, measured, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    before = sorted((path.name, path.stat().st_mtime_ns) for path in measured.iterdir())
    monkeypatch.setattr("fvv.stages.convert.write_manifest", fail)
    with pytest.raises(KeyboardInterrupt):
        convert(base / "saved_models", base / "store", measured, CONFIG, name="tiny")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in measured.iterdir()) == before
    assert {path.name for path in measured.parent.iterdir()} <= {"onnx", ".onnx.fvv.lock"}
