"""Rebuild the report of a finished evaluation from its files: another cut-off needs no new inference."""

from __future__ import annotations

import logging
from pathlib import Path

from fvv.config import EvaluateConfig
from fvv.io.evaluation import EvaluationFolder
from fvv.io.lock import only_writer
from fvv.recipes.publish import EvaluateResult, publish

log = logging.getLogger(__name__)

MEASURED_WITH = (
    "preprocess", "postprocess", "own_masks", "compute", "heatmaps", "calibrate", "metrics",
)  # fmt: skip
"""Settings of the inference, which is done: they stay as they were."""


def report(
    folder: str | Path, config: EvaluateConfig | None = None, *, compare: str | Path | None = None
) -> EvaluateResult:
    """Compute tables, figures and the page again from the examinations' results.

    Args:
        folder: output of `evaluate`; its summary, tables, figures and page are replaced.
        config: what was set in it is changed; all else stays as the evaluation was last reported.
        compare: another model's evaluation of the same patients, to compare with.

    Raises:
        InputError: no finished evaluation is there, or one of its files is missing or damaged.
        FvvError: the two evaluations do not belong together.
    """
    folder = Path(folder)
    compare = None if compare is None else Path(compare)
    files = EvaluationFolder(folder)
    with only_writer(folder):
        finished, patients = files.read_finished()
        other = None if compare is None else EvaluationFolder(compare).read_finished()
        settings = finished.settings if config is None else _changed(finished.settings, config)
        return publish(files, finished, patients, settings, other)


def _changed(settings: EvaluateConfig, given: EvaluateConfig) -> EvaluateConfig:
    """The stored settings with those given on top, but for what the inference was done with."""
    new = {name: getattr(given, name) for name in given.model_fields_set}
    kept = [name for name in MEASURED_WITH if new.pop(name, None) not in (None, "auto", getattr(settings, name))]
    if kept:
        log.warning("settings of the evaluation that a report cannot change keep their values: %s", ", ".join(kept))
    if "decision" in new:
        decision = {name: getattr(given.decision, name) for name in given.decision.model_fields_set}
        new["decision"] = settings.decision.model_copy(update=decision)
    return settings.model_copy(update=new)
