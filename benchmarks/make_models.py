"""The networks of `inference.py`: ours with chosen weights, and one of the reference's cost. Neither is trained.

    python benchmarks/make_models.py FOLDER

The baseline predicts nothing: a 3D EfficientNet-b0 encoder over the slab of 7 slices (Tan & Le 2019, arXiv
1905.11946) and a 2D DeepLabV3+ decoder (Chen et al. 2018, doi 10.1007/978-3-030-01234-2_49) on the slab's mean, four
stages one block deeper, to meet the cost of the reference's: 5.6 M parameters and 8.8 GFLOP a slice (`count` says
what it comes to).
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from fvv import __version__
from fvv.config import PROFILES, NetworkConfig
from fvv.io.bundle import write_manifest
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.system.fingerprint import file_sha256
from fvv.training.checkpoint import TrainedModel
from fvv.training.export import export_onnx
from fvv.training.network import SegmentationNetwork

FOLDS = 10
PROFILE = PROFILES["robust-v1"]
# expansion, kernel, stride in plane and along z, dilation, channels, repeats; the last two stages stay at stride 16.
STAGES = (
    (1, 3, 1, 1, 1, 16, 1),
    (6, 3, 2, 1, 1, 24, 3),
    (6, 5, 2, 2, 1, 40, 3),
    (6, 3, 2, 2, 1, 80, 4),
    (6, 5, 1, 1, 1, 112, 4),
    (6, 5, 1, 1, 2, 192, 4),
    (6, 3, 1, 1, 2, 320, 1),
)
LOW_LEVEL_STAGE = 1
SLAB = 7


def convolution(channels_in: int, channels: int, kernel: tuple[int, ...], **options: object) -> nn.Sequential:
    dimensions = len(kernel)
    convolve = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
    norm = (nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 2]
    dilation = options.get("dilation", (1,) * dimensions)
    padding = tuple(d * (k // 2) for d, k in zip(dilation, kernel, strict=True))
    return nn.Sequential(
        convolve(channels_in, channels, kernel, padding=padding, bias=False, **options), norm(channels), nn.SiLU()
    )


class InvertedResidual3d(nn.Module):
    def __init__(
        self, channels_in: int, channels: int, *, expansion: int, kernel: int, stride: tuple[int, ...], dilation: int
    ):
        super().__init__()
        wide = channels_in * expansion
        self.expand = convolution(channels_in, wide, (1, 1, 1)) if expansion > 1 else nn.Identity()
        self.depthwise = convolution(
            wide, wide, (kernel, kernel, kernel), stride=stride, dilation=(1, dilation, dilation), groups=wide
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(wide, max(1, channels_in // 4), 1),
            nn.SiLU(),
            nn.Conv3d(max(1, channels_in // 4), wide, 1),
            nn.Sigmoid(),
        )
        self.project = nn.Sequential(nn.Conv3d(wide, channels, 1, bias=False), nn.BatchNorm3d(channels))
        self.shortcut = max(stride) == 1 and channels_in == channels

    def forward(self, features: Tensor) -> Tensor:
        inner = self.depthwise(self.expand(features))
        out: Tensor = self.project(inner * self.squeeze(inner))
        return features + out if self.shortcut else out


def separable(channels_in: int, channels: int, dilation: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(channels_in, channels_in, 3, padding=dilation, dilation=dilation, groups=channels_in)
    return nn.Sequential(depthwise, *convolution(channels_in, channels, (1, 1)))


class SlabNetwork(nn.Module):
    """(batch, 2, 7, 256, 256) to (batch, 3, 256, 256) logits of the centre slice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(2, 32, (3, 3, 3), stride=(1, 2, 2))
        stages, channels_in = [], 32
        for expansion, kernel, in_plane, along_z, dilation, channels, repeats in STAGES:
            blocks = []
            for repeat in range(repeats):
                shape = {"expansion": expansion, "kernel": kernel, "dilation": dilation}
                stride = (along_z, in_plane, in_plane) if repeat == 0 else (1, 1, 1)
                blocks.append(InvertedResidual3d(channels_in, channels, stride=stride, **shape))
                channels_in = channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.pyramid = nn.ModuleList([convolution(320, 256, (1, 1)), *(separable(320, 256, d) for d in (12, 24, 36))])
        self.pooled = convolution(320, 256, (1, 1))
        self.join = nn.Sequential(*convolution(5 * 256, 256, (1, 1)), separable(256, 256))
        self.low_level = convolution(STAGES[LOW_LEVEL_STAGE][5], 48, (1, 1))
        self.head = nn.Sequential(separable(256 + 48, 256), nn.Conv2d(256, 3, 1))

    def forward(self, slab: Tensor) -> Tensor:
        features = self.stem(slab)
        low_level = features
        for number, stage in enumerate(self.stages):
            features = stage(features)
            if number == LOW_LEVEL_STAGE:
                low_level = features
        deep, fine = features.mean(dim=2), self.low_level(low_level.mean(dim=2))
        pooled = self.pooled(deep.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *deep.shape[2:])
        deep = self.join(torch.cat([*(branch(deep) for branch in self.pyramid), pooled], dim=1))
        deep = functional.interpolate(deep, scale_factor=4.0, mode="bilinear", align_corners=False)
        logits = self.head(torch.cat([deep, fine], dim=1))
        out: Tensor = functional.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False)
        return out


def count(network: nn.Module, example: Tensor) -> tuple[float, float]:
    """Millions of parameters, and GFLOP (two per multiplication) of one forward pass through the convolutions."""
    total = 0

    def add(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        total += 2 * weight[0].numel() * output.numel()

    hooks = [
        layer.register_forward_hook(add) for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)
    ]
    with torch.inference_mode():
        network(example)
    for hook in hooks:
        hook.remove()
    return sum(p.numel() for p in network.parameters()) / 1e6, total / 1e9


def export(path: Path) -> tuple[float, float]:
    """Write the network in the published format; gives its parameters (M) and GFLOP a slice."""
    torch.manual_seed(0)
    network = SlabNetwork().eval()
    example = torch.zeros(1, 2, SLAB, 256, 256)
    torch.onnx.export(
        network, (example,), str(path), input_names=["modelInput"], output_names=["modelOutput"], opset_version=17,
        dynamic_axes={"modelInput": {0: "batch"}, "modelOutput": {0: "batch"}}, dynamo=False,
    )  # fmt: skip
    return count(network, example)


def write_bundle(folder: Path) -> None:
    """Ten folds of the default network."""
    folder.mkdir()
    entries = []
    for fold in range(FOLDS):
        file = folder / f"model{fold + 1}.onnx"
        export_onnx(hand_set_model(fold), file)
        entries.append(ModelEntry(file=file.name, sha256=file_sha256(file), fold=fold, run_id="benchmark"))
    manifest = BundleManifest(
        software=f"fvv {__version__}", run_name="benchmark", profile=PROFILE, models=tuple(entries)
    )
    write_manifest(folder, manifest)


def hand_set_model(fold: int) -> TrainedModel:
    """The default network with random weights but for two channels that carry b1000 and b0 from input to logits."""
    torch.manual_seed(fold)
    network = SegmentationNetwork(NetworkConfig())
    merge, carried = network.decoder[-1], slice(0, 2)
    with torch.no_grad():
        stem, norm = network.stages[0][0], network.stages[0][1]
        stem.weight[carried] = 0
        stem.weight[range(2), range(2), 1, 1] = 1
        norm.bias[carried] = 3  # ReLU would lose what is below the mean.
        for layer, middle in ((merge.skip[0], 0), (merge.refine[1], 1), (merge.refine[2], 0)):
            layer.weight[carried] = 0
            inputs = [0, 0] if layer.groups > 1 else [0, 1]
            layer.weight[[0, 1], inputs, middle, middle] = 1
        merge.deep[1].weight[carried] = 0
        network.head.weight.mul_(0.01)
        rules = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.5, 1.0]])  # of b1000 + 3 and b0 + 3
        network.head.weight[:, carried, 0, 0] = rules
        network.head.bias[:] = torch.tensor([-2.5, -5.2, -6.0 - 0.02 * fold])
    return TrainedModel(
        path=Path("benchmark"), fold=fold, n_folds=FOLDS, run_name="benchmark", run_id="benchmark", score=0.0,
        software="", network=NetworkConfig(), profile=PROFILE, training_person_ids=(), training_image_ids=(),
        weights=network.state_dict(),
    )  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    write_bundle(folder)
    parameters, gflop = export(folder / "baseline.onnx")
    about = f"a slab network of {parameters:.1f} M parameters and {gflop:.1f} GFLOP a slice"
    (folder / "baseline.txt").write_text(about)


if __name__ == "__main__":
    main()
