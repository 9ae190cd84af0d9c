"""These tests need the `dicom` extra."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from builders import head

collect_ignore_glob = [] if find_spec("highdicom") else ["test_*.py"]


@pytest.fixture
def images(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A head whose first axis runs to the left and second to the back, as scanners store it."""
    return {name: array[::-1, ::-1] for name, array in head(rng).items()}
