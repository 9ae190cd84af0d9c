"""What must hold for any cohort: persons whole, every person tested once, parts never empty, order without effect."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from fvv.cohort.folds import SplitInput, plan_folds
from fvv.data import Participant, Role
from fvv.errors import StoreError

SETTINGS = settings(max_examples=80, deadline=None, derandomize=True)
case = st.tuples(
    st.integers(0, 14), st.sampled_from(["", "a", "b"]), st.sampled_from([None, True, False]), st.floats(0, 99)
)
cohorts = st.lists(case, min_size=1, max_size=30).map(
    lambda rows: [
        SplitInput(Participant(f"p{n}", f"person{person}", site, label), volume, volume * (n % 5) / 5)
        for n, (person, site, label, volume) in enumerate(rows)
    ]
)


def split(cases, kfolds, share=0.2, seed=0):
    try:
        return plan_folds(cases, kfolds=kfolds, valid_proportion=share, seed=seed)
    except StoreError:
        return None


@SETTINGS
@given(cohorts, st.integers(2, 6), st.floats(0.01, 0.9))
def test_every_person_is_whole_and_tested_once_and_no_part_is_empty(cases, kfolds, share):
    plan = split(cases, kfolds, share)
    assume(plan is not None)
    assert {row.examination_id for row in plan.rows} == {case.participant.examination_id for case in cases}
    for row in plan.rows:
        assert row.roles.count(Role.TEST) == 1
    for fold in range(kfolds):
        parts = [{plan.person_of(name) for name in plan.participants(fold, role)} for role in Role]
        assert all(parts)
        assert sum(len(part) for part in parts) == len(set.union(*parts))
    sizes = [len({plan.person_of(name) for name in plan.participants(fold, Role.TEST)}) for fold in range(kfolds)]
    assert max(sizes) - min(sizes) <= 1


@SETTINGS
@given(cohorts, st.integers(2, 6))
def test_it_refuses_only_what_cannot_be(cases, kfolds):
    persons = len({case.participant.person_id for case in cases})
    possible = persons >= kfolds and persons - -(-persons // kfolds) >= 2
    assert (split(cases, kfolds) is not None) == possible


@SETTINGS
@given(cohorts, st.integers(2, 4), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_order_of_the_folders_does_not_matter(cases, kfolds, seed, random):
    shuffled = random.sample(cases, len(cases))
    assert split(cases, kfolds, seed=seed) == split(shuffled, kfolds, seed=seed)


@pytest.mark.parametrize(("persons", "kfolds"), [(3, 2), (2, 2), (2, 3), (1, 2)])
def test_too_few_persons_are_refused_in_a_sentence(persons, kfolds):
    cases = [SplitInput(Participant(f"p{n}", f"p{n}"), 1.0, 0.5) for n in range(persons)]
    with pytest.raises(StoreError, match="cannot make"):
        plan_folds(cases, kfolds=kfolds, valid_proportion=0.2, seed=0)
