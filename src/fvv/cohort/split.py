"""The split of a store from one run of `prepare` to the next: what people changed stays, and nobody changes side.

folds.tsv is the split. split.json is what `prepare` remembers of it: the settings it was made with, the rows as last
seen, whether people edited them or brought them, the sides of examinations that have left, and who was taken out by
hand.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fvv.cohort.folds import SplitInput, extend_plan, plan_folds
from fvv.data import FoldPlan, FoldRow, Participant, Role
from fvv.errors import InputError, StoreError
from fvv.io.atomic import write_bytes, write_text
from fvv.io.manifest import FOLDS_FILE, read_folds, write_folds
from fvv.system.fingerprint import file_sha256
from fvv.system.regular import read_regular_text

SPLIT_FILE = "split.json"
SCHEMA_VERSION = 1
log = logging.getLogger(__name__)
_NEW_SPLIT = f"for a new split move {FOLDS_FILE} and {SPLIT_FILE} out of the store"


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """How a split is made: `plan_folds` takes the same."""

    kfolds: int
    valid_proportion: float
    seed: int


@dataclass(frozen=True, slots=True)
class StoredSplit:
    """The split of a store as it is on disk.

    Attributes:
        rows: of folds.tsv; where that file is gone, as they were last seen; empty where there is no split yet.
        edited: people have changed or brought it.
        settings: what it was made with; None where that is not known.
        former: rows of examinations that have left the split and may come back.
        removed: examinations that people took out.
    """

    rows: tuple[FoldRow, ...] = ()
    edited: bool = False
    settings: SplitSettings | None = None
    former: tuple[FoldRow, ...] = ()
    removed: frozenset[str] = frozenset()

    @classmethod
    def read(cls, store: Path, prepared: Iterable[str], settings: SplitSettings | None) -> StoredSplit:
        """Read the split of a store.

        Args:
            store: its folder.
            prepared: examinations in it. In a store without split.json (an earlier version's), those that are in no
                row were left out on purpose.
            settings: what such a split was made with, if known.

        Raises:
            StoreError: folds.tsv is damaged.
        """
        file = store / FOLDS_FILE
        there = file.exists() or file.is_symlink()
        memory = _read_memory(store / SPLIT_FILE)
        if not there:
            return cls() if memory is None else memory
        try:
            rows = read_folds(file).rows
        except StoreError as error:
            hint = f"correct it, or delete it: `fvv prepare` then writes the last split again; {_NEW_SPLIT}"
            raise StoreError(error.message, file=file, hint=hint) from error
        names = {row.participant for row in rows}
        if memory is None:
            return cls(rows, edited=True, settings=settings, removed=frozenset(prepared) - names)
        edited = memory.edited or set(rows) != set(memory.rows)
        taken_out = {row.participant for row in memory.rows} - names
        return replace(memory, rows=rows, edited=edited, removed=(memory.removed | taken_out) - names)

    def without(self, names: Collection[str]) -> StoredSplit:
        """The same without examinations that are to be forgotten."""
        return replace(
            self,
            rows=tuple(row for row in self.rows if row.participant not in names),
            former=tuple(row for row in self.former if row.participant not in names),
            removed=self.removed - set(names),
        )

    def refuse_unfit(self, settings: SplitSettings, persons: Mapping[str, str]) -> None:
        """Refuse, before hours of work, what the split cannot be brought to.

        Args:
            settings: now asked for.
            persons: of each examination of the data set.

        Raises:
            StoreError: an edited split would be lost, or folders of one person lie on different sides.
        """
        if self.rows and self.edited and self.settings not in {None, settings}:
            message = f"the split was edited or given, and other settings ({_said(settings)}) would draw it again"
            hint = f"leave them as they were ({_said(self.settings)}), or {_NEW_SPLIT}"
            raise StoreError(message, file=FOLDS_FILE, hint=hint)
        if self._stays(settings):
            _refuse_torn(_renamed(self.rows, persons))

    def plan(self, cases: Sequence[SplitInput], settings: SplitSettings) -> tuple[FoldPlan, StoredSplit]:
        """The split of these examinations, and what to remember of it.

        Where those who are left cannot make a split that `prepare` drew, it draws another, and says so.

        Raises:
            StoreError: too few persons, folders of one person on different sides, or an edited split that leaves a fold
                without patients.
        """
        if not self._stays(settings):
            return _drawn(cases, settings)
        persons = {case.participant.participant: case.participant.person for case in cases}
        kept = [row for row in _renamed(self.rows, persons) if row.participant in persons]
        left = [row for row in self.rows if row.participant not in persons]
        _refuse_torn(kept)
        listed = {row.participant for row in kept} | self.removed
        kept += _coming_back(self.former, kept, {name: persons[name] for name in persons if name not in listed})
        inside = [case for case in cases if case.participant.participant not in self.removed]
        try:
            plan = self._extended(kept, inside, settings)
        except StoreError as error:
            if self.edited:
                raise StoreError(error.message, file=FOLDS_FILE, hint=error.hint or _NEW_SPLIT) from error
            log.warning("the split cannot be kept without those who failed (%s): another is drawn", error.message)
            return _drawn(cases, settings)
        names = {row.participant for row in plan.rows}
        former = {row.participant: row for row in (*self.former, *left) if row.participant not in names}
        return plan, replace(self, rows=plan.rows, settings=settings, former=tuple(former.values()))

    def _stays(self, settings: SplitSettings) -> bool:
        return bool(self.rows) and (self.edited or self.settings == settings)

    def _extended(self, kept: list[FoldRow], cases: Sequence[SplitInput], settings: SplitSettings) -> FoldPlan:
        """Every person of a split is tested once, or new ones stay out of it: their side cannot be known."""
        if len(cases) == len(kept):
            return FoldPlan(tuple(kept))
        if kept and all(row.roles.count(Role.TEST) == 1 for row in kept):
            return extend_plan(kept, cases, valid_proportion=settings.valid_proportion, seed=settings.seed)
        known = {row.person: row.roles for row in kept}
        inside = {row.participant for row in kept}
        people = [case.participant for case in cases if case.participant.participant not in inside]
        kept += [FoldRow(one.participant, one.person, known[one.person]) for one in people if one.person in known]
        if outside := sorted(one.participant for one in people if one.person not in known):
            log.warning("in no fold, for the split does not test every person once: %s", ", ".join(outside))
        return FoldPlan(tuple(kept))


def given_split(plan: FoldPlan, people: Mapping[str, Participant], settings: SplitSettings) -> StoredSplit:
    """A split that people bring, without the examinations that could not be prepared.

    Args:
        plan: as given.
        people: of the prepared examinations.
        settings: of this run, which later runs compare with theirs.

    Raises:
        StoreError: it names other persons than the cohort, or what is left is no split.
    """
    rows: list[FoldRow] = []
    for row in plan.rows:
        one = people.get(row.participant)
        if one is None:
            log.warning("%s is in the given split but was not prepared", row.participant)
        elif one.person != row.person:
            raise StoreError(
                f"{row.participant} is {row.person} in the given split and {one.person} in the cohort",
                hint="correct patient_id in the split file or in participants.tsv",
            )
        else:
            rows.append(row)
    left_out = sorted(set(people) - {row.participant for row in rows})
    if left_out:
        log.warning("not in the given split, so in no fold: %s", ", ".join(left_out))
    return StoredSplit(
        FoldPlan(tuple(rows)).rows,
        edited=True,
        settings=settings,
        former=tuple(row for row in plan.rows if row.participant not in people),
        removed=frozenset(left_out),
    )


def write_split(store: Path, split: StoredSplit, before: StoredSplit) -> None:
    """Write folds.tsv where its rows have changed, and what to remember.

    Where the file was edited, or somebody changes side, the earlier one is kept as folds_before_<hash>.tsv.

    Args:
        store: its folder.
        split: what is to be there.
        before: what is there, as `StoredSplit.read` gave it.
    """
    file = store / FOLDS_FILE
    if split.rows != before.rows or not file.exists():
        sides = {row.participant: row.roles for row in split.rows}
        moved = any(sides.get(row.participant, row.roles) != row.roles for row in before.rows)
        if file.exists() and (before.edited or moved):
            copy = file.with_name(f"folds_before_{file_sha256(file)[:8]}.tsv")
            write_bytes(copy, file.read_bytes())
            log.warning("%s changes: the earlier one is kept as %s", file, copy.name)
        write_folds(file, FoldPlan(split.rows))
    content = {
        "schema_version": SCHEMA_VERSION,
        "settings": None if split.settings is None else asdict(split.settings),
        "edited": split.edited,
        "rows": [_encoded(row) for row in split.rows],
        "former": [_encoded(row) for row in split.former],
        "removed": sorted(split.removed),
    }
    write_text(store / SPLIT_FILE, json.dumps(content, indent=1) + "\n")


def _drawn(cases: Sequence[SplitInput], settings: SplitSettings) -> tuple[FoldPlan, StoredSplit]:
    plan = plan_folds(cases, kfolds=settings.kfolds, valid_proportion=settings.valid_proportion, seed=settings.seed)
    return plan, StoredSplit(plan.rows, settings=settings)


def _read_memory(file: Path) -> StoredSplit | None:
    """split.json, or None where there is none or it is damaged: the split then counts as edited, so nothing is lost."""
    if not file.exists():
        return None
    try:
        content: Any = json.loads(read_regular_text(file))
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema {content['schema_version']}, this version reads {SCHEMA_VERSION}")
        settings = content["settings"]
        return StoredSplit(
            rows=tuple(_decoded(row) for row in content["rows"]),
            edited=bool(content["edited"]),
            settings=None if settings is None else SplitSettings(**settings),
            former=tuple(_decoded(row) for row in content["former"]),
            removed=frozenset(str(name) for name in content["removed"]),
        )
    except (InputError, ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("%s cannot be read (%s): the split is kept as one that was edited", file, error)
        return None


def _encoded(row: FoldRow) -> list[Any]:
    return [row.participant, row.person, [role.value for role in row.roles]]


def _decoded(row: list[Any]) -> FoldRow:
    name, person, roles = row
    return FoldRow(str(name), str(person), tuple(Role(role) for role in roles))


def _renamed(rows: Iterable[FoldRow], persons: Mapping[str, str]) -> list[FoldRow]:
    return [replace(row, person=persons.get(row.participant, row.person)) for row in rows]


def _refuse_torn(rows: Iterable[FoldRow]) -> None:
    first: dict[str, FoldRow] = {}
    for row in rows:
        other = first.setdefault(row.person, row)
        if other.roles != row.roles:
            message = f"{other.participant} and {row.participant} are one person ({row.person}) on different sides"
            raise StoreError(message, file=FOLDS_FILE, hint=f"give them the same roles there; or {_NEW_SPLIT}")


def _coming_back(former: Iterable[FoldRow], kept: Sequence[FoldRow], persons: Mapping[str, str]) -> list[FoldRow]:
    """Examinations that return to the side they left, where it is still their person's."""
    roles = {row.person: row.roles for row in kept}
    back = []
    for row in _renamed(former, persons):
        fits = bool(kept) and len(row.roles) == len(kept[0].roles)
        if row.participant in persons and fits and roles.setdefault(row.person, row.roles) == row.roles:
            back.append(row)
    return back


def _said(settings: SplitSettings | None) -> str:
    return "unknown" if settings is None else ", ".join(f"{name} {value}" for name, value in asdict(settings).items())
