"""A plain baseline: MONAI's SegResNet in 2D, the seven slices of a slab as its input channels (2.5D).

SegResNet is the residual encoder and decoder of Myronenko 2019 (doi 10.1007/978-3-030-11726-9_28), here with 16 filters
at first and blocks of 1, 2, 2, 4 and 1, 1, 1, MONAI's defaults but for twice the filters.

Settings: `train: { network: { module: "plain_network:PlainNetwork" } }`, with this folder in PYTHONPATH.
"""

from __future__ import annotations

import torch
from monai.networks.nets import SegResNet
from torch import Tensor, nn

from fvv.config import NetworkConfig

SLAB, CHANNELS_IN, CHANNELS_OUT, FILTERS = 7, 2, 3, 16


class PlainNetwork(nn.Module):
    """Logits of the centre slice of every slab of 7.

    Args:
        config: not used; a network of `train.network.module` is given it.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:  # noqa: ARG002
        super().__init__()
        self.network = SegResNet(
            spatial_dims=2, init_filters=FILTERS, in_channels=SLAB * CHANNELS_IN, out_channels=CHANNELS_OUT
        )

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, 2, slices, H, W) to (batch, 3, slices - 6, H, W)."""
        slices = volume.shape[2] - SLAB + 1
        slabs = torch.stack([volume[:, :, k : k + slices] for k in range(SLAB)], dim=3)  # (B, 2, S, 7, H, W)
        logits = self.network(slabs.transpose(1, 2).flatten(0, 1).flatten(1, 2))  # (B * S, 3, H, W)
        out: Tensor = logits.unflatten(0, (-1, slices)).transpose(1, 2)
        return out
