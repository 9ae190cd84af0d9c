"""DICOM in and out: `frames` reads what one image says of itself, `read` finds b0 and b1000 among a patient's series,
`write` gives the results back as DICOM objects. These need the `dicom` extra; to tell that a file is DICOM needs none.
"""

from __future__ import annotations

from pathlib import Path

DICOM_FOLDER = "dicom"
"""Of the results, beside the NIfTI ones."""
DICOM_FILES = SEGMENTATION_FILE, REPORT_FILE, PICTURE_FILE = "segmentation.dcm", "report.dcm", "synthesis.dcm"
_MARK = b"DICM"
MARK_END = 132
"""Bytes: a preamble of 128, then the mark (PS3.10, 7.1)."""


def has_mark(start: bytes) -> bool:
    """Whether a file that starts so is DICOM."""
    return start[MARK_END - len(_MARK) : MARK_END] == _MARK


def is_dicom(file: Path) -> bool:
    """Whether a file bears DICOM's mark."""
    try:
        with file.open("rb") as stream:
            return has_mark(stream.read(MARK_END))
    except OSError:
        return False


def holds_dicom(folder: Path) -> bool:
    """Whether there is a DICOM file in a folder or below."""
    return any(item.is_file() and is_dicom(item) for item in folder.rglob("*"))
