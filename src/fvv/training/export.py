"""From a trained network to an ONNX file that keeps the published contract and takes whole volumes too."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from fvv import __version__
from fvv.arrays import FloatArray
from fvv.data import Channel
from fvv.errors import ModelError
from fvv.io.store import IMAGE_CHANNELS
from fvv.training.checkpoint import TrainedModel
from fvv.training.module import mark_volume
from fvv.training.network import CONTEXT_SLICES, SegmentationNetwork, SliceMixing

INPUT_NAME, OUTPUT_NAME = "modelInput", "modelOutput"
"""The published models' names."""
OPSET = 17
"""Read by every onnxruntime since 1.12."""
METADATA_SCHEMA_VERSION = 1


class PublishedContract(nn.Module):
    """The network as the published models are called: slices come out along the batch axis.

    7 slices give exactly (batch, 3, H, W); a volume padded by 3 slices at each end gives all its slices, slice fastest.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for module in network.modules():
            if isinstance(module, SliceMixing):
                _fold_norm(module)

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, 2, slices, H, W) to (batch * (slices - 6), 3, H, W) logits."""
        if isinstance(self.network, SegmentationNetwork):
            return self.network.forward_slices(volume.transpose(1, 2).flatten(0, 1), volume.shape[2])
        logits: Tensor = self.network(volume)  # (batch, 3, slices - 6, H, W)
        return logits.transpose(1, 2).flatten(0, 1)


def export_onnx(model: TrainedModel, path: Path) -> None:
    """Write a model as ONNX with all it must say of itself, and check the file.

    Args:
        path: the .onnx file to write.

    Raises:
        ModelError: the exported file is not valid ONNX.
    """
    contract = PublishedContract(model.build()).eval()
    edge = model.profile.grid_size
    example = torch.zeros(2, len(IMAGE_CHANNELS), 2 * CONTEXT_SLICES + 3, edge, edge)
    with warnings.catch_warnings():
        # The tracing exporter takes half a second and knows dynamic axes; its successor takes eight and more packages.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            contract,
            (example,),
            str(path),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "batch", 2: "slices"}, OUTPUT_NAME: {0: "batch_slices"}},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = simplify(path)
    shape = graph.graph.output[0].type.tensor_type.shape
    shape.Clear()  # Tracing loses the fixed axes behind the dynamic first.
    shape.dim.add().dim_param = "batch_slices"
    for size in (len(Channel), edge, edge):
        shape.dim.add().dim_value = size
    onnx.helper.set_model_props(graph, metadata(model))
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the model made is not valid ONNX: {error}", file=path) from error
    onnx.save(graph, path)


def simplify(path: Path) -> onnx.ModelProto:
    """Fold constants and batch norms; the result is plain ONNX, without operators of onnxruntime's own.

    Raises:
        ModelError: onnxruntime cannot do it (a full disk for temporary files, for one).
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    try:
        with tempfile.TemporaryDirectory() as folder:
            simplified = Path(folder) / "simplified.onnx"
            options.optimized_model_filepath = str(simplified)
            ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            model = onnx.load(simplified)
    except Exception as error:  # What libraries raise where such a file is cut off is manifold.
        hint = f"is there room for temporary files in {tempfile.gettempdir()}? TMPDIR names another place"
        raise ModelError(f"cannot be made: {type(error).__name__}: {error}", file=path, hint=hint) from error
    used = {"" if node.domain == "ai.onnx" else node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def metadata(model: TrainedModel) -> dict[str, str]:
    """What an ONNX file says of itself; lists and mappings as JSON."""
    return {
        "schema_version": str(METADATA_SCHEMA_VERSION),
        "software": f"fvv {__version__}",
        "trained_by": model.software,
        "fold": str(model.fold),
        "n_folds": str(model.n_folds),
        "run_name": model.run_name,
        "run_id": model.run_id,
        "parent": "" if model.parent is None else model.parent.model_dump_json(),
        "network": model.network.module or "",
        "epoch": str(model.epoch),
        "score": repr(model.score),
        "profile": json.dumps(model.profile.model_dump(mode="json"), sort_keys=True),
        "profile_sha256": model.profile.sha256,
        "input_channels": json.dumps(IMAGE_CHANNELS),
        "output_channels": json.dumps([channel.label for channel in Channel]),
        "training_person_ids": json.dumps(model.training_person_ids),
        "training_image_ids": json.dumps(model.training_image_ids),
    }


def torch_logits(model: TrainedModel, padded: FloatArray) -> FloatArray:
    """The logits of the checkpoint's network in PyTorch, to compare an ONNX file with.

    Args:
        padded: (2, slices + 6, H, W) float32, from `imaging.slabs.network_input`.

    Returns:
        (3, slices, H, W) float32.
    """
    with torch.inference_mode():
        return np.asarray(mark_volume(model.build(), torch.from_numpy(padded)).numpy())


def _fold_norm(mixing: SliceMixing) -> None:
    """Put a mixing layer's batch norm into its convolution: no exporter sees through the sum between the two."""
    norm, old = mixing.norm, mixing.weights
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    folded = nn.Conv2d(old.in_channels, old.out_channels, 1)
    with torch.no_grad():
        folded.weight.copy_(old.weight * gain.repeat(3)[:, None, None, None])
        # The three parts are summed: the shift goes into one of them, the slice's own.
        folded.bias.zero_()  # type: ignore[union-attr]
        folded.bias.chunk(3)[1].copy_(norm.bias - norm.running_mean * gain)  # type: ignore[union-attr]
    mixing.weights = folded
    mixing.norm = nn.Identity()  # type: ignore[assignment]
