"""The models of a bundle, opened once and applied to one patient after another."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import PredictConfig, PreprocessingProfile
from fvv.data import Channel
from fvv.errors import ModelError
from fvv.imaging.slabs import extract_slabs
from fvv.inference.golden import confirm_output
from fvv.inference.interrupt import Job, in_groups
from fvv.inference.outputs import AllLogits, Kept, Masks
from fvv.inference.providers import CPU, choose_providers, confirm_provider
from fvv.inference.sessions import OnnxModel, run_options
from fvv.io.bundle import ModelBundle
from fvv.names import plain
from fvv.schemas.bundle import ModelEntry
from fvv.system.cores import core_count, most_threads

log = logging.getLogger(__name__)
_SIDE_BY_SIDE = 2
"""Runs at once on a CPU (chosen here): many operations of a graph use one thread only, and memory is bounded whatever
the number of cores."""


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
        chunk_slices: int = 20,
    ) -> None:
        self.files = tuple(files)
        self.profile = profile
        self.chunk_slices = chunk_slices
        providers = choose_providers(device)
        threads = min(threads or core_count(), most_threads())
        self._runs = _SIDE_BY_SIDE if threads > 1 and providers[0][0] == CPU else 1
        # The runs of a session share its threads, and each brings the one that it was started in.
        threads -= self._runs - 1
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
        chunk_slices: int = 20,
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
        self, padded: FloatArray, *, stroke_logits: bool = False, visible_logit: float = 0.0
    ) -> Generator[tuple[BoolArray, FloatArray | None]]:
        """What one model after another predicts: where the logit is over 0, or over `visible_logit`.

        Args:
            padded: (2, slices + 2 * context, 256, 256) float32, channels (b1000, b0).
            stroke_logits: give the logits of the stroke, too.
            visible_logit: the logit that FLAIR-visible voxels exceed.

        Yields:
            (3, slices, 256, 256) bool, in `Channel` order; and (slices, 256, 256) float32 or None.

        Raises:
            ModelError: a model could not run, or gave something that is no logit: no mask may be made of it.
        """
        shape = self._output_shape(padded)

        def kept_of(model: OnnxModel) -> Masks:
            return Masks(model.file, shape, stroke_logits=stroke_logits, visible_logit=visible_logit)

        kept = self._each(padded, kept_of)
        with closing(kept):
            for found in kept:
                yield found.checked()

    def masks(self, padded: FloatArray) -> BoolArray:
        """What every model predicts at a logit of 0, see `each_output`: (n, 3, slices, 256, 256) bool."""
        return np.stack([mask for mask, _ in self.each_output(padded)])

    def logits(self, padded: FloatArray) -> FloatArray:
        """Logits of every model: (n, 3, slices, 256, 256) float32."""
        result = np.empty((len(self), *self._output_shape(padded)), dtype=np.float32)
        for number, found in enumerate(self._each_logits(padded)):
            result[number] = found
        return result

    def probabilities(self, padded: FloatArray) -> FloatArray:
        """Mean over the models of the logits' sigmoids: (3, slices, 256, 256) float32."""
        from scipy.special import expit  # noqa: PLC0415  (an option needs it, and loading it takes 20 ms)

        total = np.zeros(self._output_shape(padded), dtype=np.float32)
        for found in self._each_logits(padded):
            total += expit(found)
        return total / np.float32(len(self))

    def _output_shape(self, padded: FloatArray) -> tuple[int, ...]:
        slices = padded.shape[1] - 2 * self.profile.context_slices
        if slices < 1:
            raise ModelError(f"expected a slice and its neighbours, got {padded.shape[1]} slices", file=self.files[0])
        return len(Channel), slices, *padded.shape[2:]

    def _each_logits(self, padded: FloatArray) -> Generator[FloatArray]:
        """(3, slices, 256, 256) logits of one model after another."""
        shape = self._output_shape(padded)
        with closing(self._each(padded, lambda _: AllLogits(shape))) as kept:
            for found in kept:
                yield found.array

    def _each(self, padded: FloatArray, kept_of: Callable[[OnnxModel], Kept]) -> Generator[Kept]:
        """What is kept of one model's logits after another's; parts of the volume run side by side."""
        options = run_options()
        kept: deque[Kept] = deque()

        def stop() -> None:
            options.terminate = True

        def run(model: OnnxModel, first: int, last: int, into: Kept) -> None:
            context = self.profile.context_slices
            if model.whole_volume:
                given = padded[None, :, first : last + 2 * context]
            else:
                given = extract_slabs(padded, first, last, context)
            into.add(first, model.run(given, options))

        def jobs() -> Iterator[list[Job]]:
            for model in self._models:
                kept.append(kept_of(model))
                parts = self._parts(model, self._output_shape(padded)[1])
                yield [partial(run, model, *part, kept[-1]) for part in parts]

        with closing(in_groups(jobs(), self._runs, stop)) as done:
            for _ in done:
                yield kept.popleft()

    def _parts(self, model: OnnxModel, slices: int) -> list[tuple[int, int]]:
        """First slice of each part of a volume, and the first after it; nearly equal, one for each run at least."""
        at_once = max(1, (self.chunk_slices if model.whole_volume else model.slabs) // self._runs)
        n = min(slices, max(self._runs, -(-slices // at_once)))
        return [(slices * part // n, slices * (part + 1) // n) for part in range(n)]


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
