"""The peers' networks: size and cost as published, the contract of fvv, slab by slab."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import onnxruntime
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fvv.config import NetworkConfig
from fvv.training.export import INPUT_NAME, OPSET, OUTPUT_NAME, PublishedContract

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "peers"
NETWORKS = {"reference_network": "ReferenceNetwork", "plain_network": "PlainNetwork"}


@pytest.fixture(scope="module", autouse=True)
def _folder() -> Iterator[None]:
    """As when run.py is run: modules of its folder can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield
    for name in NETWORKS:
        sys.modules.pop(name, None)


def network(module: str) -> nn.Module:
    if module == "plain_network":
        pytest.importorskip("monai")
    made: nn.Module = getattr(__import__(module), NETWORKS[module])(NetworkConfig())
    return made


def test_the_references_size_and_cost() -> None:
    """5.6 million parameters and 8.8 GFLOP for a slice, by PyTorch's count: multiplication and addition are two."""
    with torch.device("meta"):  # Counts without computing.
        made = network("reference_network").eval()
        slab = torch.zeros(1, 2, 7, 256, 256)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        made(slab)
    assert sum(weights.numel() for weights in made.parameters()) / 1e6 == pytest.approx(5.6, rel=0.02)
    assert counter.get_total_flops() / 1e9 == pytest.approx(8.8, rel=0.02)


@pytest.mark.parametrize("module", NETWORKS)
def test_a_slice_depends_on_its_own_seven_alone(module: str) -> None:
    torch.manual_seed(0)
    made, volume = network(module).eval(), torch.randn(1, 2, 9, 64, 64)
    with torch.inference_mode():
        whole = made(volume)
        slabs = torch.cat([made(volume[:, :, k : k + 7]) for k in range(3)], dim=2)
    assert whole.shape == (1, 3, 3, 64, 64)
    torch.testing.assert_close(whole, slabs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("module", NETWORKS)
def test_every_weight_learns(module: str) -> None:
    torch.manual_seed(0)
    made = network(module).train()
    # 96 voxels: at stride 32 there are more than one value a channel, which batch norm needs.
    made(torch.randn(1, 2, 8, 96, 96)).square().mean().backward()
    assert all(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in made.parameters())


@pytest.mark.parametrize("module", NETWORKS)
def test_the_exported_network_takes_any_number_of_slices(module: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = network(module).eval()
    file = str(tmp_path / "model.onnx")
    axes = {INPUT_NAME: {0: "batch", 2: "slices"}, OUTPUT_NAME: {0: "batch_slices"}}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            PublishedContract(made).eval(),
            (torch.zeros(2, 2, 9, 64, 64),),
            file,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for slices in (7, 11):
        volume = torch.randn(1, 2, slices, 64, 64)
        (found,) = session.run(None, {INPUT_NAME: volume.numpy()})
        with torch.inference_mode():
            expected = made(volume)[0].transpose(0, 1)
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-3)
