"""What is taken out of a fused stroke. A rule only ever removes voxels, and applied twice it changes nothing more."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray

_TOUCHING = np.ones((3, 3, 3))


def without_small_pieces(mask: BoolArray, minimum_mm3: float, voxel_mm3: float) -> BoolArray:
    """The pieces of a mask that are no smaller than a volume; voxels that touch by a corner are of one piece."""
    if not minimum_mm3:
        return mask
    labels, _ = ndimage.label(mask, structure=_TOUCHING)
    # A billionth of tolerance: a piece of exactly the volume stays, whatever the rounding of the product.
    kept = np.bincount(labels.ravel()) * voxel_mm3 >= minimum_mm3 * (1 - 1e-9)
    kept[0] = False
    return np.asarray(kept[labels])
