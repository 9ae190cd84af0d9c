"""Intervals hold the true value as often as they say (minutes: `pytest -m slow`)."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.slow
def test_intervals_hold_the_true_value_in_93_to_97_of_100_cohorts(experiment: Callable[[str], ModuleType]) -> None:
    for name, share in experiment("interval_coverage").coverage(100, draws=1000).items():
        assert 0.93 <= share <= 0.97, name
