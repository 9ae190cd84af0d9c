"""Sessions of n ONNX models: opened once, used for every patient."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import onnxruntime as ort

from fvv.arrays import BoolArray, FloatArray
from fvv.config import PreprocessingProfile
from fvv.data import Channel
from fvv.errors import ModelError
from fvv.imaging.slabs import extract_slabs
from fvv.io.bundle import ModelBundle, ModelEntry
from fvv.parallel import core_count

log = logging.getLogger(__name__)

SLAB_BATCH = 4
"""Slabs given at once to a model that takes one slice's neighbourhood at a time (published format)."""
FOUR_CHANNELS = (0, 2, 3)
"""Of a published model's four output channels, those that mean brain, stroke, FLAIR-visible."""
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
Device = Literal["auto", "cpu", "cuda"]


class OnnxEnsemble:
    """Models that are applied together to one patient after another.

    Two kinds of model work: those with a free slice axis take a whole padded volume (in chunks that bound memory) and
    give every slice at once; those fixed at 7 slices are fed slabs.

    Args:
        files: ONNX files.
        profile: the preprocessing they expect.
        device: "auto" uses a GPU where onnxruntime has one; asked for by name, it must be there.
        threads: threads of one operation; 0: one per core.
        chunk_slices: slices run at once.

    Raises:
        ModelError: a file that is no such model, or a device that is not there.
    """

    def __init__(
        self,
        files: Sequence[Path],
        profile: PreprocessingProfile,
        *,
        device: Device = "auto",
        threads: int = 0,
        chunk_slices: int = 32,
    ) -> None:
        self.profile = profile
        self.chunk_slices = chunk_slices
        providers = _choose_providers(device)
        self._sessions = [_open_session(file, providers, threads or core_count()) for file in files]
        self.provider = str(self._sessions[0].get_providers()[0])
        if device == "auto" and self.provider != providers[0]:
            log.warning("%s could not start; running on %s", providers[0], self.provider)
        if device == "cuda" and self.provider != _PROVIDERS["cuda"]:
            raise ModelError("a GPU was asked for and could not be used", hint="use the CPU: -f CPU")

    @classmethod
    def from_bundle(
        cls,
        bundle: ModelBundle,
        models: Sequence[ModelEntry] | None = None,
        *,
        device: Device = "auto",
        threads: int = 0,
        chunk_slices: int = 32,
    ) -> Self:
        """Open some models of a bundle; all of them by default."""
        chosen = bundle.models if models is None else models
        files = [bundle.file(model) for model in chosen]
        return cls(files, bundle.profile, device=device, threads=threads, chunk_slices=chunk_slices)

    def __len__(self) -> int:
        return len(self._sessions)

    def masks(self, padded: FloatArray) -> BoolArray:
        """What every model marks (logit > 0).

        Args:
            padded: (2, slices + 2 * context, 256, 256) float32, channels (b1000, b0).

        Returns:
            (n, 3, slices, 256, 256) bool, in `Channel` order.

        Raises:
            ModelError: a model gave something that is not finite: no mask may be made of it.
        """
        n_slices = padded.shape[1] - 2 * self.profile.context_slices
        result = np.empty((len(self), len(Channel), n_slices, *padded.shape[2:]), dtype=bool)
        for session, masks in zip(self._sessions, result, strict=True):
            for first, logits in self._logits(session, padded, n_slices):
                if not np.isfinite(logits).all():
                    raise ModelError("the network's output is not finite", hint="the model or the images are damaged")
                masks[:, first : first + len(logits)] = np.moveaxis(logits > 0, 0, 1)
        return result

    def logits(self, padded: FloatArray) -> FloatArray:
        """Logits of every model: (n, 3, slices, 256, 256) float32."""
        n_slices = padded.shape[1] - 2 * self.profile.context_slices
        return np.stack(
            [
                np.moveaxis(np.concatenate([part for _, part in self._logits(session, padded, n_slices)]), 0, 1)
                for session in self._sessions
            ]
        )

    def _logits(self, session: ort.InferenceSession, padded: FloatArray, n_slices: int) -> Iterator[tuple[int, Any]]:
        """First slice and (slices, 3, 256, 256) logits of one chunk after another."""
        context = self.profile.context_slices
        name = session.get_inputs()[0].name
        whole_volume = not isinstance(session.get_inputs()[0].shape[2], int)
        step = self.chunk_slices if whole_volume else SLAB_BATCH
        for first in range(0, n_slices, step):
            last = min(first + step, n_slices)
            if whole_volume:
                batch = padded[None, :, first : last + 2 * context]
            else:
                batch = extract_slabs(padded, first, last, context)
            (output,) = session.run(None, {name: np.ascontiguousarray(batch)})
            yield first, output[:, FOUR_CHANNELS] if output.shape[1] == 4 else output


def _choose_providers(device: Device) -> list[str]:
    available = ort.get_available_providers()
    if device == "cuda" and _PROVIDERS["cuda"] not in available:
        raise ModelError(
            f"a GPU was asked for; this onnxruntime offers only {', '.join(available)}",
            hint="install onnxruntime-gpu, or use -f CPU",
        )
    if device == "cpu" or _PROVIDERS["cuda"] not in available:
        return [_PROVIDERS["cpu"]]
    return [_PROVIDERS["cuda"], _PROVIDERS["cpu"]]


def _open_session(file: Path, providers: list[str], threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # Errors only: warnings of the optimiser say nothing to the user.
    try:
        session = ort.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # onnxruntime raises a dozen private types
        raise ModelError(f"not a model onnxruntime can run: {' '.join(str(error).split())[:200]}", file=file) from error
    _check_contract(session, file)
    return session


def _check_contract(session: ort.InferenceSession, file: Path) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape
    fits = len(inputs) == len(outputs) == 1 and len(shape) == 5 and shape[1] == 2
    fits = fits and (not isinstance(shape[2], int) or shape[2] == 7)
    channels = outputs[0].shape[1] if len(outputs[0].shape) == 4 else None
    if not fits or channels not in {3, 4}:
        raise ModelError(
            f"expected one input (batch, 2, 7 or free, 256, 256) and one output (batch, 3 or 4, 256, 256), "
            f"got {shape} and {outputs[0].shape}",
            file=file,
        )
