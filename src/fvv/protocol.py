"""What an acquisition must be: its b-values, how volumes are averaged to b0 and b1000, the gain that both share.

Every reader (two files, a 4D file, BIDS, DICOM) and quality control ask here, so that one acquisition has one answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fvv.arrays import FloatArray

TARGET_B = 1000.0
"""s/mm^2 of b1000: what networks are trained on; assumed where no file states the b-value."""
B0_TOLERANCE = 50.0
"""s/mm^2: up to this a volume is a b0 (scanners write 0, 5 or 50)."""
B1000_TOLERANCE = 150.0
"""s/mm^2: within this of 1000 an image is taken as it is, without a warning."""
NEAR_B_TOLERANCE = 350.0
"""s/mm^2: runs within this of 1000 are taken before all others of a session, and named where one is not used."""
B_RANGE = (500.0, 2500.0)
"""s/mm^2: what may stand for b1000. Beyond the tolerance it is brought to b = 1000 by its ADC, with a warning. Below,
noise grows more than twofold on the way; above, little but noise is left of tissue (chosen here)."""
_AROUND_B_RANGE = 25.0
"""s/mm^2: the directions of one shell are stated 5 to 20 apart, so b = 2500 may read 2505."""
SHELL_GAP = 50.0
"""s/mm^2: b-values farther apart than this are separate shells (one shell's directions differ by 5 to 20)."""
B0_SHELL_GAP = 10.0
"""s/mm^2: the same among b0, so that b = 50 of a perfusion scheme is not averaged into b = 0."""
USUAL_LOG_DROP = (0.5, 1.3)
"""Median ln(b0/b1000) = b ADC of the brain where both images have one gain. Tissue has an ADC of 0.7 to 0.95e-3 mm^2/s,
which is 0.6 to 1.1 at the b-values that pass without a warning; fluid in the mask adds to it (the one real patient at
hand: 1.2)."""
TYPICAL_LOG_DROP = 0.85
"""Median ln(b0/b1000) of a healthy brain at b = 1000 (12 heads: 0.8 to 0.9)."""
LOG_DROP_NEAR_1000 = (0.5, 1.45)
"""Where no file states the b-value, a median ln(b0/b1000) outside says that it is another, or the gains differ. At b =
1000 12 healthy heads have 0.8 to 0.9, two strokes 0.9 and 1.2, 14 simulated patients, with their gains, 0.8 to 1.4; at
2500 it is 1.7. b = 1500 has 1.2 and cannot be told (chosen here)."""
_LEAST_SIGNAL = 1e-6
"""Signals have a logarithm from here."""


@dataclass(frozen=True, slots=True)
class Shell:
    """Volumes of one b-value, which are averaged to one image.

    Attributes:
        indices: of the volumes, ascending.
        b_value: their mean, s/mm^2.
    """

    indices: tuple[int, ...]
    b_value: float


def is_b0(b_value: float) -> bool:
    """Whether a volume is a b0."""
    return b_value <= B0_TOLERANCE


def may_be_b1000(b_value: float) -> bool:
    """Whether a volume may stand for b1000, as it is or brought there by its ADC."""
    low, high = B_RANGE
    return low - _AROUND_B_RANGE <= b_value <= high + _AROUND_B_RANGE


def is_near_b1000(b_value: float) -> bool:
    """Whether a volume is taken before those farther from 1000."""
    return abs(b_value - TARGET_B) <= NEAR_B_TOLERANCE


def is_usual_b1000(b_value: float) -> bool:
    """Whether a volume is a b1000 as it is."""
    return abs(b_value - TARGET_B) <= B1000_TOLERANCE


def is_brought_to_b1000(b_value: float | None) -> bool:
    """Whether an image is brought to b = 1000 before it is used; None: no file states its b-value."""
    return b_value is not None and may_be_b1000(b_value) and not is_usual_b1000(b_value)


def distance(b_value: float) -> tuple[float, float]:
    """How badly a shell stands for b1000, for comparison: the nearest is taken, of two equally near the lower."""
    return abs(b_value - TARGET_B), b_value


def shells(b_values: Sequence[float]) -> list[Shell]:
    """All shells that may be b0 or b1000, by ascending b-value. They are never pooled: their contrasts differ."""
    found = []
    for belongs, gap in ((is_b0, B0_SHELL_GAP), (may_be_b1000, SHELL_GAP)):
        members = [index for index, b in enumerate(b_values) if belongs(b)]
        for group in split([b_values[index] for index in members], gap):
            indices = tuple(sorted(members[at] for at in group))
            found.append(Shell(indices, float(np.mean([b_values[index] for index in indices]))))
    return found


def b0_volumes(b_values: Sequence[float]) -> Shell | None:
    """The volumes that are averaged to b0: the lowest shell; None where there is none."""
    return next((shell for shell in shells(b_values) if is_b0(shell.b_value)), None)


def b1000_volumes(b_values: Sequence[float]) -> Shell | None:
    """The volumes that are averaged to b1000: the shell nearest to 1000; None where none may stand for it."""
    possible = [shell for shell in shells(b_values) if may_be_b1000(shell.b_value)]
    return min(possible, key=lambda shell: distance(shell.b_value), default=None)


def choice_note(b_value: float, available: Iterable[float]) -> str:
    """A sentence on the other shells, of those available, that could have been b1000; "" where there are none.

    Beside one that is near 1000, only others that are near too.
    """
    possible = is_near_b1000 if is_near_b1000(b_value) else may_be_b1000
    apart = sorted({b for b in available if possible(b) and abs(b - b_value) > SHELL_GAP})
    others = ", ".join(f"{b:g}" for b in apart)
    return f"also holds b = {others} s/mm^2; only b = {b_value:g}, nearest to {TARGET_B:g}, is used" if others else ""


class Average:
    """Mean of the volumes of one shell, with one of them in memory at a time; a single volume stays as it is.

    Of b0 it is the arithmetic mean. Of b1000 it is the geometric mean over directions, which is the trace image: its
    logarithm is linear in the mean diffusivity.
    """

    def __init__(self, b_value: float) -> None:
        self._geometric = not is_b0(b_value)
        self._total: FloatArray = np.zeros(())
        self._count = 0

    def add(self, image: FloatArray) -> None:
        """Take one more volume."""
        if self._count == 0:
            self._total = image
        elif self._geometric:
            first = np.log(np.maximum(self._total, _LEAST_SIGNAL)) if self._count == 1 else self._total
            self._total = first + np.log(np.maximum(image, _LEAST_SIGNAL))
        else:
            self._total = self._total + image
        self._count += 1

    def mean(self) -> FloatArray:
        """The mean of all volumes so far."""
        if self._count == 1:
            return self._total
        mean = self._total / self._count
        return np.exp(mean) if self._geometric else mean


def split(values: Sequence[float], gap: float) -> list[list[int]]:
    """Indices by ascending value, in groups whose neighbours lie no farther apart than the gap."""
    if not len(values):
        return []
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.diff(np.take(values, order)) > gap) + 1
    return [group.tolist() for group in np.split(order, ends)]
