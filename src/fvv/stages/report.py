"""Rebuild the report of a finished evaluation from its files: another cut-off needs no new inference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fvv.analysis.publish import EvaluateResult, Evaluation, publish
from fvv.config import EvaluateConfig, load_config
from fvv.io.evaluation import EvaluationFolder
from fvv.io.lock import only_writer


def report(
    folder: Path,
    config: EvaluateConfig | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    compare: Path | None = None,
) -> EvaluateResult:
    """Compute tables, figures and the page anew from the patients' results.

    Args:
        folder: output of `evaluate`; its summary, tables, figures and page are replaced.
        config: settings; None: those the evaluation was last reported with.
        changes: single settings by dotted name, as {"evaluate.decision.cutoff_ml": 1.0}, on top of those.
        compare: another model's evaluation of the same patients, to compare with.

    Raises:
        InputError: no finished evaluation is there.
        ConfigError: no such setting.
        FvvError: the two evaluations do not belong together.
    """
    files = EvaluationFolder(folder)
    with only_writer(folder):
        measured = Evaluation.from_files(files)
        settings = measured.settings if config is None else config.model_dump(mode="json")
        chosen = load_config(overrides={"evaluate": settings, **(changes or {})}).evaluate
        other = None if compare is None else Evaluation.from_files(EvaluationFolder(compare))
        return publish(files, measured, chosen, other)
