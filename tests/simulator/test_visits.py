"""Who is examined when."""

from __future__ import annotations

import numpy as np

from fvv.config import SimulateConfig
from fvv.simulator.scanner import SITES
from fvv.simulator.visits import plan_visit


def test_visits_depend_on_seed_and_number_alone_and_second_visits_come_later():
    config = SimulateConfig(seed=3)
    visits = [plan_visit(number, config) for number in range(1, 301)]
    assert [plan_visit(number, config) for number in (300, 7, 120)] == [visits[299], visits[6], visits[119]]
    follow_ups = [visit for visit in visits if visit.is_follow_up]
    assert 10 < len(follow_ups) < 50
    for visit in follow_ups:
        first = visits[visit.person - 1]
        assert not first.is_follow_up
        assert (visit.onset_h is None) == (first.onset_h is None)
        if visit.onset_h is not None and first.onset_h is not None:
            assert visit.onset_h > first.onset_h
    assert {visit.site.name for visit in visits} == {site.name for site in SITES}
    assert 0.05 < np.mean([visit.onset_h is None for visit in visits]) < 0.2
