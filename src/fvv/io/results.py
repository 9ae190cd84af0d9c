"""What is written for a patient and for a cohort after prediction."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fvv import __version__
from fvv.arrays import FloatArray, UInt8Array
from fvv.data import Case, Channel, Decision, DecisionState, Finding, Prediction, Severity
from fvv.errors import InputError, OutputExistsError
from fvv.io.atomic import write_bytes, write_text
from fvv.io.bundle import ModelBundle
from fvv.io.manifest import write_table
from fvv.io.nifti import write_rgb, write_volume

RESULT_FILE = "results.json"
ADC_FILE = "fvv_adc.nii.gz"
"""Not adc.nii.gz: that is an image given in place of b0, and may lie in the same folder."""
PATIENT_FILES = ("predictions.nii.gz", "heatmap.nii.gz", ADC_FILE, "synthesis.png", "results.txt", RESULT_FILE)
RESULTS_FILE = "results.csv"
COHORT_FILES = (RESULTS_FILE, "failures.csv", "report.html", "run.json")
_ADC_COLUMNS = ("lesion_adc_median", "lesion_adc_p10", "lesion_adc_relative")
DISCLAIMER = "For research use only. Not a medical device."


def refuse_existing(folder: Path, names: Sequence[str]) -> None:
    """Refuse to replace results of an earlier run.

    Raises:
        OutputExistsError: one of the files is there.
    """
    for name in names:
        if (folder / name).exists():
            raise OutputExistsError("already there", file=folder / name, hint="use --overwrite to replace it")


def decision_table(folder: Path, cutoff_ml: float) -> Path:
    """Where `decide` lists its answers."""
    return folder / f"decisions_{cutoff_ml:g}_mL.csv"


def remove_decisions(folder: Path) -> None:
    """Take away what `decide` made of results that are about to be replaced: it would contradict the new ones."""
    for table in folder.glob("decisions_*_mL.csv"):
        table.unlink()


def result_row(prediction: Prediction) -> dict[str, Any]:
    """One patient as a flat row. None stands for what could not be measured; it is never 0."""
    per_model = prediction.fvv_per_model_ml
    return {
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
        **dict(zip(_ADC_COLUMNS, prediction.lesion_adc or (None,) * 3, strict=True)),
        "models": prediction.models,
        "provider": prediction.provider,
        # Of the rounded steps, as results.json holds them: a table made again from those files has the same sum.
        "seconds": round(sum(_milliseconds(prediction.seconds).values()), 2),
    }


def write_prediction(
    files: Mapping[str, Path],
    case: Case,
    prediction: Prediction,
    *,
    heatmap: UInt8Array | None,
    synthesis_png: bytes,
) -> None:
    """Write a patient's files but for results.json, which an earlier run may have left and which goes first of all.

    Args:
        files: where each of `PATIENT_FILES` goes.
        case: the images, for grid and header.
        prediction: the answer, masks on the native grid.
        heatmap: (i, j, k, 3) uint8; None where nothing could be measured, and then no mask is written either.
        synthesis_png: the picture.
    """
    remove_earlier(files)
    affine, like = case.b1000.affine, case.b1000_file
    if heatmap is not None and prediction.brain is not None and prediction.stroke is not None:
        n = np.uint8(prediction.n_models)  # So that no array of eight bytes a voxel is made.
        votes = np.asarray(prediction.flair_visible_votes, dtype=np.uint8)
        stacked = np.stack([n * prediction.brain, n * prediction.stroke, votes], axis=3)
        write_volume(files["predictions.nii.gz"], stacked, affine, like=like)
        write_rgb(files["heatmap.nii.gz"], heatmap, affine, like=like)
        if prediction.adc is not None:
            write_volume(files[ADC_FILE], stored_adc(prediction.adc), affine, like=like)
    write_bytes(files["synthesis.png"], synthesis_png)
    row = result_row(prediction)
    text = [f"{key}={'n/a' if value is None else value}" for key, value in row.items()]
    write_text(files["results.txt"], "\n".join([*text, f"note={DISCLAIMER}", ""]))


def write_result(path: Path, prediction: Prediction, source_sha256: str) -> None:
    """Write results.json: last, so its presence means that all of a patient's files are there.

    Args:
        path: of results.json.
        prediction: the answer.
        source_sha256: hash of everything the result depends on, by which a later run knows it again.
    """
    content = {**result_content(prediction), "source_sha256": source_sha256}
    write_text(path, json.dumps(content, indent=2) + "\n")


def remove_earlier(files: Mapping[str, Path]) -> None:
    """Remove an earlier run's files: those that are not written anew must not be taken for this run's."""
    for file in (files[RESULT_FILE], *files.values()):  # Without it the others are no result.
        file.unlink(missing_ok=True)


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


def read_result(path: Path) -> tuple[Prediction, str]:
    """The numbers of a finished patient, without masks, and the hash of what they depend on.

    Args:
        path: its results.json.

    Raises:
        InputError: no result there, or one this version does not read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        reasons = tuple(
            Finding(reason["code"], reason["message"], Severity(reason["severity"])) for reason in content["reasons"]
        )
        adc = tuple(content.get(column) for column in _ADC_COLUMNS)
        prediction = Prediction(
            patient=content["Patient"],
            decision=Decision(
                DecisionState(content["decision"]),
                content["cutoff_ml"],
                reasons,
                content.get("minimum_lesion_ml", 0.0),  # Results written before it was kept: the default.
            ),
            n_models=content["n_models"],
            voxel_volume_ml=content["VoxVolume"],
            brain_voxels=content["BrainMaskVoxels"],
            stroke_voxels=content["StrokeBlobVoxels"],
            flair_visible_voxels=content["FlairVizVoxels"],
            fvv_per_model_ml=tuple(content["FlairVizVolume_per_model"]),
            mismatch_probability=content.get("mismatch_probability"),
            lesion_adc=None if None in adc else (adc[0], adc[1], adc[2]),
            provider=content["provider"],
            models=content.get("models", ""),
            seconds=content["seconds"],
        )
        return prediction, content.get("source_sha256", "")
    except FileNotFoundError as error:
        raise InputError("no such file", file=path) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a result this version reads: {type(error).__name__}: {error}", file=path) from error


def find_results(root: Path) -> list[Path]:
    """The results.json of every finished patient in a folder or below, in either layout, sorted.

    Raises:
        InputError: none.
    """
    found = sorted(root.rglob(f"*{RESULT_FILE}")) if root.is_dir() else []
    if not found:
        raise InputError(f"holds no {RESULT_FILE}", file=root, hint="name the folder that `fvv predict` wrote")
    return found


def write_results_table(path: Path, predictions: Sequence[Prediction]) -> None:
    """results.csv: a row a patient; what could not be measured is an empty cell."""
    rows = [result_row(prediction) for prediction in predictions]
    write_table(path, rows, columns=None if rows else ("Patient",))


def write_run_record(
    path: Path, bundle: ModelBundle, options: dict[str, Any], ran: dict[str, Any], seconds: float
) -> None:
    """run.json: what ran, with what, where, for how long.

    Args:
        path: of run.json.
        bundle: the models there were.
        options: what was asked for.
        ran: what that came to: how many models, in which precision, from which files, on which provider.
        seconds: wall time of the whole.
    """
    packages = ("numpy", "scipy", "scikit-image", "nibabel", "onnxruntime")
    record = {
        "software": f"fvv {__version__}",
        "packages": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "options": options,
        "ran": ran,
        "bundle": {
            "run_name": bundle.manifest.run_name,
            "notice": bundle.manifest.notice,
            "profile": bundle.profile.model_dump(mode="json"),
            "postprocess": bundle.manifest.postprocess.model_dump(mode="json"),
            "models": {model.file: model.sha256 for model in bundle.models},
        },
        "seconds": round(seconds, 1),
    }
    write_text(path, json.dumps(record, indent=2) + "\n")


def _milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {step: round(spent, 3) for step, spent in seconds.items()}
