"""The folder of an evaluation: written patient by patient, so that a killed run goes on where it ended.

processed_data/
  patients/<patient>.json  what was measured, and the hash of all it depends on: written last, so all else is there
  masks/<patient>.nii.gz   predicted brain, stroke, FLAIR-visible (4D uint8, native grid)
  heatmaps/<patient>.png   drawn and predicted outlines; .nii.gz: RGB on the native grid
  viewer/<patient>_*.nii.gz  b1000, drawn, predicted: small, for the viewer in the page
  metrics.csv  patients.csv  failures.csv  report.html  tables.md  tables.tex  methods.md  figures/
  summary.json             written last: its presence means that the evaluation is finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvv.arrays import Affine, UInt8Array
from fvv.data import Failure, Volume
from fvv.errors import InputError, OutputExistsError
from fvv.io.atomic import write_bytes, write_text
from fvv.io.manifest import FAILURES_FILE, read_table, write_failures, write_table
from fvv.io.nifti import write_rgb, write_volume

SUMMARY_FILE = "summary.json"
SCHEMA_VERSION = 2
"""Of summary.json and of the patients' records."""
VIEWER_IMAGES = ("b1000", "drawn", "predicted")


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

    def begin(self, participants: Sequence[str], *, overwrite: bool) -> None:
        """Make ready for an evaluation of these patients.

        What an unfinished run left is kept and used where nothing it depends on has changed; patients that are no
        longer there are taken out.

        Args:
            participants: those that will be evaluated.
            overwrite: start anew, and replace a finished evaluation.

        Raises:
            OutputExistsError: a finished evaluation is there, and overwriting was not asked for.
        """
        finished = self.path / SUMMARY_FILE
        if finished.exists() and not overwrite:
            raise OutputExistsError("already there", file=finished, hint="use --overwrite to replace it")
        finished.unlink(missing_ok=True)
        for record in sorted((self.path / "patients").glob("*.json")):
            if overwrite or record.stem not in participants:
                self.forget(record.stem)

    def forget(self, participant: str) -> None:
        """Remove a patient's files; the record goes first, so that what is left is never taken for whole."""
        viewer = (self._viewer(participant, name) for name in VIEWER_IMAGES)
        for path in (self._record(participant), self._mask(participant), *self._heatmaps(participant), *viewer):
            path.unlink(missing_ok=True)

    def read_patient(self, participant: str, source_sha256: str) -> dict[str, Any] | None:
        """What was measured, if it was from exactly this source; else None."""
        content = _read_json(self._record(participant))
        return content["result"] if content is not None and content.get("source_sha256") == source_sha256 else None

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
        self.forget(participant)
        picture, coloured = self._heatmaps(participant)
        if files.masks is not None:
            write_volume(self._mask(participant), files.masks, files.affine)
        if files.heatmap is not None:
            write_rgb(coloured, files.heatmap, files.affine)
        if files.picture_png is not None:
            write_bytes(picture, files.picture_png)
        for name, volume in (files.viewer or {}).items():
            write_volume(self._viewer(participant, name), volume.array, volume.affine)
        record = {"schema_version": SCHEMA_VERSION, "source_sha256": source_sha256, "result": result}
        write_text(self._record(participant), json.dumps(record, indent=1, allow_nan=False) + "\n")

    def read_finished(self) -> tuple[dict[str, Any], list[dict[str, Any]], tuple[Failure, ...]]:
        """A finished evaluation: its summary, the patients' results in order, its failures.

        Raises:
            InputError: no finished evaluation is there, or one that this version cannot read.
        """
        file = self.path / SUMMARY_FILE
        summary = _read_json(file)
        if summary is None:
            raise InputError("no finished evaluation here", file=file, hint="run `fvv evaluate` first")
        records = [_read_json(path) for path in sorted((self.path / "patients").glob("*.json"))]
        for content in (summary, *records):
            if content is None or content.get("schema_version") != SCHEMA_VERSION:
                raise InputError(
                    f"the evaluation is damaged or not of schema {SCHEMA_VERSION}, which this version reads",
                    file=self.path,
                    hint="run `fvv evaluate` again",
                )
        failures = tuple(Failure(row["patient"], row["reason"]) for row in read_table(self.path / FAILURES_FILE))
        return summary, [content["result"] for content in records if content is not None], failures

    def read_viewer(self, participant: str) -> dict[str, bytes] | None:
        """The viewer's images as gzipped NIfTI files, by name, or None where they were not kept."""
        paths = {name: self._viewer(participant, name) for name in VIEWER_IMAGES}
        if not all(path.exists() for path in paths.values()):
            return None
        return {name: path.read_bytes() for name, path in paths.items()}

    def read_picture(self, participant: str) -> bytes | None:
        """The patient's picture as PNG, or None where there is none."""
        path = self._heatmaps(participant)[0]
        return path.read_bytes() if path.exists() else None

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
        """
        (self.path / SUMMARY_FILE).unlink(missing_ok=True)
        for name, content in more.items():
            write_bytes(self.path / name, content)
        write_table(self.path / "metrics.csv", metrics)
        write_table(self.path / "patients.csv", patients)
        write_failures(self.path / FAILURES_FILE, failures)
        write_text(self.path / "report.html", report)
        write_text(self.path / SUMMARY_FILE, json.dumps(summary, indent=2, allow_nan=False) + "\n")

    def _record(self, participant: str) -> Path:
        return self.path / "patients" / f"{participant}.json"

    def _mask(self, participant: str) -> Path:
        return self.path / "masks" / f"{participant}.nii.gz"

    def _viewer(self, participant: str, name: str) -> Path:
        return self.path / "viewer" / f"{participant}_{name}.nii.gz"

    def _heatmaps(self, participant: str) -> tuple[Path, Path]:
        folder = self.path / "heatmaps"
        return folder / f"{participant}.png", folder / f"{participant}.nii.gz"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
