"""Stage 5 again: other cut-offs for a finished prediction; no new inference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fvv.config import DecisionConfig
from fvv.data import DecisionState, Failure, Prediction
from fvv.errors import FvvError
from fvv.imaging.decision import decide_again, format_ml
from fvv.io.lock import only_writer
from fvv.io.manifest import failure_of
from fvv.io.results import decision_table, find_results, read_result, refuse_existing, write_results_table
from fvv.parallel import track


@dataclass(frozen=True, slots=True)
class DecideResult:
    """What another cut-off says.

    Attributes:
        output: the table written.
        before, after: each patient's answer as predicted, and now; in the same order.
        failures: results that could not be read.
    """

    output: Path
    before: tuple[Prediction, ...]
    after: tuple[Prediction, ...]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """One line a patient whose answer changed, and where the table is."""
        lines = [
            f"{new.patient}: {old.decision.state.value} -> {new.decision.state.value}, "
            f"FVV {format_ml(new.fvv_ml, new.decision.cutoff_ml)}"
            for old, new in zip(self.before, self.after, strict=True)
            if old.decision.state is not new.decision.state
        ]
        lines.append(f"{len(lines)} of {len(self.after)} answers changed -> {self.output} (for research use only)")
        return "\n".join(lines)


def decide(results: Path, config: DecisionConfig, *, overwrite: bool = False) -> DecideResult:
    """Decide anew for every patient of a finished prediction.

    The patients' own files stay as they are and say the cut-off they were made with; the new answers are a table.

    Args:
        results: what `predict` wrote: a cohort's folder, or one patient's.
        config: cut-off; a smallest lesion only where it is named, else each patient's own holds.
        overwrite: replace a table of the same cut-off.

    Raises:
        InputError: no result there.
        OutputExistsError: the table is there, and overwriting was not asked for.
    """
    files = find_results(results)
    table = decision_table(results, config.cutoff_ml)
    if not overwrite:
        refuse_existing(results, [table.name])
    before, after, failures = [], [], []
    with only_writer(results):
        for file in track(files, "decide", len(files)):
            try:
                prediction, _ = read_result(file)
            except FvvError as error:
                failures.append(failure_of(file.parent.name, error))
                continue
            before.append(prediction)
            decision = decide_again(prediction, config)
            lesion = decision.state is not DecisionState.NO_LESION_FOUND
            probability = prediction.mismatch_probability if lesion else None
            after.append(replace(prediction, decision=decision, mismatch_probability=probability))
        write_results_table(table, after)
    return DecideResult(table, tuple(before), tuple(after), tuple(failures))
