"""The folder of an evaluation: written patient by patient, so that a killed run can be resumed.

processed_data/
  patients/<patient>.json  what was measured, the hash of all it depends on, and the hashes of the patient's other files
  masks/<patient>.nii.gz   predicted brain, stroke, FLAIR-visible (4D uint8, native grid)
  heatmaps/<patient>.png   reference and predicted outlines; .nii.gz: RGB on the native grid
  viewer/<patient>_*.nii.gz  b1000, reference, predicted: small, for the viewer in the page
  metrics.csv  patients.csv  failures.csv  report.html  tables.md  tables.tex  methods.md  figures/
  summary.json             written last: its presence means that the evaluation is finished
  .fvv.summary.json        the earlier summary while a new report is written: a report cut short goes on from it
  .fvv.json                names that this program wrote here; nothing else in the folder is ever replaced or removed
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fvv.arrays import Affine, UInt8Array
from fvv.config import SHARED, EvaluateConfig
from fvv.data import Volume
from fvv.errors import InputError, OutputExistsError
from fvv.io.atomic import write_bytes, write_text
from fvv.io.nifti import write_rgb, write_volume
from fvv.io.ownership import claim
from fvv.io.sealed import read_record, verify_files, write_sealed
from fvv.io.shards import refuse_ungathered
from fvv.io.tables import FAILURES_FILE, write_failures, write_table
from fvv.schemas.migrations import CURRENT
from fvv.schemas.patient import PatientRecord, PatientResult
from fvv.schemas.summary import Summary
from fvv.system.fingerprint import file_sha256

log = logging.getLogger(__name__)

SUMMARY_FILE, EARLIER_SUMMARY_FILE = "summary.json", ".fvv.summary.json"
SCHEMA_VERSION = CURRENT["patient"]
"""Of the patients' records."""
VIEWER_IMAGES = ("b1000", "reference", "predicted")
OWN_FOLDERS = ("patients", "masks", "heatmaps", "viewer", "figures")
OWN_FILES = (
    "metrics.csv", "patients.csv", FAILURES_FILE, "report.html", "tables.md", "tables.tex", "methods.md", SUMMARY_FILE,
    EARLIER_SUMMARY_FILE,
)  # fmt: skip
_NO_PART_OF_THE_ANSWER = {"calibrate", "compute"}
"""Settings that may differ between two runs of one evaluation."""


@dataclass(frozen=True, slots=True)
class PatientFiles:
    """What is written of one patient beside the numbers.

    Attributes:
        affine: (4, 4) of the native grid.
        masks: (i, j, k, 3) uint8; None where nothing could be measured.
        heatmap: (i, j, k, 3) uint8 colours, or None.
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

    def begin(self, sources: Mapping[str, str], settings: EvaluateConfig, *, overwrite: bool) -> bool:
        """Prepare for an evaluation of these patients.

        What an earlier run left is kept and used where nothing it depends on has changed and its files are whole.

        Args:
            sources: of each patient that will be evaluated, the hash of all that the result depends on.
            overwrite: start again, and replace a finished evaluation.

        Returns:
            Whether an evaluation of these patients with these settings was finished here.
        """
        self._claim()
        if not overwrite:
            try:
                finished = read_record(self._summary(), Summary)
            except InputError:  # None, or a damaged one: it is written again.
                pass
            else:
                self._refuse_another(finished, sources, settings)
                return True
        for name in (SUMMARY_FILE, EARLIER_SUMMARY_FILE):
            (self.path / name).unlink(missing_ok=True)
        self._forget_others(() if overwrite else sources)
        return False

    def begin_shard(self, sources: Mapping[str, str], settings: EvaluateConfig, *, overwrite: bool) -> None:
        """`begin` for some of the patients of an evaluation: what is there of others stays.

        Args:
            sources: of each patient of the shard, the hash of all that the result depends on.
            overwrite: measure these again, also where another evaluation is finished here.
        """
        self._claim()
        if overwrite:
            for name in sources:
                self.forget(name)
            return
        try:
            finished = read_record(self._summary(), Summary)
        except InputError:
            return
        known = {name: source for name, source in finished.sources.items() if name in sources}
        self._refuse_another(finished.model_copy(update={"sources": known}), sources, settings)

    def take_over(self, sources: Mapping[str, str]) -> list[PatientResult]:
        """The results of these patients, in order; those of others, of an earlier evaluation, are removed.

        Args:
            sources: of each patient, the hash of all that the result depends on.

        Raises:
            InputError: a result is missing, damaged or of another source.
        """
        results = []
        for name, source in sources.items():
            found = self.read_patient(name, source)
            if found is None:
                hint = "run its shard again: it measures only what is missing"
                message = "its result is missing, damaged, or of another run than its shard"
                raise InputError(message, examination_id=name, file=self._files(name)["record"], hint=hint)
            results.append(found)
        self._forget_others(sources)
        return results

    def place_of(self, participant: str) -> str:
        """Where a patient's record lies in the folder."""
        return self._files(participant)["record"].relative_to(self.path).as_posix()

    def _forget_others(self, known: Collection[str]) -> None:
        for record in sorted((self.path / "patients").glob("*.json")):
            if record.stem not in known:
                self.forget(record.stem)

    def _claim(self) -> None:
        claim(self.path, (*OWN_FOLDERS, *OWN_FILES), stage="evaluate")

    def _summary(self) -> Path:
        """The summary; while a new one is in the making, or where that was cut short, the one before."""
        earlier = self.path / EARLIER_SUMMARY_FILE
        return earlier if earlier.exists() and not (self.path / SUMMARY_FILE).exists() else self.path / SUMMARY_FILE

    def _refuse_another(self, finished: Summary, sources: Mapping[str, str], settings: EvaluateConfig) -> None:
        names = sorted(set(EvaluateConfig.model_fields) - _NO_PART_OF_THE_ANSWER)
        other = [name for name in names if getattr(finished.settings, name) != getattr(settings, name)]
        changed = [name for name, source in finished.sources.items() if sources.get(name) != source]
        if not other and not changed:
            return
        what = f"other settings ({', '.join(other)})" if other else f"other models or images ({changed[0]} and so on)"
        if not other and changed[0] not in sources:
            what = f"a patient who is not in this run ({changed[0]})"
        same = f"with its settings it goes on: {_options(finished.settings, settings, other)}; " if other else ""
        raise OutputExistsError(
            f"an evaluation with {what} is finished here",
            file=self.path / SUMMARY_FILE,
            hint=f"{same}choose another output folder; --overwrite replaces it; `fvv report` takes another cut-off",
        )

    def forget(self, participant: str) -> None:
        """Remove a patient's files; the record goes first, so that what is left is never taken for whole."""
        for path in self._files(participant).values():
            path.unlink(missing_ok=True)

    def read_patient(self, participant: str, source_sha256: str) -> PatientResult | None:
        """What was measured, if it was from exactly this source and all of the patient's files are whole; else None."""
        try:
            record = self._read_record(participant)
            verify_files(self.path, record.files)
        except InputError:
            return None
        return record.result if record.source_sha256 == source_sha256 else None

    def write_patient(self, source_sha256: str, result: PatientResult, files: PatientFiles) -> None:
        """Write one patient."""
        self._claim()
        self.forget(result.examination_id)
        places = self._files(result.examination_id)
        if files.masks is not None:
            write_volume(places["masks"], files.masks, files.affine)
        if files.heatmap is not None:
            write_rgb(places["heatmap"], files.heatmap, files.affine)
        if files.picture_png is not None:
            write_bytes(places["picture"], files.picture_png)
        for name, volume in (files.viewer or {}).items():
            write_volume(places[name], volume.array, volume.affine)
        written = [path for path in places.values() if path.exists()]
        hashes = {path.relative_to(self.path).as_posix(): file_sha256(path) for path in written}
        write_sealed(places["record"], PatientRecord(source_sha256=source_sha256, files=hashes, result=result))

    def read_finished(self) -> tuple[Summary, tuple[PatientResult, ...]]:
        """A finished evaluation: its summary, and the patients' results in order."""
        refuse_ungathered(self.path, "evaluate")
        file = self._summary()
        if not file.exists():
            raise InputError("no finished evaluation here", file=file, hint="run `fvv evaluate` first")
        try:
            summary = read_record(file, Summary)
            results = []
            for participant, source_sha256 in summary.sources.items():
                record = self._read_record(participant)
                if record.source_sha256 != source_sha256:
                    raise InputError("is of another run than the summary", file=self._files(participant)["record"])
                results.append(record.result)
        except InputError as error:
            error.hint = "run `fvv evaluate` again: it measures only what is missing or damaged"
            raise
        return summary, tuple(results)

    def read_viewer(self, participant: str) -> dict[str, bytes] | None:
        """The viewer's images as gzipped NIfTI files, by name, or None where they were not kept."""
        images = {name: self._read_own(participant, name) for name in VIEWER_IMAGES}
        whole = {name: content for name, content in images.items() if content is not None}
        return whole if len(whole) == len(images) else None

    def read_picture(self, participant: str) -> bytes | None:
        """The patient's picture as PNG, or None where there is none."""
        return self._read_own(participant, "picture")

    def _read_own(self, participant: str, kind: str) -> bytes | None:
        """A file that the patient's record names; None, and a line, where it is missing or damaged."""
        path = self._files(participant)[kind]
        name = path.relative_to(self.path).as_posix()
        try:
            files = self._read_record(participant).files
        except InputError:
            return None
        if name not in files:
            return None
        try:
            verify_files(self.path, {name: files[name]})
        except InputError:
            log.warning("%s: missing or damaged, left out; `fvv evaluate` makes it again", path)
            return None
        return path.read_bytes()

    def finish(
        self,
        summary: Summary,
        report: str,
        *,
        metrics: Sequence[Mapping[str, object]],
        patients: Sequence[Mapping[str, object]],
        more: Mapping[str, bytes],
    ) -> None:
        """Write what is said of the whole cohort.

        Args:
            metrics: tidy rows; None is an empty cell.
            more: content of other files (figures, tables, text) by their path inside the folder.
        """
        self._claim()
        earlier = self.path / EARLIER_SUMMARY_FILE
        if (self.path / SUMMARY_FILE).exists():
            (self.path / SUMMARY_FILE).replace(earlier)
        for name, content in more.items():
            write_bytes(self.path / name, content)
        write_table(self.path / "metrics.csv", metrics)
        write_table(self.path / "patients.csv", patients)
        write_failures(self.path / FAILURES_FILE, summary.failures)
        write_text(self.path / "report.html", report)
        write_sealed(self.path / SUMMARY_FILE, summary)
        earlier.unlink(missing_ok=True)

    def _read_record(self, participant: str) -> PatientRecord:
        return read_record(self._files(participant)["record"], PatientRecord)

    def _files(self, participant: str) -> dict[str, Path]:
        names = {
            "record": f"patients/{participant}.json",
            "masks": f"masks/{participant}.nii.gz",
            "picture": f"heatmaps/{participant}.png",
            "heatmap": f"heatmaps/{participant}.nii.gz",
            **{name: f"viewer/{participant}_{name}.nii.gz" for name in VIEWER_IMAGES},
        }
        return {kind: self.path / name for kind, name in names.items()}


def _options(wanted: EvaluateConfig, given: EvaluateConfig, names: Sequence[str]) -> str:
    """Options of the command line that make of the settings given those wanted."""
    found = []
    finished, asked = (config.model_dump(mode="json") for config in (wanted, given))
    for name in names:
        there, here = finished[name], asked[name]
        if isinstance(there, dict) and isinstance(here, dict):
            found += [(f"{name}.{key}", value) for key, value in there.items() if value != here.get(key)]
        else:
            found.append((name if name in SHARED else f"evaluate.{name}", there))
    said = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in found]
    return " ".join(f"--set {shlex.quote(one)}" for one in said)
