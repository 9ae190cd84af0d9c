"""What there is to predict: files named one by one, folders, a BIDS data set, DICOM folders and zip files.

To add a file format, add a `Reader` to `READERS`: a function that gives the examinations that a place holds in this
format, one that reads such an examination, and one that lists its files, by whose hash an earlier result is known to be
current. Take b-values, averages and the note on them from `fvv.protocol` and bring b0 onto the grid of b1000 by
`fvv.io.roi.onto_grid`; then the new format gives the answer of the others (add it to `tests/io/test_one_protocol.py`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fvv.config import PredictConfig
from fvv.data import Case
from fvv.errors import ConfigError, FvvError, InputError, OutputExistsError
from fvv.io.bids import RAW_FOLDERS, find_bids, is_bids
from fvv.io.case import CaseFiles, case_files, hash_files, list_patients, read_case, read_files
from fvv.io.dicom import is_dicom
from fvv.io.listing import entries, listed_once, paths
from fvv.io.nifti import IMAGE_SUFFIXES, SUFFIXES, find_image
from fvv.io.ownership import claimed
from fvv.names import is_plain, plain
from fvv.system.extension import extension
from fvv.system.fingerprint import fingerprint
from fvv.system.regular import refuse_irregular, refuse_unsafe_name

if TYPE_CHECKING:
    from fvv.io.dicom.group import DicomExamination, PlaceIndex
    from fvv.io.dicom.stack import DicomSource

log = logging.getLogger(__name__)
_IMAGES = frozenset(f"{stem}{suffix}" for stem in ("b0", "b1000") for suffix in IMAGE_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Reader:
    """One file format.

    Attributes:
        recognise: the examinations that a folder or file holds in this format; empty where it holds none.
        read: one of them; of DICOM also the objects that it came from.
        in_cohort: whether a patient's folder in a folder of patients may be of this format. A BIDS data set is a cohort
            itself; DICOM folders are looked at together, since they may be the series of one patient.
    """

    recognise: Callable[[Path], list[Examination]]
    read: Callable[[Examination, PredictConfig], tuple[Case, DicomSource | None]]
    files: Callable[[Examination], list[Path]]
    in_cohort: bool = True


@dataclass(frozen=True, slots=True)
class Examination:
    """Where one examination lies, before any of it is read.

    Attributes:
        home: folder for the results, where no other is named.
        place: its folder, zip file, or b1000.
        format: a key of `READERS`, or "package.module:name" of the user's own reader.
        source: what the reader needs to know beyond the place: names of files, the images of one person and study.
        has_images: b0 or b1000 was seen in its folder.
    """

    name: str
    home: Path
    place: Path
    format: str = "folder"
    source: Any = None
    has_images: bool = False

    def __post_init__(self) -> None:
        refuse_unsafe_name(self.name, self.place)

    @property
    def dicom(self) -> DicomExamination | None:
        """The images of one person and study, whose results are also written as DICOM."""
        return self.source if self.format == "dicom" else None

    def read(self, config: PredictConfig) -> tuple[Case, DicomSource | None]:
        """Read the images; for DICOM also the objects they came from."""
        return _reader(self.format).read(self, config)

    def files(self) -> list[Path]:
        """All files that the result may depend on."""
        return _reader(self.format).files(self)

    def sha256(self) -> str:
        """Hash of the names and bytes of all files that the result may depend on."""
        try:
            return fingerprint(files=hash_files(self.files()))
        except FvvError as error:
            raise error.for_examination(self.name) from error

    def refuse_to_replace(self, targets: Iterable[Path]) -> None:
        """Whatever may be overwritten, an image that is read here may not."""
        there = [target for target in targets if target.exists()]
        inputs = {file.resolve() for file in self.files()} if there else set()
        for target in there:
            if target.resolve() in inputs:
                hint = "name another folder with -o, or rename the image"
                raise OutputExistsError("an image to be read, and a result would replace it", file=target, hint=hint)


def find_examinations(path: Path, own: Sequence[str] = ()) -> list[Examination]:
    """All examinations in a place.

    Args:
        path: one patient's folder (b0 or adc, and b1000; or DICOM), a zip file of DICOM, a folder of these, or a BIDS
            data set.
        own: names of the user's own readers, "package.module:name", which are asked first.
    """
    if _is_zip(path):
        refuse_irregular(path)
    elif not path.is_dir() and not (own and path.is_file()):
        if path.is_file():
            hint = "give one patient's images with --b0 FILE --b1000 FILE"
            raise InputError("expected a folder, found a file", file=path, hint=hint)
        what = f"a broken link to {path.readlink()}" if path.is_symlink() else "no such folder"
        hint = "give a patient's folder, with b0.nii.gz and b1000.nii.gz, or a folder of such folders"
        raise InputError(what, file=path, hint=hint)
    with listed_once(path, *(path / name for name in RAW_FOLDERS)):
        return _recognised(path, (*own, *READERS)) or _in_subfolders(path, own)


def _recognised(place: Path, formats: Iterable[str]) -> list[Examination]:
    """The examinations of the first format that recognises a place."""
    for name in formats:
        if found := _reader(name).recognise(place):
            return [replace(one, format=name) for one in found]
    return []


def _reader(name: str) -> Reader:
    if name in READERS:
        return READERS[name]
    reader = extension(name, "reader")()
    if not isinstance(reader, Reader):
        message = f"reader {name}: expected a function that gives a Reader, it gives {type(reader).__name__}"
        raise ConfigError(message)
    return reader


def flair_of(one: Examination) -> Path | None:
    """The FLAIR of an examination: flair.nii.gz beside b1000, or in BIDS anat/*_FLAIR.nii.gz of the session.

    Raises:
        InputError: there are two; or one, in a DICOM folder of several people or studies.
    """
    if one.format != "files":
        beside = find_image(one.place, "flair") if one.place.is_dir() else None
        if beside is not None and one.dicom is not None and one.dicom.others:
            message = f"one FLAIR for {one.dicom.others + 1} examinations: it is not known whose it is"
            hint = "put the images of each study into a folder of their own, with its FLAIR beside them"
            raise InputError(message, examination_id=one.name, file=beside, hint=hint)
        return beside
    folder = one.place.parent
    found = sorted(path for suffix in SUFFIXES for path in (folder.parent / "anat").glob(f"*_FLAIR{suffix}"))
    if len(found) > 1:
        names = " and ".join(path.name for path in found[:2])
        raise InputError(f"{names} are both there", examination_id=one.name, file=found[0].parent, hint="keep one")
    return found[0] if found else find_image(folder, "flair")


def named_files(files: CaseFiles) -> Examination:
    """An examination whose files do not lie in a folder of their own: results go to a new one beside b1000."""
    return Examination(
        files.examination_id, files.b1000.parent / f"{files.examination_id}_fvv", files.b1000, "files", files
    )


def without_results(cohort: list[Examination], output: Path) -> list[Examination]:
    """The cohort without the run's own results where these lie beside the patients: the same command may come again.

    A folder with images is a patient, and so is one without that holds anything else.
    """
    results = [one for one in cohort if _is_where_results_are(one, output)]
    for one in results:
        log.info("%s holds the results and is no patient", one.place)
    if results and len(results) == len(cohort):
        raise InputError("holds results and no patient folder", file=results[0].place.parent)
    return [one for one in cohort if one not in results]


def _is_where_results_are(one: Examination, output: Path) -> bool:
    if one.format != "folder" or one.has_images or not one.place.is_dir() or _has_images(one.place):
        return False
    folder, target = Path(os.path.realpath(one.place)), Path(os.path.realpath(output))
    shown = [item for item in folder.iterdir() if not item.name.startswith(".")]
    if folder == target:
        ours = claimed(folder)
        return bool(ours) and all(item.is_dir() or item.name in ours for item in shown)
    return folder in target.parents and bool(claimed(target)) and len(shown) == 1


def _in_subfolders(path: Path, own: Sequence[str] = ()) -> list[Examination]:
    """Patients' folders and zip files; or one patient whose subfolders are series."""
    zips = [path / item.name for item in entries(path) if _is_zip(path / item.name)]
    zipped = [one for item in zips for one in _in_index(item, _index(item))]
    results = {one.home for one in zipped}  # Of an earlier run, beside the zip files: no patients.
    if zipped and not any(item.is_dir() and item not in results for item in paths(path)):
        return zipped
    folders = [path / name for name in list_patients(path) if path / name not in results]
    with_images = {item.name for item in folders if _has_images(path / item.name)}
    with_dicom = (item for item in folders if item.name not in with_images and any(map(is_dicom, item.rglob("*"))))
    indices = {item: _index(item) for item in with_dicom}
    folders = [item for item in folders if item not in indices or not indices[item].only_results]
    indices = {item: index for item, index in indices.items() if not index.only_results}
    if indices and len(indices) == len(folders):
        from fvv.io.dicom.group import merged  # noqa: PLC0415  (an extra: only those who have DICOM need it)

        if (one := merged(list(indices.values()))) is not None:
            return [*_in_index(path, one), *zipped]
    found: list[Examination] = []
    for item in folders:
        if item in indices:
            found += _in_index(item, indices[item])
        elif item.name in with_images and not own:
            found.append(Examination(item.name, item, item, has_images=True))
        else:
            formats = [name for name in (*own, *READERS) if _reader(name).in_cohort]
            found += _recognised(item, formats) or [Examination(item.name, item, item)]
    return [*found, *zipped]


def _has_images(folder: Path) -> bool:
    """Whether b0 or b1000 lies there, in whatever form; one listing, as a network disk charges for each look."""
    try:
        return any(item.name in _IMAGES for item in entries(folder))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # It may not be looked into: who reads this patient says so, and the others go on.
        return True


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and not path.is_dir()


def _index(place: Path) -> PlaceIndex:
    from fvv.io.dicom.group import index_place  # noqa: PLC0415  (as above)

    return index_place(place)


def _in_dicom(place: Path) -> list[Examination]:
    return _in_index(place, _index(place)) if _is_zip(place) or any(map(is_dicom, paths(place))) else []


def _in_index(place: Path, index: PlaceIndex) -> list[Examination]:
    """One examination for each person and study: with the place's name, or numbered by date where there are several.

    Names say no more than the user's own folder does; the study's UID stands in the results.
    """
    from fvv.io.dicom.group import examinations_of  # noqa: PLC0415  (as above)

    stem = place.stem if _is_zip(place) else place.name
    found = examinations_of(place, index)
    if not is_plain(stem):  # Line ends and escape codes would reach tables and terminals.
        message, stem = f"is named {stem!a}", plain(stem)
        error = InputError(message, file=plain(str(place)), hint="rename it with letters that can be shown")
        found = [replace(found[0], error=error)]
    names = [stem] if len(found) == 1 else [f"{stem}_{number}" for number in range(1, len(found) + 1)]
    homes = [place.parent / f"{name}_fvv" if _is_zip(place) else place / name for name in names]
    if len(found) == 1 and not _is_zip(place):
        homes = [place]
    return [Examination(name, home, place, "dicom", one) for name, home, one in zip(names, homes, found, strict=True)]


def _read_dicom(one: Examination, config: PredictConfig) -> tuple[Case, DicomSource | None]:
    from fvv.io.dicom.stack import read_dicom  # noqa: PLC0415  (as above)

    return read_dicom(one.source, name=one.name, config=config.preprocess, series=config.series)


READERS = {
    "folder": Reader(
        recognise=lambda place: (
            [Examination(place.name, place, place)] if place.is_dir() and _has_images(place) else []
        ),
        read=lambda one, config: (read_case(one.place, config.preprocess, labelled=False), None),
        files=lambda one: case_files(one.place),
    ),
    "files": Reader(
        recognise=lambda place: [named_files(files) for files in find_bids(place)] if is_bids(place) else [],
        read=lambda one, config: (read_files(one.source, config.preprocess), None),
        files=lambda one: case_files(one.source),
        in_cohort=False,
    ),
    "dicom": Reader(_in_dicom, _read_dicom, files=lambda one: list(one.source.files()), in_cohort=False),
}
"""Asked in this order; the first that recognises a place reads it."""
