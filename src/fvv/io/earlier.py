"""What an earlier run left of an examination: kept where it is sound and of the same sources, else done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fvv.errors import InputError, OutputExistsError
from fvv.io.manifest import FAILURES_FILE, read_table
from fvv.io.ownership import claimed
from fvv.io.results import RESULTS_FILE, StoredResult, read_result
from fvv.io.run_record import RUN_FILE, MadeFrom, read_run

_NAMED = 5
"""Examinations that an error names; of more it gives the number."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is there of one examination; nothing where all is empty.

    Attributes:
        result: finished, of the same images, models and settings, and its files are as they were written.
        differences: what else it was made from, in words.
        damage: why it is done again.
    """

    result: StoredResult | None = None
    differences: tuple[str, ...] = ()
    damage: str = ""


def find_earlier(path: Path, run: MadeFrom, images_sha256: Callable[[], str]) -> Earlier:
    """Judge an earlier result.

    Args:
        path: of its results.json.
        run: what results are made from now.
        images_sha256: hash of the examination's files, asked for only where all else is the same.

    Raises:
        InputError: an image cannot be read, and so it is not known whether the result is of it.
    """
    if not path.exists():
        return Earlier()
    try:
        stored = read_result(path)
    except InputError as error:
        return Earlier(damage=str(error))
    differences = stored.made_from.differences(run)
    differences = differences or stored.made_from.differences(run.with_images(images_sha256()))
    if differences:
        return Earlier(differences=differences)
    try:
        return Earlier(result=stored.verify())
    except InputError as error:
        return Earlier(damage=str(error))


def refuse_other_run(root: Path, run: MadeFrom, names: set[str]) -> None:
    """Refuse a folder whose tables are of another run, or list examinations that this run does not have.

    Args:
        root: where the tables are to be written.
        run: what results are made from now.
        names: of this run's examinations, those of other shards too.

    Raises:
        OutputExistsError: so it is.
    """
    ours = claimed(root)
    if RUN_FILE not in ours:
        return
    try:
        record = read_run(root / RUN_FILE)
    except InputError:  # None yet, or damaged: each result says what it was made from.
        listed = _in_tables(root)
    else:
        if differences := record.made_from.differences(run):
            raise _others(root / RUN_FILE, " and ".join(differences))
        listed = record.examinations
    if lost := sorted(listed - names):
        hint = "give the whole cohort, or another -o; with --overwrite its tables leave them out"
        raise OutputExistsError(f"lists patients who are not in this run: {some(lost)}", file=root, hint=hint)


def refuse_others(root: Path, others: dict[str, tuple[str, ...]]) -> None:
    """Refuse to replace results of other images, models or settings.

    Raises:
        OutputExistsError: there are some.
    """
    if others:
        kinds = sorted({difference for differences in others.values() for difference in differences})
        raise _others(root, f"{' and '.join(kinds)}: {some(sorted(others))}")


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _others(place: Path, said: str) -> OutputExistsError:
    return OutputExistsError(f"holds results of {said}", file=place, hint="--overwrite replaces them, or choose -o")


def _in_tables(root: Path) -> set[str]:
    listed = set()
    for name, column in ((RESULTS_FILE, "Patient"), (FAILURES_FILE, "patient")):
        try:
            listed |= {row[column] for row in read_table(root / name, required=(column,))}
        except InputError:  # Missing or damaged: it is written again.
            continue
    return listed
