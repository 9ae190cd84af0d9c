"""Training on a small store: what it leaves behind, that it resumes exactly, that it keeps secrets."""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from fvv.config import TrainConfig
from fvv.errors import FvvError, StoreError, TrainingError
from fvv.io.lock import only_writer
from fvv.stages.train import train_all_folds, train_fold
from fvv.system.parallel import core_count
from fvv.training.callbacks import MetricsTable
from fvv.training.checkpoint import read_checkpoint
from fvv.training.loggers import wandb_mode
from plain_pictures import plain_trainings
from programs import PATH
from store_builders import PROFILE, TINY, assert_same_weights, write_store

OFFLINE = TINY.model_copy(update={"wandb_mode": "offline"})
QUICK = TINY.model_copy(update={"epochs": 1, "slices_per_epoch": 8, "figures_every_epochs": 99})
TRAIN_UNTIL_KILLED = """
import os, signal, sys
from pathlib import Path
from plain_pictures import plain_trainings
from fvv.config import TrainConfig
from fvv.stages.train import train_all_folds
from fvv.training.callbacks import MetricsTable

store, output, settings, step = sys.argv[1:]
left = int(step)

def count(self, *_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

MetricsTable.on_train_batch_end = count
with plain_trainings():
    train_all_folds(Path(store), Path(output), TrainConfig.model_validate_json(settings))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "store"
    write_store(path)
    return path


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    output = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        return output, train_all_folds(store, output, OFFLINE)


@pytest.fixture
def plain():
    """`trained` has its figures; nobody looks at those of the other trainings."""
    with plain_trainings():
        yield


def test_every_fold_leaves_its_files(trained):
    output, result = trained
    assert [fold.fold for fold in result.folds] == [0, 1]
    assert not result.failures
    for fold in (0, 1):
        folder = output / "tiny" / f"fold_{fold}"
        names = {item.name for item in folder.iterdir()}
        assert {
            "best.ckpt",
            "last.ckpt",
            "metrics.csv",
            "config.yaml",
            "run.json",
            "done.json",
            "progress.png",
        } <= names
        assert {item.name for item in (folder / "figures").iterdir()} == {
            "examples.png",
            "slice_classes.png",
            "kappa.png",
        }
        assert list((folder / "tensorboard").glob("events*"))
        assert len(list((folder / "wandb").glob("offline-run-*/*.wandb"))) == 1
        assert yaml.safe_load((folder / "config.yaml").read_text())["train"]["name"] == "tiny"
    assert "score" in result.summary()


def test_metrics_have_a_row_an_epoch_and_every_score(trained):
    output, _ = trained
    with (output / "tiny" / "fold_0" / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    wanted = {"train/loss", "valid/loss", "valid/dice_brain", "valid/dice_stroke", "valid/dice_flair_visible"}
    wanted |= {"valid/dice_not_visible", "valid/slice_kappa", "valid/auc", "valid/best_kappa", "valid/accuracy_stroke"}
    assert wanted <= set(rows[0])
    assert float(rows[1]["train/loss"]) < float(rows[0]["train/loss"])


def test_a_checkpoint_says_what_it_is_without_naming_anyone(trained):
    output, result = trained
    model = read_checkpoint(result.folds[1].checkpoint)
    assert (model.fold, model.n_folds, model.run_name) == (1, 2, "tiny")
    assert model.profile == PROFILE
    assert model.score == pytest.approx(result.folds[1].scores["valid/score"])
    assert model.epoch == result.folds[1].best_epoch
    assert len(model.training_person_ids) == len(model.training_image_ids) == 3  # two train, one selects
    assert read_checkpoint(result.folds[0].checkpoint).run_id == model.run_id
    for path in output.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"secret_" not in content, path
            assert b"person-" not in content, path
            assert path.suffix not in {".ckpt", ".wandb"} or str(output).encode() not in content, path


def test_a_finished_fold_is_left_alone(trained, store):
    output, result = trained
    before = (output / "tiny" / "fold_0" / "best.ckpt").stat().st_mtime_ns
    again = train_all_folds(store, output, TINY)
    assert (output / "tiny" / "fold_0" / "best.ckpt").stat().st_mtime_ns == before
    assert [fold.seconds for fold in again.folds] == [0.0, 0.0]
    np.testing.assert_equal(again.folds[0].scores, result.folds[0].scores)


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 1e-4}])
def test_a_run_is_not_continued_with_other_settings(trained, store, change):
    output, _ = trained
    with pytest.raises(TrainingError, match="other settings"):
        train_fold(store, output, 0, TINY.model_copy(update=change))


class KilledError(Exception):
    """Stands for a killed process."""


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("schedule", "ema_decay"), [("plateau", 0.0), ("onecycle", 0.9)])
def test_a_resumed_run_ends_like_an_undisturbed_one(store, tmp_path, monkeypatch, schedule, ema_decay):
    config = TINY.model_copy(
        update={"schedule": schedule, "ema_decay": ema_decay, "epochs": 3, "figures_every_epochs": 99}
    )
    whole = train_fold(store, tmp_path / "whole", 0, config)

    def kill(self, trainer, *_):
        if trainer.current_epoch == 1 and trainer.global_step >= 3:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(MetricsTable, "on_train_batch_end", kill)
        with pytest.raises(KilledError):
            train_fold(store, tmp_path / "torn", 0, config)
    (tmp_path / "torn").rename(tmp_path / "moved")
    torn = train_fold(store, tmp_path / "moved", 0, config)
    assert torn.epochs == whole.epochs == 3
    np.testing.assert_equal(torn.scores, whole.scores)
    assert_same_weights(whole.folder, torn.folder)
    assert read_checkpoint(torn.checkpoint).epoch == whole.best_epoch


@pytest.mark.usefixtures("plain")
def test_a_finished_run_goes_on_with_more_epochs_as_if_it_had_never_stopped(store, tmp_path):
    longer_run = QUICK.model_copy(update={"epochs": 3})
    whole = train_fold(store, tmp_path / "whole", 0, longer_run)
    short = train_fold(store, tmp_path, 0, QUICK)
    assert json.loads((short.folder / "done.json").read_text())["epochs"] == 1
    longer = train_fold(store, tmp_path, 0, longer_run)
    assert longer.epochs == 3
    assert json.loads((longer.folder / "done.json").read_text())["epochs"] == 3
    assert "epochs: 3" in (longer.folder / "config.yaml").read_text()
    np.testing.assert_equal(longer.scores, whole.scores)
    assert_same_weights(whole.folder, longer.folder)
    again = train_fold(store, tmp_path, 0, QUICK)  # fewer epochs: nothing is undone
    assert (again.epochs, again.seconds) == (3, 0.0)


@pytest.mark.usefixtures("plain")
def test_patience_that_ended_a_fold_ends_it_for_more_epochs_too(store, tmp_path):
    config = QUICK.model_copy(update={"epochs": 9, "patience": 1, "learning_rate": 1e-30})
    assert train_fold(store, tmp_path, 0, config).epochs == 2
    again = train_fold(store, tmp_path, 0, config.model_copy(update={"epochs": 20}))
    assert (again.epochs, again.seconds) == (2, 0.0)
    assert train_fold(store, tmp_path, 0, config.model_copy(update={"patience": 2})).epochs == 3


def killed_at(step, store, output):
    """Start training in a process of its own, which kills itself after so many steps."""
    settings = OFFLINE.model_dump_json()
    command = [sys.executable, "-c", TRAIN_UNTIL_KILLED, str(store), str(output), settings, str(step)]
    # W&B of its own, as in another shell; as many threads as here, so that sums run in the same order.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    environment["PYTHONPATH"] = PATH
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.usefixtures("plain")
def test_all_folds_killed_twice_end_like_undisturbed_ones(store, tmp_path, trained, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    # Any step of the 8 (two folds of two epochs of two) will do; the second session has at least 6 left.
    first, second = np.random.default_rng().integers(1, [5, 7])
    killed_at(first, store, tmp_path)
    killed_at(second, store, tmp_path)
    torn = train_all_folds(store, tmp_path, OFFLINE)
    steps = f"killed at steps {first} and {second}"
    assert not torn.failures
    for undisturbed, resumed in zip(trained[1].folds, torn.folds, strict=True):
        assert resumed.complete
        np.testing.assert_equal(resumed.scores, undisturbed.scores, err_msg=steps)
        assert_same_weights(undisturbed.folder, resumed.folder)
        assert len(list((resumed.folder / "wandb").glob("offline-run-*"))) == 1, steps
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"secret_" not in path.read_bytes(), path


@pytest.mark.usefixtures("plain")
def test_folds_side_by_side_end_like_one_after_the_other(store, tmp_path, trained):
    """Each in a process of its own with a part of the cores: with as many threads the same sums, bit for bit."""
    threads, part = torch.get_num_threads(), max(1, core_count() // 2)
    alone = trained[1]
    if threads != part:
        torch.set_num_threads(part)
        try:
            alone = train_all_folds(store, tmp_path / "alone", OFFLINE)
        finally:
            torch.set_num_threads(threads)
    together = train_all_folds(store, tmp_path / "together", OFFLINE.model_copy(update={"jobs": 2}))
    assert [fold.fold for fold in together.folds] == [0, 1]
    for one, other in zip(alone.folds, together.folds, strict=True):
        assert_same_weights(one.folder, other.folder)
        assert len(list((other.folder / "wandb").glob("offline-run-*"))) == 1


def test_a_process_that_helps_another_says_nothing(trained, monkeypatch):
    assert "mean" in trained[1].summary()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert trained[1].summary() == trained[1].folds[0].summary() == ""


@pytest.mark.usefixtures("plain")
def test_wandb_mode_disabled_in_the_environment_writes_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(tmp_path)
    train_fold(store, tmp_path / "models", 0, OFFLINE.model_copy(update={"epochs": 1, "figures_every_epochs": 9}))
    assert not list(tmp_path.rglob("*wandb*"))


@pytest.mark.usefixtures("plain")
def test_without_the_extras_training_goes_on_and_names_them(store, tmp_path, monkeypatch, caplog):
    for package in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, package, None)  # What Python itself keeps for a module that must not load.
    for loaded in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, loaded)
    result = train_fold(store, tmp_path, 0, OFFLINE.model_copy(update={"epochs": 1, "figures_every_epochs": 9}))
    assert result.complete
    assert (result.folder / "metrics.csv").exists()
    assert not {"tensorboard", "wandb"} & {path.name for path in result.folder.iterdir()}
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert [line.partition("'")[2].partition("'")[0] for line in said] == [".[tensorboard]", ".[wandb]"]


@pytest.mark.usefixtures("plain")
def test_a_run_that_met_its_time_limit_goes_on_with_a_longer_one(store, tmp_path):
    config = TINY.model_copy(update={"figures_every_epochs": 999})

    def run(max_time, epochs=200):
        return train_fold(store, tmp_path, 0, config.model_copy(update={"max_time": max_time, "epochs": epochs}))

    stopped = run("00:00:00:01")
    assert 1 <= stopped.epochs < 200
    assert not stopped.complete
    assert "time limit" in stopped.summary()
    assert run("00:00:00:01").epochs == stopped.epochs
    longer = run("00:01:00:00", epochs=stopped.epochs + 1)
    assert (longer.epochs, longer.complete) == (stopped.epochs + 1, True)


def test_debug_keeps_nothing(store, tmp_path):
    result = train_fold(store, tmp_path / "models", 0, TINY.model_copy(update={"debug": True}))
    assert result.checkpoint is None
    assert not (tmp_path / "models").exists()
    assert "nothing was kept" in result.summary()


def test_a_fold_that_another_process_trains(store, tmp_path):
    with only_writer(tmp_path / "models" / "tiny" / "fold_0"), pytest.raises(FvvError, match="another fvv process"):
        train_fold(store, tmp_path / "models", 0, TINY)


def test_a_fold_that_does_not_exist(store, tmp_path):
    with pytest.raises(StoreError, match="folds 0 to 1"):
        train_fold(store, tmp_path, 2, TINY)


@pytest.mark.usefixtures("plain")
def test_a_failed_fold_does_not_stop_the_others(store, tmp_path, trained):
    identity = tmp_path / "tiny" / "fold_0" / "run.json"
    identity.parent.mkdir(parents=True)
    identity.write_text(json.dumps({"run_id": "of another run"}))
    result = train_all_folds(store, tmp_path, TINY)
    assert [fold.fold for fold in result.folds] == [1]
    assert [failure.examination_id for failure in result.failures] == ["fold 0"]
    # Trained in another folder, by itself: the same numbers.
    np.testing.assert_equal(result.folds[0].scores, trained[1].folds[1].scores)


@pytest.mark.parametrize(
    ("configured", "environment", "expected"),
    [
        ("offline", None, "offline"),
        ("offline", "disabled", "disabled"),
        ("offline", "online", "offline"),
        ("disabled", "online", "disabled"),
        ("online", "offline", "offline"),
        ("online", None, "offline"),
    ],
)
def test_wandb_is_never_looser_than_asked_and_offline_without_an_account(
    monkeypatch, tmp_path, configured, environment, expected
):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    assert wandb_mode(TrainConfig(wandb_mode=configured)) == expected
