"""ONNX models that break their contract, one way each; every one starts as `builders.write_onnx` writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from builders import write_onnx


def appended(path: Path, *nodes: onnx.NodeProto, initial: dict[str, np.ndarray] | None = None) -> Path:
    """Let nodes follow the model's output, now called "logits"; the last of them gives "modelOutput"."""
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in (initial or {}).items())
    onnx.save(model, path)
    return path


def sigmoid(path: Path) -> Path:
    """Probabilities instead of logits."""
    return appended(write_onnx(path), helper.make_node("Sigmoid", ["logits"], ["modelOutput"]))


def one_slice_short(path: Path) -> Path:
    """All slices but the last of each run."""
    ends = {"first": np.array([0]), "last": np.array([-1]), "axis": np.array([0])}
    node = helper.make_node("Slice", ["logits", "first", "last", "axis"], ["modelOutput"])
    return appended(write_onnx(path), node, initial=ends)


def of_three_slices(path: Path) -> Path:
    """Fails where a run holds another number of slices."""
    node = helper.make_node("Reshape", ["logits", "three"], ["modelOutput"])
    return appended(write_onnx(path), node, initial={"three": np.array([3, 3, 256, 256])})


def of_terabytes(path: Path) -> Path:
    """Asks for 40 TB."""
    nodes = [
        helper.make_node("Expand", ["logits", "huge"], ["expanded"]),
        helper.make_node("ReduceMax", ["expanded"], ["modelOutput"], axes=[0], keepdims=0),
    ]
    return appended(write_onnx(path), *nodes, initial={"huge": np.array([6_000_000, 1, 1, 1, 1])})


def endless(path: Path) -> Path:
    """Adds nothing to its logits, for some centuries."""
    scalars = {"zero": np.float32(0), "trips": np.int64(2**62), "true": np.bool_(True)}
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Add", ["sum", "zero"], ["next_sum"]),
        ],
        "body",
        [info("trip", TensorProto.INT64, []), info("going", TensorProto.BOOL, []), info("sum", TensorProto.FLOAT, [])],
        [info("goes_on", TensorProto.BOOL, []), info("next_sum", TensorProto.FLOAT, [])],
    )
    nodes = [
        helper.make_node("Loop", ["trips", "true", "zero"], ["looped"], body=body),
        helper.make_node("Add", ["logits", "looped"], ["modelOutput"]),
    ]
    arrays = {name: np.asarray(value) for name, value in scalars.items()}
    return appended(write_onnx(path, whole_volume=False), *nodes, initial=arrays)


def of_half_precision(path: Path) -> Path:
    """Takes and gives float16."""
    model = onnx.load(write_onnx(path))
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, path)
    return path


def of_grid_320(path: Path) -> Path:
    """Takes planes of 320 x 320."""
    model = onnx.load(write_onnx(path, whole_volume=False))
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim[-2:]:
            dimension.dim_value = 320
    onnx.save(model, path)
    return path


def of_batch(path: Path, size: int) -> Path:
    """Published format, with a fixed number of slabs."""
    model = onnx.load(write_onnx(path, whole_volume=False))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    onnx.save(model, path)
    return path
