"""Evaluated patients made of masks with so many voxels."""

from __future__ import annotations

import numpy as np

from fvv.analysis.patient import measure_patient
from fvv.data import Channel, Decision, DecisionState, Finding, Participant, Severity
from fvv.schemas.patient import PatientResult

SHAPE = (16, 16, 6)
SPACING = (2.0, 2.0, 5.0)
VOXEL_ML = 0.02


def line(n: int) -> np.ndarray:
    """A mask of n voxels."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask.ravel()[100 : 100 + n] = True
    return mask


def patient(
    name: str,
    *,
    lesion: int = 100,
    visible: int = 0,
    found: int = 100,
    found_visible: int = 0,
    reader: bool | None = None,
    measured: bool = True,
    segmented: bool = True,
    person: str | None = None,
    site: str = "",
    fold: int = 0,
) -> PatientResult:
    """A patient whose masks hold so many voxels."""
    reference = dict(zip(Channel, (line(1000), line(lesion), line(visible)), strict=True))
    predicted = dict(zip(Channel, (line(900), line(found), line(found_visible)), strict=True))
    state = DecisionState.MISMATCH_LIKELY if measured and segmented else DecisionState.NOT_ASSESSABLE
    return measure_patient(
        Participant(name, person or name, site, reader),
        fold,
        Decision(state, 0.5, (Finding("code", "message", Severity.NOTE),)),
        reference=reference,
        predicted=predicted if segmented else None,
        spacing_mm=SPACING,
        reference_ml={channel: float(mask.sum()) * VOXEL_ML for channel, mask in reference.items()},
        predicted_ml={channel: float(mask.sum()) * VOXEL_ML for channel, mask in predicted.items()},
    )


def cohort() -> list[PatientResult]:
    """Ten mismatches and ten others that the FVV tells apart but for two; one healthy, one not measured."""
    patients = [
        patient(f"mismatch{n}", visible=5, found_visible=2 * n, site="A" if n % 2 else "B", fold=n % 2)
        for n in range(10)
    ]
    patients += [
        patient(f"other{n}", visible=60, found_visible=15 + 8 * n, found=80, site="A" if n % 2 else "B", fold=n % 2)
        for n in range(10)
    ]
    return [*patients, patient("healthy", lesion=0, found=0), patient("unmeasured", visible=50, measured=False)]
