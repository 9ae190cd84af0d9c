"""A labelled cohort on disk: who its examinations are, and where each lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fvv.cohort.participants import PARTICIPANTS_FILE, read_participants, read_subjects
from fvv.config import Unlisted
from fvv.data import Participant
from fvv.io.bids import RAW_FOLDERS, find_labelled_bids, raw_folder
from fvv.io.case import CaseFiles, Place
from fvv.io.listing import listed_once


@dataclass(frozen=True, slots=True)
class Cohort:
    """The examinations of a data set.

    Attributes:
        people: what is known of each, by its name, sorted.
        places: where each lies, by its name.
        table: participants.tsv, where it is or could be.
    """

    people: Mapping[str, Participant]
    places: Mapping[str, Place]
    table: Path

    def located(self, names: Iterable[str]) -> list[tuple[Participant, Place]]:
        """These examinations, each with its place: what a worker process needs of one."""
        return [(self.people[name], self.places[name]) for name in names]


def read_cohort(folder: Path, *, unlisted: Unlisted = "refuse") -> Cohort:
    """List the examinations of a data set, one folder each or a BIDS data set; none is read.

    Args:
        unlisted: what an examination without a row in participants.tsv is, where there is that table.

    Raises:
        InputError: no data set there, or an unusable participants.tsv.
    """
    with listed_once(folder, *(folder / name for name in RAW_FOLDERS)):
        found, table = find_labelled_bids(folder), table_folder(folder)
        if not found:
            people = read_participants(folder, unlisted=unlisted)
            return Cohort(people, {name: folder / name for name in people}, table / PARTICIPANTS_FILE)
        files = {one.examination_id: one for one in found}
        people = read_subjects(table, list(files), unlisted=unlisted)
    absent = "participants.tsv names it, and the data set has no diffusion image of it"
    places = {name: files.get(name) or CaseFiles(name, folder / name, refusal=absent) for name in people}
    return Cohort(people, places, table / PARTICIPANTS_FILE)


def table_folder(folder: Path) -> Path:
    """Where participants.tsv of a data set lies: in its folder, or in BIDS beside the subjects."""
    raw = raw_folder(folder)
    return raw if (raw / PARTICIPANTS_FILE).is_file() and not (folder / PARTICIPANTS_FILE).is_file() else folder
