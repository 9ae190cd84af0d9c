"""Results as a BIDS derivative: one more data set, whose files any BIDS tool can find and read.

Names and sidecars follow the standard's part on derivatives (bids-specification.readthedocs.io/en/stable/derivatives).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fvv import __version__
from fvv.arrays import UInt8Array
from fvv.data import Case, Prediction
from fvv.errors import OutputExistsError
from fvv.io.atomic import write_bytes, write_text
from fvv.io.nifti import write_rgb, write_volume
from fvv.io.results import DISCLAIMER, RESULT_FILE, remove_earlier, stored_adc

BIDS_VERSION = "1.10.0"
_STEMS = {
    "brain": "label-brain_mask",
    "stroke": "label-stroke_mask",
    "flair_visible": "label-flairvisible_probseg",
    "adc": "desc-fvv_ADC",
    "heatmap": "desc-fvv_heatmap",
}
_ABOUT: dict[str, dict[str, Any]] = {
    "brain": {"Type": "Brain", "Description": "Brain: the majority vote of the models"},
    "stroke": {"Type": "Lesion", "Description": "Acute stroke lesion: the majority vote of the models"},
    "flair_visible": {"Description": "Share of the models that call a voxel of the stroke FLAIR-visible"},
    "adc": {
        "Description": "Apparent diffusion coefficient from b0 and b1000",
        "Units": "1e-6 mm^2/s",
        "SkullStripped": False,
    },
    "heatmap": {"Description": "b1000 in grey, brain outline green, stroke outline blue, FLAIR-visible votes red"},
}


def derivative_files(root: Path, name: str) -> dict[str, Path]:
    """Where each of a patient's files goes.

    Args:
        root: of the derivative data set.
        name: of the examination; what is no BIDS name ("anna", "P-1_b") becomes one (`sub-anna`, `sub-P1b`).

    Returns:
        Path of each kind of image and of `synthesis.png`, `results.json`.
    """
    prefix = name if name.startswith("sub-") else f"sub-{''.join(filter(str.isalnum, name))}"
    folder = root.joinpath(*(part for part in prefix.split("_") if part.startswith(("sub-", "ses-"))), "dwi")
    files = {kind: folder / f"{prefix}_{stem}.nii.gz" for kind, stem in _STEMS.items()}
    files["synthesis.png"] = root / "figures" / f"{prefix}_desc-fvv_dwi.png"
    files[RESULT_FILE] = folder / f"{prefix}_desc-fvv_{RESULT_FILE}"
    return files


def write_dataset_description(root: Path, source: Path) -> None:
    """dataset_description.json, README.md, and a .bidsignore for what the standard has no name for.

    Raises:
        OutputExistsError: another data set has its own there.

    Args:
        root: of the derivative data set.
        source: where the images came from; the sidecars' `Sources` are relative to it.
    """
    _refuse_other_data_set(root / "dataset_description.json")
    content = {
        "Name": "FLAIR Visibility Volume",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "DatasetLinks": {"raw": Path(os.path.relpath(source, root)).as_posix()},
        "GeneratedBy": [{"Name": "fvv", "Version": __version__, "Description": DISCLAIMER}],
    }
    write_text(root / "dataset_description.json", json.dumps(content, indent=2) + "\n")
    write_text(root / "README.md", f"# FLAIR Visibility Volume\n\n{DISCLAIMER}\nWritten by fvv {__version__}.\n")
    ignored = ("*_heatmap.*", "*_results.json", "figures", "dicom", "report.html", "run.json", "*.csv", ".fvv.lock")
    write_text(root / ".bidsignore", "\n".join(ignored) + "\n")


def _refuse_other_data_set(description: Path) -> None:
    """Whatever may be overwritten, another data set's description may not: it may be that of the images."""
    if not description.exists():
        return
    try:
        makers = json.loads(description.read_text(encoding="utf-8")).get("GeneratedBy") or []
        ours = any(maker.get("Name") == "fvv" for maker in makers)
    except (OSError, ValueError, AttributeError, TypeError):
        ours = False
    if not ours:
        hint = "name a folder for the results alone, such as -o derivatives/fvv"
        raise OutputExistsError("describes another BIDS data set", file=description, hint=hint)


def remove_derivatives(files: Mapping[str, Path]) -> None:
    """Remove an earlier run's files of a patient, sidecars too (see `remove_earlier`)."""
    remove_earlier({**files, **{f"{kind}.json": _sidecar(file) for kind, file in files.items()}})


def write_derivatives(
    files: Mapping[str, Path],
    case: Case,
    prediction: Prediction,
    *,
    heatmap: UInt8Array | None,
    synthesis_png: bytes,
) -> None:
    """Write a patient's derivatives, each image with its JSON sidecar, but for results.json.

    Args:
        files: from `derivative_files`.
        case: the images, for grid and header.
        prediction: the answer, masks on the native grid.
        heatmap: (i, j, k, 3) uint8; None where nothing could be measured, and then no image is written.
        synthesis_png: the picture.
    """
    remove_derivatives(files)
    affine, like = case.b1000.affine, case.b1000_file
    sources = {"Sources": [_source_uri(like)]} if like is not None else {}
    for kind, image in _images(prediction).items():
        write_volume(files[kind], image, affine, like=like)
        write_text(_sidecar(files[kind]), json.dumps({**_ABOUT[kind], **sources, "SpatialReference": "orig"}, indent=2))
    if heatmap is not None:
        write_rgb(files["heatmap"], heatmap, affine, like=like)
    write_bytes(files["synthesis.png"], synthesis_png)


def _images(prediction: Prediction) -> dict[str, np.ndarray]:
    if prediction.brain is None or prediction.stroke is None:
        return {}
    votes = np.asarray(prediction.flair_visible_votes, dtype=np.float32)
    masks = {
        "brain": prediction.brain,
        "stroke": prediction.stroke,
        "flair_visible": votes / np.float32(prediction.n_models),
    }
    return masks if prediction.adc is None else {**masks, "adc": stored_adc(prediction.adc)}


def _source_uri(image: Path) -> str:
    """BIDS URI of an image: its path from the subject's folder on, or from its own where that is no BIDS data set."""
    parts = image.parts[-2:]
    start = next((place for place, part in enumerate(image.parts) if part.startswith("sub-")), None)
    return "bids:raw:" + "/".join(parts if start is None else image.parts[start:])


def _sidecar(image: Path) -> Path:
    return image.with_name(image.name.removesuffix(".nii.gz") + ".json") if image.name.endswith(".nii.gz") else image
