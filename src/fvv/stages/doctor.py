"""Does a bundle of models give its reference output on this machine, and how fast?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvv.arrays import FloatArray
from fvv.config import ComputeConfig
from fvv.data import Failure
from fvv.errors import FvvError, ModelError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.golden import golden_input, golden_output, largest_difference, problem_of
from fvv.inference.providers import choose_providers, offered_devices
from fvv.io.bundle import ModelBundle, read_golden

TIMED_SLICES = 16


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """One model.

    Attributes:
        difference: largest difference of its logits from the reference output; None where the bundle has none
            (published format).
        problem: why it does not pass: outputs that are no logits, or too far from the reference; "" where it passes.
    """

    file: str
    difference: float | None
    seconds_per_slice: float
    problem: str


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """What the check found.

    Attributes:
        provider: where the network really ran.
        failures: those that did not run or did not pass.
    """

    bundle: Path
    provider: str
    models: tuple[ModelCheck, ...]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """A line per model, the speed of the whole, and pass or fail."""
        lines = [f"{'model':<20}{'max |d logit|':>24}{'ms/slice':>10}"]
        for model in self.models:
            found = "no reference output" if model.difference is None else f"{model.difference:.1e}"
            verdict = "   FAIL" if model.problem else ""
            lines.append(f"{model.file:<20}{found:>24}{1000 * model.seconds_per_slice:>10.1f}{verdict}")
        seconds = 30 * sum(model.seconds_per_slice for model in self.models)
        lines.append(f"{len(self.models)} models: {seconds:.1f} s of network for 30 slices")
        lines.append(f"ran on {self.provider}; this onnxruntime offers {', '.join(offered_devices())}")
        lines.append(f"{'FAIL' if self.failures else 'pass'}: {self.bundle}")
        return "\n".join(lines)


def doctor(models: str | Path, config: ComputeConfig) -> DoctorResult:
    """Run every model of a bundle on its reference input and compare.

    Args:
        models: a bundle, or a folder of models in the published format (which then only have to run).

    Raises:
        ModelError: the bundle is damaged, or the device is not there.
    """
    models = Path(models)
    bundle = ModelBundle.open(models)
    choose_providers(config.device)  # A device that is not there is no fault of a model.
    images, kept = golden_input(bundle.profile), None
    if bundle.manifest.golden is not None:
        images, kept = read_golden(models / bundle.manifest.golden.file, len(bundle.models))
    checks, failures, provider = [], [], ""
    for number, entry in enumerate(bundle.models):
        try:
            ensemble = OnnxEnsemble.from_bundle(
                bundle, [entry], device=config.device, threads=config.threads, confirmed=False
            )
            provider = ensemble.provider
            check = _check(entry.file, ensemble, images, None if kept is None else kept[number])
        except FvvError as error:
            failures.append(Failure(entry.file, str(error)))
            continue
        checks.append(check)
        if check.problem:
            failures.append(Failure(entry.file, check.problem))
    return DoctorResult(models, provider, tuple(checks), tuple(failures))


def _check(file: str, ensemble: OnnxEnsemble, images: FloatArray, kept: FloatArray | None) -> ModelCheck:
    found = golden_output(ensemble, images)[0]  # Also warms the session up.
    context = ensemble.profile.context_slices
    volume = np.zeros((images.shape[0], TIMED_SLICES + 2 * context, *images.shape[2:]), dtype=np.float32)
    started = time.perf_counter()
    ensemble.logits(volume)
    seconds = (time.perf_counter() - started) / TIMED_SLICES
    difference = None if kept is None else largest_difference(found, kept)
    problem = "" if difference is None else problem_of(difference)
    try:
        ensemble.masks(images.astype(np.float32))  # As for a patient: the outputs must be logits.
    except ModelError as error:
        problem = problem or error.message
    return ModelCheck(file, difference, seconds, problem)
