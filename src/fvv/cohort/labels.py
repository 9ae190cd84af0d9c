"""The mismatch label of a set of patients: from one source for all of them, never a mix of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fvv.config import MISMATCH_BELOW

VISIBLE_EDGES = (MISMATCH_BELOW, 0.8)
"""FLAIR-visible shares that part not visible, mixed and visible: of slices, of strata, of the folds."""


@dataclass(frozen=True, slots=True)
class MismatchLabels:
    """The label of every patient of a set, and where it comes from.

    Attributes:
        values: True: DWI-FLAIR mismatch; None: no label.
        by_readers: the readers' labels are used; otherwise the rule.
    """

    values: tuple[bool | None, ...]
    by_readers: bool
    below: float = MISMATCH_BELOW

    @property
    def source(self) -> str:
        """Where the labels come from, for people."""
        if self.by_readers:
            return "the readers' label (dwi_flair_mismatch)"
        return f"mismatch where less than {100 * self.below:g} % of the reference lesion is FLAIR-visible"


def mismatch_labels(
    readers: Sequence[bool | None], visible_fractions: Sequence[float | None], below: float = MISMATCH_BELOW
) -> MismatchLabels:
    """The readers' labels if any patient of the set has one, otherwise the rule for all.

    A patient without a lesion has nothing to be mismatched, and no label from either source.

    Args:
        readers: the readers' label of each patient; None: not given.
        visible_fractions: FLAIR-visible share of each patient's reference lesion, 0 to 1; NaN without a lesion, None
            where nobody outlined that part.
        below: mismatch under this share, where the rule holds.
    """
    by_readers = any(label is not None for label in readers)
    values: list[bool | None] = []
    for label, fraction in zip(readers, visible_fractions, strict=True):
        if fraction is not None and math.isnan(fraction):
            values.append(None)
        elif by_readers:
            values.append(label)
        else:
            values.append(None if fraction is None else fraction < below)
    return MismatchLabels(tuple(values), by_readers, below)
