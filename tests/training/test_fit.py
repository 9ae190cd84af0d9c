"""How a training ends: no memory, no GPU, no patience; which weights a checkpoint keeps."""

import gc

import pytest
import torch

from fvv.config import AugmentConfig
from fvv.errors import TrainingError
from fvv.io.store import CaseStore
from fvv.stages.train import train_fold
from fvv.training.checkpoint import read_checkpoint
from fvv.training.dataset import FoldPatients, SlabDataset, norm_loader, training_loader
from fvv.training.module import SegmentationModule
from fvv.training.network import SegmentationNetwork
from fvv.training.norms import estimate_norms
from store_builders import TINY, write_store

pytestmark = pytest.mark.usefixtures("plain_trainings")

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


def test_a_fold_keeps_no_examination_in_memory_when_it_ends(store, tmp_path):
    """Ten folds of 290 examinations would otherwise need the memory of all of them."""

    def alive():
        return sum(type(one) is SlabDataset for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = alive()
        train_fold(store, tmp_path, 0, QUICK.model_copy(update={"preload_ram": True}))
        assert alive() == before
    finally:
        gc.enable()


def test_a_checkpoint_keeps_the_average_that_was_judged(store, tmp_path):
    result = train_fold(store, tmp_path, 0, QUICK.model_copy(update={"ema_decay": 0.9, "slices_per_epoch": 16}))
    state = torch.load(result.folder / "last.ckpt", weights_only=True, map_location="cpu")
    kept = read_checkpoint(result.folder / "last.ckpt")
    kept.build()
    for name, weights in kept.weights.items():
        assert torch.equal(weights, state["state_dict"][f"network.{name}"])
    head = "head.weight"
    assert not torch.equal(kept.weights[head], state["current_model_state"][f"network.{head}"])


def test_batch_norm_is_estimated_from_training_slabs_and_leaves_training_alone(store, tmp_path):
    results = {
        slabs: train_fold(store, tmp_path / str(slabs), 0, QUICK.model_copy(update={"epochs": 2, "norm_slabs": slabs}))
        for slabs in (0, 6)
    }
    kept, again = (read_checkpoint(results[slabs].folder / "last.ckpt").weights for slabs in (0, 6))
    statistics = [name for name in kept if name.endswith("running_mean")]
    trained = [name for name in kept if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert all(torch.equal(kept[name], again[name]) for name in trained)
    assert not any(torch.equal(kept[name], again[name]) for name in statistics)
    seen = {int(value) for name, value in again.items() if name.endswith("num_batches_tracked")}
    assert seen == {3}  # six slabs, two at a time


def test_a_crop_trains_and_estimates_norms_while_validation_sees_the_whole_grid(store, tmp_path, monkeypatch):
    seen = set()
    forward = SegmentationNetwork.forward

    def looked_at(network, volume):
        seen.add((network.training, *volume.shape[-2:]))
        return forward(network, volume)

    monkeypatch.setattr(SegmentationNetwork, "forward", looked_at)
    train_fold(store, tmp_path, 0, QUICK.model_copy(update={"crop": (192, 224)}))
    assert seen == {(True, 192, 224), (False, 256, 256)}


def test_batch_norm_estimated_again_is_the_mean_over_the_slabs(store, tmp_path):
    """Of the first layer, whose input no other layer changes."""
    config = QUICK.model_copy(update={"norm_slabs": 6, "augment": AugmentConfig(enabled=False)})
    result = train_fold(store, tmp_path, 0, config)
    network = read_checkpoint(result.folder / "last.ckpt").build()
    opened = CaseStore.open(store)
    batches = norm_loader(training_loader(opened, FoldPatients.from_store(opened, opened.folds, 0), config), 6)
    first = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen = []
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    with torch.no_grad():
        for _, images, _, _ in batches:
            network(images.float())
    torch.testing.assert_close(first.running_mean, torch.stack(seen).mean(0), atol=0, rtol=2e-3)


def test_batch_norms_of_several_gpus_are_estimated_too(store):
    """On several GPUs the trainer replaces them; without other processes these work on a CPU as well."""
    module = SegmentationModule(QUICK, [])
    module.network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module.network)
    images = torch.randn(2, 2, 8, 64, 64, generator=torch.Generator().manual_seed(0)) + 3
    estimate_norms(module, [images])
    norms = [one for one in module.network.modules() if isinstance(one, torch.nn.SyncBatchNorm)]
    assert norms
    assert all(int(norm.num_batches_tracked) == 1 for norm in norms)
    assert all(norm.momentum == 0.1 for norm in norms)
