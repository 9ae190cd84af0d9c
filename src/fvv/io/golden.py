"""The golden input and outputs of a bundle: one compressed NumPy file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fvv.arrays import FloatArray
from fvv.errors import ModelError
from fvv.names import plain
from fvv.system.regular import refuse_irregular

GOLDEN_FILE = "golden.npz"
MOST_BYTES = 256 * 2**20
"""Unpacked; twenty models in two forms take 20 MB."""
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


def read_golden(path: Path, n_models: int) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Input and outputs by precision.

    Args:
        path: the file.
        n_models: models of the bundle.

    Raises:
        InputError: not a regular file.
        ModelError: unreadable, too large, or arrays of other axes than `write_golden` writes.
    """
    refuse_irregular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ModelError(f"unpacks to {size} bytes, expected at most {MOST_BYTES}", file=path)
        with np.load(path) as content:
            arrays = {name: content[name] for name in content.files}
        images = arrays.pop(_INPUT)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot be read: {plain(' '.join(str(error).split()))}", file=path) from error
    if images.ndim != 4 or images.shape[0] != 2 or images.dtype.kind != "f":
        raise ModelError(f"expected an input of (2, slices, 256, 256), got {images.shape}", file=path)
    for output in arrays.values():
        if output.ndim != 5 or output.shape[0] != n_models or output.dtype.kind != "f":
            message = f"expected an output of ({n_models} models, 3, slices, 64, 64), got {output.shape}"
            raise ModelError(message, file=path)
    return images, arrays
