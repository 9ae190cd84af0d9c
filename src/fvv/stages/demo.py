"""All stages, one after the other, on a small synthetic cohort.

The only stage that calls other stages: it does what a person does who types the verbs in order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from fvv.config import Config, load_config
from fvv.data import Failure
from fvv.errors import ConfigError
from fvv.io.atomic import write_text
from fvv.stages import StageResult
from fvv.stages.convert import convert
from fvv.stages.evaluate import evaluate
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


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo did.

    Attributes:
        output: the folder that holds everything.
        seconds: time of each step, in order.
        summaries: what each step had to say, in order.
        failures: patients that failed in any step.
    """

    output: Path
    seconds: dict[str, float]
    summaries: dict[str, str]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """Times, what evaluation and prediction found, and where to look."""
        lines = [f"{step:<22}{seconds:8.1f} s" for step, seconds in self.seconds.items()]
        lines += [f"{'all':<22}{sum(self.seconds.values()):8.1f} s", ""]
        lines += [self.summaries["evaluate"], "", self.summaries["predict"], "", "Where to look:"]
        pages = [self.output / folder / "report.html" for folder in ("processed_data", "predictions")]
        pictures = sorted(self.output.glob("predictions/*/synthesis.png"))
        return "\n".join([*lines, *(f"  {path}" for path in [*pages, *pictures] if path.exists())])


def demo(output: Path, config: Config, *, cases: int | None = None, seed: int | None = None) -> DemoResult:
    """Run stages 0 to 5. A second run into the same folder goes on where the first ended.

    Args:
        output: folder for everything; each stage has its usual folder in it.
        config: settings of all stages.
        cases: examinations to simulate, in place of the settings' number.
        seed: seed of every stage, in place of the settings'.

    Raises:
        ConfigError: the folder holds a demo with other settings.
        FvvError: a whole stage failed.
    """
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
        "convert": lambda: convert(checkpoints, store, models, config.convert, name=config.train.name),
        "evaluate": lambda: evaluate(store, models, output / "processed_data", config.evaluate, overwrite=True),
        "predict": lambda: predict(new, models, output / "predictions", predict_settings),
    }
    seconds: dict[str, float] = {}
    summaries: dict[str, str] = {}
    failures: list[Failure] = []
    for number, (step, run) in enumerate(steps.items(), start=1):
        log.info("== %d of %d: %s", number, len(steps), step)
        started = time.perf_counter()
        result = run()
        seconds[step] = time.perf_counter() - started
        summaries[step] = result.summary()
        failures += [Failure(failure.patient, f"{step}: {failure.reason}") for failure in result.failures]
        log.info("== %s took %.1f s\n%s", step, seconds[step], summaries[step])
    return DemoResult(output, seconds, summaries, tuple(failures))


def _with(config: Config, cases: int | None, seed: int | None) -> Config:
    overrides = config.model_dump(mode="json")
    if cases is not None:
        overrides["simulate"]["cases"] = cases
    if seed is not None:
        for section in ("simulate", "prepare", "train", "evaluate"):
            overrides[section]["seed"] = seed
    return load_config(overrides=overrides)


def _remember(output: Path, config: Config) -> None:
    """Keep the settings beside the results; refuse to mix two sets of settings in one folder."""
    path = output / "demo.yaml"
    if path.exists() and load_config(path) != config:
        raise ConfigError(
            "this folder holds a demo with other settings", file=path, hint="choose another with -o, or delete it"
        )
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
