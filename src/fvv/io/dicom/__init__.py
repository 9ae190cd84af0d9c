"""DICOM in and out. `files` opens objects on disk and in zip files, `frames` reads what one image says of itself,
`diffusion` and `mosaic` the parts that makers write their own way; `index` tells people and studies apart, `choose`
finds b0 and b1000 of one study, `read` makes volumes of them; `source` and `write` give the results back as DICOM.
These need the `dicom` extra; to tell that a file is DICOM needs none.
"""

from __future__ import annotations

import stat
from pathlib import Path

MAKER = "fvv"
"""Manufacturer of the objects that this program writes: they are never taken as input."""
_MARK = b"DICM"
MARK_END = 132
"""Bytes: a preamble of 128, then the mark (PS3.10, 7.1)."""
_LONGEST_FIRST_VALUE = 256
"""Bytes of the first element of a data set without preamble: a group length, a character set or an image type."""


def has_mark(start: bytes) -> bool:
    """Whether a file that starts so is DICOM by its mark."""
    return start[MARK_END - len(_MARK) : MARK_END] == _MARK


def lacks_preamble(start: bytes) -> bool:
    """Whether a file that starts so is plainly a DICOM data set without preamble and mark, as some systems store it.

    It then begins with an element of group 0002 or 0008 in little endian, whose length is small.
    """
    group, element = start[:2], int.from_bytes(start[2:4], "little")
    if has_mark(start) or len(start) < MARK_END or group not in {b"\x02\x00", b"\x08\x00"} or element > 0x18:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:8], "little") <= _LONGEST_FIRST_VALUE


def is_dicom(file: Path) -> bool:
    """Whether a regular file is DICOM, by its mark or its first element."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return False
        with file.open("rb") as stream:
            start = stream.read(MARK_END)
    except OSError:
        return False
    return has_mark(start) or lacks_preamble(start)


def holds_dicom(folder: Path) -> bool:
    """Whether there is a DICOM file in a folder or below."""
    return any(is_dicom(item) for item in folder.rglob("*"))
