"""Rebuild the report of a finished evaluation from its files: another cut-off needs no new inference."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fvv.config import EvaluateConfig
from fvv.errors import InputError
from fvv.io.evaluation import EvaluationFolder
from fvv.io.lock import only_writer
from fvv.recipes.publish import EvaluateResult, Evaluation, publish

log = logging.getLogger(__name__)

MEASURED_WITH = (
    "preprocess", "postprocess", "own_masks", "device", "threads", "chunk_slices", "heatmaps", "calibrate",
)  # fmt: skip
"""Settings of the inference. It is done, so they stay what they were: a report never says otherwise."""


def report(folder: Path, config: EvaluateConfig | None = None, *, compare: Path | None = None) -> EvaluateResult:
    """Compute tables, figures and the page anew from the patients' results.

    Args:
        folder: output of `evaluate`; its summary, tables, figures and page are replaced.
        config: what was set in it is changed; all else stays as the evaluation was last reported.
        compare: another model's evaluation of the same patients, to compare with.

    Raises:
        InputError: no finished evaluation is there, or one of its files is missing or damaged.
        FvvError: the two evaluations do not belong together.
    """
    files = EvaluationFolder(folder)
    with only_writer(folder):
        measured = Evaluation.from_files(files)
        given = {} if config is None else config.model_dump(mode="json", exclude_unset=True)
        settings = _changed(measured.settings, given)
        other = None if compare is None else Evaluation.from_files(EvaluationFolder(compare))
        return publish(files, measured, _settings(settings, folder), other)


def _settings(content: Mapping[str, Any], folder: Path) -> EvaluateConfig:
    try:
        return EvaluateConfig.model_validate(content)
    except ValidationError as error:
        message = f"the settings of this evaluation are not of this version: {error.errors()[0]['msg']}"
        raise InputError(message, file=folder, hint="run `fvv evaluate` again") from error


def _changed(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The stored settings with those given on top, but for what the inference was done with."""
    kept = [name for name in MEASURED_WITH if given.get(name) not in (None, "auto", settings.get(name))]
    if kept:
        log.warning("kept as the evaluation was done, which a report cannot change: %s", ", ".join(kept))
    new = {name: value for name, value in given.items() if name not in MEASURED_WITH}
    return {**settings, **new, "decision": {**settings["decision"], **new.get("decision", {})}}
