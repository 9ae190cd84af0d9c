"""The 2.5D segmentation network: exact on slabs and on whole volumes.

Every slice is encoded once by 2D operations. Three layers mix a slice with its two neighbours, without padding along
z, so that 7 slices give 1, and a volume padded by 3 slices at each end gives every slice: the same numbers, since
nothing else couples slices. See docs/explanation/network.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fvv.config import NetworkConfig
from fvv.data import Channel
from fvv.errors import ConfigError
from fvv.system.extension import extension

CONTEXT_SLICES = 3
"""Slices needed on each side of the predicted one: one per mixing layer."""
INPUT_CHANNELS = 2
"""b1000, b0."""
INITIAL_LOGITS = {Channel.BRAIN: -1.0, Channel.STROKE: -4.0, Channel.FLAIR_VISIBLE: -5.0}
"""Head bias at the start: about the log-odds of each channel in a head, so that the first steps are not spent on
learning how rare a lesion is (Lin et al. 2017, doi 10.1109/ICCV.2017.324, section 3.3)."""


def network_of(config: NetworkConfig) -> nn.Module:
    """The network that the settings ask for, with initial weights: `SegmentationNetwork`, or the user's own class.

    Raises:
        ConfigError: the user's class is no torch module, or one of another input or output.
    """
    if config.module is None:
        # channels_last: a quarter to a half of the training time on a CPU (docs/explanation/network.md).
        shipped = SegmentationNetwork(config)
        shipped.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return shipped
    network = extension(config.module, "network")(config)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"network {config.module}: expected a torch.nn.Module, got {type(network).__name__}")
    _check_contract(network, config.module)
    return network


def _check_contract(network: nn.Module, name: str) -> None:
    slices, edge = 2 * CONTEXT_SLICES + 2, 256  # Two slices are predicted.
    with torch.inference_mode():
        logits = network.eval()(torch.zeros(1, INPUT_CHANNELS, slices, edge, edge))
    network.train()
    expected = (1, len(Channel), 2, edge, edge)
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != expected:
        raise ConfigError(
            f"network {name}: expected {expected} for {slices} slices of {edge} x {edge}, got {found}",
            hint=f"it takes (batch, 2, slices, H, W) and gives (batch, 3, slices - {2 * CONTEXT_SLICES}, H, W)",
        )


class ResidualBlock(nn.Module):
    """Two dense 3 x 3 convolutions around a shortcut (He et al. 2016, doi 10.1109/CVPR.2016.90)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        inner = self.activation(self.norm1(self.conv1(features)))
        out: Tensor = self.activation(features + self.norm2(self.conv2(inner)))
        return out


def encoder_stages(widths: Sequence[int], channels_in: int) -> nn.ModuleList:
    """Stages of 2D operations with these numbers of channels; each halves the edge.

    None pools over the image: the features of a slice do not depend on the slices that run beside it.
    """
    stages = nn.ModuleList()
    for number, channels in enumerate(widths):
        down = nn.Conv2d(channels_in, channels, 3, stride=2, padding=1, bias=False)
        layers: list[nn.Module] = [down, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        # At stride 2 a residual block would cost as much as a whole later stage.
        if number > 0:
            layers.append(ResidualBlock(channels))
        stages.append(nn.Sequential(*layers))
        channels_in = channels
    return stages


class SliceMixing(nn.Module):
    """A slice and its two neighbours: y_t = x_t + BN(W_-1 x_{t-1} + W_0 x_t + W_+1 x_{t+1}); 2 slices are lost.

    The gain of the batch norm starts at 0: the network starts as a slice-wise one and learns to look around.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        # Each output sums over three slices: the default initialisation counts one of them.
        with torch.no_grad():
            self.weights.weight.mul_(3**-0.5)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Tensor, slices: int) -> Tensor:
        """(B * slices, C, H, W), slice fastest, to (B * (slices - 2), C, H, W)."""
        # One convolution, then shifted sums: no copy of three neighbouring slices, and the memory format is kept.
        parts = self.weights(features).unflatten(0, (-1, slices))  # (B, Z, 3C, H, W)
        before, here, after = parts.chunk(3, dim=2)
        mixed = before[:, :-2] + here[:, 1:-1] + after[:, 2:]  # (B, Z - 2, C, H, W)
        out: Tensor = crop_slices(features, slices, 1) + self.norm(mixed.flatten(0, 1))
        return out


class Merge(nn.Module):
    """One decoder step: ReLU6(up2(BN(A d)) + BN(B skip)), then a depthwise-separable 3 x 3."""

    def __init__(self, deep_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.deep = nn.Sequential(nn.Conv2d(deep_channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.skip = nn.Sequential(nn.Conv2d(skip_channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.refine = nn.Sequential(
            nn.ReLU6(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(),
        )

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Deep (N, C_deep, H / 2, W / 2) and skip (N, C_skip, H, W) to (N, C, H, W)."""
        up = functional.interpolate(self.deep(deep), scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.refine(up + self.skip(skip))
        return out


class SegmentationNetwork(nn.Module):
    """Brain, stroke and FLAIR-visible logits from b1000 and b0.

    Args:
        config: widths and resolution.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.reduction = 2 if config.resolution == "half" else 1
        widths = config.widths
        self.stages = encoder_stages(widths, INPUT_CHANNELS)
        self.mixing = nn.ModuleList(SliceMixing(channels) for channels in widths[1:])
        self.decoder = nn.ModuleList()
        deep = widths[-1]
        for skip, channels in zip(reversed(widths[:-1]), config.decoder_widths, strict=True):
            self.decoder.append(Merge(deep, skip, channels))
            deep = channels
        self.head = nn.Conv2d(deep, len(Channel), 1)
        self.head.bias = nn.Parameter(torch.tensor([INITIAL_LOGITS[channel] for channel in Channel]))

    def forward(self, volume: Tensor) -> Tensor:
        """Logits of every slice that has its three neighbours on each side.

        Args:
            volume: (B, 2, Z, H, W) float, channels b1000 and b0, Z >= 7, H and W multiples of 16 (of 32 at half
                resolution).

        Returns:
            (B, 3, Z - 6, H, W) float logits, channels in the order of `Channel`.
        """
        slices = volume.shape[2]
        logits = self.forward_slices(volume.transpose(1, 2).flatten(0, 1), slices)
        out: Tensor = logits.unflatten(0, (-1, slices - 2 * CONTEXT_SLICES)).transpose(1, 2)
        return out

    def forward_slices(self, images: Tensor, slices: int) -> Tensor:
        """The same with z folded into the batch: (B * Z, 2, H, W), slice fastest, to (B * (Z - 6), 3, H, W)."""
        features = functional.avg_pool2d(images, self.reduction) if self.reduction > 1 else images
        skips = []
        left = slices
        for number, stage in enumerate(self.stages):
            features = stage(features)
            if number > 0:
                features = self.mixing[number - 1](features, left)
                left = left - 2  # not in place: a traced shape would complain
            # Each skip loses the slices that later mixing layers will take: 3, 2, 1, 0.
            skips.append(crop_slices(features, left, CONTEXT_SLICES - number))
        deep = skips.pop()
        for merge in self.decoder:
            deep = merge(deep, skips.pop())
        # Planar again: interpolating three interleaved channels is slow, and so is the loss on them.
        logits = self.head(deep).contiguous()
        up = 2.0 * self.reduction
        out: Tensor = functional.interpolate(logits, scale_factor=up, mode="bilinear", align_corners=False)
        return out


def crop_slices(features: Tensor, slices: int, margin: int) -> Tensor:
    """Drop `margin` slices at each end of every volume: (B * slices, C, H, W) to (B * (slices - 2 margin), C, H, W)."""
    if margin == 0:
        return features
    cropped: Tensor = features.unflatten(0, (-1, slices))[:, margin:-margin].flatten(0, 1)
    return cropped
