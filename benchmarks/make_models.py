"""The networks of `inference.py`: ours with chosen weights, and the reference's. Neither is trained.

    python benchmarks/make_models.py FOLDER

The reference's is that of `experiments/peers`, with random weights; `count` says what it costs.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fvv import __version__
from fvv.config import PROFILES, NetworkConfig
from fvv.io.bundle import write_manifest
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.system.fingerprint import file_sha256
from fvv.training.checkpoint import TrainedModel
from fvv.training.export import export_onnx
from fvv.training.network import SegmentationNetwork

sys.path.append(str(Path(__file__).parents[1] / "experiments" / "peers"))
from reference_network import SLAB, ReferenceNetwork

FOLDS = 10
PROFILE = PROFILES["robust-v1"]


def count(network: nn.Module, example: Tensor) -> tuple[float, float]:
    """Millions of parameters, and GFLOP (two per multiplication) of one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(example)
    return sum(p.numel() for p in network.parameters()) / 1e6, counter.get_total_flops() / 1e9


class Slabs(nn.Module):
    """The reference's network as it is published: (batch, 2, 7, 256, 256) to (batch, 3, 256, 256) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ReferenceNetwork()

    def forward(self, slabs: Tensor) -> Tensor:
        return self.network.forward_slabs(slabs)


def export(path: Path) -> tuple[float, float]:
    """Write the network in the published format; gives its parameters (M) and GFLOP a slice."""
    torch.manual_seed(0)
    network = Slabs().eval()
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
    parameters, gflop = export(folder / "reference.onnx")
    about = f"the reference's network, {parameters:.2f} M parameters and {gflop:.2f} GFLOP a slice"
    (folder / "reference.txt").write_text(about)


if __name__ == "__main__":
    main()
