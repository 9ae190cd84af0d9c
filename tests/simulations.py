"""What the simulator would draw and write, without simulating an examination."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fvv.config import SimulateConfig
from fvv.io.sealed import write_sealed
from fvv.schemas.simulation import CaseRecord, Simulation
from fvv.simulator.lesions import StrokeAppearance
from fvv.simulator.space import LatticeMap, lattice_positions

RECORD = CaseRecord(
    participant_id="sim_0001",
    patient_id="person_0001",
    site="site_a",
    field_strength_t=3.0,
    onset_h=2.0,
    pattern="lacune",
    lesion_volume_ml=1.0,
    flair_visible_ml=0.1,
    dwi_flair_mismatch=True,
    contrast_to_noise=5.0,
    brightening=1.5,
    attempt=0,
    old_damage=(),
    skull_stripped=False,
    brain_volume_ml=1400.0,
    te_ms=80.0,
    tr_ms=6000.0,
    b_s_mm2=1000.0,
    snr=20.0,
)

APPEARANCE = StrokeAppearance(
    adc_factor=0.5,
    t2_amplitude=1.0,
    t2_delay_h=1.0,
    t2_time_constant_h=10.0,
    core_to_rim=0.3,
    patchiness=0.2,
    effacement=0.5,
)


def ball_head() -> Any:
    """A head whose brain is a ball of 75 mm with a small ventricle: enough for shapes, no atlas needed."""
    x, y, z = lattice_positions()
    radius = np.sqrt(x**2 + (y + 15) ** 2 + z**2)
    return SimpleNamespace(
        hull_distance_mm=LatticeMap((radius - 75.0).astype(np.float32)),
        ventricle_distance_mm=LatticeMap(np.maximum(radius - 6.0, 0.0).astype(np.float32)),
    )


def write_simulation(folder: Path, **case: Any) -> Simulation:
    """simulation.json of an examination without images."""
    record = RECORD.model_copy(update=case)
    simulation = Simulation(
        simulator_version=2,
        settings=SimulateConfig(seed=7),
        case=record,
        files={},
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_sealed(folder / "simulation.json", simulation)
    return simulation
