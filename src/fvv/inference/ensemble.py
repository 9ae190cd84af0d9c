"""The models of a bundle, opened once and applied to one patient after another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from scipy.special import expit

from fvv.arrays import BoolArray, FloatArray
from fvv.config import PredictConfig, PreprocessingProfile
from fvv.data import Channel
from fvv.errors import ModelError
from fvv.imaging.slabs import extract_slabs
from fvv.inference.golden import confirm_output
from fvv.inference.providers import choose_providers, confirm_provider
from fvv.inference.sessions import OnnxModel
from fvv.io.bundle import ModelBundle
from fvv.names import plain
from fvv.schemas.bundle import ModelEntry
from fvv.system.cores import core_count, most_threads

log = logging.getLogger(__name__)


class OnnxEnsemble:
    """Models that are applied together to one patient after another.

    Two kinds of model work: those with a free slice axis take a whole padded volume (in chunks that bound memory) and
    give every slice at once; those fixed at 7 slices are fed slabs.

    Args:
        files: ONNX files, one for each model.
        profile: the preprocessing they expect.
        device: see `choose_providers`.
        threads: threads of one operation; 0: one per core; no more than the machine has cores.
        chunk_slices: slices run at once.

    Raises:
        ModelError: a file that is no such model, or a device that is not there.
    """

    def __init__(
        self,
        files: Sequence[Path],
        profile: PreprocessingProfile,
        *,
        device: str = "auto",
        threads: int = 0,
        chunk_slices: int = 32,
    ) -> None:
        self.files = tuple(files)
        self.profile = profile
        self.chunk_slices = chunk_slices
        providers = choose_providers(device)
        threads = min(threads or core_count(), most_threads())
        self._models = [OnnxModel.open(file, providers, threads, profile.grid_size) for file in files]
        self.provider = self._models[0].provider
        confirm_provider(device, providers, self.provider)

    @classmethod
    def from_bundle(
        cls,
        bundle: ModelBundle,
        models: Sequence[ModelEntry] | None = None,
        *,
        device: str = "auto",
        threads: int = 0,
        chunk_slices: int = 32,
        confirmed: bool = True,
    ) -> Self:
        """Open some models of a bundle, all of them by default, and check that they are what they were.

        Args:
            bundle: holds them.
            models: those to open.
            device, threads, chunk_slices: as above.
            confirmed: refuse models that do not give the bundle's reference output on this machine.

        Raises:
            ModelError: besides the above: a file that says it is another model than the bundle says, or an output that
                differs from the reference output.
        """
        chosen = bundle.models if models is None else models
        files = [bundle.path / model.file for model in chosen]
        opened = cls(files, bundle.profile, device=device, threads=threads, chunk_slices=chunk_slices)
        for model, entry in zip(opened._models, chosen, strict=True):
            _check_identity(model, entry, bundle.profile)
        if confirmed:
            confirm_output(opened, bundle, chosen)
        return opened

    def __len__(self) -> int:
        return len(self._models)

    def each_output(
        self, padded: FloatArray, *, stroke_logits: bool = False
    ) -> Iterator[tuple[BoolArray, FloatArray | None]]:
        """What one model after another predicts (logit > 0).

        Args:
            padded: (2, slices + 2 * context, 256, 256) float32, channels (b1000, b0).
            stroke_logits: give the logits of the stroke, too.

        Yields:
            (3, slices, 256, 256) bool, in `Channel` order; and (slices, 256, 256) float32 or None.

        Raises:
            ModelError: a model could not run, or gave something that is no logit: no mask may be made of it.
        """
        for model in self._models:
            mask = np.empty(self._output_shape(padded), dtype=bool)
            kept = np.empty(mask.shape[1:], dtype=np.float32) if stroke_logits else None
            lowest = np.full(len(Channel), np.inf)
            for first, logits in self._logits(model, padded):
                # Minimum and maximum both keep NaN, in two passes and without an array of truth values.
                lowest = np.minimum(lowest, logits.min(axis=(0, 2, 3)))
                if not np.isfinite(lowest).all() or not np.isfinite(logits.max()):
                    hint = "the model or the images are damaged"
                    raise ModelError("the network's output is not finite", file=model.file, hint=hint)
                np.greater(np.moveaxis(logits, 0, 1), 0, out=mask[:, first : first + len(logits)])
                if kept is not None:
                    kept[first : first + len(logits)] = logits[:, Channel.STROKE.value]
            # A logit says no where it is negative, as it is in the air around every head; a probability never is.
            for channel in Channel:
                if lowest[channel.value] >= 0:
                    raise ModelError(
                        f"the network's output for {channel.label} is nowhere negative: these are not logits",
                        file=model.file,
                        hint="export the model without the sigmoid or softmax at its end",
                    )
            yield mask, kept

    def masks(self, padded: FloatArray) -> BoolArray:
        """What every model predicts, see `each_output`: (n, 3, slices, 256, 256) bool."""
        return np.stack([mask for mask, _ in self.each_output(padded)])

    def logits(self, padded: FloatArray) -> FloatArray:
        """Logits of every model: (n, 3, slices, 256, 256) float32."""
        result = np.empty((len(self), *self._output_shape(padded)), dtype=np.float32)
        for model, its_own in zip(self._models, result, strict=True):
            for first, logits in self._logits(model, padded):
                its_own[:, first : first + len(logits)] = np.moveaxis(logits, 0, 1)
        return result

    def probabilities(self, padded: FloatArray) -> FloatArray:
        """Mean over the models of the logits' sigmoids: (3, slices, 256, 256) float32."""
        total = np.zeros(self._output_shape(padded), dtype=np.float32)
        for model in self._models:
            for first, logits in self._logits(model, padded):
                total[:, first : first + len(logits)] += expit(np.moveaxis(logits, 0, 1))
        return total / np.float32(len(self))

    def _output_shape(self, padded: FloatArray) -> tuple[int, ...]:
        slices = padded.shape[1] - 2 * self.profile.context_slices
        if slices < 1:
            raise ModelError(f"expected a slice and its neighbours, got {padded.shape[1]} slices", file=self.files[0])
        return len(Channel), slices, *padded.shape[2:]

    def _logits(self, model: OnnxModel, padded: FloatArray) -> Iterator[tuple[int, FloatArray]]:
        """First slice and (slices, 3, 256, 256) logits of one chunk after another."""
        context = self.profile.context_slices
        n_slices = padded.shape[1] - 2 * context
        step = self.chunk_slices if model.whole_volume else model.slabs
        for first in range(0, n_slices, step):
            last = min(first + step, n_slices)
            if model.whole_volume:
                yield first, model.run(padded[None, :, first : last + 2 * context])
            else:
                yield first, model.run(extract_slabs(padded, first, last, context))


def open_ensemble(bundle: ModelBundle, config: PredictConfig) -> OnnxEnsemble:
    """Open the models that prediction asks for: all, or the first so many.

    Raises:
        ModelError: more folds than the bundle has.
    """
    ensemble = OnnxEnsemble.from_bundle(
        bundle,
        bundle.part(config.folds),
        device=config.compute.device,
        threads=config.compute.threads,
        chunk_slices=config.compute.chunk_slices,
    )
    log.info("models: %s on %s", bundle.manifest.description(len(ensemble)), ensemble.provider)
    return ensemble


def _check_identity(model: OnnxModel, entry: ModelEntry, profile: PreprocessingProfile) -> None:
    """Does the file say of itself what the bundle says of it? Published models say nothing."""
    expected = {"fold": str(entry.fold), "run_id": entry.run_id, "profile_sha256": profile.sha256}
    for key, value in expected.items():
        if model.metadata.get(key, value) != value:
            raise ModelError(
                f"the file says {key} {plain(model.metadata[key])}, the bundle says {plain(value)}",
                file=model.file,
                hint="convert the models again",
            )
