"""A run goes on from what is whole, and never from a checkpoint that is damaged or that would run code."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from fvv.errors import FvvError, ModelError, TrainingError
from fvv.io.ownership import claim
from fvv.stages.train import train_fold
from fvv.training.checkpoint import read_checkpoint
from store_builders import DAMAGE, TINY, assert_same_weights, write_store

pytestmark = pytest.mark.usefixtures("plain_trainings")

QUICK = TINY.model_copy(update={"epochs": 1, "slices_per_epoch": 8, "figures_every_epochs": 99})
LONGER = QUICK.model_copy(update={"epochs": 3})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "store"
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


class Trap:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps(Trap())])
def test_a_last_checkpoint_that_is_none(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "store", patients=4)
    last = tmp_path / "models" / "tiny" / "fold_0" / "last.ckpt"
    claim(last.parent, ["last.ckpt", "run.json"])
    last.write_bytes(content)
    with pytest.raises(ModelError, match=r"last\.ckpt"):
        train_fold(tmp_path / "store", tmp_path / "models", 0, TINY)
    assert last.read_bytes() == content
    assert not (tmp_path / "owned").exists()


def test_a_flipped_bit_in_a_checkpoint_is_no_other_weight(tmp_path):
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {"network.w": torch.zeros(4096)}}, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="checksum"):
        read_checkpoint(path)


@pytest.mark.parametrize("damage", [*DAMAGE.values(), lambda path: path.unlink()])
def test_a_damaged_last_checkpoint_is_trained_again_from_the_best(store, run, whole, damage, caplog):
    damage(run / "last.ckpt")
    (run / "done.json").unlink()
    result = train_fold(store, run.parents[1], 0, LONGER)
    assert "resumes from best.ckpt" in caplog.text
    np.testing.assert_equal(result.scores, whole.scores)
    assert_same_weights(whole.folder, run)


def test_a_best_checkpoint_that_is_lost_is_made_again_or_named(store, run, whole, tmp_path):
    (run / "best.ckpt").unlink()
    last = read_checkpoint(run / "last.ckpt")
    if last.epoch == last.best_epoch:
        assert train_fold(store, run.parents[1], 0, LONGER).epochs == 3
        assert read_checkpoint(run / "best.ckpt").epoch == whole.best_epoch
    else:
        with pytest.raises(TrainingError, match="best epoch's checkpoint is missing"):
            train_fold(store, run.parents[1], 0, LONGER)
    single = train_fold(store, tmp_path / "single", 0, QUICK)  # of one epoch, the last is the best
    single.checkpoint.write_bytes(b"")
    (single.folder / "done.json").unlink()
    train_fold(store, tmp_path / "single", 0, QUICK)
    assert read_checkpoint(single.checkpoint).epoch == 0


def test_two_damaged_checkpoints_are_one_clear_error(store, run):
    for name in ("last.ckpt", "best.ckpt"):
        (run / name).write_bytes(b"weights")
    (run / "done.json").unlink()
    with pytest.raises(ModelError, match=r"last\.ckpt.*delete it"):
        train_fold(store, run.parents[1], 0, LONGER)


def test_a_checkpoint_of_a_version_with_other_settings_is_read(run):
    content = torch.load(run / "best.ckpt", weights_only=True)
    content["fvv"]["settings"] |= {"momentum": 0.9, "loss": {"focal": True}}
    torch.save(content, run / "best.ckpt")
    assert read_checkpoint(run / "best.ckpt").network == TINY.network
    content["fvv"]["network"]["attention"] = True
    torch.save(content, run / "best.ckpt")
    with pytest.raises(FvvError, match="attention"):
        read_checkpoint(run / "best.ckpt")
