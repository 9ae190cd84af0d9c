"""What the network is given: slices with their neighbours, in one way for training, testing and new patients.

Input channels are (b1000, b0); slices beyond the volume are filled with one constant, the minimum over both normalised
channels of that patient.
"""

from __future__ import annotations

import numpy as np

from fvv.arrays import FloatArray
from fvv.data import PreparedCase


def network_input(case: PreparedCase, context: int) -> FloatArray:
    """The whole volume, padded by `context` slices at each end.

    Returns:
        (2, slices + 2 * context, 256, 256) float32.
    """
    volume = np.stack([np.moveaxis(case.b1000, 2, 0), np.moveaxis(case.b0, 2, 0)]).astype(np.float32)
    pad = float(volume.min())
    return np.pad(volume, ((0, 0), (context, context), (0, 0), (0, 0)), constant_values=pad)


def extract_slabs(padded: FloatArray, first: int, last: int, context: int) -> FloatArray:
    """One slab of 2 * context + 1 slices for each of the slices [first, last).

    Args:
        padded: (2, slices + 2 * context, 256, 256), from `network_input`.
        first, last: slice numbers in the unpadded volume.
        context: slices on each side.

    Returns:
        (last - first, 2, 2 * context + 1, 256, 256), a copy.
    """
    return np.stack([padded[:, k : k + 2 * context + 1] for k in range(first, last)])
