"""Stage 5 again: other cut-offs for a finished prediction; no new inference."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from fvv.config import DecisionConfig
from fvv.data import DecisionState, Failure, Prediction
from fvv.errors import ConfigError, FvvError, OutputExistsError
from fvv.imaging.decision import decide_again, format_ml
from fvv.io.lock import only_writer
from fvv.io.ownership import claim
from fvv.io.result_files import decision_table
from fvv.io.results_folder import find_results, read_result, results_of_run, write_results_table
from fvv.io.tables import failure_of
from fvv.names import first_few
from fvv.system.parallel import track


@dataclass(frozen=True, slots=True)
class DecideResult:
    """What another cut-off says.

    Attributes:
        before, after: each patient's answer as predicted, and now; in the same order.
        failures: results that cannot be trusted or read.
        left_out: results in the folder or below that are not of its run.
    """

    output: Path
    before: tuple[Prediction, ...]
    after: tuple[Prediction, ...]
    failures: tuple[Failure, ...]
    left_out: tuple[Path, ...] = ()

    def summary(self) -> str:
        """One line a patient whose answer changed, and where the table is."""
        lines = [
            f"{new.examination_id}: {old.decision.state.value} -> {new.decision.state.value}, "
            f"FVV {format_ml(new.fvv_ml, new.decision.cutoff_ml)}"
            for old, new in zip(self.before, self.after, strict=True)
            if old.decision.state is not new.decision.state
        ]
        lines.append(f"{len(lines)} of {len(self.after)} answers changed -> {self.output} (for research use only)")
        if self.left_out:
            lines.append(f"left out, because run.json does not list them: {first_few(self.left_out, 3)}")
        return "\n".join(lines)


def decide(results: str | Path, config: DecisionConfig, *, overwrite: bool = False) -> DecideResult:
    """Decide again for every patient of a finished prediction.

    The patients' own files stay as they are and say the cut-off they were made with; the new answers are a table.

    Args:
        results: what `predict` wrote: a cohort's folder, whose run.json says which results are its own, or one
            patient's.
        config: cut-off; a smallest lesion and a prevalence only where they are named, else each patient's own hold.
        overwrite: replace a table of the same cut-off.

    Raises:
        ConfigError: the cut-off is no volume.
        InputError: no result there, or results of which no run.json says that they belong together.
        OutputExistsError: the table is there, and overwriting was not asked for.
    """
    results = Path(results)
    if not 0 < config.cutoff_ml < math.inf:
        raise ConfigError(f"expected a cut-off over 0 mL, got {config.cutoff_ml:g}")
    files, run = results_of_run(results)
    table = decision_table(results, config.cutoff_ml)
    if table.exists() and not overwrite:
        raise OutputExistsError("already there", file=table, hint="use --overwrite to replace it")
    before, after, failures = [], [], []
    with only_writer(results, clear=False):
        claim(results, [table.name])
        for name, file in track(files.items(), "decide", len(files)):
            try:
                prediction = read_result(file).verify(run).prediction
            except FvvError as error:
                failures.append(failure_of(name, error))
                continue
            before.append(prediction)
            decision = decide_again(prediction, config)
            lesion = decision.state is not DecisionState.NO_LESION_FOUND
            probability = prediction.mismatch_probability if lesion else None
            again = replace(prediction, decision=decision, mismatch_probability=probability)
            after.append(again.at_prevalence(config.prevalence))
        write_results_table(table, after)
    used = {file.resolve() for file in files.values()}
    left_out = tuple(file for file in find_results(results) if file.resolve() not in used)
    return DecideResult(table, tuple(before), tuple(after), tuple(failures), left_out)
