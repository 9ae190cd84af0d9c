"""Does a bundle of models work on this machine as it did where it was converted, and how fast?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvv.arrays import FloatArray
from fvv.config import DoctorConfig, Precision
from fvv.data import Failure
from fvv.errors import FvvError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.golden import GoldenDifference, difference, golden_input, golden_output
from fvv.inference.providers import choose_providers, offered_devices
from fvv.io.bundle import ModelBundle
from fvv.io.golden import read_golden

TIMED_SLICES = 8


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """One model in one form.

    Attributes:
        file: its name in the bundle.
        precision: of its weights.
        against_golden: its outputs here against the bundle's; None where the bundle keeps none (published format).
        seconds_per_slice: wall time.
        passed: finite outputs, and within bounds of the golden ones.
    """

    file: str
    precision: Precision
    against_golden: GoldenDifference | None
    seconds_per_slice: float
    passed: bool


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
            chosen = [model.seconds_per_slice for model in self.models if model.precision == precision]
            lines.append(f"{len(chosen)} models, {precision}: {30 * sum(chosen):.1f} s of network for 30 slices")
        lines.append(f"ran on {self.provider}; this onnxruntime offers {', '.join(offered_devices())}")
        lines.append(f"{'FAIL' if self.failures else 'pass'}: {self.bundle}")
        return "\n".join(lines)


def doctor(models: Path, config: DoctorConfig) -> DoctorResult:
    """Run every model of a bundle on its golden input and compare.

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
        images, golden = read_golden(models / bundle.manifest.golden.file)
    checks, failures, provider = [], [], ""
    forms: list[tuple[int, Precision]] = [
        (number, precision) for precision in bundle.precisions for number in range(len(bundle.models))
    ]
    for number, precision in forms:
        file = bundle.file(bundle.models[number], precision)
        try:
            ensemble = OnnxEnsemble.from_bundle(
                bundle, [bundle.models[number]], precision=precision, device=config.device, threads=config.threads
            )
            provider = ensemble.provider
            kept = golden[precision][number] if precision in golden else None
            check = _check(ensemble, file.name, precision, images, kept)
        except FvvError as error:
            failures.append(Failure(file.name, str(error)))
            continue
        checks.append(check)
        if not check.passed:
            failures.append(Failure(file.name, "says something else here than where it was converted"))
    return DoctorResult(models, provider, tuple(checks), tuple(failures))


def _check(
    ensemble: OnnxEnsemble, file: str, precision: Precision, images: FloatArray, kept: FloatArray | None
) -> ModelCheck:
    (found,) = golden_output(ensemble, images)  # Also warms the session up.
    context = ensemble.profile.context_slices
    volume = np.zeros((images.shape[0], TIMED_SLICES + 2 * context, *images.shape[2:]), dtype=np.float32)
    started = time.perf_counter()
    ensemble.logits(volume)
    seconds = (time.perf_counter() - started) / TIMED_SLICES
    against = None if kept is None else difference(found, kept)
    passed = bool(np.isfinite(found).all()) if against is None else against.accepted(precision)
    return ModelCheck(file, precision, against, seconds, passed)
