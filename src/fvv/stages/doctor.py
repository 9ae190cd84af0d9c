"""Does a bundle of models work on this machine as it did where it was converted, and how fast?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvv.arrays import FloatArray
from fvv.config import DoctorConfig, Precision
from fvv.data import Failure
from fvv.errors import FvvError, ModelError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.golden import GoldenDifference, difference, golden_input, golden_output
from fvv.inference.providers import choose_providers, offered_devices
from fvv.io.bundle import ModelBundle
from fvv.io.golden import read_golden

TIMED_SLICES = 8


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """One model in one form, or all of them in one graph.

    Attributes:
        file: its name in the bundle.
        precision: of its weights.
        against_golden: its outputs here against the bundle's; None where the bundle keeps none (published format).
        seconds_per_slice: wall time.
        problem: why it does not pass: outputs that are no logits, or too far from the golden ones; "" where it passes.
        one_graph: whether it is the graph of all models, which `predict` takes where it is there.
    """

    file: str
    precision: Precision
    against_golden: GoldenDifference | None
    seconds_per_slice: float
    problem: str
    one_graph: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """What the check found.

    Attributes:
        bundle: the folder.
        provider: where the network really ran.
        models: each model in each form.
        failures: those that did not pass.
    """

    bundle: Path
    provider: str
    models: tuple[ModelCheck, ...]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """A line per model, the speed of the whole, and pass or fail."""
        lines = [f"{'model':<20}{'max |d logit|':>15}{'mean |d logit|':>16}{'flipped':>10}{'ms/slice':>10}"]
        for model in self.models:
            found = model.against_golden
            numbers = (
                f"{'no golden output in the bundle':>41}"
                if found is None
                else f"{found.largest:>15.1e}{found.mean:>16.1e}{found.flipped:>10.1e}"
            )
            verdict = "" if model.passed else "   FAIL"
            lines.append(f"{model.file:<20}{numbers}{1000 * model.seconds_per_slice:>10.1f}{verdict}")
        for precision in dict.fromkeys(model.precision for model in self.models):
            for one_graph in (False, True):
                chosen = [one for one in self.models if (one.precision, one.one_graph) == (precision, one_graph)]
                if chosen:
                    what = "all in one graph" if one_graph else f"{len(chosen)} models"
                    seconds = 30 * sum(model.seconds_per_slice for model in chosen)
                    lines.append(f"{what}, {precision}: {seconds:.1f} s of network for 30 slices")
        lines.append(f"ran on {self.provider}; this onnxruntime offers {', '.join(offered_devices())}")
        lines.append(f"{'FAIL' if self.failures else 'pass'}: {self.bundle}")
        return "\n".join(lines)


def doctor(models: Path, config: DoctorConfig) -> DoctorResult:
    """Run every model of a bundle, and the graph of them all, on its golden input and compare.

    Args:
        models: a bundle, or a folder of models in the published format (which then only have to run).
        config: device and threads.

    Raises:
        ModelError: the bundle is damaged, or the device is not there.
    """
    bundle = ModelBundle.open(models)
    choose_providers(config.device)  # A device that is not there is no fault of a model.
    golden: dict[str, FloatArray] = {}
    images = golden_input(bundle.profile)
    if bundle.manifest.golden is not None:
        images, golden = read_golden(models / bundle.manifest.golden.file, len(bundle.models))
    checks, failures, provider = [], [], ""
    for form in _forms(bundle):
        try:
            ensemble = OnnxEnsemble.from_bundle(
                bundle,
                bundle.models[form.models],
                precision=form.precision,
                device=config.device,
                threads=config.threads,
                one_graph=form.one_graph,
                confirmed=False,
            )
            provider = ensemble.provider
            kept = golden[form.precision][form.models] if form.precision in golden else None
            check = _check(ensemble, form, images, kept)
        except FvvError as error:
            failures.append(Failure(form.file, str(error)))
            continue
        checks.append(check)
        if check.problem:
            failures.append(Failure(form.file, check.problem))
    return DoctorResult(models, provider, tuple(checks), tuple(failures))


@dataclass(frozen=True, slots=True)
class _Form:
    """A file to check, and which models it holds."""

    file: str
    precision: Precision
    models: slice
    one_graph: bool = False


def _forms(bundle: ModelBundle) -> Iterator[_Form]:
    for precision in bundle.precisions:
        for number, model in enumerate(bundle.models):
            yield _Form(bundle.file(model, precision).name, precision, slice(number, number + 1))
        one_graph = bundle.fused(precision)
        if one_graph is not None:
            yield _Form(one_graph.name, precision, slice(None), one_graph=True)


def _check(ensemble: OnnxEnsemble, form: _Form, images: FloatArray, kept: FloatArray | None) -> ModelCheck:
    found = golden_output(ensemble, images)  # Also warms the session up.
    context = ensemble.profile.context_slices
    volume = np.zeros((images.shape[0], TIMED_SLICES + 2 * context, *images.shape[2:]), dtype=np.float32)
    started = time.perf_counter()
    ensemble.logits(volume)
    seconds = (time.perf_counter() - started) / TIMED_SLICES
    against = None if kept is None else difference(found, kept)
    problem = ""
    if against is not None and not against.accepted(form.precision):
        problem = f"does not give its reference output on this machine: {against.told(form.precision)}"
    try:
        ensemble.masks(images.astype(np.float32))  # As in a patient: the outputs must be logits.
    except ModelError as error:
        problem = problem or error.message
    return ModelCheck(form.file, form.precision, against, seconds, problem, form.one_graph)
