"""participants.tsv: who was examined. Rows and folders are matched name by name, or the table is refused.

A row that finds no folder, or a folder without a row, loses its person and its label: a person scanned twice would lie
on both sides of a fold without anybody noticing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fvv.config import Unlisted
from fvv.data import Participant
from fvv.errors import InputError
from fvv.io.manifest import first_alike, list_patients, nearest_hint, read_lines, write_table
from fvv.names import is_plain, plain, same_name_key

PARTICIPANTS_FILE = "participants.tsv"
_UNKNOWN = {"", "n/a"}
_NOT_A_PERSON = {"na", "nan", "none", "null", "#n/a", "-", "?", "unknown"}
"""Of patient_id: what programs and people write where nothing is known. One person of that name would be many."""
_LABELS = {"1": True, "1.0": True, "0": False, "0.0": False}
"""Programs that know numbers only write 1.0 for 1 where other cells are empty."""
_NUMBER = re.compile(r"0*([0-9]+)(\.0*)?")
_SHORTENED = re.compile(r"[0-9](\.[0-9]+)?E\+[0-9]{2,}")
"""A long number as a spreadsheet shows it: its other digits are lost, and with them who is who."""
_COLUMNS = ("participant_id", "patient_id", "site", "dwi_flair_mismatch")
_ALSO_MEANT = {
    "patient_id": {"patient", "person", "personid", "subject", "subjectid", "pid"},
    "dwi_flair_mismatch": {"mismatch", "flairmismatch", "dwiflair", "label"},
}
"""Names under which people keep these columns that are not spelled alike, without case and separators."""
_OTHER_NAMES = re.compile(r"(participants?.*|patients)\.(tsv|csv|txt|xlsx?|ods)(\.txt)?", re.IGNORECASE)
_ALIKE = 0.8
"""Spelled alike from this ratio of `difflib` on: patientid, sites; not `side` or `patient_age`."""


def read_participants(folder: Path, *, unlisted: Unlisted = "refuse") -> dict[str, Participant]:
    """What participants.tsv says of each patient; without a table every folder is a person of its own.

    Args:
        folder: one folder per patient, and perhaps the table.
        unlisted: what a folder without a row is, where there is a table.

    Returns:
        For each patient, sorted by name, what is known. A row whose folder is not there is among them where no folder
        could be meant by it: reading that patient then fails, and the others go on.

    Raises:
        InputError: the table cannot be read or goes by another name; columns, persons or labels are not as expected;
            folders and rows do not match. The message names both sides.
    """
    folders = list_patients(folder)
    path = folder / PARTICIPANTS_FILE
    if not path.exists() and not path.is_symlink():
        _refuse_other_names(folder)
        return {name: Participant(name, name) for name in folders}
    known = _read_rows(path)
    _refuse_mismatch(path, set(folders), set(known), unlisted)
    people = {name: known.get(name, Participant(name, name)) for name in sorted({*folders, *known})}
    for what, names in (
        ("participant_id", people),
        ("patient_id", sorted({one.person for one in people.values()})),
    ):
        if pair := first_alike(names):
            message = f"two values of {what} are the same but for case or accents: {pair[0]!a} and {pair[1]!a}"
            raise InputError(message, file=path, hint="write one person's name in one way, two persons' in two")
    _refuse_one_number(path, sorted({one.person for one in known.values() if one.person != one.participant}))
    return people


def _refuse_one_number(path: Path, people: Iterable[str]) -> None:
    """A spreadsheet makes 1 of 001, and 1.0 where a cell of the column is empty."""
    seen: dict[str, str] = {}
    for person in people:
        if number := _NUMBER.fullmatch(person):
            other = seen.setdefault(number[1], person)
            if other != person:
                message = f"two values of patient_id are one number: {other!a} and {person!a}"
                raise InputError(message, file=path, hint="write one person's number in one way")


def write_participants(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a participants table: one mapping per folder, all with the same keys, `participant_id` first."""
    write_table(path, rows)


def _read_rows(path: Path) -> dict[str, Participant]:
    lines = read_lines(path, required=("participant_id",))
    if lines:
        _refuse_misnamed_columns(path, list(lines[0][1]))
    known: dict[str, Participant] = {}
    for number, row in lines:
        name = row["participant_id"]
        for column in _COLUMNS:
            if not is_plain(row.get(column, "")):
                message = f"line {number}: {column} must be printable text on one line, got {row[column][:80]!a}"
                raise InputError(message, file=path, hint="remove control characters; is a quote not closed?")
        if not name or name.startswith(".") or "/" in name or "\\" in name:
            message = f"line {number}: participant_id must be the name of a folder beside this table, got {name[:80]!a}"
            raise InputError(message, file=path)
        if name in known:
            raise InputError(f"line {number}: {name} is listed twice", file=path)
        known[name] = Participant(
            participant=name,
            person=_person(row.get("patient_id", ""), path, number) or name,
            site=_known(row.get("site", "")),
            dwi_flair_mismatch=_label(row.get("dwi_flair_mismatch", ""), path, number),
        )
    return known


def _refuse_misnamed_columns(path: Path, columns: list[str]) -> None:
    """A column under a name of its own is ignored; one that is nearly a known name would be missed."""
    for wanted in (name for name in _COLUMNS if name not in columns):
        for column in columns:
            if column not in _COLUMNS and _resembles(column, wanted):
                hint = f"name it {wanted}, or add a column of that name (n/a where unknown)"
                raise InputError(f"column {plain(column)} is unknown and resembles {wanted}", file=path, hint=hint)


def _resembles(column: str, wanted: str) -> bool:
    letters, expected = (re.sub(r"[\W_]", "", text.casefold()) for text in (column, wanted))
    alike = difflib.SequenceMatcher(None, letters, expected).ratio() >= _ALIKE
    return alike or letters in _ALSO_MEANT.get(wanted, ())


def _refuse_mismatch(path: Path, folders: set[str], rows: set[str], unlisted: Unlisted) -> None:
    """Rows and folders that are left over on both sides may be the same patients under two names."""
    without_folder, without_row = sorted(rows - folders), sorted(folders - rows)
    meant = _meant(without_folder, without_row)
    if not without_row or (unlisted == "own-person" and not meant):
        return
    sides = [f"{len(without_row)} folders have no row ({_some(without_row)})"]
    if without_folder:
        sides.append(f"{len(without_folder)} rows have no folder ({_some(without_folder)})")
    hint = "list every folder"
    if meant:
        hint = f"write the folder's own name: {', '.join(f'{new} for {old}' for old, new in list(meant.items())[:3])}"
    elif resembling := nearest_hint(without_folder, without_row):
        hint = resembling
    elif unlisted == "refuse":
        hint += ", or say with --unlisted own-person that each of them is a person not listed elsewhere"
    raise InputError(" and ".join(sides), file=path, hint=hint)


def _meant(rows: Iterable[str], folders: Iterable[str]) -> dict[str, str]:
    """Rows and folders that are one name but for `sub-`, leading zeros, a trailing `.0`, case and separators."""
    by_core = {_core(name): name for name in folders}
    return {name: by_core[_core(name)] for name in rows if _core(name) in by_core}


def _core(name: str) -> str:
    text = re.sub(r"^sub-", "", same_name_key(name)).removesuffix(".0")
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", re.sub(r"[\W_]", "", text))


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(plain(name)[:80] for name in names[:most])}{more}"


def _refuse_other_names(folder: Path) -> None:
    """A table under nearly the right name would be missed, and with it who is who."""
    for item in sorted(folder.iterdir()):
        if _OTHER_NAMES.fullmatch(item.name) and not item.is_dir():
            hint = f"name it {PARTICIPANTS_FILE}, with tabs between cells, or move it elsewhere"
            raise InputError(f"there is no {PARTICIPANTS_FILE}, and this resembles it", file=item, hint=hint)


def _known(cell: str) -> str:
    return "" if cell.lower() in _UNKNOWN else cell


def _person(cell: str, path: Path, number: int) -> str:
    if cell.lower() in _NOT_A_PERSON:
        hint = "write n/a where it is not known; a person of that name needs another one"
        raise InputError(f"line {number}: patient_id {cell!a} is no person", file=path, hint=hint)
    if _SHORTENED.fullmatch(cell):
        message = f"line {number}: patient_id {cell} is a number that lost its digits in a spreadsheet"
        raise InputError(message, file=path, hint="keep the column as text, and write the whole number")
    return _known(cell)


def _label(cell: str, path: Path, number: int) -> bool | None:
    text = _known(cell)
    if not text:
        return None
    if text not in _LABELS:
        message = f"line {number}: dwi_flair_mismatch must be 1 (mismatch), 0 (none) or n/a, got {text[:40]!a}"
        raise InputError(message, file=path)
    return _LABELS[text]
