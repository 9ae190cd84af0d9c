"""The golden input and outputs of a bundle: one compressed NumPy file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fvv.arrays import FloatArray
from fvv.errors import ModelError

GOLDEN_FILE = "golden.npz"
_INPUT = "input"


def write_golden(path: Path, images: FloatArray, outputs: Mapping[str, FloatArray]) -> None:
    """Write the file; atomic is the bundle it lies in, which the caller writes whole or not at all.

    Args:
        path: the file.
        images: (2, slices, 256, 256) input.
        outputs: for each precision, (n, 3, slices, i, j) logits.
    """
    arrays: dict[str, Any] = {_INPUT: images, **outputs}
    np.savez_compressed(path, **arrays)


def read_golden(path: Path) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Input and outputs by precision.

    Raises:
        ModelError: unreadable.
    """
    try:
        with np.load(path) as content:
            arrays = {name: content[name] for name in content.files}
        return arrays.pop(_INPUT), arrays
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot be read: {' '.join(str(error).split())}", file=path) from error
