"""The cohort's tables: participants.tsv, the split file, failures.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fvv.data import Failure, FoldPlan, FoldRow, Participant, Role
from fvv.errors import FvvError, InputError, StoreError
from fvv.io.atomic import write_text
from fvv.names import plain

PARTICIPANTS_FILE = "participants.tsv"
FOLDS_FILE = "folds.tsv"
FAILURES_FILE = "failures.csv"
_UNKNOWN = {"", "n/a"}


def list_patients(folder: Path) -> tuple[str, ...]:
    """Names of the patient folders in a data set, sorted; hidden folders are left out.

    Raises:
        InputError: the folder is missing or holds no patient.
    """
    if not folder.is_dir():
        raise InputError("no such folder", file=folder, hint="name the folder that holds one folder per patient")
    try:
        names = sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=folder) from error
    if not names:
        raise InputError("holds no patient folder", file=folder, hint="expected <patient>/b0.nii.gz and so on")
    for name in names:
        if not name.isprintable():  # Line ends and escape codes in tables and on terminals; bytes that are no text.
            message = f"a folder is named {name!a}"
            raise InputError(message, file=folder, hint="rename it with letters that can be shown")
    return tuple(names)


def read_participants(folder: Path) -> dict[str, Participant]:
    """What participants.tsv says of each patient folder; folders it does not list are persons of their own.

    Raises:
        InputError: the table cannot be read, lacks `participant_id`, lists a folder twice or has a label
            other than 0/1.
    """
    path = folder / PARTICIPANTS_FILE
    known: dict[str, Participant] = {}
    if path.exists():
        for number, row in enumerate(read_table(path, required=("participant_id",)), start=2):
            name = row["participant_id"]
            if name in known:
                raise InputError(f"line {number}: {name} is listed twice", file=path)
            known[name] = Participant(
                participant=name,
                person=_known(row.get("patient_id")) or name,
                site=_known(row.get("site")),
                dwi_flair_mismatch=_label(row.get("dwi_flair_mismatch"), path, number),
            )
    return {name: known.get(name, Participant(name, name)) for name in list_patients(folder)}


def write_participants(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a participants table: one mapping per folder, all with the same keys, `participant_id` first."""
    write_table(path, rows)


def read_folds(path: Path) -> FoldPlan:
    """Read a split file.

    Raises:
        StoreError: missing, unreadable, a role other than train/valid/test, or a person on two sides.
    """
    try:
        rows = read_table(path, required=("participant_id", "patient_id", "fold_0"))
    except InputError as error:
        raise StoreError(error.message, file=path, hint=error.hint or "run `fvv prepare` first") from error
    columns = [name for name in rows[0] if name.startswith("fold_")] if rows else []
    if columns != [f"fold_{k}" for k in range(len(columns))]:
        raise StoreError(f"fold columns must be fold_0, fold_1, ... in order, got {columns}", file=path)
    plan = []
    for number, row in enumerate(rows, start=2):
        try:
            roles = tuple(Role(row[column]) for column in columns)
        except ValueError as error:
            raise StoreError(f"line {number}: {error}", file=path, hint="roles are train, valid, test") from error
        plan.append(FoldRow(row["participant_id"], row["patient_id"], roles))
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
    """Read a UTF-8 table with a header; tabs for .tsv, commas otherwise. Cells are stripped text; what
    cannot be shown on one line is escaped.

    Raises:
        InputError: missing, unreadable, ragged, or without a required column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError("no such file", file=path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as UTF-8 text: {error}", file=path) from error
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(path))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"not a table: {error}", file=path) from error
    columns = [name.strip() for name in reader.fieldnames or []]
    if len(set(columns)) != len(columns):
        raise InputError(f"has a column twice: {columns}", file=path)
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(f"lacks column {', '.join(missing)}; it has {reader.fieldnames}", file=path)
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(f"line {number} has another number of cells than the header", file=path)
    return [{plain(key.strip()): plain(value.strip()) for key, value in row.items()} for row in rows]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str] | None = None) -> None:
    """Write rows atomically; tabs for .tsv, commas otherwise. None becomes an empty cell (n/a in .tsv, as in BIDS)."""
    names = list(columns or (rows[0] if rows else ()))
    unknown = "n/a" if path.suffix == ".tsv" else ""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, names, delimiter=_delimiter(path), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: unknown if row[name] is None else row[name] for name in names})
    write_text(path, stream.getvalue())


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _known(cell: str | None) -> str:
    return "" if cell is None or cell.lower() in _UNKNOWN else cell


def _label(cell: str | None, path: Path, number: int) -> bool | None:
    text = _known(cell)
    if text not in {"", "0", "1"}:
        raise InputError(f"line {number}: dwi_flair_mismatch must be 0, 1 or empty, got {text!r}", file=path)
    return None if not text else text == "1"


def failure_of(patient: str, error: FvvError) -> Failure:
    """The row of failures.csv for an error."""
    error.for_patient(patient)
    return Failure(patient, str(error))
