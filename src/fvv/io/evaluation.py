"""The folder of an evaluation: written patient by patient, so that a killed run goes on where it ended.

processed_data/
  patients/<patient>.json  what was measured, and the hash of all it depends on: written last, so all else is there
  masks/<patient>.nii.gz   predicted brain, stroke, FLAIR-visible (4D uint8, native grid)
  heatmaps/<patient>.png   drawn and predicted outlines; .nii.gz: RGB on the native grid
  metrics.csv  patients.csv  failures.csv  report.html
  summary.json             written last: its presence means that the evaluation is finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fvv.arrays import Affine, UInt8Array
from fvv.data import Failure
from fvv.errors import OutputExistsError
from fvv.io.atomic import write_bytes, write_text
from fvv.io.manifest import FAILURES_FILE, write_failures, write_table
from fvv.io.nifti import write_rgb, write_volume

SUMMARY_FILE = "summary.json"


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
        for path in (self._record(participant), self._mask(participant), *self._heatmaps(participant)):
            path.unlink(missing_ok=True)

    def read_patient(self, participant: str, source_sha256: str) -> dict[str, Any] | None:
        """What was measured, if it was from exactly this source; else None."""
        try:
            content = json.loads(self._record(participant).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        fits = isinstance(content, dict) and content.get("source_sha256") == source_sha256
        return content["result"] if fits else None

    def write_patient(
        self,
        participant: str,
        source_sha256: str,
        result: Mapping[str, Any],
        affine: Affine,
        *,
        masks: UInt8Array | None,
        heatmap: UInt8Array | None,
        picture_png: bytes | None,
    ) -> None:
        """Write one patient.

        Args:
            participant: folder name.
            source_sha256: hash of all the result depends on.
            result: what was measured, in JSON's types.
            affine: (4, 4) of the native grid.
            masks: (i, j, k, 3) uint8; None where nothing could be measured.
            heatmap: (i, j, k, 3) uint8 colours, or None.
            picture_png: the picture, or None.
        """
        self.forget(participant)
        picture, coloured = self._heatmaps(participant)
        if masks is not None:
            write_volume(self._mask(participant), masks, affine)
        if heatmap is not None:
            write_rgb(coloured, heatmap, affine)
        if picture_png is not None:
            write_bytes(picture, picture_png)
        record = {"source_sha256": source_sha256, "result": result}
        write_text(self._record(participant), json.dumps(record, indent=1, allow_nan=False) + "\n")

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
    ) -> None:
        """Write what is said of the whole cohort.

        Args:
            summary: in JSON's types.
            report: HTML page.
            metrics: tidy rows; None is an empty cell.
            patients: a row a patient.
            failures: patients that could not be done.
        """
        write_table(self.path / "metrics.csv", metrics)
        write_table(self.path / "patients.csv", patients)
        write_failures(self.path / FAILURES_FILE, failures)
        write_text(self.path / "report.html", report)
        write_text(self.path / SUMMARY_FILE, json.dumps(summary, indent=2, allow_nan=False) + "\n")

    def _record(self, participant: str) -> Path:
        return self.path / "patients" / f"{participant}.json"

    def _mask(self, participant: str) -> Path:
        return self.path / "masks" / f"{participant}.nii.gz"

    def _heatmaps(self, participant: str) -> tuple[Path, Path]:
        folder = self.path / "heatmaps"
        return folder / f"{participant}.png", folder / f"{participant}.nii.gz"
