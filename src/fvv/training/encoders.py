"""The slice encoder: four stages of 2D operations, at strides 2, 4, 8 and 16.

An encoder is only a list of stages; `network.SegmentationNetwork` mixes neighbouring slices between them. It never
pools over the image, so a slice's features do not depend on how many other slices are run beside it.
"""

from __future__ import annotations

from torch import Tensor, nn


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


def build_encoder(widths: tuple[int, int, int, int], *, channels_in: int) -> nn.ModuleList:
    """Four stages with these numbers of channels, each of which halves the edge."""
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
