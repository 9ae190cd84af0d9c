from __future__ import annotations

import pytest

from fvv.cohort.folds import SplitInput, extend_plan, plan_folds
from fvv.data import FoldPlan, FoldRow, Participant, Role, hashed_ids
from fvv.errors import StoreError


def cohort(n: int, scans_per_person: int = 1) -> list[SplitInput]:
    return [
        SplitInput(
            Participant(
                f"c{i:03}", f"person{i // scans_per_person:03}", site=f"s{i % 3}", dwi_flair_mismatch=i % 2 == 0
            ),
            stroke_ml=0.0 if i % 8 == 0 else 3.0 * (i % 7),
            flair_visible_ml=float(i % 3) if i % 8 else 0.0,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize(("n", "k", "scans"), [(24, 3, 1), (25, 10, 1), (40, 5, 2), (7, 7, 1)])
def test_every_person_is_tested_once_and_never_on_two_sides(n: int, k: int, scans: int) -> None:
    plan = plan_folds(cohort(n, scans), kfolds=k, valid_proportion=0.2, seed=4)
    assert plan.n_folds == k
    tested = [name for fold in range(k) for name in plan.participants(fold, Role.TEST)]
    assert sorted(tested) == sorted(row.examination_id for row in plan.rows)
    for fold in range(k):
        sides = [{plan.person_of(name) for name in plan.participants(fold, role)} for role in Role]
        assert all(side for side in sides)
        assert sum(len(side) for side in sides) == len(set.union(*sides))


def test_validation_persons_are_drawn_for_each_fold() -> None:
    plan = plan_folds(cohort(60), kfolds=5, valid_proportion=0.2, seed=0)
    validating = [set(plan.participants(fold, Role.VALID)) for fold in range(5)]
    assert [len(side) for side in validating] == [10] * 5  # a fifth of the 48 others, rounded
    assert len(set.union(*validating)) > 20


def test_every_person_trains_some_model() -> None:
    plan = plan_folds(cohort(60), kfolds=5, valid_proportion=0.2, seed=0)
    assert all(Role.TRAIN in row.roles for row in plan.rows)


def test_labels_are_spread_over_the_folds() -> None:
    cases = cohort(60)
    plan = plan_folds(cases, kfolds=5, valid_proportion=0.2, seed=1)
    labels = {case.participant.examination_id: case.participant.dwi_flair_mismatch for case in cases}
    shares = [sum(bool(labels[name]) for name in plan.participants(fold, Role.TEST)) for fold in range(5)]
    assert max(shares) - min(shares) <= 2


def test_same_seed_same_plan_whatever_the_order() -> None:
    cases = cohort(24)
    one = plan_folds(cases, kfolds=3, valid_proportion=0.2, seed=9)
    assert one == plan_folds(cases[::-1], kfolds=3, valid_proportion=0.2, seed=9)
    assert one != plan_folds(cases, kfolds=3, valid_proportion=0.2, seed=10)


def test_too_few_persons_is_said_with_the_remedy() -> None:
    with pytest.raises(StoreError, match="2 persons cannot make 3 folds"):
        plan_folds(cohort(4, scans_per_person=2), kfolds=3, valid_proportion=0.2, seed=0)


@pytest.mark.parametrize("step", [1, 7, 30])
def test_who_joins_keeps_the_balance_and_moves_nobody(step: int) -> None:
    cases = cohort(90)
    plan = plan_folds(cases[:30], kfolds=5, valid_proportion=0.2, seed=0)
    for end in range(30 + step, 91, step):
        before = plan
        plan = extend_plan(plan.rows, cases[:end], valid_proportion=0.2, seed=0)
        assert set(before.rows) <= set(plan.rows)
        sizes = [len(plan.participants(fold, Role.TEST)) for fold in range(5)]
        assert max(sizes) - min(sizes) <= 1
        for fold in range(5):
            share = len(plan.participants(fold, Role.VALID)) / (end - sizes[fold])
            assert abs(share - 0.2) < 0.06
    names = {case.participant.examination_id: case.participant.dwi_flair_mismatch for case in cases}
    labels = [sum(bool(names[name]) for name in plan.participants(fold, Role.TEST)) for fold in range(5)]
    assert max(labels) - min(labels) <= 4
    assert sum(Role.TRAIN not in row.roles for row in plan.rows) <= 1


def test_joining_does_not_depend_on_the_order_of_the_folders() -> None:
    cases = cohort(40, scans_per_person=2)
    plan = plan_folds(cases[:20], kfolds=3, valid_proportion=0.2, seed=0)
    one = extend_plan(plan.rows, cases, valid_proportion=0.2, seed=0)
    assert one == extend_plan(plan.rows, cases[::-1], valid_proportion=0.2, seed=0)


def row(name: str, person: str, *roles: str) -> FoldRow:
    return FoldRow(name, person, tuple(Role(role) for role in roles))


def test_a_person_on_two_sides_is_refused() -> None:
    with pytest.raises(StoreError, match="one person"):
        FoldPlan((row("a", "x", "train", "test"), row("b", "x", "test", "train")))


def test_a_fold_without_test_patient_is_refused() -> None:
    with pytest.raises(StoreError, match="fold 1 has no test"):
        FoldPlan((row("a", "a", "train", "train"), row("b", "b", "test", "train")))


def test_hashes_hide_names_and_are_stable() -> None:
    assert hashed_ids(["b", "a", "a"]) == hashed_ids(["a", "b"])
    assert not any("DUPONT" in hashed for hashed in hashed_ids(["DUPONT"]))
