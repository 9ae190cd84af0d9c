"""The reference's network, as far as it is described: a 3D EfficientNet-b0 over 7 slices, a 2D DeepLabV3+ decoder.

Known of it are these two parts, 5.6 million parameters and 8.8 GFLOP for a slice (Benzakoun et al. 2025, doi
10.1177/23969873251362712, and its published models). The rest is filled in here: blocks, widths and depths of
EfficientNet-b0 (Tan and Le 2019, arXiv 1905.11946) with kernels and strides in the plane as there and kernels of the
same size along z; the 7 slices become 4 at stride 32, and a convolution over what is left of z makes 2D features, which
gives about the known size and cost; the decoder of DeepLabV3+ (Chen et al. 2018, doi 10.1007/978-3-030-01234-2_49)
with 256 channels and rates 12, 24, 36, as in common libraries. Weights start at random.

Settings: `train: { network: { module: "reference_network:ReferenceNetwork" } }`, with this folder in PYTHONPATH.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fvv.config import NetworkConfig

SLAB = 7
"""Slices that give one."""
CHANNELS_IN, CHANNELS_OUT = 2, 3


class Stage(NamedTuple):
    """Blocks of one width; the first one has the stride."""

    expansion: int
    channels: int
    blocks: int
    kernel: int
    stride: int
    stride_z: int


STEM = 32
STAGES = (
    Stage(1, 16, 1, 3, 1, 1),
    Stage(6, 24, 2, 3, 2, 1),
    Stage(6, 40, 2, 5, 2, 1),
    Stage(6, 80, 3, 3, 2, 1),
    Stage(6, 112, 3, 5, 1, 1),
    Stage(6, 192, 4, 5, 2, 2),
    Stage(6, 320, 1, 3, 1, 1),
)
"""EfficientNet-b0; stride_z is chosen here."""
LOW_STAGE = 1
"""Its features, at stride 4, go to the decoder beside the last ones."""
DECODER, LOW = 256, 48
RATES = (12, 24, 36)


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, eps=1e-3, momentum=0.01)


class SqueezeExcitation(nn.Module):
    """Channels weighed by their means over the slab (Hu et al. 2018, doi 10.1109/CVPR.2018.00745)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gates = nn.Sequential(
            nn.Conv3d(channels, squeezed, 1), nn.SiLU(), nn.Conv3d(squeezed, channels, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, Z, H, W) to the same shape."""
        weighed: Tensor = features * self.gates(features.mean(dim=(2, 3, 4), keepdim=True))
        return weighed


class Block(nn.Module):
    """An inverted bottleneck: expand, depthwise convolution, squeeze and excitation, project."""

    def __init__(self, channels_in: int, stage: Stage, *, first: bool) -> None:
        super().__init__()
        wide = channels_in * stage.expansion
        layers: list[nn.Module] = []
        if stage.expansion > 1:
            layers += [nn.Conv3d(channels_in, wide, 1, bias=False), _norm(wide), nn.SiLU()]
        strides = (stage.stride_z, stage.stride, stage.stride) if first else (1, 1, 1)
        depthwise = nn.Conv3d(wide, wide, stage.kernel, strides, stage.kernel // 2, groups=wide, bias=False)
        layers += [depthwise, _norm(wide), nn.SiLU(), SqueezeExcitation(wide, max(1, channels_in // 4))]
        layers += [nn.Conv3d(wide, stage.channels, 1, bias=False), _norm(stage.channels)]
        self.layers = nn.Sequential(*layers)
        self.shortcut = channels_in == stage.channels and strides == (1, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, Z, H, W) to (N, C', Z / stride, H / stride, W / stride)."""
        out: Tensor = self.layers(features)
        return features + out if self.shortcut else out


def separable(channels_in: int, channels: int, dilation: int = 1) -> nn.Sequential:
    """A depthwise 3 x 3, then a pointwise convolution."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, padding=dilation, dilation=dilation, groups=channels_in, bias=False),
        nn.Conv2d(channels_in, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling with separable convolutions."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()

        def pointwise(channels: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(channels, DECODER, 1, bias=False), nn.BatchNorm2d(DECODER), nn.ReLU())

        self.branches = nn.ModuleList([pointwise(channels_in), *(separable(channels_in, DECODER, r) for r in RATES)])
        # Without batch norm: a batch of one slice has one value a channel here.
        self.image = nn.Sequential(nn.Conv2d(channels_in, DECODER, 1), nn.ReLU())
        self.project = pointwise(DECODER * (len(self.branches) + 1))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 256, H, W)."""
        image = self.image(features.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *features.shape[2:])
        out: Tensor = self.project(torch.cat([*(branch(features) for branch in self.branches), image], dim=1))
        return out


class ReferenceNetwork(nn.Module):
    """Logits of the centre slice of every slab of 7: each slice is encoded seven times, as in the reference.

    Args:
        config: not used; a network of `train.network.module` is given it.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:  # noqa: ARG002
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(CHANNELS_IN, STEM, 3, (1, 2, 2), 1, bias=False), _norm(STEM), nn.SiLU())
        self.stages = nn.ModuleList()
        depth, channels, depths = SLAB, STEM, []
        for stage in STAGES:
            blocks = []
            for number in range(stage.blocks):
                blocks.append(Block(channels, stage, first=number == 0))
                channels = stage.channels
            depth = (depth - 1) // stage.stride_z + 1
            depths.append(depth)
            self.stages.append(nn.Sequential(*blocks))
        low = STAGES[LOW_STAGE].channels
        # From slabs to slices.
        self.flat_low = nn.Conv3d(low, low, (depths[LOW_STAGE], 1, 1), bias=False)
        self.flat_deep = nn.Conv3d(channels, channels, (depths[-1], 1, 1), bias=False)
        self.pyramid = Pyramid(channels)
        self.refine_deep = separable(DECODER, DECODER)
        self.project_low = nn.Sequential(nn.Conv2d(low, LOW, 1, bias=False), nn.BatchNorm2d(LOW), nn.ReLU())
        self.refine = separable(DECODER + LOW, DECODER)
        self.head = nn.Conv2d(DECODER, CHANNELS_OUT, 1)

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, 2, slices, H, W) to (batch, 3, slices - 6, H, W)."""
        slices = volume.shape[2] - SLAB + 1
        slabs = torch.stack([volume[:, :, k : k + slices] for k in range(SLAB)], dim=3)  # (B, 2, S, 7, H, W)
        logits = self.forward_slabs(slabs.transpose(1, 2).flatten(0, 1))  # (B * S, 3, H, W)
        out: Tensor = logits.unflatten(0, (-1, slices)).transpose(1, 2)
        return out

    def forward_slabs(self, slabs: Tensor) -> Tensor:
        """(N, 2, 7, H, W) to (N, 3, H, W) logits."""
        features, low = self.stem(slabs), slabs
        for number, stage in enumerate(self.stages):
            features = stage(features)
            if number == LOW_STAGE:
                low = features
        deep = self.refine_deep(self.pyramid(self.flat_deep(features).squeeze(2)))
        low = self.project_low(self.flat_low(low).squeeze(2))
        deep = functional.interpolate(deep, size=low.shape[2:], mode="bilinear", align_corners=True)
        logits = self.head(self.refine(torch.cat([deep, low], dim=1)))
        out: Tensor = functional.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=True)
        return out
