"""What an acquisition must be: which b-values stand for b0 and b1000, and how their volumes become one image.

Every reader (two files, a 4D file, BIDS, DICOM) asks here, so that one acquisition gives one answer by every door.
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
"""s/mm^2: within this of 1000 nothing is said."""
WIDEST_B_TOLERANCE = 350.0
"""s/mm^2: within this of 1000 a volume may stand for b1000, with a warning. Contrast of lesion over tissue goes with
e^(b ADC); beyond, it is another kind of image."""
SHELL_GAP = 50.0
"""s/mm^2: b-values farther apart than this are shells of their own (one shell's directions differ by 5 to 20)."""


@dataclass(frozen=True, slots=True)
class Shell:
    """The volumes that are one image.

    Attributes:
        indices: of the volumes, ascending.
        b_value: their mean, s/mm^2.
        others: mean b-values of the other shells that could have stood for b1000, ascending.
    """

    indices: tuple[int, ...]
    b_value: float
    others: tuple[float, ...] = ()

    @property
    def note(self) -> str:
        """What is to be said of the choice; "" where there was none."""
        if not self.others:
            return ""
        others = ", ".join(f"{b:g}" for b in self.others)
        return f"also holds b = {others} s/mm^2; b = {self.b_value:g}, nearest to {TARGET_B:g}, is taken alone"


def may_be_b0(b_value: float) -> bool:
    """Whether a volume is a b0."""
    return b_value <= B0_TOLERANCE


def may_be_b1000(b_value: float) -> bool:
    """Whether a volume may stand for b1000; quality control warns where it is far off."""
    return abs(b_value - TARGET_B) <= WIDEST_B_TOLERANCE


def b0_volumes(b_values: Sequence[float]) -> Shell | None:
    """The volumes that are b0; None where there is none."""
    return _shell(b_values, [index for index, b in enumerate(b_values) if may_be_b0(b)])


def b1000_volumes(b_values: Sequence[float]) -> Shell | None:
    """The volumes of the shell nearest to 1000, of two equally near the lower; None where none may stand for b1000.

    Shells are never pooled: their contrasts differ.
    """
    possible = sorted((b, index) for index, b in enumerate(b_values) if may_be_b1000(b))
    shells: list[list[int]] = []
    before = -np.inf
    for b, index in possible:
        if b - before > SHELL_GAP:
            shells.append([])
        shells[-1].append(index)
        before = b
    found = [shell for indices in shells if (shell := _shell(b_values, sorted(indices)))]
    if not found:
        return None
    nearest = min(found, key=lambda shell: (abs(shell.b_value - TARGET_B), shell.b_value))
    return Shell(nearest.indices, nearest.b_value, tuple(shell.b_value for shell in found if shell is not nearest))


def average_b0(images: Iterable[FloatArray], count: int) -> FloatArray:
    """Arithmetic mean of so many images, one at a time in memory; one alone is itself."""
    if count == 1:
        return next(iter(images))
    return np.asarray(sum(images, np.float64(0)) / count)


def average_b1000(images: Iterable[FloatArray], count: int) -> FloatArray:
    """Geometric mean over directions, which is the trace image: its logarithm is linear in the mean diffusivity.

    One alone is itself.
    """
    if count == 1:
        return next(iter(images))
    logarithms = (np.log(np.maximum(image, 1e-6)) for image in images)
    return np.asarray(np.exp(sum(logarithms, np.float64(0)) / count))


def _shell(b_values: Sequence[float], indices: Sequence[int]) -> Shell | None:
    if not indices:
        return None
    return Shell(tuple(indices), float(np.mean([b_values[index] for index in indices])))
