"""The split of a store from one run of `prepare` to the next: what people changed stays, and nobody changes side.

folds.tsv is the split. split.json is what `prepare` remembers of it (`fvv.schemas.store.SplitMemory`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from fvv.cohort.folds import SplitInput, extend_plan, plan_folds
from fvv.data import FoldPlan, FoldRow, Participant, Role
from fvv.errors import InputError, StoreError
from fvv.io.atomic import write_bytes
from fvv.io.folds import FOLDS_FILE, read_folds, write_folds
from fvv.io.sealed import read_record, write_sealed
from fvv.schemas.store import SplitMemory, SplitSettings
from fvv.system.fingerprint import file_sha256

SPLIT_FILE = "split.json"
log = logging.getLogger(__name__)
_NEW_SPLIT = f"for a new split move {FOLDS_FILE} and {SPLIT_FILE} out of the store"


class StoredSplit(SplitMemory):
    """The split of a store as it is on disk: where folds.tsv is there, its rows; otherwise those remembered."""

    @classmethod
    def read(cls, store: Path, prepared: Iterable[str]) -> StoredSplit:
        """Read the split of a store.

        Where split.json is missing or damaged, the split counts as edited, so that nothing is lost.

        Args:
            prepared: examinations in it. Without split.json, those in no row count as left out on purpose.
        """
        file, memory = store / FOLDS_FILE, None
        if (store / SPLIT_FILE).exists():
            try:
                memory = read_record(store / SPLIT_FILE, cls)
            except InputError as error:
                log.warning("%s: the split is kept as one that was edited", error)
        if not file.exists() and not file.is_symlink():
            return memory or cls()
        try:
            rows = read_folds(file).rows
        except StoreError as error:
            hint = f"correct it, or delete it: `fvv prepare` then writes the last split again; {_NEW_SPLIT}"
            raise StoreError(error.message, file=file, hint=hint) from error
        names = {row.examination_id for row in rows}
        if memory is None:
            return cls(rows=rows, edited=True, removed=frozenset(prepared) - names)
        taken_out = {row.examination_id for row in memory.rows} - names
        edited = memory.edited or set(rows) != set(memory.rows)
        removed = (memory.removed | taken_out) - names
        return memory.model_copy(update={"rows": rows, "edited": edited, "removed": removed})

    def without(self, names: Collection[str]) -> StoredSplit:
        """The same without examinations that are to be forgotten."""
        rows, former = (
            tuple(row for row in kept if row.examination_id not in names) for kept in (self.rows, self.former)
        )
        return self.model_copy(update={"rows": rows, "former": former, "removed": self.removed - set(names)})

    def refuse_unfit(self, settings: SplitSettings, persons: Mapping[str, str]) -> None:
        """Refuse, before hours of work, what the split cannot be brought to.

        Raises:
            StoreError: other settings would replace an edited split, or one person has folders on different sides.
        """
        if self.rows and self.edited and self.settings not in {None, settings}:
            message = f"the split was edited or given, and other settings ({_said(settings)}) would replace it"
            hint = f"leave them as they were ({_said(self.settings)}), or {_NEW_SPLIT}"
            raise StoreError(message, file=FOLDS_FILE, hint=hint)
        if self._stays(settings):
            try:
                FoldPlan(tuple(_renamed(self.rows, persons)))
            except StoreError as error:
                raise StoreError(error.message, file=FOLDS_FILE, hint=f"{error.hint}; or {_NEW_SPLIT}") from error

    def updated(self, cases: Sequence[SplitInput], settings: SplitSettings) -> StoredSplit:
        """The split of these examinations.

        Where those that are left cannot make a split that `prepare` made, it makes another, and says so.

        Raises:
            StoreError: too few persons, or an edited split that leaves a fold without patients or puts a person on two
                sides.
        """
        if not self._stays(settings):
            return _new_split(cases, settings)
        persons = {case.participant.examination_id: case.participant.person_id for case in cases}
        kept = [row for row in _renamed(self.rows, persons) if row.examination_id in persons]
        listed = {row.examination_id for row in kept} | self.removed
        kept += _coming_back(self.former, kept, {name: persons[name] for name in persons if name not in listed})
        inside = [case for case in cases if case.participant.examination_id not in self.removed]
        try:
            rows = self._extended(kept, inside, settings)
        except StoreError as error:
            if self.edited:
                raise StoreError(error.message, file=FOLDS_FILE, hint=error.hint or _NEW_SPLIT) from error
            log.warning("the split cannot be kept without those who failed (%s): a new one is made", error.message)
            return _new_split(cases, settings)
        names = {row.examination_id for row in rows}
        former = {row.examination_id: row for row in (*self.former, *self.rows) if row.examination_id not in names}
        return self.model_copy(update={"rows": rows, "settings": settings, "former": tuple(former.values())})

    def _stays(self, settings: SplitSettings) -> bool:
        return bool(self.rows) and (self.edited or self.settings == settings)

    @staticmethod
    def _extended(kept: list[FoldRow], cases: Sequence[SplitInput], settings: SplitSettings) -> tuple[FoldRow, ...]:
        """Where every person is tested once, new persons join; otherwise they stay out: their side is not known."""
        if len(cases) == len(kept):
            return FoldPlan(tuple(kept)).rows
        if kept and all(row.roles.count(Role.TEST) == 1 for row in kept):
            share, seed = settings.valid_proportion, settings.seed
            return extend_plan(kept, cases, valid_proportion=share, seed=seed).rows
        known = {row.person_id: row.roles for row in kept}
        inside = {row.examination_id for row in kept}
        people = [case.participant for case in cases if case.participant.examination_id not in inside]
        if outside := sorted(one.examination_id for one in people if one.person_id not in known):
            log.warning("in no fold, because the split does not test every person once: %s", ", ".join(outside))
        joining = [
            FoldRow(one.examination_id, one.person_id, known[one.person_id]) for one in people if one.person_id in known
        ]
        return FoldPlan((*kept, *joining)).rows


def given_split(plan: FoldPlan, people: Mapping[str, Participant], settings: SplitSettings) -> StoredSplit:
    """A split that people bring, without the examinations that could not be prepared.

    Args:
        settings: of this run, which later runs compare with theirs.

    Raises:
        StoreError: it names other persons than the cohort, or what is left is no split.
    """
    for row in plan.rows:
        one = people.get(row.examination_id)
        if one is None:
            log.warning("%s is in the given split but was not prepared", row.examination_id)
        elif one.person_id != row.person_id:
            message = f"{row.examination_id} is {row.person_id} in the given split and {one.person_id} in the cohort"
            raise StoreError(message, hint="correct person_id in the split file, or patient_id in participants.tsv")
    rows = FoldPlan(tuple(row for row in plan.rows if row.examination_id in people)).rows
    left_out = frozenset(people) - {row.examination_id for row in rows}
    former = tuple(row for row in plan.rows if row.examination_id not in people)
    return StoredSplit(rows=rows, edited=True, settings=settings, former=former, removed=left_out)


def write_split(store: Path, split: StoredSplit, before: StoredSplit) -> None:
    """Write folds.tsv where its rows have changed, and what to remember.

    Where the file was edited, or somebody changes side, the earlier one is kept as folds_before_<hash>.tsv.

    Args:
        before: what is there, as `StoredSplit.read` gave it.
    """
    file = store / FOLDS_FILE
    if split.rows != before.rows or not file.exists():
        sides = {row.examination_id: row.roles for row in split.rows}
        moved = any(sides.get(row.examination_id, row.roles) != row.roles for row in before.rows)
        if file.exists() and (before.edited or moved):
            copy = file.with_name(f"folds_before_{file_sha256(file)[:8]}.tsv")
            write_bytes(copy, file.read_bytes())
            log.warning("%s changes: the earlier one is kept as %s", file, copy.name)
        write_folds(file, FoldPlan(split.rows))
    write_sealed(store / SPLIT_FILE, split)


def _new_split(cases: Sequence[SplitInput], settings: SplitSettings) -> StoredSplit:
    return StoredSplit(rows=plan_folds(cases, **asdict(settings)).rows, settings=settings)


def _renamed(rows: Iterable[FoldRow], persons: Mapping[str, str]) -> list[FoldRow]:
    return [replace(row, person_id=persons.get(row.examination_id, row.person_id)) for row in rows]


def _coming_back(former: Iterable[FoldRow], kept: Sequence[FoldRow], persons: Mapping[str, str]) -> list[FoldRow]:
    """Examinations that return to the side they left, where it is still their person's."""
    roles = {row.person_id: row.roles for row in kept}
    back = []
    for row in _renamed(former, persons):
        fits = bool(kept) and len(row.roles) == len(kept[0].roles)
        if row.examination_id in persons and fits and roles.setdefault(row.person_id, row.roles) == row.roles:
            back.append(row)
    return back


def _said(settings: SplitSettings | None) -> str:
    return "unknown" if settings is None else ", ".join(f"{name} {value}" for name, value in asdict(settings).items())
