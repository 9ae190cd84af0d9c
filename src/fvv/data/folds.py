"""Who was examined, and what each is for in every fold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from fvv.errors import StoreError


class Role(Enum):
    """What a patient is for in one fold."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Participant:
    """One row of participants.tsv: what is known of an examination beside its images.

    Attributes:
        examination_id: name of its folder.
        person_id: who was examined; several examinations may be of one person.
        site: hospital or scanner, "" where unknown.
        dwi_flair_mismatch: the readers' label, None where there is none.
        simulated: whether the simulator made the images; None: unknown.
        stroke_free: stated to show no stroke: there is nothing to outline, and ROI files may be left out.
    """

    examination_id: str
    person_id: str
    site: str = ""
    dwi_flair_mismatch: bool | None = None
    simulated: bool | None = field(default=None, compare=False)
    stroke_free: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class FoldRow:
    """One patient's part in every fold: `roles[f]` is its role in fold f."""

    examination_id: str
    person_id: str
    roles: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """Who trains, selects and tests in every fold. No person is ever on two sides of one fold: checked here.

    Attributes:
        rows: one per patient folder.

    Raises:
        StoreError: no patient, one patient twice, one person on two sides, or a fold without training or test patient.

    Examples:
        >>> import fvv
        >>> from fvv.data import FoldRow, Role
        >>> rows = [FoldRow("anna", "1", (Role.TRAIN,)), FoldRow("bert", "2", (Role.TEST,))]
        >>> fvv.FoldPlan(tuple(rows)).participants(0, Role.TEST)
        ('bert',)
    """

    rows: tuple[FoldRow, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise StoreError("the split holds no patient")
        names = [row.examination_id for row in self.rows]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise StoreError(f"patients listed more than once in the split: {', '.join(twice[:5])}")
        if len({len(row.roles) for row in self.rows}) != 1:
            raise StoreError("every row of the split needs a role in every fold")
        roles_of_person: dict[str, FoldRow] = {}
        for row in self.rows:
            first = roles_of_person.setdefault(row.person_id, row)
            if first.roles != row.roles:
                raise StoreError(
                    f"{first.examination_id} and {row.examination_id} are one person but have different roles",
                    hint="give all folders of a person the same role in each fold of the split file",
                )
            if row.roles.count(Role.TEST) > 1:
                raise StoreError(f"{row.examination_id} is a test patient of more than one fold")
        for fold in range(self.n_folds):
            for role in (Role.TRAIN, Role.TEST):
                if not self.participants(fold, role):
                    raise StoreError(f"fold {fold} has no {role.value} patient")

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.rows[0].roles)

    def participants(self, fold: int, role: Role) -> tuple[str, ...]:
        """Folders with a role in a fold, in the order of the split file.

        In `ALL_FOLDS` nobody tests: those who validate in fold 0 validate, and all others train.

        Raises:
            StoreError: no such fold.
        """
        if fold == ALL_FOLDS:
            validating = self.participants(0, Role.VALID)
            known = set(validating)
            training = tuple(row.examination_id for row in self.rows if row.examination_id not in known)
            return {Role.TRAIN: training, Role.VALID: validating, Role.TEST: ()}[role]
        if not 0 <= fold < self.n_folds:
            raise StoreError(f"no fold {fold}: the split has folds 0 to {self.n_folds - 1}")
        return tuple(row.examination_id for row in self.rows if row.roles[fold] is role)

    def person_of(self, participant: str) -> str:
        """The person behind a folder."""
        for row in self.rows:
            if row.examination_id == participant:
                return row.person_id
        raise StoreError(f"{participant} is not in the split file")


ALL_FOLDS: Final = -1
"""Stands for a fold of one model for everybody, which no examination of the split can test."""


def hashed_ids(ids: Iterable[str]) -> tuple[str, ...]:
    """Ids as they may leave the store: the first 16 hex digits of SHA-256, sorted, each once."""
    return tuple(sorted({hashlib.sha256(f"fvv:{name}".encode()).hexdigest()[:16] for name in ids}))
