"""Intervals hold the truth as often as they say (minutes: `pytest -m slow`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SIMULATION = Path(__file__).resolve().parents[2] / "benchmarks" / "interval_coverage.py"


@pytest.mark.slow
def test_intervals_hold_the_truth_in_93_to_97_of_100_cohorts():
    spec = importlib.util.spec_from_file_location("coverage_simulation", SIMULATION)
    simulation = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(simulation)
    for name, share in simulation.coverage(100, draws=1000).items():
        assert 0.93 <= share <= 0.97, name
