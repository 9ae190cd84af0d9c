"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, fresh for each test."""
    return np.random.default_rng(20251123)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Outputs of the reference pipeline on a real patient; they lie beside the repository, not in it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip("the reference outputs are not here")
    return folder
