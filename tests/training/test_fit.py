"""How a training ends: no memory, no GPU, no patience; which weights a checkpoint keeps."""

import pytest
import torch

from fvv.errors import TrainingError
from fvv.stages.train import train_fold
from fvv.training.checkpoint import read_checkpoint
from fvv.training.module import SegmentationModule
from store_builders import TINY, write_store

QUICK = TINY.model_copy(update={"epochs": 1, "slices_per_epoch": 8, "figures_every_epochs": 99})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "store"
    write_store(path)
    return path


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_out_of_memory_says_what_to_lower(store, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(SegmentationModule, "training_step", fail)
    with pytest.raises(TrainingError, match=r"batches of 2 slabs of 4 slices") as raised:
        train_fold(store, tmp_path, 0, QUICK)
    assert "train.batch_slabs" in str(raised.value)


def test_another_runtime_error_stays_what_it_is(store, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(SegmentationModule, "training_step", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train_fold(store, tmp_path, 0, QUICK)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_asked_for_and_not_there(store, tmp_path):
    with pytest.raises(TrainingError, match="no GPU"):
        train_fold(store, tmp_path, 0, QUICK.model_copy(update={"device": "gpu"}))


def test_more_devices_than_validation_patients(store, tmp_path):
    with pytest.raises(TrainingError, match="cannot be shared by 9 devices"):
        train_fold(store, tmp_path, 0, QUICK.model_copy(update={"devices": 9}))


def test_patience_ends_a_run_and_keeps_it_ended(store, tmp_path):
    # A learning rate of almost nothing: no epoch is better than the first.
    config = QUICK.model_copy(update={"epochs": 9, "patience": 1, "learning_rate": 1e-30})
    result = train_fold(store, tmp_path, 0, config)
    assert (result.epochs, result.best_epoch, result.complete) == (2, 0, True)
    (result.folder / "done.json").unlink()  # killed just before the end
    again = train_fold(store, tmp_path, 0, config)
    assert (again.epochs, again.complete) == (2, True)


def test_a_checkpoint_keeps_the_average_that_was_judged(store, tmp_path):
    result = train_fold(store, tmp_path, 0, QUICK.model_copy(update={"ema_decay": 0.9, "slices_per_epoch": 16}))
    state = torch.load(result.folder / "last.ckpt", weights_only=True)["state_dict"]
    kept = read_checkpoint(result.folder / "last.ckpt")
    kept.build()
    for name, weights in kept.weights.items():
        assert torch.equal(weights, state[f"average.module.{name}"])
    head = "head.weight"
    assert not torch.equal(kept.weights[head], state[f"network.{head}"])
