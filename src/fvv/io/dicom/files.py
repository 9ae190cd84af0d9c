"""DICOM files on disk and in zip files: found, and read within bounds of memory."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from lzma import LZMAError
from pathlib import Path
from types import TracebackType
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from fvv.errors import InputError
from fvv.io.dicom import MARK_END, has_mark, is_dicom, lacks_preamble
from fvv.names import plain
from fvv.system.regular import refuse_irregular

MAX_FILE = 2**30
"""Bytes of one object, unpacked; an enhanced object of 500 volumes stays under it."""
MAX_INFLATED = 2**28
"""Bytes of an object in the deflated transfer syntax, which pydicom unpacks as a whole, twice over in memory."""
MAX_MEMBERS = 500_000
"""Files in a zip file."""
_HEADER = 2**20
"""Bytes that nearly every header fits in; where it does not, the whole member is read."""
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError, NotImplementedError, RuntimeError)
DAMAGE = (
    *(
        InvalidDicomError,
        BytesLengthException,
        zipfile.BadZipFile,
        zlib.error,
        LZMAError,
        struct.error,
        EOFError,
        OSError,
    ),
    *(ArithmeticError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError),
)
"""What pydicom raises on damaged files: at once, or when an element is first looked at, which may be anywhere."""
_MAY_BE_DICOM = {"", ".dcm", ".ima", ".img", ".dic", ".zip"}
"""Suffixes of links into nowhere that stand for a lost image; others are not looked at."""


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


class DicomReader:
    """Reads DICOM files; keeps the last zip file open, as opening one takes time for each of its members."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._archive: zipfile.ZipFile | None = None

    def __enter__(self) -> DicomReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._archive is not None:
            self._archive.close()
        self._path = self._archive = None

    def archive(self, path: Path) -> zipfile.ZipFile:
        """An open zip file.

        Raises:
            InputError: not a regular file, not a zip file, or with too many members.
        """
        if self._archive is None or self._path != path:
            self.__exit__(None, None, None)
            refuse_irregular(path)
            try:
                self._archive, self._path = zipfile.ZipFile(path), path
            except _DAMAGED_ZIP as error:
                raise InputError(f"not a readable zip file: {plain(str(error))}", file=path) from error
            if len(self._archive.filelist) > MAX_MEMBERS:
                raise InputError(f"holds over {MAX_MEMBERS} files", file=path, hint="split it by patient")
        return self._archive

    def start(self, file: DicomFile) -> bytes:
        """The first bytes of a member of a zip file.

        Raises:
            InputError: damaged or encrypted.
        """
        try:
            with self.archive(file.path).open(file.member) as stream:
                return stream.read(MARK_END)
        except _DAMAGED_ZIP as error:
            raise InputError(f"not a readable zip file: {plain(str(error))}", file=file.path) from error

    def read(self, file: DicomFile, *, pixels: bool) -> Any:
        """The dataset; without pixels for the header alone.

        Raises:
            InputError: damaged, or larger than anything read here.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom warns of odd values; what matters is checked here.
                dataset = self._member(file, pixels=pixels) if file.member else _on_disk(file.path, pixels=pixels)
        except DAMAGE as error:
            where = f" ({plain(file.member)})" if file.member else ""
            raise InputError(f"not readable as DICOM: {plain(str(error))}{where}", file=file.path) from error
        return _with_syntax(dataset)

    def _member(self, file: DicomFile, *, pixels: bool) -> Any:
        archive = self.archive(file.path)
        size = archive.getinfo(file.member).file_size
        with archive.open(file.member) as stream:
            start = stream.read(_HEADER)
            if not pixels and len(start) == _HEADER and not _is_deflated(start):
                header = DicomBytesIO(start)
                try:
                    dataset = pydicom.dcmread(header, stop_before_pixels=True, force=lacks_preamble(start))
                    if header.tell() < len(start):
                        return dataset
                except DAMAGE:
                    pass  # The header is longer than that.
            if size > MAX_FILE:  # A few bytes of a zip file can stand for terabytes.
                raise InputError(f"{plain(file.member)} unpacks to more than {MAX_FILE} bytes", file=file.path)
            content = start + stream.read(MAX_FILE)
        if _is_deflated(content):
            _refuse_inflated(io.BytesIO(content), file.path)
        return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=not pixels, force=lacks_preamble(content))


def find_files(path: Path, reader: DicomReader) -> Iterator[DicomFile]:
    """DICOM files in a folder and below, or in a zip file, sorted by name; zip files in a folder are looked into.

    Raises:
        InputError: a zip file is damaged, or an image is empty or a link into nowhere: a slice that is lost in silence
            is a wrong number.
    """
    if path.is_dir():
        for inside in _walk(path):
            yield from find_files(inside, reader)
        return
    if path.suffix.lower() == ".zip":
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
    """DICOM files in a zip file, sorted by name."""
    archive = reader.archive(path)
    names = sorted(archive.namelist())
    for before, name in pairwise(["", *names]):
        if name == before:  # Only the last of them could be read.
            hint = "make it again from the folders that the images lie in"
            raise InputError(f"holds two files named {plain(name)}", file=path, hint=hint)
        if name.endswith("/") or _is_directory_file(name):
            continue
        file = DicomFile(path, name)
        start = reader.start(file)
        if has_mark(start) or lacks_preamble(start):
            yield file
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
                    start = stream.read(MARK_END)
                if member.lower().endswith(".zip") or has_mark(start) or lacks_preamble(start):
                    return True
    except _DAMAGED_ZIP:
        return True
    return False


def _is_stump(name: str, size: int) -> bool:
    """Whether a file that is named as an image is too short for one: a transfer that failed."""
    name = name.rpartition("/")[2]
    return size < MARK_END and name.lower().endswith((".dcm", ".ima")) and not name.startswith(".")


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
        for name in sorted(names):
            file = Path(root) / name
            if file.is_symlink() and not file.exists() and file.suffix.lower() in _MAY_BE_DICOM:
                refuse_irregular(file)
            if file.is_file():
                yield file


def _on_disk(path: Path, *, pixels: bool) -> Any:
    size = path.stat().st_size
    if size > MAX_FILE:
        raise InputError(f"holds {size} bytes, expected at most {MAX_FILE}", file=path)
    with _Within(io.FileIO(path)) as file:
        start = file.peek(1024)
        if _is_deflated(start):
            _refuse_inflated(file, path)
        return pydicom.dcmread(file, stop_before_pixels=not pixels, force=lacks_preamble(start))


def _is_deflated(start: bytes) -> bool:
    return DeflatedExplicitVRLittleEndian.encode() in start[:1024]


def _refuse_inflated(stream: Any, path: Path) -> None:
    """Refuse a deflated data set that unpacks to more than `MAX_INFLATED`, before it takes the memory (PS3.5, A.5)."""
    stream.seek(MARK_END)
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


def _with_syntax(dataset: Any) -> Any:
    """State the transfer syntax of a data set without meta information, which its pixels cannot be read without."""
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and "TransferSyntaxUID" not in meta:
        implicit, little = dataset.original_encoding
        known = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else known
    return dataset
