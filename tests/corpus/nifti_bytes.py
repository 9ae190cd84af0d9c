"""Breaking NIfTI files byte by byte, as no library lets one write them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

Breaker = Callable[[Path], None]
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SCL_SLOPE, QFORM, SFORM, QUATERN, SROW, MAGIC, EXTENSION = (
    40, 70, 76, 108, 112, 252, 254, 256, 280, 344, 348,
)  # fmt: skip
"""Offsets in the NIfTI-1 header."""


def header(offset: int, form: str, *values: object) -> Breaker:
    """Write values over the header at an offset, keeping the compression sound."""

    def break_it(path: Path) -> None:
        content = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into(f"<{form}", content, offset, *values)
        path.write_bytes(gzip.compress(bytes(content), 1))

    return break_it


def both(*breakers: Breaker) -> Breaker:
    """One after the other."""

    def break_it(path: Path) -> None:
        for breaker in breakers:
            breaker(path)

    return break_it


def content(data: bytes) -> Breaker:
    """Something else altogether."""
    return lambda path: void(path.write_bytes(data))


def cut(share: float = 0.0, last: int = 0) -> Breaker:
    """Keep a share of the file, or all but its last bytes."""

    def break_it(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - last] if last else data[: int(share * len(data))])

    return break_it


def flip(where: float, bit: int = 3) -> Breaker:
    """Flip a bit of the compressed file; `where` is 0 to 1, negative: bytes from the end."""

    def break_it(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(where) if where < 0 else int(where * len(data))] ^= 1 << bit
        path.write_bytes(bytes(data))

    return break_it


def voxels(change: Callable[[np.ndarray], np.ndarray], dtype: str = "f4") -> Breaker:
    """Replace the array by what a function makes of it; the affine stays."""

    def break_it(path: Path) -> None:
        image = nib.load(path)
        array = change(np.asarray(image.dataobj)).astype(dtype)
        nib.save(nib.Nifti1Image(array, image.affine, dtype=array.dtype), path)

    return break_it


def affine(change: Callable[[np.ndarray], np.ndarray]) -> Breaker:
    """Write another s-form, whatever it is, the voxel sizes that follow from it, and no q-form."""

    def break_it(path: Path) -> None:
        changed = change(nib.load(path).affine)
        both(
            header(QFORM, "hh", 0, 1),
            header(SROW, "12f", *changed[:3].ravel().tolist()),
            header(PIXDIM + 4, "3f", *nib.affines.voxel_sizes(changed).tolist()),
        )(path)

    return break_it


def bomb(extra_bytes: int, shape: tuple[int, ...] | None = None) -> Breaker:
    """Append zeros that take a thousandth of their size; declare them as part of the image where a shape is given."""

    def break_it(path: Path) -> None:
        start = bytearray(gzip.decompress(path.read_bytes()))
        if shape is not None:
            struct.pack_into("<8h", start, DIM, len(shape), *shape, *[1] * (7 - len(shape)))
            del start[352:]
        member = gzip.compress(bytes(2**24), 9)
        path.write_bytes(gzip.compress(bytes(start)) + member * (extra_bytes // 2**24 + 1))

    return break_it


def sparse(shape: tuple[int, int, int]) -> Breaker:
    """An uncompressed file that really has the size its header claims, and takes no disk."""

    def break_it(path: Path) -> None:
        start = bytearray(gzip.decompress(path.read_bytes())[:352])
        struct.pack_into("<8h", start, DIM, 3, *shape, 1, 1, 1, 1)
        path.unlink()
        with path.with_name(path.name.removesuffix(".gz")).open("wb") as stream:
            stream.write(start)
            stream.truncate(352 + int(np.prod(shape, dtype=np.int64)) * 4)

    return break_it


def void(_: object) -> None:
    """Throw a result away."""
