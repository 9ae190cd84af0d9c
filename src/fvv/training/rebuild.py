"""From an ONNX model of ours back to the network it was exported from.

Export folds each batch norm into the convolution before it (`export.simplify`). Here the convolution gets the folded
weights, scaled, and the batch norm takes the scale back and the folded bias, with mean 0 and variance 1.
`norms.centre_norms` then gives it statistics.

What a convolution before a batch norm is multiplied by changes no output, but the optimiser's steps are large where
weights are small. The scale that folding lost is that of PyTorch's initialisation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from fvv.arrays import FloatArray
from fvv.config import NetworkConfig
from fvv.errors import ModelError
from fvv.io.bundle import EVERY, TOLERANCE
from fvv.training.module import mark_volume
from fvv.training.network import CONTEXT_SLICES, INPUT_CHANNELS, SegmentationNetwork

Folded: TypeAlias = tuple[Tensor, Tensor | None]
"""Weight and bias of a convolution."""
_FILTER_NORM = 3**-0.5
"""Euclidean norm of a filter as PyTorch initialises it: uniform in +-1 / sqrt(n) for n weights (`nn.Conv2d`)."""
_EDGE = 64
"""In-plane edge of the volume that shows the order of the layers; any that the network can take."""


def rebuild(file: Path, config: NetworkConfig, images: FloatArray, output: FloatArray) -> SegmentationNetwork:
    """Make the network of an ONNX model that `fvv convert` wrote.

    Convolutions are matched in the order in which they are computed, and by their shapes; the result is checked.

    Args:
        file: the model.
        config: the network to fill.
        images: (2, slices + 6, 256, 256), an input of the model.
        output: (3, slices, 64, 64) float32 logits that the model gives for it, at every fourth voxel in plane.

    Returns:
        The network in evaluation mode, on the CPU, with batch norms of mean 0 and variance 1.

    Raises:
        ModelError: the model is another network than `config` describes, or the result computes something else.
    """
    network = SegmentationNetwork(config).eval()
    folded, layers = list(_convolutions(onnx.load(file))), _layers(network)
    if (found := [tuple(weight.shape) for weight, _ in folded]) != (
        expected := [tuple(convolution.weight.shape) for convolution, _ in layers]
    ):
        differing = [pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]]
        first = f"; the first that differs has {differing[0][0]}, expected {differing[0][1]}" if differing else ""
        raise ModelError(
            f"holds {len(found)} convolutions, train.network has {len(expected)}{first}",
            file=file,
            hint="set train.network as in the training of these weights",
        )
    with torch.no_grad():
        for (convolution, norm), (weight, bias) in zip(layers, folded, strict=True):
            _fill(convolution, norm, weight, bias, file)
        logits = mark_volume(network, torch.from_numpy(images.astype(np.float32))).numpy()
    kept = logits[..., ::EVERY, ::EVERY]
    difference = float(np.abs(kept - output).max()) if kept.shape == output.shape else np.nan
    if not difference <= TOLERANCE:  # NaN is not.
        raise ModelError(
            f"the network rebuilt from it differs from its reference output by {difference:.2g} (logits)",
            file=file,
            hint="set train.network as in the training of these weights; only models that this software converted can "
            "be rebuilt",
        )
    return network


def trained_resolution(file: Path) -> Literal["full", "half"]:
    """The resolution of a model that `fvv convert` wrote: at half, the network averages its input first."""
    nodes = onnx.load(file, load_external_data=False).graph.node
    return "half" if any(node.op_type == "AveragePool" for node in nodes) else "full"


def _convolutions(model: onnx.ModelProto) -> Iterator[Folded]:
    """Convolutions in the order in which they are computed: each after what its input needs, first inputs first.

    The order of the nodes in the file is onnxruntime's.
    """
    weights = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    producer = {name: node for node in model.graph.node for name in node.output}
    done: set[str] = set()
    stack = [(model.graph.output[0].name, False)]
    while stack:
        name, ready = stack.pop()
        node = producer.get(name)
        if node is None or name in done:
            continue
        if not ready:
            stack.append((name, True))
            # Asking for a shape computes nothing.
            needed = [] if node.op_type == "Shape" else [*node.input]
            stack.extend((source, False) for source in reversed(needed))
            continue
        done.update(node.output)
        if node.op_type == "Conv":
            yield _folded(node, weights)


def _folded(node: onnx.NodeProto, weights: Mapping[str, Tensor]) -> Folded:
    weight, bias = (weights.get(name) for name in (*node.input, "")[1:3])
    if weight is None or (bias is None and len(node.input) > 2):
        raise ModelError(f"the weights of {node.name} are not stored in the model")
    return weight, bias


def _layers(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Convolutions in the order in which they are computed, each with the batch norm that follows before the next."""
    layers: list[tuple[nn.Conv2d, nn.BatchNorm2d | None]] = []

    def note(module: nn.Module, *_: object) -> None:
        if isinstance(module, nn.Conv2d):
            layers.append((module, None))
        elif isinstance(module, nn.BatchNorm2d):
            layers[-1] = (layers[-1][0], module)

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, kinds)]
    with torch.inference_mode():
        network(torch.zeros(1, INPUT_CHANNELS, 2 * CONTEXT_SLICES + 1, _EDGE, _EDGE))
    for hook in hooks:
        hook.remove()
    return layers


def _fill(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, weight: Tensor, bias: Tensor | None, file: Path) -> None:
    if bias is None:
        bias = torch.zeros(len(weight))
    if norm is None:
        convolution.weight.copy_(weight)
        if convolution.bias is not None:
            convolution.bias.copy_(bias)
        elif bias.any():
            raise ModelError("a convolution has a bias where the network has none", file=file)
        return
    norm.reset_parameters()
    norm.running_var.fill_(1.0 - norm.eps)  # type: ignore[union-attr]
    # A mixing layer sums three slices: the norm follows three filters, and the bias lies in one of them.
    filters = weight.unflatten(0, (-1, norm.num_features))  # (1 or 3, C, inputs, kernel, kernel)
    length = filters.square().sum(dim=(0, 2, 3, 4)).sqrt() / _FILTER_NORM  # (C,)
    length[length == 0] = 1.0
    convolution.weight.copy_((filters / length[:, None, None, None]).flatten(0, 1))
    norm.weight.copy_(length)
    norm.bias.copy_(bias.unflatten(0, (-1, norm.num_features)).sum(0))
