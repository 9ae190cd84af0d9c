"""DICOM files on disk and in zip files: found, and read within bounds of memory."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from lzma import LZMAError
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from fvv.errors import InputError
from fvv.io.dicom import START, is_dicom, lacks_preamble, starts_dicom
from fvv.names import plain
from fvv.system.regular import refuse_irregular

MAX_FILE = 2**30
"""Bytes of one object, unpacked; an enhanced object of 500 volumes stays under it."""
MAX_INFLATED = 2**28
"""Bytes of an object in the deflated transfer syntax, which pydicom unpacks as a whole, twice over in memory."""
MAX_MEMBERS = 500_000
"""Files in a zip file."""
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError, NotImplementedError, RuntimeError)
DAMAGE = (
    *(*_DAMAGED_ZIP, InvalidDicomError, BytesLengthException, struct.error),
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
)
"""What pydicom raises on damaged files: at once, or when an element is first looked at, which may be anywhere."""
_MAY_BE_DICOM = {"", ".dcm", ".ima", ".img", ".dic", ".zip"}
"""Suffixes of links into nowhere that stand for a lost image; others are not looked at."""


@contextmanager
def refusing_damage(path: Path, where: str = "") -> Iterator[None]:
    """Make one `InputError` of all that pydicom raises; its warnings of odd values are no concern of the user's."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except DAMAGE as error:
        raise InputError(f"not readable as DICOM: {plain(str(error))}{where}", file=path) from error


class _Within(io.BufferedReader):
    """Asks for no more than the file holds: the length of an element may claim gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = min(size, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(size)


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file on disk, or in a zip file.

    Attributes:
        path: of the file, or of the zip file.
        member: name in the zip file; "" for a file on disk.
    """

    path: Path
    member: str = ""

    @property
    def folder(self) -> str:
        """Folder that it lies in, on disk or in the zip file."""
        return f"{self.path}/{self.member.rpartition('/')[0]}" if self.member else str(self.path.parent)

    @property
    def name(self) -> str:
        """For people."""
        return plain(self.member or str(self.path))


class DicomReader(AbstractContextManager["DicomReader"]):
    """Reads DICOM files; keeps the last zip file open, as opening one takes time for each of its members."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._archive: zipfile.ZipFile | None = None

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()
        self._path = self._archive = None

    def archive(self, path: Path) -> zipfile.ZipFile:
        """An open zip file."""
        if self._archive is None or self._path != path:
            self.__exit__()
            refuse_irregular(path)
            try:
                self._archive, self._path = zipfile.ZipFile(path), path
            except _DAMAGED_ZIP as error:
                raise _bad_zip(path, error) from error
            if len(self._archive.filelist) > MAX_MEMBERS:
                raise InputError(f"holds over {MAX_MEMBERS} files", file=path, hint="split it by patient")
        return self._archive

    def read(self, file: DicomFile, *, pixels: bool, only: Sequence[int] = ()) -> Any:
        """The dataset.

        Args:
            pixels: without them it is the header alone.
            only: tags of the top-level elements that are needed, which saves time; empty: all.
        """
        with refusing_damage(file.path, f" ({plain(file.member)})" if file.member else ""):
            dataset = self._parsed(file, pixels=pixels, only=only)
        meta = getattr(dataset, "file_meta", None)
        if meta is not None and "TransferSyntaxUID" not in meta:  # Pixels cannot be read without it.
            implicit, little = dataset.original_encoding
            known = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else known
        return dataset

    def _parsed(self, file: DicomFile, *, pixels: bool, only: Sequence[int]) -> Any:
        archive = self.archive(file.path) if file.member else None
        # A few bytes of a zip file can stand for terabytes; it unpacks no more than it states.
        size = archive.getinfo(file.member).file_size if archive else file.path.stat().st_size
        if size > MAX_FILE:
            what = f"{plain(file.member)} unpacks to" if archive else "holds"
            raise InputError(f"{what} more than {MAX_FILE} bytes", file=file.path)
        with io.BytesIO(archive.read(file.member)) if archive else _Within(io.FileIO(file.path)) as stream:
            start = stream.read(1024)
            stream.seek(0)
            if DeflatedExplicitVRLittleEndian.encode() in start:
                _refuse_inflated(stream, file.path)
            force = lacks_preamble(start)
            return pydicom.dcmread(stream, stop_before_pixels=not pixels, force=force, specific_tags=list(only) or None)


def find_files(path: Path, reader: DicomReader) -> Iterator[DicomFile]:
    """DICOM files in a folder and below, or in a zip file, sorted by name; zip files in a folder are looked into.

    Raises:
        InputError: a zip file is damaged, or an image is empty or a link into nowhere: a slice that is lost in silence
            is a wrong number.
    """
    if path.is_dir():
        for inside in _walk(path):
            yield from find_files(inside, reader)
    elif path.suffix.lower() == ".zip":
        yield from _members(path, reader)
    elif _is_directory_file(path.name):
        return
    elif path.suffix.lower() in _MAY_BE_DICOM and not os.access(path, os.R_OK):
        raise InputError("cannot be read: permission denied", file=path)
    elif is_dicom(path):
        yield DicomFile(path)
    elif _is_stump(path.name, path.stat().st_size):
        raise InputError("empty or cut off", file=path, hint="export the images again")


def _members(path: Path, reader: DicomReader) -> Iterator[DicomFile]:
    archive = reader.archive(path)
    for before, name in pairwise(["", *sorted(archive.namelist())]):
        if name == before:  # Only the last of them could be read.
            hint = "make it again from the folders that the images lie in"
            raise InputError(f"holds two files named {plain(name)}", file=path, hint=hint)
        if name.endswith("/") or _is_directory_file(name):
            continue
        try:
            with archive.open(name) as stream:
                start = stream.read(START)
        except _DAMAGED_ZIP as error:
            raise _bad_zip(path, error) from error
        if starts_dicom(start):
            yield DicomFile(path, name)
        elif name.lower().endswith(".zip") and _may_hold_images(archive, name):
            message = f"holds images in another zip file, {plain(name)}"
            raise InputError(message, file=path, hint="unpack it first: zip files in zip files are not read")
        elif _is_stump(name, archive.getinfo(name).file_size):
            raise InputError(f"{plain(name)} is empty or cut off", file=path, hint="export the images again")


def _may_hold_images(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether a zip file in a zip file holds DICOM, or cannot be looked into: nobody's images are passed over."""
    try:
        if archive.getinfo(name).file_size > MAX_INFLATED:
            return True
        with zipfile.ZipFile(io.BytesIO(archive.read(name))) as inner:
            for member in inner.namelist()[:MAX_MEMBERS]:
                with inner.open(member) as stream:
                    if member.lower().endswith(".zip") or starts_dicom(stream.read(START)):
                        return True
    except _DAMAGED_ZIP:
        return True
    return False


def _bad_zip(path: Path, error: Exception) -> InputError:
    return InputError(f"not a readable zip file: {plain(str(error))}", file=path)


def _is_stump(name: str, size: int) -> bool:
    """Whether a file that is named as an image is too short for one: a transfer that failed."""
    name = name.rpartition("/")[2]
    return size < START and name.lower().endswith((".dcm", ".ima")) and not name.startswith(".")


def _is_directory_file(name: str) -> bool:
    return name.rpartition("/")[2].upper() == "DICOMDIR"


def _raise(error: OSError) -> None:
    raise error


def _walk(folder: Path) -> Iterator[Path]:
    """Regular files, sorted; links to folders are followed once."""
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        about = Path(root).stat()
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders.sort()
        for file in (Path(root) / name for name in sorted(names)):
            if file.is_symlink() and not file.exists() and file.suffix.lower() in _MAY_BE_DICOM:
                refuse_irregular(file)
            if file.is_file():
                yield file


def _refuse_inflated(stream: Any, path: Path) -> None:
    """Refuse a deflated data set that unpacks to more than `MAX_INFLATED`, before it takes the memory (PS3.5, A.5)."""
    stream.seek(START)
    first = stream.read(12)  # (0002,0000) UL: bytes of the file's meta information that follow.
    if first[:4] != b"\x02\x00\x00\x00":
        raise InputError("a deflated object that does not say where it begins", file=path)
    stream.seek(int.from_bytes(first[8:12], "little"), os.SEEK_CUR)
    unpack, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not unpack.eof and (block := unpack.unconsumed_tail or stream.read(2**16)):
        total += len(unpack.decompress(block, 2**20))
        if total > MAX_INFLATED:
            raise InputError(f"unpacks to more than {MAX_INFLATED} bytes", file=path)
    stream.seek(0)
