"""Where `fvv predict` writes what: all names, and the images of one examination.

of the cohort   results.csv  failures.csv  report.html  run.json; decisions_<cut-off>_mL.csv by `decide`;
                results.parquet where it is asked for
of one, layout `folders`, in <examination>/
                predictions.nii.gz  heatmap.nii.gz  fvv_adc.nii.gz  synthesis.png  lesions.csv  viewer.nii.gz
                results.txt  results.json; probabilities.nii.gz, segmentation.seg.nrrd or .mha where asked for
of one, layout `bids`, in sub-*/[ses-*]/dwi/: a derivative data set (bids-specification.readthedocs.io, derivatives)
                brain, stroke, FLAIR-visible, ADC, each with a sidecar; heatmap; lesions; *_results.json; figures/*.png
of one, from DICOM, beside results.json
                dicom/segmentation.dcm  dicom/report.dcm  dicom/synthesis.dcm
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fvv import __version__
from fvv.arrays import Affine, FloatArray, UInt8Array
from fvv.data import Case, Channel, Prediction
from fvv.imaging.fusion import visible_to_half
from fvv.io.atomic import write_text
from fvv.io.itk import write_label_map
from fvv.io.nifti import write_rgb, write_volume
from fvv.io.shards import RUN_FILE
from fvv.io.tables import FAILURES_FILE, write_table
from fvv.schemas.lesions import Lesion
from fvv.schemas.results import DISCLAIMER

RESULTS_FILE, PARQUET_FILE, REPORT_FILE = "results.csv", "results.parquet", "report.html"
COHORT_FILES = (RESULTS_FILE, FAILURES_FILE, REPORT_FILE, RUN_FILE)
DECISIONS_FILES = "decisions_*_mL.csv"

RESULT_FILE = "results.json"
IN_FOLDER = {
    "predictions": "predictions.nii.gz",
    "heatmap": "heatmap.nii.gz",
    "adc": "fvv_adc.nii.gz",  # Not adc.nii.gz: that is an image given instead of b0, and may lie in the same folder.
    "probabilities": "probabilities.nii.gz",
    "nrrd": "segmentation.seg.nrrd",
    "mha": "segmentation.mha",
    "viewer": "viewer.nii.gz",
    "lesions": "lesions.csv",
    "picture": "synthesis.png",
    "text": "results.txt",
    "result": RESULT_FILE,
}
"""Name of each kind of file in the folder of an examination."""

DATA_SET_FILES = DESCRIPTION_FILE, README_FILE, IGNORE_FILE = "dataset_description.json", "README.md", ".bidsignore"
FIGURES_FOLDER = "figures"
BIDS_VERSION = "1.10.0"
_IN_DATA_SET = {
    "brain": "label-brain_mask.nii.gz",
    "stroke": "label-stroke_mask.nii.gz",
    "flair_visible": "label-flairvisible_probseg.nii.gz",
    "adc": "desc-fvv_ADC.nii.gz",
    "probabilities": "desc-fvv_probseg.nii.gz",
    "heatmap": "desc-fvv_heatmap.nii.gz",
    "viewer": "desc-fvv_viewer.nii.gz",
    "lesions": "desc-fvv_lesions.csv",
    "result": f"desc-fvv_{RESULT_FILE}",
}
_SIDECARS: dict[str, dict[str, str | bool | list[str]]] = {
    "brain": {"Type": "Brain", "Description": "Brain: the majority vote of the models"},
    "stroke": {"Type": "Lesion", "Description": "Acute stroke lesion: the majority vote of the models"},
    "flair_visible": {"Description": "Share of the models that call a voxel of the stroke FLAIR-visible"},
    "adc": {
        "Description": "Apparent diffusion coefficient from b0 and b1000",
        "Units": "1e-6 mm^2/s",
        "SkullStripped": False,
    },
    "probabilities": {
        "Description": "Probabilities of brain, stroke and FLAIR-visible: mean over the models, before post-processing",
        "LabelMap": [channel.label for channel in Channel],
    },
}

DICOM_FOLDER = "dicom"
DICOM_FILES = DICOM_SEGMENTATION, DICOM_REPORT, DICOM_PICTURE = "segmentation.dcm", "report.dcm", "synthesis.dcm"


def decision_table(root: Path, cutoff_ml: float) -> Path:
    """Where `decide` lists its answers."""
    return root / DECISIONS_FILES.replace("*", f"{cutoff_ml:g}")


def files_in_folder(folder: Path) -> dict[str, Path]:
    """Where each kind of an examination's files goes in a folder of its own."""
    return {kind: folder / name for kind, name in IN_FOLDER.items()}


def files_in_data_set(root: Path, name: str) -> dict[str, Path]:
    """Where each kind of an examination's files goes in a BIDS derivative data set.

    Args:
        name: of the examination; what is no BIDS name ("anna", "P-1_b") becomes one (`sub-anna`, `sub-P1b`).
    """
    prefix = name if name.startswith("sub-") else f"sub-{''.join(filter(str.isalnum, name))}"
    folder = root.joinpath(*(part for part in prefix.split("_") if part.startswith(("sub-", "ses-"))), "dwi")
    files = {kind: folder / f"{prefix}_{ending}" for kind, ending in _IN_DATA_SET.items()}
    files |= {f"{kind}.json": folder / files[kind].name.replace(".nii.gz", ".json") for kind in _SIDECARS}
    return {**files, "picture": root / FIGURES_FOLDER / f"{prefix}_desc-fvv_dwi.png"}


def write_images(
    files: Mapping[str, Path],
    case: Case,
    prediction: Prediction,
    *,
    probabilities: FloatArray | None = None,
    label_map: str = "none",
) -> None:
    """Write an examination's masks, votes and ADC map, in BIDS each with its sidecar; nothing that was not measured.

    Args:
        files: where each kind goes; kinds that are not named are not written.
        case: the images, for grid and header.
        prediction: the answer, masks on the native grid.
        probabilities: (i, j, k, channel) float32; None: not asked for.
        label_map: `nrrd` or `mha`, to write the masks in that format, too.
    """
    affine, like = case.b1000.affine, case.b1000_file
    sources = {"Sources": [_source_uri(like)]} if like is not None else {}
    for kind in files:
        image = probabilities if kind == "probabilities" else _image(kind, prediction)
        if image is not None:
            write_volume(files[kind], image, affine, like=like)
            if f"{kind}.json" in files:
                about = {**_SIDECARS[kind], **sources, "SpatialReference": "orig"}
                write_text(files[f"{kind}.json"], json.dumps(about, indent=2))
    if label_map in files and (labels := label_map_of(prediction)) is not None:
        names = {number: channel.title for number, channel in enumerate(Channel, start=1)}
        write_label_map(files[label_map], labels, affine, names)


def write_heatmap(files: Mapping[str, Path], case: Case, heatmap: UInt8Array) -> None:
    """Write b1000 in colours, (i, j, k, 3) uint8 on the grid of the images."""
    write_rgb(files["heatmap"], heatmap, case.b1000.affine, like=case.b1000_file)


def write_viewer(files: Mapping[str, Path], viewer: tuple[UInt8Array, Affine]) -> None:
    """Write what the page's viewer shows, from `page_volume`."""
    write_volume(files["viewer"], *viewer)


def write_lesions(files: Mapping[str, Path], lesions: Sequence[Lesion]) -> None:
    """Write lesions.csv, a row for each lesion."""
    rows = [lesion.model_dump() for lesion in lesions]
    write_table(files["lesions"], rows, columns=tuple(Lesion.model_fields))


def _image(kind: str, prediction: Prediction) -> np.ndarray | None:
    brain, stroke, n = prediction.brain, prediction.stroke, prediction.n_models
    if brain is None or stroke is None:
        return None
    votes = np.asarray(prediction.flair_visible_votes, dtype=np.uint8)
    if kind == "predictions":
        return np.stack([np.uint8(n) * brain, np.uint8(n) * stroke, votes], axis=3)
    if kind == "adc":
        return None if prediction.adc is None else stored_adc(prediction.adc)
    if kind == "flair_visible":
        return votes.astype(np.float32) / np.float32(n)
    return {"brain": brain, "stroke": stroke}.get(kind)


def label_map_of(prediction: Prediction) -> UInt8Array | None:
    """(i, j, k) uint8: 0 elsewhere, 1 brain, 2 stroke, 3 what half of the models or more call FLAIR-visible."""
    brain, stroke, votes = prediction.brain, prediction.stroke, prediction.flair_visible_votes
    if brain is None or stroke is None or votes is None:
        return None
    visible = visible_to_half(votes, prediction.n_models) & stroke
    return np.select([visible, stroke, brain], [3, 2, 1]).astype(np.uint8)


def stored_adc(adc: FloatArray) -> np.ndarray:
    """ADC as scanners store it: whole 10^-6 mm^2/s, int16; 0 where not measured."""
    return np.asarray(np.rint(np.nan_to_num(adc) * 1e6), dtype=np.int16)


def write_data_set_files(root: Path, source: Path) -> None:
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
    images = ("*_heatmap.*", "*_viewer.*", FIGURES_FOLDER, DICOM_FOLDER)
    ignored = (*images, f"*_{RESULT_FILE}", "report*.html", RUN_FILE, "*.csv", PARQUET_FILE, ".fvv*")
    write_text(root / IGNORE_FILE, "\n".join(ignored) + "\n")


def _source_uri(image: Path) -> str:
    """BIDS URI of an image: its path from the subject's folder on, or from its own where that is no BIDS data set."""
    parts = image.parts[-2:]
    start = next((place for place, part in enumerate(image.parts) if part.startswith("sub-")), None)
    return "bids:raw:" + "/".join(parts if start is None else image.parts[start:])
