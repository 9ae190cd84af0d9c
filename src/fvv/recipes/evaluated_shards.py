"""An evaluation in shards: each measures its part of the examinations; joined, they are one evaluation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fvv import __version__
from fvv.config import EvaluateConfig
from fvv.data import Failure
from fvv.errors import InputError
from fvv.io.bundle import ModelBundle
from fvv.io.evaluation import EvaluationFolder
from fvv.io.lock import only_writer
from fvv.io.shards import (
    hold_for_a_moment,
    hold_with_shards,
    mark_gathered,
    read_shards,
    refuse_unfinished,
    shard_place,
    write_run,
)
from fvv.recipes.evaluation import (
    Plan,
    counts_of,
    measure_all,
    measured_of,
    nobody_evaluated,
    refuse_unknown_metrics,
    sources_of,
)
from fvv.recipes.publish import EvaluateResult, publish
from fvv.schemas.run import MadeFrom, RunRecord
from fvv.schemas.summary import CohortKind, Measured
from fvv.system.fingerprint import fingerprint
from fvv.system.shard import Shard


@dataclass(frozen=True, slots=True)
class EvaluatedShard:
    """What a shard of an evaluation did.

    Attributes:
        patients: how many examinations of it have a result.
    """

    output: Path
    shard: Shard
    patients: int
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """Two lines: no number of a part is shown."""
        return (
            f"{self.patients} patients tested, {len(self.failures)} failed -> {self.output}\n"
            f"shard {self.shard}: when all have ended, `fvv gather {self.output}` writes tables and report"
        )


def run_shard(
    plan: Plan, bundle: ModelBundle, output: Path, config: EvaluateConfig, shard: Shard, *, overwrite: bool
) -> EvaluatedShard:
    """Examine and measure every examination of a shard that the folder does not hold yet.

    Args:
        plan: of the shard.
        output: folder that all shards share.
        config: with what it leaves to the bundle filled in.
        overwrite: measure all again.

    Raises:
        ConfigError: a metric of the user's own cannot be found.
        OutputExistsError: another evaluation is finished there, and overwriting was not asked for; or files that this
            program did not write are in the way.
    """
    folder, started = EvaluationFolder(output), time.perf_counter()
    refuse_unknown_metrics(config)
    known = bundle.manifest.model_copy(update={"calibration": None})  # Of no answer here.
    settings = fingerprint(settings=config.model_dump(mode="json", exclude={"compute", "calibrate"}))
    record = RunRecord(
        verb="evaluate",
        software=f"fvv {__version__}",
        options=config.model_dump(mode="json"),
        models=bundle.manifest.models_sha256,
        made_from=MadeFrom(software=__version__, models=fingerprint(manifest=known), settings=settings),
        cohort=tuple(plan.examinations),
        shard=shard,
    )
    with ExitStack() as held:
        with hold_for_a_moment(output, shard):
            held.enter_context(only_writer(shard_place(output, shard)))
            folder.begin_shard(sources_of(plan), config, overwrite=overwrite)
        write_run(output, record)
        patients, failures, _ = measure_all(plan, bundle, folder, config)
        places = {patient.examination_id: folder.place_of(patient.examination_id) for patient in patients}
        ended = record.finished(places, tuple(failures), time.perf_counter() - started)
        measured = measured_of(plan, bundle, patients, failures)
        write_run(output, ended.model_copy(update={"measured": measured}))
    return EvaluatedShard(output, shard, len(patients), tuple(failures))


def gather_shards(output: Path) -> EvaluateResult:
    """Join the shards of an evaluation: what is said of the whole cohort. A second call does the same again.

    Raises:
        InputError: no shards there, shards of different runs, shards that are missing or have not ended, or a result
            that is not there as it was written.
    """
    folder = EvaluationFolder(output)
    with hold_with_shards(output):
        records = read_shards(output)
        refuse_unfinished(output, records)
        config = EvaluateConfig.model_validate(records[0].options)
        parts = [record.measured for record in records if record.measured is not None]
        sources = {name: source for part in parts for name, source in part.sources.items()}
        sources = dict(sorted(sources.items()))
        patients = folder.take_over(sources)
        failures = {failure.examination_id: failure for part in parts for failure in part.failures}
        failed = [failures[name] for name in sorted(failures) if name not in sources]
        if not patients:
            raise nobody_evaluated(failed, output)
        more = {name: count for name, count in parts[0].counts.items() if name not in counts_of((), (), {})}
        if any(part.run != parts[0].run or not more.items() <= part.counts.items() for part in parts):
            raise InputError("the store or the software changed between the shards", file=output, hint="run all again")
        together = {
            "failures": tuple(failed),
            "counts": counts_of(patients, failed, more),
            "sources": sources,
            "cohort": _kind_of(parts),
        }
        result = publish(folder, parts[0].model_copy(update=together), patients, config)
        mark_gathered(output)
        return result


def _kind_of(parts: Sequence[Measured]) -> CohortKind:
    kinds = {part.cohort for part in parts if part.sources}
    return kinds.pop() if len(kinds) == 1 else "unknown"
