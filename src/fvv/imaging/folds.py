"""Splitting persons over folds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from fvv.data import FoldPlan, FoldRow, Participant, Role
from fvv.errors import StoreError


@dataclass(frozen=True, slots=True)
class SplitInput:
    """What the split may know of one examination: who, and the lesion's size.

    Attributes:
        participant: folder, person, site, label.
        stroke_ml: volume of the stroke ROI.
        flair_visible_ml: volume of the FLAIR-visible ROI.
    """

    participant: Participant
    stroke_ml: float
    flair_visible_ml: float


def plan_folds(cases: Sequence[SplitInput], *, kfolds: int, valid_proportion: float, seed: int) -> FoldPlan:
    """Deal persons to test folds, and draw for each fold the persons that select its checkpoint.

    Persons are sorted by what is known (lesion or none, label, FLAIR-visible fraction, volume, site; chance breaks
    ties) and dealt like cards, one to each fold in turn: every fold gets its share of every kind, and fold sizes differ
    by at most one person. Validation persons are dealt from the rest in the same way, anew for each fold.

    Args:
        cases: one per patient folder, in any order.
        kfolds: number of test folds.
        valid_proportion: share of the persons outside the test fold that validate.
        seed: same seed and persons, same plan.

    Raises:
        StoreError: fewer persons than needed.
    """
    persons = _persons(cases)
    refuse_too_few(persons, kfolds)
    rng = np.random.default_rng(seed)
    ranked = _ranked(persons, rng)
    test_fold: dict[str, int] = {}
    for first in range(0, len(ranked), kfolds):
        hand = ranked[first : first + kfolds]
        test_fold.update(zip(hand, rng.permutation(kfolds)[: len(hand)].tolist(), strict=True))
    # A last, short hand goes to folds by chance; which are one person larger is thus not always the first ones.
    roles: dict[str, list[Role]] = {person: [] for person in persons}
    for fold in range(kfolds):
        rest = [person for person in ranked if test_fold[person] != fold]
        validating = _every_nth(rest, valid_proportion, rng)
        for person in persons:
            if test_fold[person] == fold:
                roles[person].append(Role.TEST)
            else:
                roles[person].append(Role.VALID if person in validating else Role.TRAIN)
    names = sorted((case.participant.participant, case.participant.person) for case in cases)
    return FoldPlan(tuple(FoldRow(name, person, tuple(roles[person])) for name, person in names))


def refuse_too_few(persons: Collection[str], kfolds: int) -> None:
    """Refuse a number of folds that so few persons cannot fill.

    Raises:
        StoreError: fewer persons than folds, or fewer than two beside those of the largest test fold.
    """
    largest = math.ceil(len(persons) / kfolds)
    if len(persons) < kfolds or len(persons) - largest < 2:
        raise StoreError(
            f"{len(persons)} persons cannot make {kfolds} folds",
            hint="use another -k: beside the persons it tests, a fold needs one to train and one to select",
        )


def _persons(cases: Sequence[SplitInput]) -> dict[str, SplitInput]:
    """Each person's examination with the largest lesion, which stands for the person."""
    persons: dict[str, SplitInput] = {}
    for case in sorted(cases, key=lambda case: (-case.stroke_ml, case.participant.participant)):
        persons.setdefault(case.participant.person, case)
    return dict(sorted(persons.items()))


def _ranked(persons: dict[str, SplitInput], rng: np.random.Generator) -> list[str]:
    chance = dict(zip(persons, rng.random(len(persons)).tolist(), strict=True))

    def kind(person: str) -> tuple[bool, int, int, int, str, float]:
        case = persons[person]
        lesion = case.stroke_ml > 0
        label = case.participant.dwi_flair_mismatch
        fraction = case.flair_visible_ml / case.stroke_ml if lesion else 0.0
        return (
            lesion,
            -1 if label is None else int(label),
            int(np.digitize(fraction, (0.2, 0.8))),
            int(np.digitize(case.stroke_ml, (1.0, 10.0, 50.0))),
            case.participant.site,
            chance[person],
        )

    return sorted(persons, key=kind)


def _every_nth(ranked: list[str], share: float, rng: np.random.Generator) -> set[str]:
    """About `share` of the persons, evenly spread over the ranking, at least one and not all."""
    count = min(max(1, round(share * len(ranked))), len(ranked) - 1)
    return {ranked[int(rng.choice(part))] for part in np.array_split(np.arange(len(ranked)), count)}
