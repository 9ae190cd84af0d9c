"""What there is to predict: files named one by one, folders, a BIDS data set, DICOM folders and zip files."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fvv.config import PredictConfig
from fvv.data import Case
from fvv.errors import InputError, OutputExistsError
from fvv.io.bids import find_bids, is_bids
from fvv.io.bvals import find_bval
from fvv.io.case import CaseFiles, case_files, read_case, read_files
from fvv.io.dicom import holds_dicom, is_dicom
from fvv.io.manifest import list_patients
from fvv.io.nifti import MAX_BYTES, find_image
from fvv.io.ownership import claimed
from fvv.names import is_plain, plain
from fvv.system.fingerprint import file_sha256
from fvv.system.regular import refuse_irregular, refuse_unsafe_name

if TYPE_CHECKING:
    from fvv.io.dicom.index import DicomExamination, PlaceIndex
    from fvv.io.dicom.read import DicomSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Examination:
    """Where one examination lies, before any of it is read.

    Attributes:
        name: of the patient in the results.
        home: folder for the results, where no other is named.
        source: a folder as `read_case` takes it, files, or a place with DICOM objects.
        dicom: for the last, the images of one person and study there.
    """

    name: str
    home: Path
    source: Path | CaseFiles
    dicom: DicomExamination | None = None

    def __post_init__(self) -> None:
        refuse_unsafe_name(self.name, self.place)

    @property
    def place(self) -> Path:
        """Its folder, zip file, or b1000."""
        return self.source.b1000 if isinstance(self.source, CaseFiles) else self.source

    def read(self, config: PredictConfig) -> tuple[Case, DicomSource | None]:
        """Read the images; for DICOM also the objects they came from.

        Raises:
            InputError: a file is missing or unreadable.
            GeometryError: the images lie on different grids.
        """
        if isinstance(self.source, CaseFiles):
            return read_files(self.source, config.preprocess), None
        if self.dicom is not None:
            from fvv.io.dicom.read import read_dicom  # noqa: PLC0415  (an extra: only those who have DICOM need it)

            return read_dicom(self.dicom, name=self.name, config=config.preprocess, series=config.series)
        return read_case(self.source, config.preprocess, labelled=False), None

    def sha256(self) -> str:
        """Hash of the names and bytes of all files that the result may depend on.

        Raises:
            InputError: a file is so large that it is no image, or cannot be read.
        """
        digest = hashlib.sha256()
        try:
            for path in self.files():
                if path.stat().st_size > MAX_BYTES:
                    raise InputError("over the largest image read here", file=path, patient=self.name)
                digest.update(path.name.encode())
                digest.update(file_sha256(path).encode())
        except OSError as error:
            where = error.filename or self.home
            raise InputError(f"cannot be read: {error.strerror or error}", file=where, patient=self.name) from error
        return digest.hexdigest()

    def refuse_to_replace(self, targets: Iterable[Path]) -> None:
        """Whatever may be overwritten, an image that is read here may not.

        Args:
            targets: files about to be written, or removed.

        Raises:
            OutputExistsError: one of them is an input, by whatever path.
        """
        there = [target for target in targets if target.exists()]
        inputs = {file.resolve() for file in self.files()} if there else set()
        for target in there:
            if target.resolve() in inputs:
                hint = "name another folder with -o, or rename the image"
                raise OutputExistsError("an image to be read, and a result would replace it", file=target, hint=hint)

    def files(self) -> list[Path]:
        """All files that the result may depend on."""
        if isinstance(self.source, CaseFiles):
            named = (self.source.b1000, self.source.b0, self.source.adc, self.source.mask)
            images = [path for path in named if path is not None]
            tables = [table for path in images if (table := find_bval(path)) is not None]
            return [path for path in dict.fromkeys((*images, *tables)) if path.is_file()]
        if self.dicom is not None:
            return self.dicom.files()
        adc = None if find_image(self.source, "b0") else find_image(self.source, "adc")
        return [*case_files(self.source), *([adc] if adc and adc.is_file() else [])]


def find_examinations(path: Path) -> list[Examination]:
    """All examinations in a place.

    Args:
        path: one patient's folder (b0 or adc, and b1000; or DICOM), a zip file of DICOM, a folder of these, or a BIDS
            data set.

    Raises:
        InputError: nothing to predict there.
    """
    if path.suffix.lower() == ".zip" and not path.is_dir():
        refuse_irregular(path)
        return _zipped(path)
    if not path.is_dir():
        what = f"a broken link to {path.readlink()}" if path.is_symlink() else "no such folder"
        raise InputError(what, file=path, hint="name a folder with b0 and b1000, or one of such folders")
    if _has_images(path):
        return [Examination(path.name, path, path)]
    if is_bids(path):
        return [named_files(files) for files in find_bids(path)]
    if any(is_dicom(item) for item in path.iterdir()):
        return _in_place(path, _index(path))
    return _in_subfolders(path)


def without_results(cohort: list[Examination], output: Path) -> list[Examination]:
    """The cohort without the run's own results where these lie beside the patients: the same command may come again.

    A folder with images is a patient, and so is one without that holds anything else.

    Raises:
        InputError: nothing is left.
    """
    results = [one for one in cohort if _is_where_results_are(one, output)]
    for one in results:
        log.info("%s holds the results and is no patient", one.place)
    if results and len(results) == len(cohort):
        raise InputError("holds results and no patient folder", file=results[0].place.parent)
    return [one for one in cohort if one not in results]


def _is_where_results_are(one: Examination, output: Path) -> bool:
    if not isinstance(one.source, Path) or one.dicom is not None or not one.source.is_dir() or _has_images(one.source):
        return False
    folder, target = Path(os.path.realpath(one.source)), Path(os.path.realpath(output))
    shown = [item for item in folder.iterdir() if not item.name.startswith(".")]
    if folder == target:
        ours = claimed(folder)
        return bool(ours) and all(item.is_dir() or item.name in ours for item in shown)
    return folder in target.parents and bool(claimed(target)) and len(shown) == 1


def _in_subfolders(path: Path) -> list[Examination]:
    """Patients' folders and zip files; or one patient whose subfolders are series."""
    zipped = [one for item in sorted(path.iterdir()) if _is_zip(item) for one in _zipped(item)]
    results = {one.home for one in zipped}  # Of an earlier run, beside the zip files: no patients.
    if zipped and not any(item.is_dir() and item not in results for item in path.iterdir()):
        return zipped
    folders = [path / name for name in list_patients(path) if path / name not in results]
    indices = {item: _index(item) for item in folders if not _has_images(item) and holds_dicom(item)}
    folders = [item for item in folders if item not in indices or not indices[item].only_results]
    indices = {item: indices[item] for item in folders if item in indices}
    if len(indices) == len(folders) and _are_parts(indices):
        from fvv.io.dicom.index import merged  # noqa: PLC0415  (as above)

        return [*_in_place(path, merged(list(indices.values()))), *zipped]
    found = [
        one
        for item in folders
        for one in (_in_place(item, indices[item]) if item in indices else [Examination(item.name, item, item)])
    ]
    return [*found, *zipped]


def named_files(files: CaseFiles) -> Examination:
    """An examination whose files do not lie in a folder of their own: results go to a new one beside b1000."""
    return Examination(files.patient, files.b1000.parent / f"{files.patient}_fvv", files)


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and not path.is_dir()


def _zipped(path: Path) -> list[Examination]:
    return _in_place(path, _index(path))


def _index(place: Path) -> PlaceIndex:
    from fvv.io.dicom.index import index_place  # noqa: PLC0415  (an extra: only those who have DICOM need it)

    return index_place(place)


def _in_place(place: Path, index: PlaceIndex) -> list[Examination]:
    """One examination for each person and study: with the place's name, or numbered by date where there are several.

    Names say no more than the user's own folder does; the study's UID stands in the results.
    """
    from fvv.io.dicom.index import examinations_of  # noqa: PLC0415  (as above)

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
    return [Examination(name, home, place, one) for name, home, one in zip(names, homes, found, strict=True)]


def _has_images(folder: Path) -> bool:
    try:
        return bool(find_image(folder, "b1000") or find_image(folder, "b0"))
    except (InputError, OSError):
        # Two forms of one image, or none that may be looked at: who reads this patient says so, and the others go on.
        return True


def _are_parts(indices: dict[Path, PlaceIndex]) -> bool:
    """Whether subfolders are series of one patient, and not patients of their own."""
    from fvv.io.dicom.index import are_parts_of_one  # noqa: PLC0415  (as above)

    return are_parts_of_one(list(indices.values()))
