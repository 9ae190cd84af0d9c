"""folds.tsv: the split as a table that people can read and edit, a row per examination, a column per fold."""

from __future__ import annotations

from pathlib import Path

from fvv.data import FoldPlan, FoldRow, Role
from fvv.errors import InputError, StoreError
from fvv.io.tables import read_lines, write_table
from fvv.names import first_alike, is_plain, plain

FOLDS_FILE = "folds.tsv"
_COLUMNS = {"participant_id": "examination_id", "patient_id": "person_id"}
"""Names of the two columns of names, as participants.tsv has them and as they are written here; both are read."""


def read_folds(path: Path) -> FoldPlan:
    """Read a split file; columns other than names and folds are ignored. The names' columns may be spelt either way.

    Raises:
        StoreError: missing, unreadable, a role other than train/valid/test, or a person on two sides.
    """
    try:
        lines = read_lines(path, required=(*_COLUMNS.values(), "fold_0"), other_names=_COLUMNS)
    except InputError as error:
        raise StoreError(error.message, file=path, hint=error.hint or "run `fvv prepare` first") from error
    columns = [name for name in lines[0][1] if name.startswith("fold_")] if lines else []
    if columns != [f"fold_{k}" for k in range(len(columns))]:
        raise StoreError(f"fold columns must be fold_0, fold_1, ... in order, got {columns}", file=path)
    rows = []
    for number, row in lines:
        names = (row["examination_id"], row["person_id"])
        if not all(name and is_plain(name) for name in names):
            message = f"line {number}: examination_id and person_id must be names on one line, got {names!a}"
            raise StoreError(message, file=path)
        try:
            rows.append(FoldRow(*names, tuple(Role(row[column]) for column in columns)))
        except ValueError as error:
            message = f"line {number}: {plain(str(error))}"
            raise StoreError(message, file=path, hint="roles are train, valid, test") from error
    if pair := first_alike(row.person_id for row in rows) or first_alike(row.examination_id for row in rows):
        message = f"two names are the same but for case or accents: {pair[0]!a} and {pair[1]!a}"
        raise StoreError(
            message, file=path, hint="spell the name of one person always alike, and those of two persons differently"
        )
    try:
        return FoldPlan(tuple(rows))
    except StoreError as error:
        error.file = str(path)
        raise


def write_folds(path: Path, plan: FoldPlan) -> None:
    """Write the split."""
    rows = [
        {"examination_id": row.examination_id, "person_id": row.person_id}
        | {f"fold_{k}": role.value for k, role in enumerate(row.roles)}
        for row in plan.rows
    ]
    write_table(path, rows)
