"""What a DICOM object that arrives is: whose, of which study, whole or cut off, and whether the rules want it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from fvv.config import ListenConfig
from fvv.errors import InputError
from fvv.io.dicom import MAKER
from fvv.io.dicom.find import DicomFile, DicomReader, refusing_damage
from fvv.io.dicom.frames import person_of
from fvv.system.fingerprint import fingerprint

IMAGES = frozenset(
    (MRImageStorage, EnhancedMRImageStorage, EnhancedMRColorImageStorage, LegacyConvertedEnhancedMRImageStorage)
)
"""Classes of objects that are kept. All others of a study are accepted and left alone."""
_KEY_LETTERS = 16
"""Of a hash that names a study: 64 bits, so that two of the studies of a hospital never share one."""
_OF_PIXELS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "DiffusionBValue"),
    *("RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""Elements that say what the pixels are; archives correct others without making another image."""
_PIXEL_GROUP = 0x7FE0
_TAIL = 2**16
"""Bytes at the end of an object in which compressed pixels end; only padding follows."""
_LONG = 0xFFFFFFFF
_END_OF_ITEMS = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """Where an object belongs.

    Attributes:
        study: hash of study and person, the name of the study everywhere in the spool and in the log.
        file_name: the same for every copy of the object; another for other pixels, or pixels of another place or
            weighting, under its UID, so that neither of the two replaces the other in silence.
        wanted: whether the rules take it.
    """

    study: str
    file_name: str
    wanted: bool


def facts_of(path: Path, rules: ListenConfig) -> ObjectFacts:
    """Read an object's header, and see whether all its pixels are there.

    Raises:
        InputError: no DICOM image, cut off, or without a person, a study or a UID of its own.
    """
    with DicomReader() as reader:
        dataset = reader.read(DicomFile(path), pixels=False)
    with refusing_damage(path):
        study, uid = (str(dataset.get(name) or "").strip() for name in ("StudyInstanceUID", "SOPInstanceUID"))
        person = person_of(dataset)
        if not study or not uid or not any(person):
            raise InputError("states no study, no UID of its own or no person", file=path)
        pixels = _start_of_pixels(path, dataset)
        key = fingerprint(study=study, person=person)[:_KEY_LETTERS]
        file_name = f"{stem_of(uid)}-{_digest(path, pixels, dataset)}.dcm"
        return ObjectFacts(key, file_name, wanted=_is_wanted(dataset, rules))


def stem_of(uid: str) -> str:
    """What the names of an object's files in the spool begin with, before a hyphen."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _digest(path: Path, start: int, dataset: Any) -> str:
    with path.open("rb") as stream:
        stream.seek(start)
        pixels = hashlib.file_digest(stream, "sha256")
    pixels.update(str([dataset.get(name) for name in _OF_PIXELS]).encode())
    return pixels.hexdigest()[:8]


def _is_wanted(dataset: Any, rules: ListenConfig) -> bool:
    asked = {
        "SeriesDescription": rules.series,
        "StationName": rules.stations,
        "BodyPartExamined": rules.body_parts,
    }
    if str(dataset.get("Manufacturer") or "") == MAKER:  # Results that come back.
        return False
    return all(
        not patterns or any(fnmatchcase(_text(dataset, name), pattern.casefold()) for pattern in patterns)
        for name, patterns in asked.items()
    )


def _text(dataset: Any, name: str) -> str:
    return str(dataset.get(name) or "").strip().casefold()


def _start_of_pixels(path: Path, dataset: Any) -> int:
    """Where in the file the pixels begin; 0 where they are deflated with the header.

    Raises:
        InputError: they do not follow the header in the length that they and the header state (PS3.5, 7.1 and A.4).
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if syntax == DeflatedExplicitVRLittleEndian:  # Reading the header has unpacked it all.
        return 0
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    with path.open("rb") as stream:
        pydicom.dcmread(stream, stop_before_pixels=True)  # Leaves the stream where the pixels begin.
        head = stream.read(8 if syntax.is_implicit_VR else 12)
        start = stream.tell()
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(start, end - _TAIL))
        tail = stream.read()
    group = int.from_bytes(head[:2], order)
    if group != _PIXEL_GROUP:
        raise InputError("cut off: no pixels follow the header", file=path)
    stated = int.from_bytes(head[-4:], order)
    if stated == _LONG:
        whole = _END_OF_ITEMS in tail
    else:
        bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
        needed = bits * int(dataset.get("SamplesPerPixel") or 1) * int(dataset.get("NumberOfFrames") or 1) // 8
        whole = end - start >= stated >= needed
    if not whole:
        raise InputError("cut off: pixels are missing", file=path)
    return start
