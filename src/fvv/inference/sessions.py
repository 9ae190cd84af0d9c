"""One ONNX file, opened: what it takes, what it gives, and that each run gives what it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

from fvv.arrays import FloatArray
from fvv.errors import ModelError
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


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """One model, opened.

    Attributes:
        file: what was opened.
        session: onnxruntime's.
        whole_volume: takes any number of slices; else exactly seven.
        slabs: slabs that it takes at once, where it takes slabs.
        metadata: what the file says of itself; empty in the published format.
        provider: the provider that really runs.
    """

    file: Path
    session: ort.InferenceSession
    whole_volume: bool
    slabs: int
    metadata: dict[str, str]
    provider: str

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
        # Threads that wait give the processor to whoever else uses the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
        return cls(
            file,
            session,
            whole_volume=not isinstance(slices, int),
            slabs=batch if isinstance(batch, int) else SLAB_BATCH,
            metadata=dict(session.get_modelmeta().custom_metadata_map),
            provider=str(session.get_providers()[0]),
        )

    def run(self, batch: FloatArray, options: ort.RunOptions | None = None) -> FloatArray:
        """Logits.

        Args:
            batch: (batch, 2, slices, 256, 256) float32.
            options: from `run_options`; another thread ends the run by setting their `terminate`.

        Returns:
            (batch * (slices - 6), 3, 256, 256) float32.

        Raises:
            ModelError: onnxruntime could not run it, or the output is not what it should be.
        """
        given = {self.session.get_inputs()[0].name: np.ascontiguousarray(batch)}
        try:
            (output,) = self.session.run(None, given, options or run_options())
        except Exception as error:  # onnxruntime raises a dozen private types, and MemoryError
            message = f"onnxruntime could not run the model on an input of {batch.shape}: {_on_one_line(error)}"
            raise ModelError(message, file=self.file, hint=_hint(error)) from error
        found = np.asarray(output)  # A graph may give anything.
        slices, plane = batch.shape[0] * (batch.shape[2] - _SLAB_SLICES + 1), batch.shape[3:]
        if found.shape not in {(slices, 3, *plane), (slices, 4, *plane)} or found.dtype != np.float32:
            raise ModelError(
                f"expected an output of ({slices}, 3 or 4, {plane[0]}, {plane[1]}) in float32, "
                f"got {found.shape} in {found.dtype}",
                file=self.file,
            )
        return found[:, FOUR_CHANNELS] if found.shape[1] == 4 else found


def run_options() -> ort.RunOptions:
    """Options of runs that end together: `terminate` ends all that were started with them."""
    options = ort.RunOptions()
    options.log_severity_level = _SILENT
    return options


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
    """A free axis has a name, or none, instead of a number."""
    inputs = [(tuple(one.shape), one.type) for one in session.get_inputs()]
    outputs = [(tuple(one.shape), one.type) for one in session.get_outputs()]
    fits = len(inputs) == len(outputs) == 1 and inputs[0][1] == outputs[0][1] == _FLOAT32
    # A volume is a batch of one; so may a slab be. Batches of another fixed size are not filled up.
    wanted = (1, 2, _SLAB_SLICES, grid_size, grid_size)
    fits = fits and len(inputs[0][0]) == len(wanted) and inputs[0][0][1] == 2
    fits = fits and all(
        not isinstance(axis, int) or axis == size for axis, size in zip(inputs[0][0], wanted, strict=True)
    )
    if not (fits and len(outputs[0][0]) == 4 and outputs[0][0][1] in {3, 4}):
        found, given = (
            " and ".join(f"{list(shape)} of {kind}" for shape, kind in ends) or "nothing" for ends in (inputs, outputs)
        )
        raise ModelError(
            f"expected one input (batch free or 1, 2, 7 or free, {grid_size}, {grid_size}) and one output (batch, 3 or "
            f"4, {grid_size}, {grid_size}), both in float32, got {plain(found)} and {plain(given)}",
            file=file,
        )


def _on_one_line(error: Exception) -> str:
    """Names in a graph are another's words."""
    return plain(" ".join(str(error).split()))[:300]


def _hint(error: Exception) -> str:
    if isinstance(error, MemoryError) or "alloc" in str(error).lower():
        return "memory ran out: fewer slices at once (--set compute.chunk_slices=8), or fewer --workers"
    return "the model is damaged, or made for another input; `fvv doctor -m FOLDER` tries it"
