"""The folder of an evaluation: written patient by patient, so that a killed run goes on where it ended.

processed_data/
  patients/<patient>.json  what was measured, the hash of all it depends on, and the hashes of the patient's other files
  masks/<patient>.nii.gz   predicted brain, stroke, FLAIR-visible (4D uint8, native grid)
  heatmaps/<patient>.png   drawn and predicted outlines; .nii.gz: RGB on the native grid
  viewer/<patient>_*.nii.gz  b1000, drawn, predicted: small, for the viewer in the page
  metrics.csv  patients.csv  failures.csv  report.html  tables.md  tables.tex  methods.md  figures/
  summary.json             written last: its presence means that the evaluation is finished
  .fvv.summary.json        the earlier summary while a new report is written: a report cut short goes on from it
  .fvv.json                names that this program wrote here; nothing else in the folder is ever replaced or removed
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvv.arrays import Affine, UInt8Array
from fvv.data import Failure, Volume
from fvv.errors import InputError, OutputExistsError
from fvv.io.atomic import write_bytes, write_text
from fvv.io.nifti import write_rgb, write_volume
from fvv.io.ownership import claim
from fvv.io.sealed import read_sealed, write_sealed
from fvv.io.tables import FAILURES_FILE, write_failures, write_table

log = logging.getLogger(__name__)

SUMMARY_FILE, EARLIER_SUMMARY_FILE = "summary.json", ".fvv.summary.json"
SCHEMA_VERSION = 3
"""Of summary.json and of the patients' records."""
VIEWER_IMAGES = ("b1000", "drawn", "predicted")
OWN_FOLDERS = ("patients", "masks", "heatmaps", "viewer", "figures")
OWN_FILES = (
    "metrics.csv", "patients.csv", FAILURES_FILE, "report.html", "tables.md", "tables.tex", "methods.md", SUMMARY_FILE,
    EARLIER_SUMMARY_FILE,
)  # fmt: skip
_NO_PART_OF_THE_ANSWER = {"device", "threads", "chunk_slices", "calibrate"}
"""Settings that may differ between two runs of one evaluation."""


@dataclass(frozen=True, slots=True)
class PatientFiles:
    """What is written of one patient beside the numbers.

    Attributes:
        affine: (4, 4) of the native grid.
        masks: (i, j, k, 3) uint8; None where nothing could be measured.
        heatmap: (i, j, k, 3) uint8 colours, or None.
        picture_png: the picture, or None.
        viewer: the images of `VIEWER_IMAGES`, uint8, by name; empty where none are kept.
    """

    affine: Affine
    masks: UInt8Array | None
    heatmap: UInt8Array | None = None
    picture_png: bytes | None = None
    viewer: Mapping[str, Volume] | None = None


class EvaluationFolder:
    """An output folder of `evaluate`.

    Args:
        path: the folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, sources: Mapping[str, str], settings: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Make ready for an evaluation of these patients.

        What an earlier run left is kept and used where nothing it depends on has changed and its files are whole.

        Args:
            sources: of each patient that will be evaluated, the hash of all that the result depends on.
            settings: of the evaluation, in JSON's types.
            overwrite: start again, and replace a finished evaluation.

        Returns:
            Whether an evaluation of these patients with these settings was finished here.

        Raises:
            OutputExistsError: files that this program did not write are in the way; or an evaluation with other models,
                images, settings or patients is finished here, and overwriting was not asked for.
        """
        self._claim()
        finished = self._finished()
        if finished is not None and not overwrite:
            self._refuse_another(finished, sources, settings)
            return True
        for name in (SUMMARY_FILE, EARLIER_SUMMARY_FILE):
            (self.path / name).unlink(missing_ok=True)
        for record in sorted((self.path / "patients").glob("*.json")):
            if overwrite or record.stem not in sources:
                self.forget(record.stem)
        return False

    def _claim(self) -> None:
        claim(self.path, (*OWN_FOLDERS, *OWN_FILES), stage="evaluate")

    def _finished(self) -> dict[str, Any] | None:
        """The summary of a finished evaluation; a damaged one is none, for `evaluate` writes it again."""
        try:
            return read_sealed(self._summary(), schema_version=SCHEMA_VERSION)
        except InputError:
            return None

    def _summary(self) -> Path:
        """The summary; while a new one is in the making, or where that was cut short, the one before."""
        earlier = self.path / EARLIER_SUMMARY_FILE
        return earlier if earlier.exists() and not (self.path / SUMMARY_FILE).exists() else self.path / SUMMARY_FILE

    def _refuse_another(
        self, finished: Mapping[str, Any], sources: Mapping[str, str], settings: Mapping[str, Any]
    ) -> None:
        other = [
            name
            for name in sorted({*finished["settings"], *settings} - _NO_PART_OF_THE_ANSWER)
            if finished["settings"].get(name) != settings.get(name)
        ]
        changed = [name for name, source in finished["sources"].items() if sources.get(name) != source]
        if not other and not changed:
            return
        what = f"other settings ({', '.join(other)})" if other else f"other models or images ({changed[0]} and so on)"
        if not other and changed[0] not in sources:
            what = f"a patient who is not in this run ({changed[0]})"
        raise OutputExistsError(
            f"an evaluation with {what} is finished here",
            file=self.path / SUMMARY_FILE,
            hint="choose another output folder; --overwrite replaces it; `fvv report` takes another cut-off",
        )

    def forget(self, participant: str) -> None:
        """Remove a patient's files; the record goes first, so that what is left is never taken for whole."""
        viewer = (self._viewer(participant, name) for name in VIEWER_IMAGES)
        for path in (self._record(participant), self._mask(participant), *self._heatmaps(participant), *viewer):
            path.unlink(missing_ok=True)

    def read_patient(self, participant: str, source_sha256: str) -> dict[str, Any] | None:
        """What was measured, if it was from exactly this source and all of the patient's files are whole; else None."""
        try:
            content = read_sealed(self._record(participant), schema_version=SCHEMA_VERSION)
        except InputError:
            return None
        known = content["source_sha256"] == source_sha256
        if not known or not all(self._is_whole(name, sha256) for name, sha256 in content["files"].items()):
            return None
        result: dict[str, Any] = content["result"]
        return result

    def write_patient(
        self, participant: str, source_sha256: str, result: Mapping[str, Any], files: PatientFiles
    ) -> None:
        """Write one patient.

        Args:
            participant: folder name.
            source_sha256: hash of all the result depends on.
            result: what was measured, in JSON's types.
            files: masks and pictures.
        """
        self._claim()
        self.forget(participant)
        picture, coloured = self._heatmaps(participant)
        written = []
        if files.masks is not None:
            write_volume(self._mask(participant), files.masks, files.affine)
            written.append(self._mask(participant))
        if files.heatmap is not None:
            write_rgb(coloured, files.heatmap, files.affine)
            written.append(coloured)
        if files.picture_png is not None:
            write_bytes(picture, files.picture_png)
            written.append(picture)
        for name, volume in (files.viewer or {}).items():
            write_volume(self._viewer(participant, name), volume.array, volume.affine)
            written.append(self._viewer(participant, name))
        record = {
            "schema_version": SCHEMA_VERSION,
            "source_sha256": source_sha256,
            "files": {path.relative_to(self.path).as_posix(): _sha256(path) for path in written},
            "result": result,
        }
        write_sealed(self._record(participant), record)

    def read_finished(self) -> tuple[dict[str, Any], list[dict[str, Any]], tuple[Failure, ...]]:
        """A finished evaluation: its summary, the patients' results in order, its failures.

        Raises:
            InputError: no finished evaluation is there, one of its files is missing or damaged, or it is of another
                schema.
        """
        file, again = self._summary(), "run `fvv evaluate` again: it measures only what is missing or damaged"
        if not file.exists():
            raise InputError("no finished evaluation here", file=file, hint="run `fvv evaluate` first")
        try:
            summary = read_sealed(file, schema_version=SCHEMA_VERSION)
            failures = tuple(Failure(row["patient"], row["reason"]) for row in summary["failures"])
            results = []
            for participant, source_sha256 in summary["sources"].items():
                content = read_sealed(self._record(participant), schema_version=SCHEMA_VERSION)
                if content["source_sha256"] != source_sha256:
                    raise InputError("is of another run than the summary", file=self._record(participant))
                results.append(content["result"])
        except InputError as error:
            error.hint = again
            raise
        return summary, results, failures

    def read_viewer(self, participant: str) -> dict[str, bytes] | None:
        """The viewer's images as gzipped NIfTI files, by name, or None where they were not kept."""
        images = {name: self._read_own(participant, self._viewer(participant, name)) for name in VIEWER_IMAGES}
        whole = {name: content for name, content in images.items() if content is not None}
        return whole if len(whole) == len(images) else None

    def read_picture(self, participant: str) -> bytes | None:
        """The patient's picture as PNG, or None where there is none."""
        return self._read_own(participant, self._heatmaps(participant)[0])

    def _read_own(self, participant: str, path: Path) -> bytes | None:
        """A file that the patient's record names; None, and a line, where it is missing or damaged."""
        name = path.relative_to(self.path).as_posix()
        try:
            sha256 = read_sealed(self._record(participant), schema_version=SCHEMA_VERSION)["files"].get(name)
        except InputError:
            return None
        if sha256 is None:
            return None
        if not self._is_whole(name, sha256):
            log.warning("%s: missing or damaged, left out; `fvv evaluate` makes it again", path)
            return None
        return path.read_bytes()

    def _is_whole(self, name: str, sha256: str) -> bool:
        path = self.path / name
        try:
            return path.is_file() and _sha256(path) == sha256
        except OSError:
            return False

    def finish(
        self,
        summary: Mapping[str, Any],
        report: str,
        *,
        metrics: Sequence[Mapping[str, Any]],
        patients: Sequence[Mapping[str, Any]],
        failures: Sequence[Failure],
        more: Mapping[str, bytes],
    ) -> None:
        """Write what is said of the whole cohort.

        Args:
            summary: in JSON's types.
            report: HTML page.
            metrics: tidy rows; None is an empty cell.
            patients: a row a patient.
            failures: patients that could not be done.
            more: content of other files (figures, tables, text) by their path inside the folder.

        Raises:
            OutputExistsError: files that this program did not write are in the way.
        """
        self._claim()
        earlier = self.path / EARLIER_SUMMARY_FILE
        if (self.path / SUMMARY_FILE).exists():
            (self.path / SUMMARY_FILE).replace(earlier)
        for name, content in more.items():
            write_bytes(self.path / name, content)
        write_table(self.path / "metrics.csv", metrics)
        write_table(self.path / "patients.csv", patients)
        write_failures(self.path / FAILURES_FILE, failures)
        write_text(self.path / "report.html", report)
        told = [{"patient": failure.patient, "reason": failure.reason} for failure in failures]
        write_sealed(self.path / SUMMARY_FILE, {**summary, "failures": told})
        earlier.unlink(missing_ok=True)

    def _record(self, participant: str) -> Path:
        return self.path / "patients" / f"{participant}.json"

    def _mask(self, participant: str) -> Path:
        return self.path / "masks" / f"{participant}.nii.gz"

    def _viewer(self, participant: str, name: str) -> Path:
        return self.path / "viewer" / f"{participant}_{name}.nii.gz"

    def _heatmaps(self, participant: str) -> tuple[Path, Path]:
        folder = self.path / "heatmaps"
        return folder / f"{participant}.png", folder / f"{participant}.nii.gz"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
