"""A simulated examination, and the results of a predicted cohort, as values."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from fvv.config import SimulateConfig
from fvv.data import Failure
from fvv.io.results_folder import read_result, results_of_run
from fvv.io.sealed import read_record
from fvv.io.shards import RUN_FILE
from fvv.schemas.results import Answer
from fvv.schemas.run import RunRecord
from fvv.simulator.case import SimulatedCase
from fvv.simulator.make import make_case


def simulate_case(seed: int = 0, number: int = 1, config: SimulateConfig | None = None) -> SimulatedCase:
    """A synthetic examination: the voxels that `fvv simulate --seed` writes for the case of this number.

    The first call in a process also prepares the head. Both take some seconds.

    Args:
        seed: of the cohort; other seeds are other persons.
        number: of the case in its cohort, counted from 1.
        config: settings of the simulator; None: the defaults. The argument `seed` replaces its seed.

    Returns:
        b0, b1000 and FLAIR, the masks of brain, stroke and FLAIR-visible part, and the parameters of the case.

    Raises:
        FvvError: the tissue maps are not installed (`pip install '.[simulate]'`).

    Examples:
        >>> import fvv
        >>> case = fvv.simulate_case(seed=5, number=50)  # doctest: +SKIP
        >>> prediction = fvv.predict((case.b0, case.affine), (case.b1000, case.affine))  # doctest: +SKIP
    """
    settings = (config or SimulateConfig()).model_copy(update={"seed": seed})
    return make_case(number, SimulateConfig.model_validate({**settings.model_dump(), "only": number}))


@dataclass(frozen=True, slots=True)
class CohortResults:
    """The results of `fvv predict` for a cohort.

    Attributes:
        rows: the numbers of each examination, in the order of `results.csv`; None if not measured.
        failures: examinations that failed, each with the reason.

    Examples:
        >>> import fvv
        >>> fvv.CohortResults((), ()).columns()
        {}
    """

    rows: tuple[Answer, ...]
    failures: tuple[Failure, ...]

    def columns(self) -> dict[str, list[JsonValue]]:
        """The columns of `results.csv`, such as for `pandas.DataFrame(results.columns())`."""
        rows = [one.row() for one in self.rows]
        return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def read_results(folder: str | os.PathLike[str]) -> CohortResults:
    """Read the results that `fvv predict` wrote for a cohort, or for one patient.

    Args:
        folder: the output folder; every file in it is compared with its stored hash.

    Raises:
        InputError: no result there, the run has not ended, or a file was changed since.

    Examples:
        >>> import fvv
        >>> fvv.read_results("no_such_folder")
        Traceback (most recent call last):
        fvv.errors.InputError: no_such_folder: holds no results.json (name the folder that `fvv predict` wrote)
    """
    root = Path(folder)
    files, run = results_of_run(root)
    rows = [read_result(file).verify(run).content for file in files.values()]
    failures = read_record(root / RUN_FILE, RunRecord).failures if (root / RUN_FILE).exists() else ()
    return CohortResults(tuple(rows), tuple(failures))
