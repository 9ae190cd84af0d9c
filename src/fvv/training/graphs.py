"""ONNX graphs, reworked: simplified, quantised to 8 bits, several folds in one. No torch needed here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import compose
from onnxruntime import quantization

from fvv.arrays import FloatArray
from fvv.errors import FvvError, ModelError

INPUT_NAME, OUTPUT_NAME = "modelInput", "modelOutput"
"""The published models' names."""
_PREPARED_MARK = ("onnx.quant.pre_process", "onnxruntime.quant")
"""How onnxruntime's quantiser knows a graph that was simplified before; without it, it warns."""


def simplify(path: Path) -> onnx.ModelProto:
    """Fold constants and batch norms; the result is plain ONNX, without operators of onnxruntime's own."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with _temporary_folder(path) as folder:
        simplified = folder / "simplified.onnx"
        options.optimized_model_filepath = str(simplified)
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(simplified)
    _keep_used_opsets(model)
    return model


def quantise(source: Path, target: Path, samples: Iterable[FloatArray]) -> None:
    """Write the INT8 form of a model: static, uint8 activations, int8 weights with a scale per output channel.

    What meets raw intensities (the first convolution) and what makes logits (head, last interpolation) stays in
    float32: eight bits there cost accuracy and win no time.

    Args:
        source: the float32 model.
        target: file to write; keeps the source's metadata, with `precision` set to int8.
        samples: inputs that show the range of every activation, (2, slices, 256, 256) float32, slices >= 7.

    Raises:
        ModelError: the graph cannot be quantised (a full disk for temporary files, for one), or then is not valid ONNX.
    """
    model = onnx.load(source)
    said = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, dict([_PREPARED_MARK]))
    with _temporary_folder(target) as folder:
        marked = folder / "marked.onnx"
        onnx.save(model, marked)
        quantization.quantize_static(
            str(marked),
            str(target),
            _Samples(samples),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=_float_nodes(model),
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    quantised = onnx.load(target)
    _measure_shapes_before_dequantising(quantised)
    onnx.helper.set_model_props(quantised, {**said, "precision": "int8"})
    check_and_save(quantised, target)


def fuse(files: Sequence[Path], target: Path) -> None:
    """Write one graph that holds several models: one input, an output for each model, in order.

    Raises:
        ModelError: the graph is not valid ONNX.
    """
    fused = onnx.load(files[0])
    shared = onnx.ValueInfoProto.FromString(fused.graph.input[0].SerializeToString())
    fused.ClearField("graph")
    fused.graph.name = "ensemble"
    fused.graph.input.append(shared)
    for number, file in enumerate(files):
        graph = compose.add_prefix(onnx.load(file), f"{number}/").graph
        for node in graph.node:  # onnx before 1.19 renames a node's input also where it leaves the graph's alone.
            names = [shared.name if name == graph.input[0].name else name for name in node.input]
            del node.input[:]
            node.input.extend(names)
        fused.graph.node.extend(graph.node)
        fused.graph.initializer.extend(graph.initializer)
        fused.graph.output.extend(graph.output)
    onnx.helper.set_model_props(fused, {})
    check_and_save(fused, target)


@contextmanager
def _temporary_folder(model: Path) -> Iterator[Path]:
    """A place for files between two steps. What libraries raise where such a file is cut off is one error.

    Raises:
        ModelError: naming the model, the error, and where temporary files lie.
    """
    place = tempfile.gettempdir()
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except FvvError:
        raise
    except Exception as error:
        hint = f"is there room for temporary files in {place}? TMPDIR names another place"
        raise ModelError(f"cannot be made: {type(error).__name__}: {error}", file=model, hint=hint) from error


def check_and_save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model that is valid.

    Raises:
        ModelError: it is not.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the model made is not valid ONNX: {error}", file=path) from error
    onnx.save(model, path)


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Calibration inputs in the form the quantiser asks for."""

    def __init__(self, samples: Iterable[FloatArray]) -> None:
        self._samples: Iterator[FloatArray] = iter(samples)

    def get_next(self) -> dict[str, FloatArray] | None:
        """The next input; None at the end."""
        sample = next(self._samples, None)
        return None if sample is None else {INPUT_NAME: np.ascontiguousarray(sample[None], dtype=np.float32)}


def _float_nodes(model: onnx.ModelProto) -> list[str]:
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    interpolations = [node.name for node in model.graph.node if node.op_type == "Resize"]
    return [convolutions[0], convolutions[-1], *interpolations[-1:]]


def _measure_shapes_before_dequantising(model: onnx.ModelProto) -> None:
    """Let Shape nodes look at the 8-bit tensor: else volumes are dequantised to learn their number of slices."""
    dequantised = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in dequantised:
            node.input[0] = dequantised[node.input[0]]


def _keep_used_opsets(model: onnx.ModelProto) -> None:
    used = {"" if node.domain == "ai.onnx" else node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
