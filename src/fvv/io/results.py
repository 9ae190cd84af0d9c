"""What is written for a patient and for a cohort after prediction."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fvv import __version__
from fvv.arrays import FloatArray, UInt8Array
from fvv.data import Case, Channel, Decision, DecisionState, Finding, Prediction, Severity
from fvv.errors import InputError, OutputExistsError
from fvv.io.atomic import clear_remains, write_bytes, write_text
from fvv.io.manifest import FAILURES_FILE, write_table
from fvv.io.nifti import write_rgb, write_volume
from fvv.io.ownership import claimed
from fvv.io.run_record import RUN_FILE, MadeFrom
from fvv.io.sealed import read_sealed, write_sealed
from fvv.names import plain
from fvv.system.fingerprint import file_sha256
from fvv.system.regular import refuse_irregular

SCHEMA_VERSION = 2
"""Of results.json; the first had no hashes and no version."""
RESULT_FILE = "results.json"
TEXT_FILE = "results.txt"
PICTURE_FILE = "synthesis.png"
ADC_FILE = "fvv_adc.nii.gz"
"""Not adc.nii.gz: that is an image given in place of b0, and may lie in the same folder."""
PATIENT_FILES = ("predictions.nii.gz", "heatmap.nii.gz", ADC_FILE, PICTURE_FILE, TEXT_FILE, RESULT_FILE)
RESULTS_FILE = "results.csv"
REPORT_FILE = "report.html"
COHORT_FILES = (RESULTS_FILE, FAILURES_FILE, REPORT_FILE, RUN_FILE)
_ADC_COLUMNS = ("lesion_adc_median", "lesion_adc_p10", "lesion_adc_relative")
DISCLAIMER = "For research use only. Not a medical device."


def decision_table(folder: Path, cutoff_ml: float) -> Path:
    """Where `decide` lists its answers."""
    return folder / f"decisions_{cutoff_ml:g}_mL.csv"


def remove_decisions(folder: Path) -> None:
    """Take away what `decide` made of results that are about to be replaced: it would contradict the new ones."""
    ours = claimed(folder)
    for table in folder.glob("decisions_*_mL.csv"):
        if table.name in ours:
            table.unlink()


def result_row(prediction: Prediction) -> dict[str, Any]:
    """One patient as a flat row. None stands for what could not be measured; it is never 0."""
    per_model = prediction.fvv_per_model_ml
    row = {
        "Patient": prediction.patient,
        "BrainMaskVoxels": prediction.brain_voxels,
        "StrokeBlobVoxels": prediction.stroke_voxels,
        "FlairVizVoxels": prediction.flair_visible_voxels,
        "VoxVolume": prediction.voxel_volume_ml,
        "BrainMaskVolume": prediction.volume_ml(Channel.BRAIN),
        "StrokeBlobVolume": prediction.volume_ml(Channel.STROKE),
        "FlairVizVolume": prediction.volume_ml(Channel.FLAIR_VISIBLE),
        "decision": prediction.decision.state.value,
        "cutoff_ml": prediction.decision.cutoff_ml,
        "minimum_lesion_ml": prediction.decision.minimum_lesion_ml,
        "reasons": "; ".join(finding.code for finding in prediction.decision.reasons),
        "n_models": prediction.n_models,
        "FlairVizVolume_min": min(per_model, default=None),
        "FlairVizVolume_max": max(per_model, default=None),
        "FlairVizVolume_sd": statistics.stdev(per_model) if len(per_model) > 1 else None,
        "agreement": prediction.agreement,
        "mismatch_probability": prediction.mismatch_probability,
        "mismatch_probability_prevalence": None
        if prediction.mismatch_probability is None
        else prediction.mismatch_prevalence,
        "mismatch_probability_source": None if prediction.mismatch_probability is None else _source_of(prediction),
        **dict(zip(_ADC_COLUMNS, prediction.lesion_adc or (None,) * 3, strict=True)),
        "models": prediction.models,
        "provider": prediction.provider,
        # Of the rounded steps, as results.json holds them: a table made again from those files has the same sum.
        "seconds": round(sum(_milliseconds(prediction.seconds).values()), 2),
    }
    return {key: plain(value) if isinstance(value, str) else value for key, value in row.items()}


def _source_of(prediction: Prediction) -> str | None:
    return prediction.calibration_source or None


def write_prediction(
    files: Mapping[str, Path],
    case: Case,
    prediction: Prediction,
    *,
    heatmap: UInt8Array | None,
    synthesis_png: bytes,
) -> None:
    """Write a patient's images, of which `write_result` gives the record.

    Args:
        files: where each of `PATIENT_FILES` goes.
        case: the images, for grid and header.
        prediction: the answer, masks on the native grid.
        heatmap: (i, j, k, 3) uint8; None where nothing could be measured, and then no mask is written either.
        synthesis_png: the picture.
    """
    affine, like = case.b1000.affine, case.b1000_file
    if heatmap is not None and prediction.brain is not None and prediction.stroke is not None:
        n = np.uint8(prediction.n_models)  # So that no array of eight bytes a voxel is made.
        votes = np.asarray(prediction.flair_visible_votes, dtype=np.uint8)
        stacked = np.stack([n * prediction.brain, n * prediction.stroke, votes], axis=3)
        write_volume(files["predictions.nii.gz"], stacked, affine, like=like)
        write_rgb(files["heatmap.nii.gz"], heatmap, affine, like=like)
        if prediction.adc is not None:
            write_volume(files[ADC_FILE], stored_adc(prediction.adc), affine, like=like)
    write_bytes(files[PICTURE_FILE], synthesis_png)


def write_result(
    files: Mapping[str, Path],
    prediction: Prediction,
    made_from: MadeFrom,
    *,
    also: Iterable[Path] = (),
    finished: bool = True,
) -> StoredResult:
    """Write results.txt, and last results.json with the hash of every file that was written.

    Args:
        files: where each of the patient's files goes.
        prediction: the answer.
        made_from: what it depends on, by which a later run knows it again.
        also: files written beside these.
        finished: whether all of the patient's files are written; the answer holds in either case.
    """
    path = files[RESULT_FILE]
    if TEXT_FILE in files:
        row = result_row(prediction)
        text = [f"{key}={'n/a' if value is None else value}" for key, value in row.items()]
        write_text(files[TEXT_FILE], "\n".join([*text, f"note={DISCLAIMER}", ""]))
    written = [file for file in (*files.values(), *also) if file != path and file.is_file()]
    hashes = {Path(os.path.relpath(file, path.parent)).as_posix(): file_sha256(file) for file in written}
    content = {
        "schema_version": SCHEMA_VERSION,
        **result_content(prediction),
        "made_from": asdict(made_from),
        "finished": finished,
        "files": hashes,
    }
    write_sealed(path, content)
    return StoredResult(path, prediction.without_images(), made_from, finished, hashes)


def remove_earlier(files: Mapping[str, Path]) -> None:
    """Remove an earlier run's files: those that are not written again must not be taken for this run's.

    Raises:
        OutputExistsError: a folder lies where one of them belongs.
    """
    for file in files.values():
        if file.is_dir() and not file.is_symlink():
            raise OutputExistsError("a folder lies where a file is to be written", file=file, hint="move it away")
    for file in (files[RESULT_FILE], *files.values()):  # Without it the others are no result.
        file.unlink(missing_ok=True)
        clear_remains(file.parent, file.name)


def stored_adc(adc: FloatArray) -> np.ndarray:
    """ADC as scanners store it: whole 10^-6 mm^2/s, int16; 0 where not measured."""
    return np.asarray(np.rint(np.nan_to_num(adc) * 1e6), dtype=np.int16)


def result_content(prediction: Prediction) -> dict[str, Any]:
    """What results.json holds of a prediction."""
    return {
        **result_row(prediction),
        "reasons": [
            {"code": finding.code, "message": finding.message, "severity": finding.severity.value}
            for finding in prediction.decision.reasons
        ],
        "FlairVizVolume_per_model": list(prediction.fvv_per_model_ml),
        "seconds": _milliseconds(prediction.seconds),
        "units": {"volumes": "mL", "voxels": "of the 256 x 256 working grid", "ADC": "10^-6 mm^2/s"},
        "software": f"fvv {__version__}",
        "note": DISCLAIMER,
    }


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a patient's results.json holds.

    Attributes:
        path: of the file.
        prediction: the numbers, without masks.
        made_from: what they depend on.
        finished: whether all files of the patient were written.
        files: SHA-256 of each of these, by its path relative to the file's folder.
    """

    path: Path
    prediction: Prediction
    made_from: MadeFrom
    finished: bool
    files: dict[str, str]

    @property
    def picture(self) -> Path | None:
        """The synthesis, where there is one."""
        return next((self.path.parent / name for name in self.files if name.endswith(".png")), None)

    def verify(self) -> StoredResult:
        """Compare every file with its hash; gives the result itself.

        Raises:
            InputError: a file is missing or differs, or the patient was not finished.
        """
        if not self.finished:
            raise InputError("the run ended before all files of this patient were written", file=self.path, hint=_AGAIN)
        for name, sha256 in self.files.items():
            file = self.path.parent / name
            refuse_irregular(file)
            if file_sha256(file) != sha256:
                raise InputError("differs from the file that was written", file=file, hint=_AGAIN)
        return self


_AGAIN = "the same `fvv predict` command makes it again"


def read_result(path: Path) -> StoredResult:
    """Read a patient's results.json.

    Raises:
        InputError: missing, edited, damaged, or of another version.
    """
    content = read_sealed(path, schema_version=SCHEMA_VERSION)
    try:
        reasons = tuple(
            Finding(reason["code"], reason["message"], Severity(reason["severity"])) for reason in content["reasons"]
        )
        adc = tuple(content[column] for column in _ADC_COLUMNS)
        prediction = Prediction(
            patient=content["Patient"],
            decision=Decision(
                DecisionState(content["decision"]), content["cutoff_ml"], reasons, content["minimum_lesion_ml"]
            ),
            n_models=content["n_models"],
            voxel_volume_ml=content["VoxVolume"],
            brain_voxels=content["BrainMaskVoxels"],
            stroke_voxels=content["StrokeBlobVoxels"],
            flair_visible_voxels=content["FlairVizVoxels"],
            fvv_per_model_ml=tuple(content["FlairVizVolume_per_model"]),
            mismatch_probability=content["mismatch_probability"],
            calibration_source=content["mismatch_probability_source"] or "",
            mismatch_prevalence=content["mismatch_probability_prevalence"],
            lesion_adc=None if None in adc else (adc[0], adc[1], adc[2]),
            provider=content["provider"],
            models=content["models"],
            seconds=content["seconds"],
        )
        made_from = MadeFrom(**content["made_from"])
        return StoredResult(path, prediction, made_from, bool(content["finished"]), dict(content["files"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a result this version reads: {type(error).__name__}: {error}", file=path) from error


def find_results(root: Path) -> list[Path]:
    """The results.json of every patient in a folder or below, of whatever run, in either layout, sorted."""
    return sorted(root.rglob(f"*{RESULT_FILE}")) if root.is_dir() else []


def write_results_table(path: Path, predictions: Sequence[Prediction]) -> None:
    """results.csv: a row a patient; what could not be measured is an empty cell."""
    rows = [result_row(prediction) for prediction in predictions]
    write_table(path, rows, columns=None if rows else ("Patient",))


def _milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {step: round(spent, 3) for step, spent in seconds.items()}
