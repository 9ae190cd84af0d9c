"""One examination in, from its NIfTI files: b0, b1000 and the masks, checked to lie on one grid."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from fvv.config import PreprocessConfig
from fvv.data import Case, Volume
from fvv.errors import FvvError, InputError
from fvv.imaging.adc import b0_from_adc
from fvv.imaging.geometry import plan_grid
from fvv.io.drafts import refuse_draft
from fvv.io.listing import entries
from fvv.io.nifti import IMAGE_SUFFIXES, MAX_BYTES, find_bval, find_image, read_volume, read_weighted
from fvv.io.roi import onto_grid, read_roi
from fvv.io.shards import refuse_ungathered
from fvv.names import first_alike, first_few, is_plain, plain
from fvv.protocol import B0_TOLERANCE, SHELL_GAP, TARGET_B, is_b0
from fvv.system.fingerprint import file_sha256
from fvv.system.regular import refuse_irregular

_STEMS = ("b0", "b1000", "stroke_roi", "flairviz_roi", "mask", "mask_roi")


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The files of one examination, named one by one.

    Attributes:
        b1000, b0, adc: images; b0 is computed from an ADC map where there is no b0.
        refusal: why this examination cannot be read, known when it was found; reading it raises this, so that it is
            listed among the failures and not left out in silence.
    """

    examination_id: str
    b1000: Path
    b0: Path | None = None
    adc: Path | None = None
    mask: Path | None = None
    stroke_roi: Path | None = None
    flairviz_roi: Path | None = None
    refusal: str = ""


Place: TypeAlias = Path | CaseFiles
"""Where an examination lies: its folder, or its files one by one."""


def read_place(place: Place, config: PreprocessConfig, *, finite: bool) -> Case:
    """Read one examination with the masks that there are; what a missing one means is left to the caller.

    Args:
        finite: refuse images with voxels that are not finite.
    """
    if isinstance(place, CaseFiles):
        return read_files(place, config, finite=finite)
    return read_case(place, config, labelled=None, finite=finite)


def read_case(folder: Path, config: PreprocessConfig, *, labelled: bool | None, finite: bool | None = None) -> Case:
    """Read one patient's folder.

    Args:
        folder: holds b0 (or an ADC map, adc), b1000, and for a labelled patient stroke_roi and flairviz_roi (`.nii.gz`,
            `.nii`, `.nrrd` or `.mha`); a brain mask may be named mask or mask_roi.
        config: which volume of 4D files, whether files on another grid may be resampled.
        labelled: read the two ROI files, which must then be there; a new patient's are not looked at. None: read those
            that are there, and leave it to the caller what a missing one means.
        finite: refuse images with voxels that are not finite; None: those of labelled patients, for training takes no
            such image, while a new patient's are for quality control to judge.
    """
    with _naming(folder.name, folder):
        files = _find_files(folder, labelled=labelled)
        return read_files(files, config, finite=bool(labelled) if finite is None else finite)


def read_files(files: CaseFiles, config: PreprocessConfig, *, finite: bool = False) -> Case:
    """Read one examination from files named one by one; what `read_case` does with those it finds."""
    with _naming(files.examination_id, files.b1000):
        if files.refusal:
            raise InputError(files.refusal, file=files.b1000)
        b1000, b_value, note = read_weighted(files.b1000, index=config.b1000_index, target_b=TARGET_B, finite=finite)
        b_value = stated_b_value(files.b1000, b_value, config.b_value)
        with _in_file(files.b1000):
            plan_grid(b1000)  # Refuses proportions that would take gigabytes.
        b0, said = _read_b0(files, b1000, b_value or TARGET_B, config, finite=finite)
        notes = [*filter(None, [note]), *said]

        def mask_of(path: Path | None) -> Volume | None:
            if path is None:
                return None
            mask, said = read_roi(path, b1000, resample=config.resample_rois)
            notes.extend(said)
            return mask

        masks = mask_of(files.stroke_roi), mask_of(files.flairviz_roi), mask_of(files.mask)
        computed = files.b0 is None
        return Case(files.examination_id, b0, b1000, *masks, files.b1000, b_value, tuple(notes), b0_computed=computed)


def list_patients(folder: Path) -> tuple[str, ...]:
    """Names of the patient folders in a data set, sorted; hidden folders are left out.

    A broken link that may stand for a patient's folder is listed too: who reads that patient says what is wrong.

    Raises:
        InputError: the folder is missing or holds no patient; a name cannot be shown on one line, or is the same as
            another's but for upper and lower case or the form of an accent; or shards of `simulate` are not gathered.
    """
    if not folder.is_dir():
        raise InputError("no such folder", file=folder, hint="give the folder that holds one folder per patient")
    try:
        names = [item.name for item in entries(folder) if not item.name.startswith(".") and _is_patient(item)]
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=folder) from error
    refuse_ungathered(folder, "simulate")
    if not names:
        raise InputError("holds no patient folder", file=folder, hint=_what_is_expected(folder))
    for name in names:
        if not is_plain(name):  # Line ends and escape codes in tables and on terminals; bytes that are no text.
            message = f"a folder is named {name!a}"
            raise InputError(message, file=folder, hint="rename it with letters that can be shown")
    if pair := first_alike(names):
        message = f"two folders have the same name but for case or accents: {pair[0]!a} and {pair[1]!a}"
        raise InputError(message, file=folder, hint="rename one: on many disks they are one folder")
    return tuple(names)


def _what_is_expected(folder: Path) -> str:
    """Where images are to lie, and which lie in the folder under names that are not read."""
    there = _image_names(folder)
    found = f"; found {first_few(there, 3)}: rename them, or use `fvv predict --b0 FILE --b1000 FILE`" if there else ""
    return f"expected PATIENT/b0.nii.gz and PATIENT/b1000.nii.gz{found}"


def _is_patient(item: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a broken link to one: not one named like a file, nor git-annex's, which are files."""
    if not item.is_symlink():
        return item.is_dir()  # As the listing says: no look at each.
    if Path(item).exists():
        return Path(item).is_dir()
    named_like_a_file = re.search(r"\.[A-Za-z][A-Za-z0-9]*$", item.name) is not None
    return not named_like_a_file and "annex/objects" not in Path(item).readlink().as_posix()


def refuse_missing_folder(folder: Path) -> None:
    """Refuse a patient whose folder is not there, and say why it is not."""
    if folder.is_dir():
        return
    if folder.is_symlink() and not folder.exists():
        hint = "fetch it (for example `datalad get`), or mount the disk it is on"
        raise InputError(f"a broken link to {plain(str(folder.readlink()))}", file=folder, hint=hint)
    if folder.exists():
        raise InputError("expected a folder, found a file", file=folder)
    raise InputError("no such folder", file=folder, hint="is the disk mounted, and the name right?")


def case_files(place: Place) -> list[Path]:
    """The files of an examination that preparation may depend on, sorted; an ADC map only where it stands for b0."""
    if isinstance(place, CaseFiles):
        images = [place.b1000, place.b0, place.adc, place.mask, place.stroke_roi, place.flairviz_roi]
        named = [path for path in images if path is not None]
        tables = [table for path in named if (table := find_bval(path)) is not None]
        return [path for path in dict.fromkeys((*named, *tables)) if path.is_file()]
    has_b0 = any((place / f"b0{suffix}").is_file() for suffix in IMAGE_SUFFIXES)
    stems = (*_STEMS, *(() if has_b0 else ("adc",)))
    names = [f"{stem}{suffix}" for stem in stems for suffix in (*IMAGE_SUFFIXES, ".bval")]
    return sorted(path for path in (place / name for name in names) if path.is_file())


def image_stem(file: Path) -> str | None:
    """The name of an image without its suffix; None: no image, or one that `read_case` reads."""
    for suffix in IMAGE_SUFFIXES:
        if file.name.endswith(suffix):
            stem = file.name.removesuffix(suffix)
            return None if stem in {*_STEMS, "adc"} else stem
    return None


def hash_files(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Name and SHA-256 of each file, by which a result is known to be current; too large for an image is refused."""
    hashes = []
    for path in files:
        refuse_irregular(path)
        if path.stat().st_size > MAX_BYTES:
            raise InputError("over the largest image read here", file=path)
        hashes.append((path.name, file_sha256(path)))
    return hashes


def image_sha256(case: Case) -> str:
    """Hash of the values of b0 and b1000: an examination keeps it under any name and compression."""
    digest = hashlib.sha256()
    for volume in (case.b0, case.b1000):
        digest.update(np.ascontiguousarray(volume.array, dtype=np.float64).tobytes())
    return digest.hexdigest()


def _find_files(folder: Path, *, labelled: bool | None) -> CaseFiles:
    def required(stem: str) -> Path:
        found = find_image(folder, stem)
        if found is None:
            hint = "every labelled patient needs this file" if "roi" in stem else _images_there(folder)
            raise InputError("missing", file=folder / f"{stem}.nii.gz", hint=hint)
        return found

    refuse_missing_folder(folder)
    if labelled is not False:
        refuse_draft(folder)
    b1000, b0 = required("b1000"), find_image(folder, "b0")
    adc = find_image(folder, "adc") if b0 is None else None
    find = required if labelled else partial(find_image, folder)
    rois = (None, None) if labelled is False else (find("stroke_roi"), find("flairviz_roi"))
    b0 = required("b0") if b0 is None and adc is None else b0
    return CaseFiles(folder.name, b1000, b0, adc, find_image(folder, "mask", "mask_roi"), *rois)


def _images_there(folder: Path) -> str:
    """Images under other names, one of which may be meant; or patients one level deeper; or what is needed."""
    if there := _image_names(folder):
        return f"the folder holds {first_few(there, 3)}"
    patients = [
        item
        for item in sorted(folder.iterdir())
        if any((item / f"b1000{suffix}").is_file() for suffix in IMAGE_SUFFIXES)
    ]
    if patients:
        return f"{patients[0].name} in it holds b1000: give {folder} as the folder of patients"
    return "the folder of a patient needs b1000, and b0 or adc"


def _image_names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir() if image_stem(item) is not None)


def stated_b_value(b1000: Path, by_file: float | None, by_user: float | None) -> float | None:
    """The b-value of b1000, s/mm^2, which the user may state where no file does.

    Raises:
        InputError: both state one, and they differ.
    """
    if by_file is not None and by_user is not None and abs(by_file - by_user) > SHELL_GAP:
        message = f"b = {by_user:g} s/mm^2 was asked for, the file states {by_file:g}"
        raise InputError(message, file=b1000, hint="omit the b-value (--b-value), or correct the .bval file")
    return by_user if by_file is None else by_file


def read_b0(path: Path, *, index: int | None, finite: bool) -> Volume:
    """Read b0; of a 4D file with b-values, the volumes of its lowest shell.

    Raises:
        InputError: unreadable, or its file states that it is no b0.
    """
    volume, b_value, _ = read_weighted(path, index=index, target_b=0.0, finite=finite)
    if b_value is not None and not is_b0(b_value):
        message = f"expected b0 (at most {B0_TOLERANCE:g} s/mm^2), the file states b = {b_value:g}"
        raise InputError(message, file=path, hint="name another volume (--b0-index) or file, or correct the .bval file")
    return volume


def _read_b0(
    files: CaseFiles, b1000: Volume, b_value: float, config: PreprocessConfig, *, finite: bool
) -> tuple[Volume, tuple[str, ...]]:
    """b0 from its file or computed from the ADC map, on b1000's grid; and notes."""
    path = files.b0 or files.adc
    if path is None:
        raise InputError("neither b0 nor an ADC map is given", file=files.b1000, hint="name one with --b0 or --adc")
    if files.b0 is not None:
        volume = read_b0(path, index=config.b0_index, finite=finite)
    else:
        volume = read_volume(path, index=config.b0_index, target_b=0.0, finite=finite)
    name = "b0" if files.b0 else path.name
    volume, notes = onto_grid(volume, b1000, name, resample=config.resample_b0, option="--resample-b0", file=path)
    if files.b0 is not None:
        return volume, notes
    with _in_file(path):
        array, unit = b0_from_adc(b1000.array, volume.array, b_value)
    note = f"b0 computed from b1000 and {path.name}, taken to be in {unit}, at b = {b_value:g} s/mm^2"
    return Volume(array, b1000.affine), (*notes, note)


@contextmanager
def _naming(patient: str, place: Path) -> Iterator[None]:
    """Errors name the patient; a folder or file that may not be looked into is this patient's error alone."""
    try:
        yield
    except FvvError as error:
        raise error.for_examination(patient) from error
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise InputError(message, examination_id=patient, file=error.filename or place) from error


@contextmanager
def _in_file(path: Path) -> Iterator[None]:
    try:
        yield
    except FvvError as error:
        error.file = str(path)
        raise
