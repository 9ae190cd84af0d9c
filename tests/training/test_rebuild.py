"""A network comes back from the ONNX model that was made of it, and nothing else does."""

from copy import deepcopy

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from fvv.config import NetworkConfig
from fvv.errors import ModelError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.golden import golden_input, golden_output
from fvv.training.checkpoint import TrainedModel
from fvv.training.export import export_onnx
from fvv.training.module import mark_volume
from fvv.training.network import SegmentationNetwork
from fvv.training.norms import centre_norms
from fvv.training.rebuild import rebuild, trained_resolution
from store_builders import PROFILE, TINY


def lived_in(config: NetworkConfig, seed: int = 0) -> SegmentationNetwork:
    """Weights, gains, offsets and statistics as no initialisation has them."""
    torch.manual_seed(seed)
    network = SegmentationNetwork(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(-1, 1.5)
            module.bias.data.normal_()
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module", params=["half", "full"])
def exported(request, tmp_path_factory):
    """The network's settings, its ONNX model, an input and the model's output for it."""
    config = TINY.network.model_copy(update={"resolution": request.param})
    network = lived_in(config)
    model = TrainedModel(
        software="test", fold=0, n_folds=2, run_name="tiny", run_id="0", network=config, profile=PROFILE,
        training_person_ids=(), training_image_ids=(), path="x", weights=network.state_dict(),
    )  # fmt: skip
    file = tmp_path_factory.mktemp("exported") / "model1.onnx"
    export_onnx(model, file)
    images = golden_input(PROFILE)
    return network, config, file, images, golden_output(OnnxEnsemble([file], PROFILE, device="cpu"), images)[0]


def logits(network, images):
    with torch.inference_mode():
        return mark_volume(network, torch.from_numpy(images.astype(np.float32)))


def test_a_network_comes_back_from_its_onnx_model(exported):
    network, config, file, images, output = exported
    found = rebuild(file, config, images, output)
    torch.testing.assert_close(logits(found, images), logits(network, images), atol=1e-4, rtol=1e-4)


def test_filters_before_a_norm_have_the_length_of_fresh_ones(exported):
    """What folding multiplied them by would make the optimiser's steps large or small."""
    _, config, file, images, output = exported
    found, fresh = rebuild(file, config, images, output), SegmentationNetwork(config)
    for name, weights in fresh.state_dict().items():
        if name.endswith(("conv1.weight", "conv2.weight", "deep.0.weight", "skip.0.weight", "stages.0.0.weight")):
            lengths = found.state_dict()[name].flatten(1).norm(dim=1)
            torch.testing.assert_close(lengths, torch.full_like(lengths, 3**-0.5))
            assert weights.flatten(1).norm(dim=1).mean() == pytest.approx(3**-0.5, rel=0.3), name


def test_statistics_leave_the_function_and_bring_training_mode_near_it(exported):
    _, config, file, images, output = exported
    network = rebuild(file, config, images, output)
    batch = torch.from_numpy(images.astype(np.float32))[None]
    before = logits(network, images)
    with torch.inference_mode():
        far = (deepcopy(network).train()(batch)[0] - before).abs().max()
        centre_norms(network, [batch])
        torch.testing.assert_close(logits(network, images), before, atol=1e-4, rtol=1e-4)
        # On the images that gave the statistics, training mode is the function itself, to rounding.
        near = (network.train()(batch)[0] - before).abs().max()
    assert near < 1e-2 < far


def test_statistics_are_those_of_the_inputs(exported, rng):
    """Over all batches, each counted by its size."""
    network = lived_in(exported[1], seed=3)
    volumes = [torch.from_numpy(rng.normal(size=(n, 2, 7, 64, 64)).astype(np.float32)) for n in (1, 2)]
    seen = []
    first = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        for volume in volumes:
            network(volume)
    hook.remove()
    centre_norms(network, volumes)
    torch.testing.assert_close(first.running_mean, torch.cat(seen).mean((0, 2, 3)))
    torch.testing.assert_close(first.running_var, torch.cat(seen).var((0, 2, 3), correction=0))


def test_a_model_shows_its_resolution(exported):
    _, config, file, *_ = exported
    assert trained_resolution(file) == config.resolution


@pytest.mark.parametrize("changes", [{"widths": (4, 4, 8, 16)}, {"decoder_widths": (8, 8, 4)}, {"resolution": None}])
def test_another_network_is_refused(exported, changes):
    _, config, file, images, output = exported
    if changes == {"resolution": None}:
        changes = {"resolution": "full" if config.resolution == "half" else "half"}
    with pytest.raises(ModelError, match=r"train\.network"):
        rebuild(file, config.model_copy(update=changes), images, output)


def test_a_model_that_computes_something_else_is_refused(exported, tmp_path):
    _, config, file, images, output = exported
    model = onnx.load(file)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "network.head.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="differs from its reference output"):
        rebuild(tmp_path / "other.onnx", config, images, output)
