"""Fixtures every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def pytest_configure() -> None:
    """A shell ignores these signals for a job in the background (`make test &`, `nohup`), and programs that tests start
    would ignore them, too. What has a handler here is not ignored there.
    """
    for name in ("SIGINT", "SIGQUIT", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has the first one only.
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else lambda *_: None)


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


@pytest.fixture(scope="session")
def simulated() -> Callable[[int], Any]:
    """Simulated patients by number (seed 5), each made once a session; signal on a coarse grid, so that it takes a
    fraction of a second. Those with small matrices: 50, 68, 6, 32, 76, 18, 9, 30, 43 (no lesion), 42, 10, 79, 78, 7.
    """
    pytest.importorskip("nilearn")
    # Not every test needs the simulator: nothing of it is loaded for those that do not.
    from fvv.config import SimulateConfig  # noqa: PLC0415
    from fvv.simulator.anatomy import average_head  # noqa: PLC0415
    from fvv.simulator.case import simulate_case  # noqa: PLC0415

    @cache
    def patient(number: int) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fvv.simulator.patient.FINE_VOXEL_MM", 2.0)
            patch.setattr("fvv.simulator.patient.SUBSLICES", 1)
            return simulate_case(number, average_head(), SimulateConfig(seed=5))

    return patient


@pytest.fixture(scope="module")
def plain_evaluations() -> Iterator[None]:
    """A module's evaluations have squares as plots; see `plain_pictures`."""
    from plain_pictures import plain_evaluations  # noqa: PLC0415

    with plain_evaluations():
        yield


@pytest.fixture(scope="module")
def plain_trainings() -> Iterator[None]:
    """A module's trainings have squares as figures; see `plain_pictures`."""
    pytest.importorskip("torch")
    from plain_pictures import plain_trainings  # noqa: PLC0415

    with plain_trainings():
        yield


@pytest.fixture
def one_core() -> Iterator[None]:
    """Commands that start a process per core start none: the imports of each take longer than a few small patients."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
