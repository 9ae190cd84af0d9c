"""One ONNX file, opened: what it takes, what it gives, and that each run gives what it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from fvv.arrays import FloatArray
from fvv.errors import ModelError
from fvv.inference.interrupt import interruptible
from fvv.inference.providers import CPU, Provider
from fvv.names import plain
from fvv.system.regular import refuse_irregular

FOUR_CHANNELS = (0, 2, 3)
"""Of a published model's four output channels, those that mean brain, stroke, FLAIR-visible."""
SLAB_BATCH = 4
"""Slabs given at once to a model that takes one slice's neighbourhood at a time (published format)."""
_SLAB_SLICES = 7
_FLOAT32 = "tensor(float)"
_SILENT = 4
"""Errors are raised besides; the log would say them in the graph's own words, which may hold control characters."""
_EXACT_PRODUCTS = ("session.x64quantprecision", "1")
"""Products of 8-bit numbers, uint8 by int8, saturate in 16 bits on x86 processors with AVX2 and no VNNI. With this
option of onnxruntime they are the same, and exact, on every processor; models in float32 do not change."""


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A session: one model, or several fused into one graph (an output for each).

    Attributes:
        file: what was opened.
        session: onnxruntime's.
        whole_volume: takes any number of slices; else exactly seven.
        slabs: slabs that it takes at once, where it takes slabs.
    """

    file: Path
    session: ort.InferenceSession
    whole_volume: bool
    slabs: int

    @classmethod
    def open(cls, file: Path, providers: Sequence[Provider], threads: int, grid_size: int = 256) -> OnnxModel:
        """Open a file.

        Args:
            file: to open.
            providers: see `choose_providers`.
            threads: threads of one operation.
            grid_size: edge of the in-plane grid, voxels.

        Raises:
            InputError: not a regular file.
            ModelError: not ONNX, not runnable, or of another contract.
        """
        refuse_irregular(file)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _SILENT
        # Volumes differ in slices: a memory plan for every number of them would only pile up.
        options.enable_mem_pattern = False
        options.add_session_config_entry(*_EXACT_PRODUCTS)
        if providers[0][0] == CPU:
            _share_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
        names, settings = [name for name, _ in providers], [setting for _, setting in providers]
        try:
            session = ort.InferenceSession(str(file), options, providers=names, provider_options=settings)
        except Exception as error:  # onnxruntime raises a dozen private types
            raise ModelError(f"not a model onnxruntime can run: {_on_one_line(error)}", file=file) from error
        _check_contract(session, file, grid_size)
        batch, _, slices = session.get_inputs()[0].shape[:3]
        return cls(file, session, not isinstance(slices, int), batch if isinstance(batch, int) else SLAB_BATCH)

    @property
    def n_models(self) -> int:
        """Models in the graph."""
        return len(self.session.get_outputs())

    @property
    def provider(self) -> str:
        """The provider that really runs."""
        return str(self.session.get_providers()[0])

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself; empty in the published format."""
        return dict(self.session.get_modelmeta().custom_metadata_map)

    def run(self, batch: FloatArray) -> list[FloatArray]:
        """Logits of every model in the graph. Ctrl-C ends it.

        Args:
            batch: (batch, 2, slices, 256, 256) float32.

        Returns:
            For each model (batch * (slices - 6), 3, 256, 256) float32.

        Raises:
            ModelError: onnxruntime could not run it, or an output is not what it should be.
        """
        given = {self.session.get_inputs()[0].name: np.ascontiguousarray(batch)}
        options = ort.RunOptions()
        options.log_severity_level = _SILENT

        def stop() -> None:
            options.terminate = True

        try:
            outputs: list[Any] = interruptible(partial(self.session.run, None, given, options), stop)
        except Exception as error:  # onnxruntime raises a dozen private types, and MemoryError
            message = f"onnxruntime could not run the model on an input of {batch.shape}: {_on_one_line(error)}"
            raise ModelError(message, file=self.file, hint=_hint(error)) from error
        slices = batch.shape[0] * (batch.shape[2] - _SLAB_SLICES + 1)
        return [self._checked(output, slices, batch.shape[3:]) for output in outputs]

    def _checked(self, output: Any, slices: int, plane: tuple[int, ...]) -> FloatArray:
        """An output of the graph as logits of three channels; a graph may give anything."""
        found = np.asarray(output)
        channels = found.shape[1] if found.ndim == 4 else 0
        if found.shape != (slices, channels, *plane) or channels not in {3, 4} or found.dtype != np.float32:
            raise ModelError(
                f"expected an output of ({slices}, 3 or 4, {plane[0]}, {plane[1]}) in float32, "
                f"got {found.shape} in {found.dtype}",
                file=self.file,
            )
        return found[:, FOUR_CHANNELS] if channels == 4 else found


@cache
def _share_memory() -> None:
    """One pool of memory for all sessions of the process: ten models then need no more than one.

    Each would otherwise keep its own, and give nothing back.
    """
    doubling = 0  # Pieces cut to measure would fit nothing else later: twice the memory.
    arena = ort.OrtArenaCfg(0, doubling, -1, -1)
    kind = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(kind, arena)


def _check_contract(session: ort.InferenceSession, file: Path, grid_size: int) -> None:
    """A free axis has a name, or none, in place of a number."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if inputs else []
    fits = len(inputs) == 1 and len(shape) == 5 and inputs[0].type == _FLOAT32
    if fits:
        batch, channels, slices, *plane = shape
        fits = channels == 2 and _fits(slices, _SLAB_SLICES) and all(_fits(edge, grid_size) for edge in plane)
        # A volume is a batch of one; so may a slab be. Batches of another fixed size are not filled up.
        fits = fits and _fits(batch, 1)
    for output in outputs:
        fits = fits and output.type == _FLOAT32 and len(output.shape) == 4 and output.shape[1] in {3, 4}
    if not fits or not outputs:
        found = f"{shape} of {inputs[0].type}" if inputs else "no input"
        given = f"{outputs[0].shape} of {outputs[0].type}" if outputs else "no output"
        raise ModelError(
            f"expected one input (batch free or 1, 2, 7 or free, {grid_size}, {grid_size}) and outputs (batch, 3 or 4, "
            f"{grid_size}, {grid_size}), both in float32, got {plain(found)} and {plain(given)}",
            file=file,
        )


def _fits(axis: object, size: int) -> bool:
    return not isinstance(axis, int) or axis == size


def _on_one_line(error: Exception) -> str:
    """Names in a graph are another's words."""
    return plain(" ".join(str(error).split()))[:300]


def _hint(error: Exception) -> str:
    if isinstance(error, MemoryError) or "alloc" in str(error).lower():
        return "memory ran out: fewer slices at once (--set predict.chunk_slices=8), or fewer --workers"
    return "the model is damaged, or made for another input; `fvv doctor -m FOLDER` tries it"
