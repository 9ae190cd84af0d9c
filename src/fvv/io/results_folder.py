"""The folder that `predict` writes: what is held, claimed, kept, refused and replaced. `decide` and `gather` read it.

A result is kept where it was made from the same images, models and settings, and its files are as they were written. It
is refused where it was made from others, unless overwriting was asked for. All else is predicted again.
"""

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from fvv.data import Failure, Prediction
from fvv.errors import FvvError, InputError, OutputExistsError
from fvv.io.atomic import clear_remains, write_text
from fvv.io.inputs import Examination
from fvv.io.lock import only_writer
from fvv.io.ownership import claim, claimed
from fvv.io.result_files import (
    COHORT_FILES,
    DATA_SET_FILES,
    DECISIONS_FILES,
    DESCRIPTION_FILE,
    DICOM_FOLDER,
    FIGURES_FOLDER,
    PARQUET_FILE,
    RESULT_FILE,
    RESULTS_FILE,
    files_in_data_set,
    files_in_folder,
    write_data_set_files,
)
from fvv.io.sealed import read_record, verify_files, write_sealed
from fvv.io.shards import RUN_FILE, hold_for_a_moment, refuse_ungathered
from fvv.io.spool import Spool
from fvv.io.tables import FAILURES_FILE, failure_of, read_table, write_table
from fvv.names import first_few, same_name_key
from fvv.schemas.lesions import Lesion
from fvv.schemas.results import DISCLAIMER, Answer, PatientResult
from fvv.schemas.run import MadeFrom, RunRecord
from fvv.system.fingerprint import file_sha256, fingerprint
from fvv.system.parallel import map_items
from fvv.system.shard import Shard

log = logging.getLogger(__name__)
_HINT = "the same `fvv predict` command makes it again"
_AGAIN = "%s is predicted again: %s"


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A results.json: where it lies, and what it holds."""

    path: Path
    content: PatientResult

    @property
    def prediction(self) -> Prediction:
        """The numbers, without masks."""
        return self.content.prediction

    @property
    def picture(self) -> Path | None:
        """The synthesis, where there is one."""
        return next((self.path.parent / name for name in self.content.files if name.endswith(".png")), None)

    @property
    def viewer(self) -> Path | None:
        """What the page's viewer shows, where there is one."""
        return next((self.path.parent / name for name in self.content.files if name.endswith("viewer.nii.gz")), None)

    def verify(self, run: MadeFrom | None = None) -> StoredResult:
        """Compare every file with its hash; gives the result itself.

        Args:
            run: what it must be made from; None: anything.
        """
        if not self.content.finished:
            raise InputError("the run ended before all files of this patient were written", file=self.path, hint=_HINT)
        verify_files(self.path.parent, self.content.files, hint=_HINT)
        if run is not None and (differences := self.content.made_from.differences(run)):
            message = f"not of this run: made from {' and '.join(differences)}"
            raise InputError(message, file=self.path, hint="run the `fvv predict` command of the cohort again")
        return self


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """Where a run of `predict` writes.

    Attributes:
        output: where patients' results go; None: beside the images.
        layout: a folder for each examination, or a BIDS derivative data set.
        shard: which part of the cohort this run does; None: all of it.
    """

    root: Path
    output: Path | None
    layout: Literal["folders", "bids"] = "folders"
    shard: Shard | None = None

    def files(self, examination: Examination) -> dict[str, Path]:
        """Where each kind of an examination's files goes."""
        if self.layout == "bids":
            return files_in_data_set(self.root, examination.name)
        return files_in_folder(examination.home if self.output is None else self.output / examination.name)

    def dicom(self, examination: Examination) -> Path:
        """Folder of an examination's DICOM results."""
        return self.files(examination)["result"].parent / DICOM_FOLDER

    def refuse_twins(self, examinations: Sequence[Examination]) -> None:
        """Refuse examinations that tables, files or a disk that ignores case could not tell apart: `anna` and `Anna`.

        One that is named as a table would keep that table from being written, when all the work is done.
        """
        tables = {same_name_key(name) for name in COHORT_FILES}
        first: dict[str, Examination] = {}
        real_parents: dict[Path, str] = {}
        for one in examinations:
            if self.layout == "folders" and self.output is not None and same_name_key(one.name) in tables:
                message = f"its results would be where {one.name} of the whole run belongs"
                raise InputError(message, file=one.place, hint="rename it, or predict it alone without -o")
            # Two links to one folder are one place.
            result = self.files(one)["result"]
            for mark in (one.name, os.path.join(_real(result.parent, real_parents), result.name)):  # noqa: PTH118
                other = first.setdefault(same_name_key(mark), one)
                if other is not one:
                    message = f"{one.place} would have the same results as {other.place}"
                    raise InputError(message, hint="rename one of them, or predict them into two folders")

    def refuse_other_run(self, run: MadeFrom, names: Iterable[str]) -> None:
        """Refuse tables of another run, or tables that list examinations which this run does not have.

        Args:
            names: of the cohort's examinations, those of other shards too.
        """
        if RUN_FILE not in claimed(self.root):
            return
        try:
            record = read_record(self.root / RUN_FILE, RunRecord)
        except InputError:  # None yet, or damaged: each result says what it was made from.
            listed = self._in_tables()
        else:
            if differences := record.made_from.differences(run):
                raise _holds_others(self.root / RUN_FILE, " and ".join(differences))
            listed = record.examinations if record.results else set()  # Failures alone: nothing is lost.
        if lost := sorted(listed - set(names)):
            hint = "name all patients together, or another -o; --overwrite removes these from its tables"
            message = f"holds the results of patients who are not in this run: {first_few(lost)}"
            raise OutputExistsError(message, file=self.root, hint=hint)

    def _in_tables(self) -> set[str]:
        listed = set()
        for name, column in ((RESULTS_FILE, "Patient"), (FAILURES_FILE, "examination_id")):
            with suppress(InputError):  # Missing or damaged: it is written again.
                listed |= {row[column] for row in read_table(self.root / name, required=(column,))}
        return listed

    def hold_patient(self, examination: Examination) -> AbstractContextManager[None]:
        """Keep other processes from writing this examination's results."""
        if self.layout == "bids":  # Several examinations may share a folder.
            return only_writer(self.root / ".fvv" / examination.name)
        place = self.files(examination)["result"].parent
        return nullcontext() if self.shard is None and place == self.root else only_writer(place)

    def claim(self, examinations: Iterable[Examination], source: Path, *, parquet: bool) -> None:
        """Take the names of all that is written beside the patients' own files, before anything is written."""
        with hold_for_a_moment(self.root, self.shard):
            if self.layout == "bids":
                if (self.root / DESCRIPTION_FILE).exists() and DESCRIPTION_FILE not in claimed(self.root):
                    hint = "name a folder for the results alone, such as -o derivatives/fvv"
                    file = self.root / DESCRIPTION_FILE
                    raise OutputExistsError("describes another BIDS data set", file=file, hint=hint)
                examinations = list(examinations)
                subjects = {self.files(one)["result"].relative_to(self.root).parts[0] for one in examinations}
                claim(self.root, {*DATA_SET_FILES, FIGURES_FOLDER, *subjects})
                clear_remains(self.root / FIGURES_FOLDER, {self.files(one)["picture"].name for one in examinations})
            claim_tables(self.root, parquet=parquet)
            if self.layout == "bids":
                write_data_set_files(self.root, source)

    def kept(
        self,
        examinations: Sequence[Examination],
        run: MadeFrom,
        spool: Spool[StoredResult],
        *,
        overwrite: bool,
        workers: int | None,
    ) -> tuple[dict[str, int], list[Failure]]:
        """What an earlier run finished, by examination; and examinations whose images cannot be read.

        Args:
            spool: takes the results; their numbers in it are given.
            overwrite: results of other images, models or settings are replaced.

        Raises:
            OutputExistsError: there are such results, and overwriting was not asked for.
        """
        kept: dict[str, int] = {}
        failures: list[Failure] = []
        others: dict[str, tuple[str, ...]] = {}
        there = [one for one in examinations if self.files(one)["result"].exists()]
        judge = partial(self._earlier, run)
        for one, found in map_items(judge, there, workers=workers, description="earlier results", here=True):
            if isinstance(found, FvvError):  # Whether the result is of these images is not known.
                failures.append(failure_of(one.name, found))
            elif isinstance(found, StoredResult):
                kept[one.name] = spool.add(found)
            elif found is not None:
                others[one.name] = found
        if others and not overwrite:
            kinds = sorted({difference for differences in others.values() for difference in differences})
            raise _holds_others(self.root, f"{' and '.join(kinds)}: {first_few(sorted(others))}")
        return kept, failures

    def _earlier(self, run: MadeFrom, examination: Examination) -> StoredResult | tuple[str, ...] | None:
        """A result that is kept; or what else it was made from; None where it is damaged."""
        try:
            stored = read_result(self.files(examination)["result"])
        except InputError as error:
            log.warning(_AGAIN, examination.name, error)
            return None
        made_from = stored.content.made_from
        # Images are read only where all else is the same.
        if differences := made_from.differences(run) or made_from.differences(made_from_images(run, examination)):
            return differences
        try:
            return stored.verify()
        except InputError as error:
            log.warning(_AGAIN, examination.name, error)
            return None

    def begin(self, examination: Examination) -> dict[str, Path]:
        """Claim an examination's files and remove those of an earlier run; gives where each goes.

        A patient who fails now must not keep an answer of earlier images or models.
        """
        files = self.files(examination)
        examination.refuse_to_replace(files.values())
        if self.layout == "folders":
            claim(files["result"].parent, [file.name for file in files.values()])
        for file in files.values():
            if file.is_dir() and not file.is_symlink():
                raise OutputExistsError("a folder lies where a file is to be written", file=file, hint="move it away")
        for file in (files["result"], *files.values()):  # Without it the others are no result.
            file.unlink(missing_ok=True)
        own = files["result"].parent  # A folder that all examinations share is cleared once, by `claim`.
        clear_remains(own, {file.name for file in files.values() if file.parent == own})
        return files


def made_from_images(run: MadeFrom, examination: Examination) -> MadeFrom:
    """What the result of one examination is made from."""
    return run.with_images(fingerprint(name=examination.name, files=examination.sha256()))


def claim_tables(root: Path, *, parquet: bool) -> None:
    """Take the names of the cohort's tables.

    Args:
        parquet: a Parquet table is among them.
    """
    claim(root, (*COHORT_FILES, *([PARQUET_FILE] if parquet else [])), stage="predict")


def remove_decisions(root: Path) -> None:
    """Remove what `decide` made of results that are about to be replaced: it would contradict the new ones."""
    for name in fnmatch.filter(claimed(root), DECISIONS_FILES):
        (root / name).unlink(missing_ok=True)


def write_result(
    files: Mapping[str, Path],
    prediction: Prediction,
    made_from: MadeFrom,
    *,
    about: Mapping[str, str] = MappingProxyType({}),
    lesions: Iterable[Lesion] = (),
    also: Iterable[Path] = (),
    finished: bool = True,
) -> StoredResult:
    """Write results.txt, and last results.json with the hash of every file that was written.

    Args:
        about: what the answer was made from, in words, by label.
        lesions: of the stroke.
        also: further files whose hash is kept.
        finished: whether all of the patient's files are written; the answer holds in either case.
    """
    path, answer = files["result"], Answer.of(prediction)
    if "text" in files:
        lines = [f"{name}={'n/a' if value is None else value}" for name, value in answer.row().items()]
        write_text(files["text"], "\n".join([*lines, f"note={DISCLAIMER}", ""]))
    written = [file for file in (*files.values(), *also) if file != path and file.is_file()]
    hashes = {relative(file, path.parent): file_sha256(file) for file in written}
    content = PatientResult(
        **dict(answer), about=dict(about), lesions=tuple(lesions), made_from=made_from, finished=finished, files=hashes
    )
    write_sealed(path, content)
    return StoredResult(path, content)


def read_result(path: Path) -> StoredResult:
    """Read a patient's results.json."""
    return StoredResult(path, read_record(path, PatientResult))


def find_results(root: Path) -> list[Path]:
    """The results.json of every patient in a folder or below, of whatever run, in either layout, sorted."""
    return sorted(root.rglob(f"*{RESULT_FILE}")) if root.is_dir() else []


def results_of_run(root: Path) -> tuple[dict[str, Path], MadeFrom | None]:
    """Each examination's results.json by name, and what the run made them from; None for one patient's own folder.

    Raises:
        InputError: there is none, several of which no run.json says that they belong together, or shards that are not
            gathered.
    """
    refuse_ungathered(root, "predict")
    if (root / RUN_FILE).exists():
        record = read_record(root / RUN_FILE, RunRecord)
        return {name: root / place for name, place in record.results.items()}, record.made_from
    found = find_results(root)
    if not found:
        raise InputError(f"holds no {RESULT_FILE}", file=root, hint="name the folder that `fvv predict` wrote")
    if len(found) > 1:
        hint = "run the `fvv predict` command again or, after shards, `fvv gather`"
        raise InputError(f"holds {len(found)} results and no {RUN_FILE}: the run has not ended", file=root, hint=hint)
    return {found[0].parent.name: found[0]}, None


def write_results_table(path: Path, predictions: Iterable[Prediction]) -> None:
    """results.csv: a row a patient; what could not be measured is an empty cell."""
    rows = (Answer.of(prediction).row() for prediction in predictions)
    write_table(path, rows, without_rows=("Patient",))


def relative(file: Path, folder: Path) -> str:
    """A file's path from a folder, as it is stored."""
    return Path(os.path.relpath(file, folder)).as_posix()


def _real(folder: Path, parents: dict[Path, str]) -> str:
    """`os.path.realpath` of a folder; what is known of parents is kept, so that siblings cost one look each."""
    if folder.parent not in parents:
        parents[folder.parent] = os.path.realpath(folder.parent)
    path = os.path.join(parents[folder.parent], folder.name)  # noqa: PTH118
    return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114


def _holds_others(place: Path, said: str) -> OutputExistsError:
    decide = "; for another cut-off alone, use `fvv decide`" if "settings" in said else ""
    hint = f"--overwrite replaces them, another -o keeps both{decide}"
    return OutputExistsError(f"holds results of {said}", file=place, hint=hint)
