"""Array types used everywhere. Axes are written beside each use; (i, j, k) are voxel axes, k the slice axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]
UInt8Array = NDArray[np.uint8]
IntArray = NDArray[np.integer[Any]]
Affine = NDArray[np.float64]
