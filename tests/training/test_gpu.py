"""Training on a GPU, where there is one; the other tests of training run there too, since a GPU is taken by itself."""

import pytest
import torch

from fvv.stages.train import train_fold
from fvv.training.checkpoint import read_checkpoint
from store_builders import TINY, write_store

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
ON_GPU = TINY.model_copy(update={"device": "gpu", "figures_every_epochs": 99})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "store"
    write_store(path)
    return path


@pytest.mark.parametrize("change", [{}, {"precision": "32"}, {"workers": 2}, {"preload_ram": True}])
def test_two_runs_on_a_gpu_give_the_same_weights(store, tmp_path, change):
    once, again = (
        read_checkpoint(train_fold(store, tmp_path / name, 0, ON_GPU.model_copy(update=settings)).checkpoint)
        for name, settings in (("once", {"precision": change.get("precision", "auto")}), ("again", change))
    )
    assert all(torch.equal(weights, again.weights[name]) for name, weights in once.weights.items())


def test_a_network_trained_on_a_gpu_marks_the_same_on_the_cpu(store, tmp_path):
    network = read_checkpoint(train_fold(store, tmp_path, 0, ON_GPU).checkpoint).build()
    volume = torch.randn(1, 2, 9, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        on_cpu = network(volume)
        on_gpu = network.cuda()(volume.cuda()).cpu()
    torch.testing.assert_close(on_gpu, on_cpu, atol=2e-2, rtol=1e-2)  # TF32 has 10 bits of mantissa
