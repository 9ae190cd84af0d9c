"""All stages, one after the other, on a small synthetic cohort.

The only stage that calls other stages: it does what a person does who types the verbs in order.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from fvv.config import Config, EvaluateConfig, load_config
from fvv.data import Failure
from fvv.errors import ConfigError, ModelError
from fvv.io.atomic import write_text
from fvv.io.ownership import claim, claimed
from fvv.io.shipped import shipped_bundle
from fvv.recipes.publish import EvaluateResult
from fvv.schemas.summary import Estimate, Summary
from fvv.stages import Printed, StageResult
from fvv.stages.convert import convert
from fvv.stages.evaluate import evaluate, evaluate_external
from fvv.stages.predict import predict
from fvv.stages.prepare import prepare
from fvv.stages.simulate import simulate
from fvv.stages.train import train_all_folds
from fvv.stages.verify import verify

log = logging.getLogger(__name__)

NEW_PATIENTS = 2
"""Examinations simulated beside the cohort for `predict`; no model ever sees them in training."""
NEW_PATIENTS_SEED_STEP = 1_000_003
"""Added to the cohort's seed: their seed is another one whichever seed the cohort has."""


_FOLDERS = (
    *("input_data", "new_patients", "preprocessed_data", "saved_models", "saved_models_ONNX"),
    *("processed_data", "shipped_model", "predictions"),
)
"""All that the demo writes beside its settings: none of them may be somebody's own."""
_COMPARED: Mapping[str, Callable[[Summary], Estimate]] = {
    "brain Dice, mean": lambda summary: summary.brain.dice_mean,
    "stroke Dice, pooled": lambda summary: summary.stroke.dice_pooled,
    "stroke Dice, mean": lambda summary: summary.stroke.dice_mean,
    "FVV, Spearman": lambda summary: summary.flair_visible.volume.rank,
    "mismatch, AUC": lambda summary: summary.marker.auc,
}


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo did."""

    output: Path
    seconds: dict[str, float]
    summaries: dict[str, str]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """Times, what evaluation and prediction found, and where to look."""
        lines = [f"{step:<22}{seconds:8.1f} s" for step, seconds in self.seconds.items()]
        lines += [f"{'all':<22}{sum(self.seconds.values()):8.1f} s", ""]
        for step in ("evaluate", "shipped model", "predict"):
            lines += [self.summaries[step], ""]
        lines.append("Where to look:")
        pages = [self.output / folder / "report.html" for folder in ("processed_data", "shipped_model", "predictions")]
        pictures = sorted(self.output.glob("predictions/*/synthesis.png"))
        return "\n".join([*lines, *(f"  {path}" for path in [*pages, *pictures] if path.exists())])


def demo(output: str | Path, config: Config, *, cases: int | None = None, seed: int | None = None) -> DemoResult:
    """Run stages 0 to 5, and the model in the package on the same cohort.

    A second run into the same folder resumes the first.

    Args:
        output: folder for everything; each stage has its usual folder in it.
        cases: examinations to simulate, instead of the settings' number.
        seed: seed of every stage, instead of the settings'.

    Raises:
        ConfigError: the folder holds a demo with other settings.
        OutputExistsError: it holds something of one of the demo's names that this program did not write.
    """
    output = Path(output)
    config = _with(config, cases, seed)
    _remember(output, config)
    cohort, new, store = output / "input_data", output / "new_patients", output / "preprocessed_data"
    checkpoints, models = output / "saved_models", output / "saved_models_ONNX"
    new_patients = config.simulate.model_copy(
        update={
            "cases": NEW_PATIENTS,
            "seed": config.simulate.seed + NEW_PATIENTS_SEED_STEP,
            "write_mask": False,  # A new patient comes without a brain mask.
        }
    )
    predict_settings = config.predict.model_copy(update={"overwrite": True})
    steps: dict[str, Callable[[], StageResult]] = {
        "simulate": lambda: simulate(cohort, config.simulate),
        "simulate new patients": lambda: simulate(new, new_patients),
        "verify": lambda: verify(cohort, config.prepare),
        "prepare": lambda: prepare(cohort, store, config.prepare),
        "train": lambda: train_all_folds(store, checkpoints, config.train),
        "convert": lambda: convert(
            checkpoints,
            store,
            models,
            config.convert,
            name=config.train.name,
            network=config.train.network.module,
            overwrite=True,
        ),
        "evaluate": lambda: evaluate(store, models, output / "processed_data", config.evaluate, overwrite=True),
        "shipped model": lambda: _shipped(cohort, output, config.evaluate, results["evaluate"]),
        "predict": lambda: predict(new, models, output / "predictions", predict_settings),
    }
    results: dict[str, StageResult] = {}
    seconds: dict[str, float] = {}
    summaries: dict[str, str] = {}
    failures: list[Failure] = []
    for number, (step, run) in enumerate(steps.items(), start=1):
        log.info("== %d of %d: %s", number, len(steps), step)
        started = time.perf_counter()
        result = results[step] = run()
        seconds[step] = time.perf_counter() - started
        summaries[step] = result.summary()
        failures += [Failure(failure.examination_id, f"{step}: {failure.reason}") for failure in result.failures]
        log.info("== %s took %.1f s", step, seconds[step])
        for line in summaries[step].splitlines():  # One record a line: a line break in a record is escaped.
            log.info("%s", line)
    return DemoResult(output, seconds, summaries, tuple(failures))


def _shipped(cohort: Path, output: Path, config: EvaluateConfig, own: StageResult) -> Printed:
    """The model in the package on the demo's cohort, which it has not seen, beside the models that the demo trained."""
    models = shipped_bundle()
    if models is None:
        return Printed("The package holds no model to compare with.")
    # A bundle in the package is never written to, and pictures of the same patients are in the demo's own report.
    settings = config.model_copy(update={"calibrate": False, "heatmaps": False})
    try:
        shipped = evaluate_external(cohort, models, output / "shipped_model", settings, overwrite=True)
    except ModelError as error:
        return Printed(f"The model in the package could not be tested on this cohort: {error}")
    if not isinstance(own, EvaluateResult):
        raise TypeError("the demo's evaluation comes first")
    return Printed(comparison_table(own.found, shipped.found, models.name), shipped.failures)


def comparison_table(own: Summary, shipped: Summary, name: str) -> str:
    """The same numbers of both, a line each."""
    lines = [f"{'':<22}{'demo, out of fold':>20}{'in the package':>20}"]
    for label, of in _COMPARED.items():
        numbers = (of(summary).value for summary in (own, shipped))
        values = ("n/a" if math.isnan(value) else f"{value:.3f}" for value in numbers)
        lines.append(f"{label:<22}" + "".join(f"{value:>20}" for value in values))
    return "\n".join(
        [
            *lines,
            f"in the package: {name}, the whole ensemble",
            "demo, out of fold: for each patient the one model that was not trained on that person",
        ]
    )


def _with(config: Config, cases: int | None, seed: int | None) -> Config:
    overrides = config.model_dump(mode="json")
    if cases is not None:
        overrides["simulate"]["cases"] = cases
    if seed is not None:
        for section in ("simulate", "prepare", "train", "evaluate"):
            overrides[section]["seed"] = seed
    return load_config(overrides=overrides)


def _remember(output: Path, config: Config) -> None:
    path = output / "demo.yaml"
    if path.name in claimed(output) and path.exists() and load_config(path) != config:
        raise ConfigError(
            "this folder holds a demo with other settings", file=path, hint="choose another with -o, or delete it"
        )
    claim(output, [path.name, *_FOLDERS])
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
