"""How uneven healthy brain is: known answers on brains of numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fvv.data import InPlaneGrid, PreparedCase, SignalScale


@pytest.fixture
def flat() -> PreparedCase:
    """A ball of brain, equally bright everywhere, 1 mm in the plane."""
    i, j, k = np.indices((64, 64, 4))
    brain = (i - 32) ** 2 + (j - 32) ** 2 + 0 * k < 24**2
    z = np.where(brain, 0.5, -4.0).astype(np.float32)
    grid = InPlaneGrid((64, 64, 4), np.diag([1.0, 1.0, 5.0, 1.0]), ((0, 1), (1, 1), (2, 1)), 1.0, 64)
    scales = {"b0_scale": SignalScale(200.0, 20.0), "b1000_scale": SignalScale(100.0, 10.0)}
    return PreparedCase("flat", z.copy(), z.copy(), brain, grid, **scales)


def test_even_brain_has_no_contrast_and_noise_has_its_own(flat, experiment: Callable[[str], ModuleType]) -> None:
    measure = experiment("healthy_statistics").statistics
    even = measure(flat)
    assert even.fine == pytest.approx(0.0, abs=1e-5)
    assert even.bright == even.low_adc == 0.0
    flat.b1000[flat.brain] += np.random.default_rng(0).normal(0, 0.5, flat.brain.sum())
    assert measure(flat).fine == pytest.approx(0.5, abs=0.03)


def test_bright_voxels_of_low_adc_are_counted_on_their_own_side(flat, experiment: Callable[[str], ModuleType]) -> None:
    measure = experiment("healthy_statistics").statistics
    side = flat.brain & (np.arange(64) < 32)[:, None, None]
    flat.b1000[side] = 6.0
    found = measure(flat)
    assert found.bright == pytest.approx(100 * side.sum() / flat.brain.sum())
    assert found.asymmetry > 2.0


def test_what_cannot_be_read_is_named(
    tmp_path: Path, experiment: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "b1000.nii.gz").write_bytes(b"")
    experiment("healthy_statistics").main([str(tmp_path)])
    assert "left out: " in capsys.readouterr().out
