"""The cohort's tables (any table, the split file, failures.csv) and the patient folders of a data set."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fvv.data import Failure, FoldPlan, FoldRow, Role
from fvv.errors import FvvError, InputError, StoreError
from fvv.io.atomic import write_text
from fvv.names import is_plain, plain, same_name_key
from fvv.system.regular import read_regular_text

FOLDS_FILE = "folds.tsv"
FAILURES_FILE = "failures.csv"
_DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons"}
_FORMULA = re.compile(r"'*[=+\-@]")
"""Text that a spreadsheet takes for a formula, or that was guarded against that (any number of times)."""


def list_patients(folder: Path) -> tuple[str, ...]:
    """Names of the patient folders in a data set, sorted; hidden folders are left out.

    A broken link that may stand for a patient's folder is listed too: who reads that patient says what is wrong.

    Raises:
        InputError: the folder is missing or holds no patient; a name cannot be shown on one line, or is the same as
            another's but for upper and lower case or the form of an accent.
    """
    if not folder.is_dir():
        raise InputError("no such folder", file=folder, hint="name the folder that holds one folder per patient")
    try:
        names = sorted(item.name for item in folder.iterdir() if not item.name.startswith(".") and _is_patient(item))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=folder) from error
    if not names:
        raise InputError("holds no patient folder", file=folder, hint="expected <patient>/b0.nii.gz and so on")
    for name in names:
        if not is_plain(name):  # Line ends and escape codes in tables and on terminals; bytes that are no text.
            message = f"a folder is named {name!a}"
            raise InputError(message, file=folder, hint="rename it with letters that can be shown")
    if pair := first_alike(names):
        message = f"two folders have the same name but for case or accents: {pair[0]!a} and {pair[1]!a}"
        raise InputError(message, file=folder, hint="rename one: on many disks they are one folder")
    return tuple(names)


def _is_patient(item: Path) -> bool:
    """Whether it is a folder, or a link to a folder that is not there now. A broken link named like a file is none."""
    if item.is_dir():
        return True
    if not item.is_symlink() or item.exists():
        return False
    named_like_a_file = re.search(r"\.[A-Za-z][A-Za-z0-9]*$", item.name) is not None
    return not named_like_a_file and "annex/objects" not in item.readlink().as_posix()  # git-annex links files only


def refuse_missing_folder(folder: Path) -> None:
    """Refuse a patient whose folder is not there, saying how it is not.

    Raises:
        InputError: nothing of that name, a broken link, or a file.
    """
    if folder.is_dir():
        return
    if folder.is_symlink() and not folder.exists():
        hint = "fetch it (for example `datalad get`), or mount the disk it is on"
        raise InputError(f"a broken link to {plain(str(folder.readlink()))}", file=folder, hint=hint)
    if folder.exists():
        raise InputError("expected a folder, found a file", file=folder)
    raise InputError("no such folder", file=folder, hint="is the disk mounted, and the name right?")


def first_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two different names that are one name on a disk that ignores case or the form of accents, or None."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(same_name_key(name), name)
        if other != name:
            return other, name
    return None


def read_folds(path: Path) -> FoldPlan:
    """Read a split file; columns other than names and folds are ignored.

    Raises:
        StoreError: missing, unreadable, a role other than train/valid/test, or a person on two sides.
    """
    try:
        lines = read_lines(path, required=("participant_id", "patient_id", "fold_0"))
    except InputError as error:
        raise StoreError(error.message, file=path, hint=error.hint or "run `fvv prepare` first") from error
    columns = [name for name in lines[0][1] if name.startswith("fold_")] if lines else []
    if columns != [f"fold_{k}" for k in range(len(columns))]:
        raise StoreError(f"fold columns must be fold_0, fold_1, ... in order, got {columns}", file=path)
    plan = []
    for number, row in lines:
        names = (row["participant_id"], row["patient_id"])
        if not all(name and is_plain(name) for name in names):
            message = f"line {number}: participant_id and patient_id must be names on one line, got {names!a}"
            raise StoreError(message, file=path)
        try:
            roles = tuple(Role(row[column]) for column in columns)
        except ValueError as error:
            message = f"line {number}: {plain(str(error))}"
            raise StoreError(message, file=path, hint="roles are train, valid, test") from error
        plan.append(FoldRow(*names, roles))
    if pair := first_alike(row.person for row in plan) or first_alike(row.participant for row in plan):
        message = f"two names are the same but for case or accents: {pair[0]!a} and {pair[1]!a}"
        raise StoreError(message, file=path, hint="write one person's name in one way, two persons' in two")
    try:
        return FoldPlan(tuple(plan))
    except StoreError as error:
        error.file = str(path)
        raise


def write_folds(path: Path, plan: FoldPlan) -> None:
    """Write the split as a table people can read and edit: a row per folder, a column per fold."""
    write_table(
        path,
        [
            {
                "participant_id": row.participant,
                "patient_id": row.person,
                **{f"fold_{k}": role.value for k, role in enumerate(row.roles)},
            }
            for row in plan.rows
        ],
    )


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write failures.csv: patient, reason. With no failure the table has only its header."""
    rows = [{"patient": failure.patient, "reason": failure.reason} for failure in failures]
    write_table(path, rows, columns=("patient", "reason"))


def read_table(path: Path, *, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read a UTF-8 table with a header; tabs for .tsv, commas otherwise. Cells are stripped text.

    What cannot be shown on one line is escaped.

    Blank lines count for nothing. The apostrophe that `write_table` puts before a formula is taken off.

    Raises:
        InputError: missing, no regular file, unreadable, ragged, or without a required column.
    """
    rows = read_lines(path, required=required)
    return [{plain(key): plain(cell) for key, cell in row.items()} for _, row in rows]


def read_lines(path: Path, *, required: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """The rows of `read_table`, with every character as it is, each with the number of its line in the file.

    That of its last line, where a cell spans several.

    Raises:
        InputError: as `read_table`.
    """
    text = read_regular_text(path).removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path), strict=True)
    try:
        lines = [(reader.line_num, [_without_guard(cell.strip()) for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise InputError(
            f"line {reader.line_num}: not a table: {error}", file=path, hint="a quote too many?"
        ) from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    columns = lines[0][1] if lines else []
    if len(set(columns)) != len(columns):
        raise InputError(f"has a column twice: {columns!a}", file=path)
    missing = [name for name in required if name not in columns]
    if missing:
        hint = _other_delimiter(columns, path) or nearest_hint(missing, columns)
        raise InputError(f"lacks column {', '.join(missing)}; it has {columns!a}", file=path, hint=hint)
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            message = f"line {number} has another number of cells than the header: {len(cells)} instead of"
            raise InputError(f"{message} {len(columns)}", file=path)
    return [(number, dict(zip(columns, cells, strict=True))) for number, cells in lines[1:]]


def nearest_hint(wanted: Iterable[str], there: Iterable[str]) -> str | None:
    """Which of the names that are there may be meant by those that are wanted, or None.

    Only the first three pairs are named, and only names that resemble.
    """
    pairs, candidates = [], list(there)
    for name in wanted:
        if found := difflib.get_close_matches(name, candidates, n=1, cutoff=0.5):
            pairs.append(f"{plain(found[0])} for {plain(name)}")
        if len(pairs) == 3:
            break
    return f"is it {', '.join(pairs)}?" if pairs else None


def _other_delimiter(columns: Sequence[str], path: Path) -> str | None:
    if len(columns) != 1:
        return None
    used = next((name for sign, name in _DELIMITERS.items() if sign in columns[0] and sign != _delimiter(path)), None)
    expected = _DELIMITERS[_delimiter(path)]
    return None if used is None else f"its cells are separated by {used}, {path.suffix} needs {expected}"


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str] | None = None) -> None:
    """Write rows atomically; tabs for .tsv, commas otherwise. None becomes an empty cell (n/a in .tsv, as in BIDS).

    A text that a spreadsheet would run as a formula (it begins with = + - @ and is no number) gets an apostrophe in
    front; `read_table` takes it off.
    """
    names = list(columns or (rows[0] if rows else ()))
    unknown = "n/a" if path.suffix == ".tsv" else ""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, names, delimiter=_delimiter(path), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: unknown if row[name] is None else _guarded(row[name]) for name in names})
    write_text(path, stream.getvalue())


def _guarded(value: Any) -> Any:
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _without_guard(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def failure_of(patient: str, error: FvvError) -> Failure:
    """The row of failures.csv for an error, on one line."""
    error.for_patient(patient)
    return Failure(patient, plain(str(error)))
