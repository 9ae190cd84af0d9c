"""Splitting persons over folds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from fvv.cohort.labels import VISIBLE_EDGES
from fvv.data import FoldPlan, FoldRow, Participant, Role
from fvv.errors import StoreError

_LESION_ML = (1.0, 10.0, 50.0)
"""Edges between lesions of one size and the next."""


@dataclass(frozen=True, slots=True)
class SplitInput:
    """What the split may know of one examination: who, and the lesion's size; None: that mask is unknown."""

    participant: Participant
    stroke_ml: float | None
    flair_visible_ml: float | None


def plan_folds(cases: Sequence[SplitInput], *, kfolds: int, valid_proportion: float, seed: int) -> FoldPlan:
    """Assign persons to test folds, and choose for each fold the persons that select its checkpoint.

    Persons are sorted by what is known (which masks, lesion or none, label, FLAIR-visible fraction, volume, site; ties
    in random order). Each run of `kfolds` persons goes to the folds in random order, one to each, so that every fold
    gets its share of every kind and fold sizes differ by at most one person. Validation persons of each fold are spread
    over the rest in the same way.

    Args:
        cases: one per patient folder, in any order.
        valid_proportion: share of the persons outside the test fold that validate.
        seed: same seed and persons, same plan.
    """
    persons = _persons(cases)
    refuse_too_few(persons, kfolds)
    rng = np.random.default_rng(seed)
    ranked = _ranked(persons, rng)
    test_fold: dict[str, int] = {}
    for first in range(0, len(ranked), kfolds):
        run = ranked[first : first + kfolds]
        test_fold.update(zip(run, rng.permutation(kfolds)[: len(run)].tolist(), strict=True))
    roles: dict[str, list[Role]] = {person: [] for person in persons}
    for fold in range(kfolds):
        tested = {person for person in ranked if test_fold[person] == fold}
        rest = [person for person in ranked if person not in tested]
        count = min(max(1, round(valid_proportion * len(rest))), len(rest) - 1)
        _assign(roles, tested, _spread(rest, count, rng))
    names = sorted((case.participant.examination_id, case.participant.person_id) for case in cases)
    return FoldPlan(tuple(FoldRow(name, person, tuple(roles[person])) for name, person in names))


def extend_plan(
    kept: Sequence[FoldRow], cases: Sequence[SplitInput], *, valid_proportion: float, seed: int
) -> FoldPlan:
    """Add examinations to a split in which every person is tested once; nobody in it changes side.

    An examination of a person in the split takes that person's side. New persons go to the test fold with the fewest
    persons, of those to the one with the fewest of their kind; of the others some validate, so that each fold comes
    nearest to its share.

    Args:
        kept: the split as it is; a fold may lack test patients until the new ones fill it.
        cases: one per patient folder, those in the split and new ones, in any order.
        valid_proportion: share of the persons outside a test fold that validate.
        seed: same seed, split and cases, same result.
    """
    rng = np.random.default_rng([seed, len(kept)])
    roles = {row.person_id: list(row.roles) for row in kept}
    everybody = _persons(cases)
    ranked = _ranked({person: case for person, case in everybody.items() if person not in roles}, rng)
    kinds = {person: _kind(case)[:5] for person, case in everybody.items()}
    n_folds = len(kept[0].roles)
    tested = [[person for person, sides in roles.items() if sides[fold] is Role.TEST] for fold in range(n_folds)]
    for person in ranked:
        alike = [sum(kinds.get(other) == kinds[person] for other in fold) for fold in tested]
        chance = rng.permutation(n_folds).tolist()
        tested[min(range(n_folds), key=lambda k: (len(tested[k]), alike[k], chance[k]))].append(person)
    new: dict[str, list[Role]] = {person: [] for person in ranked}
    for fold in range(n_folds):
        sides = [known[fold] for known in roles.values()]
        joining = [person for person in ranked if person not in tested[fold]]
        count = _validating_of(len(joining), sides, valid_proportion, rng)
        _assign(new, set(tested[fold]), _spread(joining, count, rng))
    roles |= new
    there = {row.examination_id for row in kept}
    people = sorted((case.participant.examination_id, case.participant.person_id) for case in cases)
    rows = [*kept, *(FoldRow(name, person, tuple(roles[person])) for name, person in people if name not in there)]
    names = [row.examination_id for row in kept]
    return FoldPlan(tuple(sorted(rows, key=lambda row: row.examination_id) if names == sorted(names) else rows))


def refuse_too_few(persons: Collection[str], kfolds: int) -> None:
    """Refuse a number of folds that so few persons cannot fill.

    Raises:
        StoreError: fewer persons than folds, or fewer than two beside those of the largest test fold.
    """
    largest = math.ceil(len(persons) / kfolds)
    if len(persons) < kfolds or len(persons) - largest < 2:
        raise StoreError(
            f"{len(persons)} persons cannot make {kfolds} folds",
            hint="use another -k: besides its test persons, a fold needs one for training and one for validation",
        )


def _persons(cases: Sequence[SplitInput]) -> dict[str, SplitInput]:
    """The examination that stands for each person: that with the most known masks, of these with the largest lesion."""
    persons: dict[str, SplitInput] = {}

    def rank(case: SplitInput) -> tuple[int, float, str]:
        unknown = (case.stroke_ml, case.flair_visible_ml).count(None)
        return unknown, -(case.stroke_ml or 0.0), case.participant.examination_id

    for case in sorted(cases, key=rank):
        persons.setdefault(case.participant.person_id, case)
    return dict(sorted(persons.items()))


def _ranked(persons: dict[str, SplitInput], rng: np.random.Generator) -> list[str]:
    chance = dict(zip(persons, rng.random(len(persons)).tolist(), strict=True))
    return sorted(persons, key=lambda person: (*_kind(persons[person]), chance[person]))


def _kind(case: SplitInput) -> tuple[bool, bool, bool, int, int, int, str]:
    stroke_ml, visible_ml = case.stroke_ml or 0.0, case.flair_visible_ml or 0.0
    label = case.participant.dwi_flair_mismatch
    fraction = visible_ml / stroke_ml if stroke_ml else 0.0
    return (
        case.stroke_ml is not None,
        case.flair_visible_ml is not None,
        stroke_ml > 0,
        -1 if label is None else int(label),
        int(np.digitize(fraction, VISIBLE_EDGES)),
        int(np.digitize(stroke_ml, _LESION_ML)),
        case.participant.site,
    )


def _validating_of(joining: int, sides: Sequence[Role], share: float, rng: np.random.Generator) -> int:
    """How many of the persons that join a fold validate, so that about `share` of all outside its test part do."""
    validating, training = sides.count(Role.VALID), sides.count(Role.TRAIN)
    missing = share * (validating + training + joining) - validating
    # Rounded at random: of persons who are added one by one the same share validates.
    count = max(math.floor(missing + rng.random()), 0 if validating else 1)
    return min(count, joining - (0 if training else 1))


def _spread(ranked: Sequence[str], count: int, rng: np.random.Generator) -> set[str]:
    if count < 1:
        return set()
    return {ranked[int(rng.choice(part))] for part in np.array_split(np.arange(len(ranked)), count)}


def _assign(roles: dict[str, list[Role]], tested: Collection[str], validating: Collection[str]) -> None:
    for person, parts in roles.items():
        other = Role.VALID if person in validating else Role.TRAIN
        parts.append(Role.TEST if person in tested else other)
