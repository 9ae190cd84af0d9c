"""Results as a BIDS derivative: one more data set, whose files any BIDS tool can find and read.

Names and sidecars follow the standard's part on derivatives (bids-specification.readthedocs.io/en/stable/derivatives).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fvv import __version__
from fvv.arrays import UInt8Array
from fvv.data import Case, Prediction
from fvv.errors import OutputExistsError
from fvv.io.atomic import write_bytes, write_text
from fvv.io.nifti import write_rgb, write_volume
from fvv.io.ownership import claim, claimed
from fvv.io.results import DISCLAIMER, PICTURE_FILE, RESULT_FILE, stored_adc

BIDS_VERSION = "1.10.0"
DESCRIPTION_FILE, README_FILE, IGNORE_FILE = "dataset_description.json", "README.md", ".bidsignore"
FIGURES_FOLDER = "figures"
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
        Path of each kind of image, its sidecar ("brain.json"), and of `synthesis.png`, `results.json`.
    """
    prefix = name if name.startswith("sub-") else f"sub-{''.join(filter(str.isalnum, name))}"
    folder = root.joinpath(*(part for part in prefix.split("_") if part.startswith(("sub-", "ses-"))), "dwi")
    files = {kind: folder / f"{prefix}_{stem}.nii.gz" for kind, stem in _STEMS.items()}
    files |= {f"{kind}.json": folder / f"{prefix}_{_STEMS[kind]}.json" for kind in _ABOUT if kind != "heatmap"}
    files[PICTURE_FILE] = root / FIGURES_FOLDER / f"{prefix}_desc-fvv_dwi.png"
    files[RESULT_FILE] = folder / f"{prefix}_desc-fvv_{RESULT_FILE}"
    return files


def claim_data_set(root: Path, names: Iterable[str]) -> None:
    """Take a derivative data set, and the subjects of these examinations in it, before anything is written.

    Args:
        root: of the derivative data set.
        names: of the examinations.

    Raises:
        OutputExistsError: another data set is there, or some file or subject that this program did not write.
    """
    if (root / DESCRIPTION_FILE).exists() and DESCRIPTION_FILE not in claimed(root):
        hint = "name a folder for the results alone, such as -o derivatives/fvv"
        raise OutputExistsError("describes another BIDS data set", file=root / DESCRIPTION_FILE, hint=hint)
    subjects = {derivative_files(root, name)[RESULT_FILE].relative_to(root).parts[0] for name in names}
    claim(root, {DESCRIPTION_FILE, README_FILE, IGNORE_FILE, FIGURES_FOLDER, *subjects})


def write_dataset_description(root: Path, source: Path) -> None:
    """dataset_description.json, README.md, and a .bidsignore for what the standard has no name for.

    Args:
        root: of the derivative data set, claimed.
        source: where the images came from; the sidecars' `Sources` are relative to it.
    """
    content = {
        "Name": "FLAIR Visibility Volume",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "DatasetLinks": {"raw": Path(os.path.relpath(source, root)).as_posix()},
        "GeneratedBy": [{"Name": "fvv", "Version": __version__, "Description": DISCLAIMER}],
    }
    write_text(root / DESCRIPTION_FILE, json.dumps(content, indent=2) + "\n")
    write_text(root / README_FILE, f"# FLAIR Visibility Volume\n\n{DISCLAIMER}\nWritten by fvv {__version__}.\n")
    ignored = ("*_heatmap.*", "*_results.json", FIGURES_FOLDER, "dicom", "report.html", "run.json", "*.csv", ".fvv*")
    write_text(root / IGNORE_FILE, "\n".join(ignored) + "\n")


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
    affine, like = case.b1000.affine, case.b1000_file
    sources = {"Sources": [_source_uri(like)]} if like is not None else {}
    for kind, image in _images(prediction).items():
        write_volume(files[kind], image, affine, like=like)
        write_text(files[f"{kind}.json"], json.dumps({**_ABOUT[kind], **sources, "SpatialReference": "orig"}, indent=2))
    if heatmap is not None:
        write_rgb(files["heatmap"], heatmap, affine, like=like)
    write_bytes(files[PICTURE_FILE], synthesis_png)


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
