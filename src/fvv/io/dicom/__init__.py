"""DICOM in and out, in the order of the work: `find` opens objects on disk and in zip files, `frames` (`weighting` for
diffusion) reads what one image says of itself, `group` separates people and studies, `choose` picks b0 and b1000 of one
study, `stack` makes volumes of them, `write` gives the results back as DICOM. These need the `dicom` extra; to tell
that a file is DICOM needs none.
"""

from __future__ import annotations

import stat
from pathlib import Path

MAKER = "fvv"
"""Manufacturer of the objects that this program writes: they are never taken as input."""
START = 132
"""Bytes by which DICOM is recognised: a preamble of 128, then a mark (PS3.10, 7.1)."""
_LONGEST_FIRST_VALUE = 256
"""Bytes of the first element of a data set without preamble: a group length, a character set or an image type."""


def lacks_preamble(start: bytes) -> bool:
    """Whether a file that starts so is plainly a DICOM data set without preamble and mark, as some systems store it.

    It then begins with an element of group 0002 or 0008 in little endian, whose length is small.
    """
    group, element = start[:2], int.from_bytes(start[2:4], "little")
    if start[128:START] == b"DICM" or len(start) < START or group not in {b"\x02\x00", b"\x08\x00"} or element > 0x18:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:8], "little") <= _LONGEST_FIRST_VALUE


def starts_dicom(start: bytes) -> bool:
    """Whether a file that starts so is DICOM, by its mark or its first element."""
    return start[128:START] == b"DICM" or lacks_preamble(start)


def is_dicom(file: Path) -> bool:
    """Whether a regular file is DICOM; opens no pipe or device."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return False
        with file.open("rb") as stream:
            return starts_dicom(stream.read(START))
    except OSError:
        return False
