"""A fold's folder: which run it is, what is damaged in it, whose files lie there, and on which data it goes on."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fvv.config import TrainConfig
from fvv.errors import OutputExistsError, TrainingError
from fvv.io.runs import _identity
from fvv.io.store import CaseStore
from fvv.stages.train import train_fold
from fvv.training.callbacks import MetricsTable
from fvv.training.checkpoint import read_checkpoint
from store_builders import DAMAGE, TINY, write_store

pytestmark = pytest.mark.usefixtures("plain_trainings")

QUICK = TINY.model_copy(update={"epochs": 1, "slices_per_epoch": 8, "figures_every_epochs": 99})
LONGER = QUICK.model_copy(update={"epochs": 3})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "store"
    write_store(path)
    return path


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """Three epochs without a stop."""
    return train_fold(store, tmp_path_factory.mktemp("whole"), 0, LONGER)


@pytest.fixture
def run(whole, tmp_path):
    """A private copy of that run: the folder of its fold."""
    shutil.copytree(whole.folder.parents[1], tmp_path / "models")
    return tmp_path / "models" / "tiny" / "fold_0"


def test_a_schedule_that_is_laid_out_for_its_epochs_is_not_stretched(store, tmp_path):
    onecycle = QUICK.model_copy(update={"schedule": "onecycle"})
    train_fold(store, tmp_path, 0, onecycle)
    with pytest.raises(TrainingError, match="onecycle schedule depends on"):
        train_fold(store, tmp_path, 0, onecycle.model_copy(update={"epochs": 2}))


def test_a_run_from_before_a_setting_existed_goes_on(store, run, monkeypatch):
    """Its identity has no `crop`, and a crop makes another run of it."""
    opened, known = CaseStore.open(store), json.loads((run / "run.json").read_text())["run_id"]
    assert _identity(opened, LONGER) == known
    fields = {name for name in TrainConfig.model_fields if name != "crop"}
    dumped = TrainConfig.model_dump
    monkeypatch.setattr(TrainConfig, "model_dump", lambda self, **how: dumped(self, include=fields, **how))
    assert _identity(opened, LONGER) == known
    monkeypatch.undo()
    assert _identity(opened, LONGER.model_copy(update={"crop": (192, 224)})) != known


@pytest.mark.parametrize("when", ["on_train_epoch_start", "on_train_batch_end"])
def test_a_store_that_is_rewritten_stops_the_training_and_spoils_no_checkpoint(tmp_path, monkeypatch, when):
    write_store(tmp_path / "store")

    def rewrite(self, trainer, *_):
        if trainer.current_epoch == 1:
            write_store(tmp_path / "other", seed=1)
            participant = CaseStore.open(tmp_path / "other").record("secret_3").participant
            case = CaseStore.open(tmp_path / "other").read("secret_3")
            CaseStore.open(tmp_path / "store").write(case, participant, image_sha256="another", source_sha256="another")

    with monkeypatch.context() as patch:
        patch.setattr(MetricsTable, when, rewrite)
        with pytest.raises(TrainingError, match="prepared data changed during training"):
            train_fold(tmp_path / "store", tmp_path / "models", 0, LONGER)
    folder = tmp_path / "models" / "tiny" / "fold_0"
    assert read_checkpoint(folder / "last.ckpt").epoch == 0
    assert not (folder / "done.json").exists()


def test_a_store_that_goes_away(tmp_path, monkeypatch):
    write_store(tmp_path / "store")
    monkeypatch.setattr(MetricsTable, "on_validation_start", lambda *_: (tmp_path / "store/store.json").unlink())
    with pytest.raises(TrainingError, match="became unreadable during training"):
        train_fold(tmp_path / "store", tmp_path / "models", 0, QUICK)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_descriptions_that_are_damaged_are_made_again(store, run, whole, damage):
    for name in ("run.json", "done.json", "config.yaml", "metrics.csv"):
        damage(run / name)
    result = train_fold(store, run.parents[1], 0, LONGER)
    assert (result.epochs, result.best_epoch) == (3, whole.best_epoch)
    np.testing.assert_equal(result.scores, whole.scores)
    assert json.loads((run / "run.json").read_text())["run_id"] == read_checkpoint(run / "last.ckpt").run_id
    assert json.loads((run / "done.json").read_text())["epochs"] == 3
    assert "tiny" in (run / "config.yaml").read_text()


@pytest.mark.parametrize("damage", [*DAMAGE.values(), Path.unlink, lambda path: path.replace(path.with_suffix(".x"))])
def test_a_log_or_picture_of_a_finished_fold_that_is_damaged_is_named(store, run, damage, caplog):
    assert set(json.loads((run / "done.json").read_text())["files"]) >= {"metrics.csv", "figures/kappa.png"}
    train_fold(store, run.parents[1], 0, LONGER)
    assert "damaged" not in caplog.text
    for name in ("metrics.csv", "figures/kappa.png"):
        damage(run / name)
    assert train_fold(store, run.parents[1], 0, LONGER).seconds == 0
    (line,) = [line for line in caplog.messages if "damaged or missing" in line]
    assert line.endswith("metrics.csv, figures/kappa.png")


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_checkpoint_of_a_finished_fold_that_is_damaged_is_refused(store, run, name, damage):
    expected = json.loads((run / "done.json").read_text())["files"][name]
    damage(run / name)
    with pytest.raises(TrainingError) as refused:
        train_fold(store, run.parents[1], 0, LONGER)
    assert refused.value.file == str(run / name)
    assert f"expected SHA-256 {expected}" in str(refused.value)
    assert "delete the fold's folder" in str(refused.value)


def test_with_more_epochs_a_fold_is_recorded_again(store, run, caplog):
    (run / "metrics.csv").write_bytes(b"")
    longer = LONGER.model_copy(update={"epochs": 4})
    before = json.loads((run / "done.json").read_text())["files"]
    train_fold(store, run.parents[1], 0, longer)
    after = json.loads((run / "done.json").read_text())["files"]
    assert all(after[name] != before[name] for name in ("last.ckpt", "metrics.csv", "progress.png"))
    train_fold(store, run.parents[1], 0, longer)
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("name", ["run.json", "done.json"])
def test_a_description_that_was_edited_is_made_again(store, run, name, caplog):
    written = (run / name).read_text()
    edited = json.loads(written) | ({"wandb_id": "0"} if name == "run.json" else {"epochs": 2})
    (run / name).write_text(json.dumps(edited))
    assert train_fold(store, run.parents[1], 0, LONGER).epochs == 3
    assert "its own hash" in caplog.text


def test_without_its_description_a_run_of_other_settings_is_still_refused(store, run):
    (run / "run.json").unlink()
    with pytest.raises(TrainingError, match="not of this one"):
        train_fold(store, run.parents[1], 0, LONGER.model_copy(update={"seed": 9}))


def test_a_pipe_instead_of_a_description_hangs_nothing(store, run):
    for name in ("run.json", "done.json"):
        (run / name).unlink()
        os.mkfifo(run / name)
    with pytest.raises(TrainingError, match="regular file"):
        train_fold(store, run.parents[1], 0, LONGER)


@pytest.mark.parametrize("name", ["best.ckpt", "metrics.csv", "config.yaml", "done.json", "figures"])
def test_other_peoples_files_are_never_replaced(store, tmp_path, name):
    foreign = tmp_path / "tiny" / "fold_0" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("years of work")
    with pytest.raises(OutputExistsError, match="not written by fvv"):
        train_fold(store, tmp_path, 0, QUICK)
    assert foreign.read_text() == "years of work"


def test_notes_beside_the_checkpoints_stay(store, run):
    (run / "notes.md").write_text("learning rate too high?")
    train_fold(store, run.parents[1], 0, LONGER.model_copy(update={"epochs": 4}))
    assert (run / "notes.md").read_text() == "learning rate too high?"
