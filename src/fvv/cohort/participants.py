"""participants.tsv: who was examined. Rows and folders are matched name by name, or the table is refused.

A row that finds no folder, or a folder without a row, loses its person and its label: a person scanned twice would lie
on both sides of a fold without anybody noticing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fvv.config import Unlisted
from fvv.data import Failure, Participant
from fvv.errors import InputError
from fvv.io.case import list_patients
from fvv.io.listing import paths
from fvv.io.ownership import claimed
from fvv.io.tables import failure_of, read_lines
from fvv.names import first_alike, first_few, is_plain, nearest_hint, plain, same_name_key

PARTICIPANTS_FILE = "participants.tsv"
_UNKNOWN = {"", "n/a"}
_NOT_A_PERSON = {"na", "nan", "none", "null", "#n/a", "-", "?", "unknown"}
"""Of patient_id: what programs and people write where nothing is known. One person of that name would be many."""
_LABELS = {"1": True, "1.0": True, "0": False, "0.0": False}
"""Programs that know numbers only write 1.0 for 1 where other cells are empty."""
_NUMBER = re.compile(r"0*([0-9]+)(\.0*)?")
"""A spreadsheet makes 1 of 001, and 1.0 where a cell of the column is empty."""
_SHORTENED = re.compile(r"[0-9](\.[0-9]+)?E\+[0-9]{2,}")
"""A long number as a spreadsheet shows it: its other digits are lost, and with them who is who."""
_COLUMNS = ("participant_id", "patient_id", "site", "dwi_flair_mismatch", "stroke_free")
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
        InputError: an unusable table; or none yet, in a cohort that this program writes: its table comes last.
    """
    folders = list_patients(folder)
    path = folder / PARTICIPANTS_FILE
    if not path.exists() and not path.is_symlink():
        if PARTICIPANTS_FILE in claimed(folder):
            hint = "run the `fvv import` or `fvv simulate` command that writes it again, to its end"
            raise InputError(f"not finished: {PARTICIPANTS_FILE} is not there yet", file=folder, hint=hint)
        _refuse_other_names(folder)
        return {name: Participant(name, name) for name in folders}
    known = _read_rows(path)
    _refuse_mismatch(path, set(folders), set(known), unlisted)
    people = {name: known.get(name, Participant(name, name)) for name in sorted({*folders, *known})}
    _refuse_alike(path, people.values())
    return people


def read_subjects(
    folder: Path, examinations: Sequence[str], *, unlisted: Unlisted = "refuse"
) -> dict[str, Participant]:
    """What participants.tsv of a BIDS data set says of each examination; a subject is a person.

    Args:
        folder: holds the table, perhaps.
        examinations: their names, `sub-<label>` or `sub-<label>_ses-<label>...`.
        unlisted: what a subject without a row is, where there is a table.

    Returns:
        For each examination, sorted by name, what the row of that name says, otherwise the row of its subject. A
        patient_id in one row of a subject holds for all its examinations. A subject with a row and no examination is
        among them.

    Raises:
        InputError: an unusable table, or rows of one subject with two patient_ids.
    """
    subjects = {name: subject_of(name) for name in examinations}
    path = folder / PARTICIPANTS_FILE
    if not path.exists() and not path.is_symlink():
        _refuse_other_names(folder)
        return {name: Participant(name, subjects[name]) for name in sorted(examinations)}
    known = _read_rows(path)
    _refuse_mismatch(path, set(subjects.values()), {subject_of(name) for name in known}, unlisted)
    absent = sorted({subject_of(name) for name in known} - set(subjects.values()))
    persons = _persons_of_subjects(path, known.values())
    people = {}
    for name, subject in {**subjects, **{name: name for name in absent}}.items():
        row = known.get(name) or known.get(subject) or Participant(subject, subject)
        people[name] = replace(row, examination_id=name, person_id=persons.get(subject, subject))
    _refuse_alike(path, people.values())
    return dict(sorted(people.items()))


def _persons_of_subjects(path: Path, rows: Collection[Participant]) -> dict[str, str]:
    """The patient_id of each subject that has one: two would put the sessions of one person on both sides of a fold."""
    persons: dict[str, str] = {}
    for row in rows:
        subject = subject_of(row.examination_id)
        if row.person_id == row.examination_id:  # None is given.
            continue
        if persons.setdefault(subject, row.person_id) != row.person_id:
            message = f"{subject} has two patient_ids: {persons[subject]!a} and {row.person_id!a}"
            raise InputError(message, file=path, hint="a subject is one person: give its rows the same patient_id")
    return persons


def table_text(people: Iterable[Participant]) -> str:
    """participants.tsv of these examinations."""
    cells = {None: "n/a", True: "1", False: "0"}
    rows = (
        (
            one.examination_id,
            one.person_id,
            one.site or "n/a",
            cells[one.dwi_flair_mismatch],
            cells[one.stroke_free or None],
        )
        for one in people
    )
    return "".join("\t".join(row) + "\n" for row in (_COLUMNS, *rows))


def subject_of(examination: str) -> str:
    """`sub-<label>` of a BIDS name."""
    return examination.partition("_")[0]


def same_images(hashes: Mapping[str, str]) -> dict[str, str]:
    """Of examinations with the same images all but the first, each with the name of the first."""
    first: dict[str, str] = {}
    others = {name: first.setdefault(hashes[name], name) for name in sorted(hashes)}
    return {name: other for name, other in others.items() if other != name}


def same_images_of_two_persons(people: Mapping[str, Participant], hashes: Mapping[str, str]) -> dict[str, Failure]:
    """Those of `same_images` whose persons differ: one person under two names would lie on both sides of a fold."""
    failures = {}
    for name, other in same_images(hashes).items():
        if people[name].person_id != people[other].person_id:
            reason = f"has the same images as {other}, listed as another person"
            hint = f"give both the same patient_id in {PARTICIPANTS_FILE}"
            failures[name] = failure_of(name, InputError(reason, hint=hint))
    return failures


def _refuse_other_names(folder: Path) -> None:
    """A table under nearly the right name would be missed, and with it who is who."""
    for item in paths(folder):
        if _OTHER_NAMES.fullmatch(item.name) and not item.is_dir():
            hint = f"name it {PARTICIPANTS_FILE}, with tabs between cells, or move it elsewhere"
            raise InputError(f"there is no {PARTICIPANTS_FILE}, and this resembles it", file=item, hint=hint)


def _read_rows(path: Path) -> dict[str, Participant]:
    lines = read_lines(path, required=("participant_id",))
    if lines:
        _refuse_misnamed_columns(path, list(lines[0][1]))
    known: dict[str, Participant] = {}
    for number, row in lines:
        try:
            one = _participant({column: row.get(column, "") for column in _COLUMNS})
            if one.examination_id in known:
                raise InputError(f"{one.examination_id} is listed twice")
        except InputError as error:
            raise InputError(f"line {number}: {error.message}", file=path, hint=error.hint) from error
        known[one.examination_id] = one
    return known


def _participant(row: Mapping[str, str]) -> Participant:
    for column, cell in row.items():
        if not is_plain(cell):
            message = f"{column} must be printable text on one line, got {cell[:80]!a}"
            raise InputError(message, hint="remove control characters; is a quote not closed?")
    name = row["participant_id"]
    person, site, label, free = ("" if row[column].lower() in _UNKNOWN else row[column] for column in _COLUMNS[1:])
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise InputError(f"participant_id must be the name of a folder beside this table, got {name[:80]!a}")
    if person.lower() in _NOT_A_PERSON:
        hint = "write n/a where it is not known; a person of that name needs another one"
        raise InputError(f"patient_id {person!a} is no person", hint=hint)
    if _SHORTENED.fullmatch(person):
        message = f"patient_id {person} is a number that lost its digits in a spreadsheet"
        raise InputError(message, hint="keep the column as text, and write the whole number")
    if label and label not in _LABELS:
        raise InputError(f"dwi_flair_mismatch must be 1 (mismatch), 0 (none) or n/a, got {label[:40]!a}")
    if free and free not in _LABELS:
        raise InputError(f"stroke_free must be 1 (no stroke), 0 (a stroke) or n/a, got {free[:40]!a}")
    if _LABELS.get(free) and label:
        hint = "a mismatch implies a stroke: write n/a in one of the two columns"
        raise InputError(f"{name} is stroke_free and has a dwi_flair_mismatch", hint=hint)
    return Participant(name, person or name, site, _LABELS.get(label), stroke_free=_LABELS.get(free, False))


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
    by_core = {_core(name): name for name in without_row}
    meant = [f"{by_core[_core(name)]} for {name}" for name in without_folder if _core(name) in by_core]
    if not without_row or (unlisted == "own-person" and not meant):
        return
    sides = [f"{len(without_row)} folders have no row ({first_few(without_row)})"]
    if without_folder:
        sides.append(f"{len(without_folder)} rows have no folder ({first_few(without_folder)})")
    hint = nearest_hint(without_folder, without_row)
    if meant:
        hint = f"write the folder's own name: {', '.join(meant[:3])}"
    elif hint is None:
        hint = "list every folder, or say with --unlisted own-person that each is a person not listed elsewhere"
    raise InputError(" and ".join(sides), file=path, hint=hint)


def _core(name: str) -> str:
    """A name without `sub-`, leading zeros, a trailing `.0`, case and separators."""
    text = re.sub(r"^sub-", "", same_name_key(name)).removesuffix(".0")
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", re.sub(r"[\W_]", "", text))


def _refuse_alike(path: Path, people: Collection[Participant]) -> None:
    """One name written in two ways is one person in two, or one folder."""
    names = [one.examination_id for one in people]
    persons = sorted({one.person_id for one in people})
    for what, written in (("participant_id", names), ("patient_id", persons)):
        if pair := first_alike(written):
            message = f"two values of {what} are the same but for case or accents: {pair[0]!a} and {pair[1]!a}"
            raise InputError(
                message,
                file=path,
                hint="spell the name of one person always alike, and those of two persons differently",
            )
    seen: dict[str, str] = {}
    for person in sorted({one.person_id for one in people if one.person_id != one.examination_id}):
        if (number := _NUMBER.fullmatch(person)) and seen.setdefault(number[1], person) != person:
            message = f"two values of patient_id are the same number: {seen[number[1]]!a} and {person!a}"
            raise InputError(message, file=path, hint="write the number of one person always alike")
