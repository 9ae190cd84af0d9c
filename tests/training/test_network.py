"""The network is exact on whole volumes, and sees exactly three slices to each side."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fvv.config import NetworkConfig
from fvv.errors import ConfigError
from fvv.training.module import VALIDATION_CHUNK, mark_volume
from fvv.training.network import CONTEXT_SLICES, SegmentationNetwork, SliceMixing, network_of

SMALL = {"widths": (8, 8, 12, 16), "decoder_widths": (12, 8, 8)}
CONFIGS = [
    NetworkConfig(**SMALL, resolution="full"),
    NetworkConfig(**SMALL, resolution="half"),
]


def trained_like(config: NetworkConfig, seed: int = 0) -> SegmentationNetwork:
    """A network whose batch norms, mixing gains included, are as arbitrary as after training."""
    torch.manual_seed(seed)
    network = SegmentationNetwork(config)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return network.eval()


@pytest.mark.parametrize("config", CONFIGS, ids=["full", "half"])
def test_whole_volume_equals_slabs(config):
    network = trained_like(config)
    volume = torch.randn(1, 2, 12, 64, 64)
    with torch.inference_mode():
        whole = network(volume)
        slabs = torch.cat([network(volume[:, :, k : k + 7]) for k in range(6)], dim=2)
    assert whole.shape == (1, 3, 6, 64, 64)
    assert whole.std() > 0.01
    torch.testing.assert_close(whole, slabs, atol=1e-4, rtol=0)


def test_long_volumes_run_in_chunks_with_the_same_numbers():
    network = trained_like(CONFIGS[1])
    volume = torch.randn(2, VALIDATION_CHUNK + 5 + 2 * CONTEXT_SLICES, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(mark_volume(network, volume), network(volume[None])[0], atol=1e-4, rtol=0)


def test_volumes_of_a_batch_do_not_mix():
    network = trained_like(CONFIGS[0])
    volumes = torch.randn(2, 2, 8, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(volumes)[1:], network(volumes[1:]), atol=1e-4, rtol=0)


def test_a_slice_sees_three_neighbours_on_each_side_and_no_more():
    network = trained_like(CONFIGS[0])
    volume = torch.randn(1, 2, 13, 32, 32, requires_grad=True)
    network(volume)[:, :, 3].sum().backward()  # slice 6 of the input
    reached = volume.grad.abs().sum(dim=(0, 1, 3, 4)) > 0
    assert reached.nonzero().flatten().tolist() == [3, 4, 5, 6, 7, 8, 9]


def test_an_untrained_network_looks_at_one_slice():
    torch.manual_seed(0)
    network = SegmentationNetwork(CONFIGS[0]).eval()
    slab = torch.randn(1, 2, 7, 32, 32)
    other = slab.clone()
    other[:, :, [0, 1, 2, 4, 5, 6]] = 0.0
    with torch.inference_mode():
        torch.testing.assert_close(network(slab), network(other))


def test_mixing_is_a_convolution_over_three_slices():
    torch.manual_seed(0)
    mixing = SliceMixing(4).eval()
    nn.init.ones_(mixing.norm.weight)
    features = torch.randn(5, 4, 3, 3)  # one volume of five slices
    before, here, after = mixing.weights.weight[:, :, 0, 0].chunk(3)
    expected = (
        features[2]
        + sum(torch.einsum("oc,chw->ohw", weight, features[k]) for weight, k in ((before, 1), (here, 2), (after, 3)))
        / (1 + mixing.norm.eps) ** 0.5
    )
    torch.testing.assert_close(mixing(features, 5)[1], expected)


class _FlatNetwork(nn.Module):
    """Logits of the middle slice alone."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.head = nn.Conv3d(2, 3, (8, 1, 1))

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        return self.head(volume)


@pytest.mark.parametrize(
    ("name", "said"),
    [("builtins:repr", "expected a torch.nn.Module, got str"), ("flat:_FlatNetwork", r"got \(1, 3, 1, ")],
)
def test_what_is_no_network_is_refused(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flat", SimpleNamespace(_FlatNetwork=_FlatNetwork))
    with pytest.raises(ConfigError, match=said):
        network_of(NetworkConfig(module=name))
