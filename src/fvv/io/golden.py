"""The reference output of a bundle, with the input it belongs to: one compressed NumPy file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from fvv.arrays import FloatArray
from fvv.errors import ModelError
from fvv.names import plain
from fvv.system.regular import refuse_irregular

GOLDEN_FILE = "golden.npz"
MOST_BYTES = 256 * 2**20
"""Unpacked; twenty models take 10 MB."""


def write_golden(path: Path, images: FloatArray, output: FloatArray) -> None:
    """Write the file; atomic is the bundle it lies in, which the caller writes whole or not at all.

    Args:
        path: the file.
        images: (2, slices, 256, 256) input.
        output: (n models, 3, slices, i, j) logits.
    """
    np.savez_compressed(path, input=images, output=output)


def read_golden(path: Path, n_models: int) -> tuple[FloatArray, FloatArray]:
    """Input and output, as `write_golden` takes them.

    Raises:
        InputError: not a regular file.
        ModelError: unreadable, too large, or arrays of other axes.
    """
    refuse_irregular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ModelError(f"unpacks to {size} bytes, expected at most {MOST_BYTES}", file=path)
        with np.load(path) as content:
            images, output = content["input"], content["output"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot be read: {plain(' '.join(str(error).split()))}", file=path) from error
    if images.ndim != 4 or images.shape[0] != 2 or images.dtype.kind != "f":
        raise ModelError(f"expected an input of (2, slices, 256, 256), got {images.shape}", file=path)
    if output.ndim != 5 or output.shape[0] != n_models or output.dtype.kind != "f":
        message = f"expected an output of ({n_models} models, 3, slices, 64, 64), got {output.shape}"
        raise ModelError(message, file=path)
    return images, output
