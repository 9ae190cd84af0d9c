"""Stage 0: a synthetic cohort in the layout of a real one."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from fvv import __version__
from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.config import SimulateConfig
from fvv.data import Failure
from fvv.errors import FvvError, InputError
from fvv.imaging.decision import format_ml
from fvv.io.atomic import clear_remains
from fvv.io.listing import listed_once
from fvv.io.ownership import claim
from fvv.io.shards import finishing, hold, hold_for_a_moment, write_run
from fvv.io.tables import failure_of
from fvv.names import counted
from fvv.schemas.run import MadeFrom, RunRecord
from fvv.schemas.simulation import Simulation, case_settings
from fvv.simulator.anatomy import load_atlas
from fvv.simulator.case import SIMULATOR_VERSION
from fvv.simulator.files import (
    hash_sources,
    is_kept,
    refuse_other_files,
    refuse_other_settings,
    write_cohort_table,
    write_simulated_case,
)
from fvv.simulator.make import make_case
from fvv.simulator.visits import plan_visit
from fvv.system.fingerprint import fingerprint
from fvv.system.parallel import map_items
from fvv.system.shard import Shard

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SimulateResult:
    """What a run made."""

    output: Path
    made: int  # now
    kept: int  # found complete from an earlier run
    cases: Sequence[Simulation]  # every case in the folder, sorted by name
    failures: tuple[Failure, ...]
    shard: Shard | None = None  # which part of the cohort this was; None: all of it

    def summary(self) -> str:
        """A few lines for the console."""
        strokes = [one.case for one in self.cases if one.case.lesion_volume_ml > 0]
        lines = [f"{counted(self.made, 'case')} made, {self.kept} kept, {len(self.failures)} failed: {self.output}"]
        if strokes:
            volumes = [case.lesion_volume_ml for case in strokes]
            mismatches = sum(case.dwi_flair_mismatch is True for case in strokes)
            lines.append(
                f"{len(strokes)} of {len(self.cases)} with a stroke, {_volumes(volumes)}; "
                f"{counted(mismatches, 'DWI-FLAIR mismatch', 'DWI-FLAIR mismatches')}"
            )
        if self.shard is not None:
            lines.append(f"shard {self.shard}: when all have ended, `fvv gather {self.output}` writes the table")
        return "\n".join(lines)


def _volumes(volumes_ml: Sequence[float]) -> str:
    smallest, middle, largest = (format_ml(of(volumes_ml)) for of in (min, median, max))
    return smallest if len(volumes_ml) == 1 else f"{smallest} to {largest} (median {middle})"


def simulate(
    output: str | Path, config: SimulateConfig, *, overwrite: bool = False, shard: Shard | None = None
) -> SimulateResult:
    """Write a synthetic cohort: one folder a case, and participants.tsv.

    Cases that are there already, as they were written and of the same settings, are kept, so that a run cut short goes
    on and a larger cohort contains the smaller one.

    Args:
        output: folder of the cohort, which holds nothing else.
        overwrite: replace cases of other settings.
        shard: make this part alone and write no table; `gather` does.

    Raises:
        OutputExistsError: the folder holds something that was not simulated, or cases of other settings.
        FvvError: the tissue maps are not installed, an input folder lacks what is needed, or the output cannot be
            written.
    """
    output = Path(output)
    started = time.perf_counter()
    sources = hash_sources(config)
    numbers = range(1, config.cases + 1) if config.only is None else (config.only,)
    cohort = tuple(plan_visit(number, config).participant for number in numbers)
    names = cohort if shard is None else shard.select(cohort)
    with ExitStack() as held:
        _hold(output, names, shard, held)
        if not overwrite:
            for name in names:
                refuse_other_settings(output / name, config, sources)
        depends_on = {"simulator": SIMULATOR_VERSION, "settings": case_settings(config)}
        settings = fingerprint(**depends_on, **({"sources": sources} if sources else {}))
        record = RunRecord(
            verb="simulate",
            software=f"fvv {__version__}",
            options=config.model_dump(mode="json"),
            made_from=MadeFrom(software=__version__, settings=settings),
            shard=shard,
            cohort=cohort,
        )
        if shard is not None:
            write_run(output, record)
        done, failures = _make_all(names, output, config, sources)
        made = sum(done.values())
        if shard is not None:
            places = {name: name for name in sorted(done)}
            write_run(output, record.finished(places, tuple(failures), time.perf_counter() - started))
            return SimulateResult(output, made, len(done) - made, (), tuple(failures), shard)
        with finishing(output):
            cases, damaged = write_cohort_table(output, done)
    return SimulateResult(output, made, len(done) - made, cases, (*failures, *damaged))


def _hold(output: Path, names: Sequence[str], shard: Shard | None, held: ExitStack) -> None:
    """Hold the output folder or the place of the shard, and take the names of its cases; the folder is listed once.

    A case's folder is written whole under its own name: shards never meet.
    """
    if shard is None:
        held.enter_context(hold(output, shard))
    with hold_for_a_moment(output, shard):
        held.enter_context(listed_once(output))
        hint = "choose an output folder that holds only simulated cases"
        refuse_other_files(output, (), "already there, and not written by fvv", hint)
        if shard is not None:
            held.enter_context(hold(output, shard))
        claim(output, [PARTICIPANTS_FILE, *names])


def _make_all(
    names: Sequence[str], output: Path, config: SimulateConfig, sources: Mapping[str, str]
) -> tuple[dict[str, bool], list[Failure]]:
    """Which cases are there now, each with whether it was made and not kept; and failures."""
    uses_average = config.anatomies is None or config.heads is not None
    if uses_average and not all((output / name).exists() for name in names):
        load_atlas()  # Without it there is one error, not one for each case.
    clear_remains(output, set(names))  # Once for all: a listing for each case would take the square of their number.
    done: dict[str, bool] = {}
    failures = []
    make = partial(_make_case, output=output, config=config, sources=sources)
    for name, result in map_items(make, names, workers=config.compute.workers, description="simulate"):
        if isinstance(result, FvvError):
            failures.append(failure_of(name, result))
            log.error("%s", result)
        else:
            done[name] = result
    return done, sorted(failures, key=lambda failure: failure.examination_id)


def _make_case(name: str, *, output: Path, config: SimulateConfig, sources: Mapping[str, str]) -> bool:
    """Keep a case that is as it was written, else make it; gives whether it was made."""
    folder = output / name
    if folder.exists():
        try:
            if is_kept(folder, config, sources):
                return False
        except InputError as error:
            log.warning("%s is made again: %s", name, error)
    case = make_case(int(name.rpartition("_")[2]), config)
    write_simulated_case(folder, case, config, sources)
    return True
