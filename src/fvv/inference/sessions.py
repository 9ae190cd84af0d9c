"""One ONNX file, opened: what it takes, what it gives, and whether it is the model it is said to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from fvv.arrays import FloatArray
from fvv.errors import ModelError
from fvv.inference.providers import CPU, Provider

FOUR_CHANNELS = (0, 2, 3)
"""Of a published model's four output channels, those that mean brain, stroke, FLAIR-visible."""
_SLAB_SLICES = 7


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A session: one model, or several fused into one graph (an output for each).

    Attributes:
        session: onnxruntime's.
        whole_volume: takes any number of slices; else exactly seven.
    """

    session: ort.InferenceSession
    whole_volume: bool

    @classmethod
    def open(cls, file: Path, providers: Sequence[Provider], threads: int) -> OnnxModel:
        """Open a file.

        Raises:
            ModelError: not ONNX, not runnable, or of another contract.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # Errors only: warnings of the optimiser say nothing to the user.
        # Volumes differ in slices: a memory plan for every number of them would only pile up.
        options.enable_mem_pattern = False
        if providers[0][0] == CPU:
            _share_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
        names, settings = [name for name, _ in providers], [setting for _, setting in providers]
        try:
            session = ort.InferenceSession(str(file), options, providers=names, provider_options=settings)
        except Exception as error:  # onnxruntime raises a dozen private types
            message = f"not a model onnxruntime can run: {' '.join(str(error).split())[:200]}"
            raise ModelError(message, file=file) from error
        _check_contract(session, file)
        return cls(session, whole_volume=not isinstance(session.get_inputs()[0].shape[2], int))

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
        """Logits of every model in the graph.

        Args:
            batch: (batch, 2, slices, 256, 256) float32.

        Returns:
            For each model (batch * (slices - 6), 3, 256, 256) float32.
        """
        name = self.session.get_inputs()[0].name
        outputs: list[Any] = self.session.run(None, {name: np.ascontiguousarray(batch)})
        return [output[:, FOUR_CHANNELS] if output.shape[1] == 4 else output for output in outputs]


@cache
def _share_memory() -> None:
    """One pool of memory for all sessions of the process: ten models then need no more than one.

    Each would otherwise keep its own, and give nothing back.
    """
    doubling = 0  # Pieces cut to measure would fit nothing else later: twice the memory.
    arena = ort.OrtArenaCfg(0, doubling, -1, -1)
    kind = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(kind, arena)


def _check_contract(session: ort.InferenceSession, file: Path) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if inputs else []
    fits = len(inputs) == 1 and len(shape) == 5 and shape[1] == 2
    fits = fits and (not isinstance(shape[2], int) or shape[2] == _SLAB_SLICES)
    channels = {output.shape[1] if len(output.shape) == 4 else None for output in outputs}
    if not fits or not channels <= {3, 4}:
        raise ModelError(
            f"expected one input (batch, 2, 7 or free, 256, 256) and outputs (batch, 3 or 4, 256, 256), "
            f"got {shape} and {outputs[0].shape}",
            file=file,
        )
