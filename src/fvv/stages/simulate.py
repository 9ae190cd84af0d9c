"""Stage 0: a synthetic cohort in the layout of a real one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Any

from threadpoolctl import threadpool_limits

from fvv.config import SimulateConfig
from fvv.data import Failure
from fvv.errors import FvvError, OutputExistsError
from fvv.imaging.phantom.anatomy import HeadModel, build_head_model
from fvv.imaging.phantom.case import SIMULATOR_VERSION, simulate_case
from fvv.imaging.phantom.cohort import plan_visit
from fvv.io.atlas import load_atlas
from fvv.io.lock import only_writer
from fvv.io.manifest import failure_of
from fvv.io.participants import PARTICIPANTS_FILE, write_participants
from fvv.io.simulation import read_simulation, write_simulated_case
from fvv.parallel import map_items

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SimulateResult:
    """What a run made.

    Attributes:
        output: the cohort's folder.
        made, kept: cases made now, and found complete from an earlier run.
        cases: the truth of every case in the folder, as in simulation.json, and its seed; sorted by name.
        failures: cases that could not be made.
    """

    output: Path
    made: int
    kept: int
    cases: tuple[dict[str, Any], ...]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """A few lines for the console."""
        strokes = [case for case in self.cases if case["lesion_volume_ml"] > 0]
        lines = [f"{self.made} cases made, {self.kept} kept, {len(self.failures)} failed: {self.output}"]
        if strokes:
            volumes = [case["lesion_volume_ml"] for case in strokes]
            mismatches = sum(case["dwi_flair_mismatch"] is True for case in strokes)
            lines.append(
                f"{len(strokes)} of {len(self.cases)} with a stroke, {min(volumes):.2g} to {max(volumes):.0f} mL "
                f"(median {median(volumes):.1f}); {mismatches} DWI-FLAIR mismatches"
            )
        return "\n".join(lines)


def simulate(output: Path, config: SimulateConfig, *, overwrite: bool = False) -> SimulateResult:
    """Write a synthetic cohort: one folder a case, and participants.tsv.

    Cases that are there already, complete and of the same settings, are kept, so that a run cut short goes on and a
    larger cohort contains the smaller one.

    Args:
        output: folder of the cohort.
        config: how many, which seed, which ranges.
        overwrite: make every case anew.

    Raises:
        OutputExistsError: a case's folder holds something else.
        FvvError: the tissue maps are not installed, or the folder cannot be written.
    """
    with only_writer(output):
        return _simulate(output, config, overwrite=overwrite)


def _simulate(output: Path, config: SimulateConfig, *, overwrite: bool) -> SimulateResult:
    numbers = range(1, config.cases + 1) if config.only is None else (config.only,)
    names = {plan_visit(number, config).participant: number for number in numbers}
    kept = set() if overwrite else _already_made(output, names, config)
    missing = [number for name, number in names.items() if name not in kept]
    failures = []
    if missing:
        load_atlas()
    make = partial(_make_case, output=output, config=config)
    for number, result in map_items(make, missing, workers=config.workers, description="simulate"):
        if isinstance(result, FvvError):
            failures.append(failure_of(plan_visit(number, config).participant, result))
            log.error("%s", result)
    cases = _cases_in(output)
    write_participants(output / PARTICIPANTS_FILE, [_participant_row(case) for case in cases])
    return SimulateResult(output, len(missing) - len(failures), len(kept), tuple(cases), tuple(failures))


@lru_cache(maxsize=1)
def _head_model() -> HeadModel:
    """The prepared atlas, once in each process."""
    return build_head_model(load_atlas())


def _make_case(number: int, *, output: Path, config: SimulateConfig) -> None:
    # BLAS may add in another order with another number of threads: one thread gives the same bytes everywhere.
    with threadpool_limits(1):
        case = simulate_case(number, _head_model(), config)
    folder = output / case.record.participant_id
    write_simulated_case(folder, case, _settings(config), write_mask=config.write_mask, overwrite=True)


def _settings(config: SimulateConfig) -> dict[str, Any]:
    """All that a case depends on, beside its number."""
    settings = config.model_dump(mode="json", exclude={"cases", "only", "workers"})
    return {"simulator_version": SIMULATOR_VERSION, **settings}


def _already_made(output: Path, names: dict[str, int], config: SimulateConfig) -> set[str]:
    kept = set()
    for name in names:
        folder = output / name
        if not folder.exists():
            continue
        found = read_simulation(folder)
        if found is None or found["settings"] != _settings(config):
            raise OutputExistsError(
                "already there, made with another seed, other settings or by hand",
                patient=name,
                file=folder,
                hint="choose another output folder, or --overwrite to replace it",
            )
        kept.add(name)
    return kept


def _cases_in(output: Path) -> list[dict[str, Any]]:
    found = (read_simulation(folder) for folder in sorted(output.glob("sim_*")) if folder.is_dir())
    return [{**content["case"], "seed": content["settings"]["seed"]} for content in found if content is not None]


def _participant_row(case: dict[str, Any]) -> dict[str, Any]:
    label, onset_h = case["dwi_flair_mismatch"], case["onset_h"]
    return {
        "participant_id": case["participant_id"],
        # Persons of another seed are others: models trained on the one cohort may be tested on the other.
        "patient_id": f"seed{case['seed']}_{case['patient_id']}",
        "site": case["site"],
        "onset_h": None if onset_h is None else round(onset_h, 2),
        "lesion_volume_ml": round(case["lesion_volume_ml"], 3),
        "flair_visible_ml": round(case["flair_visible_ml"], 3),
        "field_strength_t": case["field_strength_t"],
        "dwi_flair_mismatch": None if label is None else int(label),
    }
