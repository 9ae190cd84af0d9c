"""The models of a bundle, opened once and applied to one patient after another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import Precision, PredictConfig, PreprocessingProfile
from fvv.data import Channel
from fvv.errors import ModelError
from fvv.imaging.slabs import extract_slabs
from fvv.inference.providers import choose_providers, confirm_provider
from fvv.inference.reference import confirm_reference
from fvv.inference.sessions import OnnxModel
from fvv.io.bundle import ModelBundle, ModelEntry
from fvv.names import plain
from fvv.system.cores import core_count, most_threads

log = logging.getLogger(__name__)

FAST_FOLDS = 3
"""Models of `--fast`."""


class OnnxEnsemble:
    """Models that are applied together to one patient after another.

    Two kinds of model work: those with a free slice axis take a whole padded volume (in chunks that bound memory) and
    give every slice at once; those fixed at 7 slices are fed slabs.

    Args:
        files: ONNX files; one may hold several models.
        profile: the preprocessing they expect.
        precision: of their weights, for the record.
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
        precision: Precision = "fp32",
        device: str = "auto",
        threads: int = 0,
        chunk_slices: int = 32,
    ) -> None:
        self.files = tuple(files)
        self.profile = profile
        self.precision: Precision = precision
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
        precision: Precision = "fp32",
        device: str = "auto",
        threads: int = 0,
        chunk_slices: int = 32,
        one_graph: bool = True,
        confirmed: bool = True,
    ) -> Self:
        """Open some models of a bundle, all of them by default, and see that they are here what they were.

        Args:
            bundle: holds them.
            models: those to open.
            precision, device, threads, chunk_slices: as above.
            one_graph: take the graph that holds all models, where there is one and all are wanted.
            confirmed: refuse models that do not give the bundle's reference output on this machine.

        Raises:
            ModelError: besides the above: no such precision in the bundle, a file that says it is another model than
                the bundle says, or an output that differs from the reference output.
        """
        chosen = bundle.models if models is None else models
        fused = bundle.manifest.fused.get(precision) if one_graph and tuple(chosen) == bundle.models else None
        forms = [bundle.form(model, precision) for model in chosen] if fused is None else [fused]
        files = [bundle.path / form.file for form in forms]
        opened = cls(
            files, bundle.profile, precision=precision, device=device, threads=threads, chunk_slices=chunk_slices
        )
        if fused is None:
            for model, entry, file in zip(opened._models, chosen, files, strict=True):
                _check_identity(model, entry, file, bundle.profile)
        elif len(opened) != len(chosen):
            raise ModelError(f"the fused graph holds {len(opened)} models, expected {len(chosen)}", file=files[0])
        if confirmed:
            confirm_reference(opened, bundle, chosen, forms)
        return opened

    def __len__(self) -> int:
        return sum(model.n_models for model in self._models)

    def each_mask(self, padded: FloatArray) -> Iterator[BoolArray]:
        """What one model after another marks (logit > 0).

        Args:
            padded: (2, slices + 2 * context, 256, 256) float32, channels (b1000, b0).

        Yields:
            (3, slices, 256, 256) bool, in `Channel` order.

        Raises:
            ModelError: a model could not run, or gave something that is no logit: no mask may be made of it.
        """
        for model in self._models:
            marked = np.empty(self._output_shape(model, padded), dtype=bool)
            lowest = np.full(marked.shape[:2], np.inf)
            for number, first, logits in self._logits(model, padded):
                lowest[number] = np.minimum(lowest[number], _lowest(logits, model.file))
                np.greater(np.moveaxis(logits, 0, 1), 0, out=marked[number, :, first : first + len(logits)])
            _refuse_probabilities(lowest, model.file)
            yield from marked

    def masks(self, padded: FloatArray) -> BoolArray:
        """What every model marks, see `each_mask`: (n, 3, slices, 256, 256) bool."""
        return np.stack(list(self.each_mask(padded)))

    def logits(self, padded: FloatArray) -> FloatArray:
        """Logits of every model: (n, 3, slices, 256, 256) float32."""
        results = []
        for model in self._models:
            result = np.empty(self._output_shape(model, padded), dtype=np.float32)
            for number, first, logits in self._logits(model, padded):
                result[number, :, first : first + len(logits)] = np.moveaxis(logits, 0, 1)
            results.append(result)
        return np.concatenate(results)

    def _output_shape(self, model: OnnxModel, padded: FloatArray) -> tuple[int, ...]:
        slices = padded.shape[1] - 2 * self.profile.context_slices
        if slices < 1:
            raise ModelError(f"expected a slice and its neighbours, got {padded.shape[1]} slices", file=model.file)
        return model.n_models, len(Channel), slices, *padded.shape[2:]

    def _logits(self, model: OnnxModel, padded: FloatArray) -> Iterator[tuple[int, int, FloatArray]]:
        """Model within its graph, first slice and (slices, 3, 256, 256) logits of one chunk after another."""
        context = self.profile.context_slices
        n_slices = padded.shape[1] - 2 * context
        step = self.chunk_slices if model.whole_volume else model.slabs
        for first in range(0, n_slices, step):
            last = min(first + step, n_slices)
            if model.whole_volume:
                batch = padded[None, :, first : last + 2 * context]
            else:
                batch = extract_slabs(padded, first, last, context)
            for number, logits in enumerate(model.run(batch)):
                yield number, first, logits


def open_ensemble(bundle: ModelBundle, config: PredictConfig) -> OnnxEnsemble:
    """Open what prediction asks for: all models, or the part that a budget allows.

    Raises:
        ModelError: more folds, or another precision, than the bundle has.
    """
    folds, precision = config.folds, bundle.precision(config.precision)
    if config.fast:
        folds = folds or min(FAST_FOLDS, len(bundle.models))
        precision = bundle.precisions[-1] if config.precision == "auto" else precision
    models = bundle.part(folds)
    ensemble = OnnxEnsemble.from_bundle(
        bundle,
        models,
        precision=precision,
        device=config.device,
        threads=config.threads,
        chunk_slices=config.chunk_slices,
    )
    log.info("models: %s on %s", bundle.manifest.description(len(ensemble), precision), ensemble.provider)
    return ensemble


def _check_identity(model: OnnxModel, entry: ModelEntry, file: Path, profile: PreprocessingProfile) -> None:
    """Does the file say of itself what the bundle says of it? Published models say nothing."""
    said = model.metadata
    expected = {"fold": str(entry.fold), "run_id": entry.run_id, "profile_sha256": profile.sha256}
    for key, value in expected.items():
        if key in said and said[key] != value:
            raise ModelError(
                f"the file says {key} {plain(said[key])}, the bundle says {plain(value)}",
                file=file,
                hint="convert the models again",
            )


def _lowest(logits: FloatArray, file: Path) -> FloatArray:
    """The lowest logit of each channel, of (slices, 3, 256, 256).

    Raises:
        ModelError: one is not finite.
    """
    # Both keep NaN, in two passes and without an array of truth values.
    lowest = logits.min(axis=(0, 2, 3))
    if not np.isfinite(lowest).all() or not np.isfinite(logits.max()):
        raise ModelError("the network's output is not finite", file=file, hint="the model or the images are damaged")
    return np.asarray(lowest)


def _refuse_probabilities(lowest: FloatArray, file: Path) -> None:
    """A logit says no where it is negative, as it is in the air around every head; a probability never is.

    Args:
        lowest: (n, 3) lowest value of each model's channels over a patient.
        file: the models.

    Raises:
        ModelError: a channel is negative nowhere.
    """
    if (lowest >= 0).any():
        channel = Channel(int(np.argwhere(lowest >= 0)[0, 1]))
        raise ModelError(
            f"the network's output for {channel.label} is nowhere negative: these are no logits",
            file=file,
            hint="export the model without the sigmoid or softmax at its end",
        )
