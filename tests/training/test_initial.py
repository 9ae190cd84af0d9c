"""A training that starts from weights: of a checkpoint, of a bundle, of the model in the package."""

import shutil

import pytest
import torch

from fvv.config import ConvertConfig, TrainConfig
from fvv.data import ALL_FOLDS, FoldPlan, FoldRow, Role, hashed_ids
from fvv.errors import ModelError, TrainingError
from fvv.io.bundle import ModelBundle
from fvv.io.folds import write_folds
from fvv.io.initial import InitialFiles
from fvv.io.shipped import shipped_bundle
from fvv.io.store import CaseStore
from fvv.stages.convert import convert
from fvv.stages.train import train_all_folds, train_fold
from fvv.training.checkpoint import read_checkpoint
from fvv.training.initial import initial_weights, start_from
from fvv.training.module import SegmentationModule
from store_builders import TINY, assert_same_weights, write_store

pytestmark = pytest.mark.usefixtures("plain_trainings")

QUICK = TINY.model_copy(update={"epochs": 1, "slices_per_epoch": 8, "figures_every_epochs": 99})
NO_RATE = {"init_learning_rate": 1e-30}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("initial") / "store"
    write_store(path)
    return path


@pytest.fixture(scope="module")
def parents(store, tmp_path_factory):
    """Both folds trained, and a bundle of them."""
    folder = tmp_path_factory.mktemp("parents")
    train_all_folds(store, folder / "models", QUICK)
    convert(folder / "models", store, folder / "bundle", ConvertConfig(check_patients=1), name="tiny")
    return folder


def started(init, **changes) -> TrainConfig:
    return TrainConfig.model_validate({**QUICK.model_dump(), "name": "tuned", "init": str(init), **changes})


def checkpoint(parents, fold=0):
    return parents / "models" / "tiny" / f"fold_{fold}" / "best.ckpt"


@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
def test_training_starts_from_the_weights(store, parents, kind):
    init = checkpoint(parents) if kind == "checkpoint" else parents / "bundle"
    config = started(init)
    opened = CaseStore.open(store)
    initial = initial_weights(opened, 0, config)
    module = SegmentationModule(config, [])
    images = torch.randn(2, 2, 8, 64, 64)
    labels, known = torch.zeros(2, 3, 2, 64, 64, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    start_from(module, initial, [(torch.tensor([0, 1]), images, labels, known)])
    assert module.training
    with torch.inference_mode():
        expected = read_checkpoint(checkpoint(parents)).build()(images)
        torch.testing.assert_close(module.eval().network(images), expected, atol=1e-4, rtol=1e-4)
    assert initial.person_ids == read_checkpoint(checkpoint(parents)).training_person_ids
    assert initial.image_ids == read_checkpoint(checkpoint(parents)).training_image_ids


@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
def test_weights_of_another_resolution_fit(store, parents, kind, caplog):
    """The first step at full resolution has the weights that half resolution ended with."""
    caplog.set_level("INFO")
    init = checkpoint(parents) if kind == "checkpoint" else parents / "bundle"
    config = started(init, network={**TINY.network.model_dump(), "resolution": "full"})
    module = SegmentationModule(config, [])
    images = torch.randn(2, 2, 8, 64, 64)
    labels, known = torch.zeros(2, 3, 2, 64, 64, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    start_from(
        module, initial_weights(CaseStore.open(store), 0, config), [(torch.tensor([0, 1]), images, labels, known)]
    )
    assert "trained at half resolution" in caplog.text
    before = read_checkpoint(checkpoint(parents)).build()
    before.reduction = 1
    with torch.inference_mode():
        torch.testing.assert_close(module.eval().network(images), before(images), atol=1e-4, rtol=1e-4)


def test_weights_that_do_not_fit_are_refused(store, parents):
    config = started(checkpoint(parents), network={**TINY.network.model_dump(), "widths": (4, 4, 8, 16)})
    with pytest.raises(ModelError, match="only the resolution may differ"):
        initial_weights(CaseStore.open(store), 0, config)
    fitting = initial_weights(CaseStore.open(store), 0, started(checkpoint(parents)))
    with pytest.raises(ModelError, match="do not fit"):
        start_from(SegmentationModule(config, []), fitting, [])


def test_who_was_seen_is_inherited_and_the_parent_is_recorded(store, parents, tmp_path):
    """A fold's weights may start its own fold: nobody changes side. The bundle made later names them."""
    train_all_folds(store, tmp_path / "models", started(parents / "bundle"))
    convert(tmp_path / "models", store, tmp_path / "bundle", ConvertConfig(check_patients=1), name="tuned")
    before, after = (ModelBundle.open(folder / "bundle") for folder in (parents, tmp_path))
    for old, new in zip(before.models, after.models, strict=True):
        assert new.parent.sha256 == old.sha256
        assert new.parent.name == f"tiny, {old.file}"
        assert new.trained_on == old.trained_on
        # Who chose an epoch may choose again: the same split is no leak.
        assert new.selected_on == old.selected_on
        assert old.selected_on
    settings = read_checkpoint(tmp_path / "models" / "tuned" / "fold_0" / "best.ckpt").settings
    assert str(tmp_path) not in str(settings)
    assert str(parents) not in str(settings)


def test_a_person_on_the_wrong_side_is_refused(store, parents, tmp_path):
    shutil.copytree(store, tmp_path / "store")
    opened = CaseStore.open(store)
    # Everybody changes side.
    rows = tuple(FoldRow(row.examination_id, row.person_id, row.roles[::-1]) for row in opened.folds.rows)
    write_folds(tmp_path / "store" / "folds.tsv", FoldPlan(rows))
    for number, init in enumerate((checkpoint(parents), f"{parents / 'bundle'}#1")):
        with pytest.raises(ModelError, match="data leakage"):
            train_fold(tmp_path / "store", tmp_path / str(number), 0, started(init))


def test_other_images_of_a_person_are_that_person(parents, tmp_path):
    """And the same images under another name are refused, too."""
    opened = write_store(tmp_path / "store", seed=1)
    record = opened.record(opened.folds.participants(1, Role.TEST)[0])
    seen = set(read_checkpoint(checkpoint(parents)).training_person_ids)
    assert set(hashed_ids([record.participant.person_id])) <= seen
    with pytest.raises(ModelError, match=record.participant.examination_id):
        train_fold(tmp_path / "store", tmp_path / "models", 1, started(checkpoint(parents)))


@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
def test_a_resumed_run_goes_on_from_its_own_checkpoint(store, parents, tmp_path, kind):
    init = checkpoint(parents) if kind == "checkpoint" else parents / "bundle"
    straight = train_fold(store, tmp_path / "straight", 0, started(init, epochs=2))
    train_fold(store, tmp_path / "stopped", 0, started(init, epochs=1))
    resumed = train_fold(store, tmp_path / "stopped", 0, started(init, epochs=2))
    assert_same_weights(straight.folder, resumed.folder)


def test_other_weights_to_start_from_are_another_run_wherever_they_lie(store, parents, tmp_path):
    train_fold(store, tmp_path / "models", 0, started(checkpoint(parents)))
    shutil.copy(checkpoint(parents), tmp_path / "moved.ckpt")
    train_fold(store, tmp_path / "models", 0, started(tmp_path / "moved.ckpt", epochs=2))
    for other in (parents / "bundle", ""):
        with pytest.raises(TrainingError, match="other settings"):
            train_fold(store, tmp_path / "models", 0, started(other))


def test_frozen_parts_keep_weights_and_statistics(store, parents, tmp_path):
    config = started(checkpoint(parents), freeze=("stages", "mixing.0"), init_learning_rate=1e-2)
    result = train_fold(store, tmp_path, 0, config)
    before, after = (read_checkpoint(path).weights for path in (checkpoint(parents), result.folder / "last.ckpt"))
    for name, weights in after.items():
        same = torch.equal(weights, before[name])
        if name.startswith(("stages", "mixing.0")):
            assert same, name
        elif not name.endswith("num_batches_tracked"):
            assert not same, name


def test_freezing_what_is_not_there_or_everything(store, parents, tmp_path):
    with pytest.raises(TrainingError, match="no part 'encoder'"):
        train_fold(store, tmp_path, 0, started(checkpoint(parents), freeze=("encoder",)))
    everything = ("stages", "mixing", "decoder", "head")
    with pytest.raises(TrainingError, match="nothing is left"):
        train_fold(store, tmp_path, 0, started(checkpoint(parents), freeze=everything, name="b"))
    with pytest.raises(ValueError, match="no init"):
        TrainConfig(freeze=("stages",))


def test_the_learning_rate_is_that_of_fine_tuning(store, parents, tmp_path):
    result = train_fold(store, tmp_path, 0, started(checkpoint(parents), init_learning_rate=3e-5))
    header, row = (result.folder / "metrics.csv").read_text().splitlines()
    assert float(dict(zip(header.split(","), row.split(","), strict=True))["learning_rate"]) == pytest.approx(3e-5)


def test_all_folds_start_from_the_model_that_their_validation_patients_selected(store, parents):
    initial = initial_weights(CaseStore.open(store), ALL_FOLDS, started(parents / "bundle"))
    assert initial.parent.name.endswith("model1.onnx")


def test_what_names_weights(parents, tmp_path):
    bundle = InitialFiles.find(str(parents / "bundle"))
    assert [bundle.model_of(fold).file for fold in range(3)] == ["model1.onnx", "model2.onnx", "model1.onnx"]
    second = InitialFiles.find(f"{parents / 'bundle'}#2")
    assert {second.model_of(fold).file for fold in range(3)} == {"model2.onnx"}
    assert len({bundle.identity, second.identity, InitialFiles.find(f"{parents / 'bundle'}#1").identity}) == 3
    with pytest.raises(ModelError, match="no model 3"):
        InitialFiles.find(f"{parents / 'bundle'}#3")
    with pytest.raises(ModelError, match="no weights"):
        InitialFiles.find(str(tmp_path / "nothing"))


@pytest.mark.skipif(shipped_bundle() is None, reason="no model in the package")
def test_the_model_in_the_package_comes_back(store, caplog):
    """Its reference output is compared where it is read; the log names no option that `train` has not."""
    caplog.set_level("INFO")
    assert InitialFiles.find("shipped") == InitialFiles.find(shipped_bundle().name)
    assert "--models" not in caplog.text
    initial = initial_weights(CaseStore.open(store), 0, TrainConfig(init="shipped"))
    assert initial.parent.name.endswith("model1.onnx")
    assert initial.person_ids
    assert initial.image_ids
