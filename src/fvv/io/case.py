"""One patient folder in: b0, b1000 and what was drawn on them, checked to lie on one grid."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from fvv.config import PreprocessConfig
from fvv.data import Case, Volume
from fvv.errors import FvvError, GeometryError, InputError
from fvv.imaging.geometry import corner_displacement_mm, resample_onto
from fvv.io.nifti import find_image, read_volume

GRID_TOLERANCE_MM = 1e-3
"""Two grids are one when no corner lies farther apart than this."""


def read_case(folder: Path, config: PreprocessConfig, *, labelled: bool) -> Case:
    """Read one patient's folder.

    Args:
        folder: holds b0, b1000, and for a labelled patient stroke_roi and flairviz_roi (`.nii.gz` or `.nii`);
            a brain mask may be named mask or mask_roi.
        config: which volume of 4D files, whether files on another grid may be resampled.
        labelled: read the two ROI files, which must then be there; a new patient's are not looked at.

    Raises:
        InputError: a file is missing or unreadable.
        GeometryError: a file lies on another grid than b1000.
    """
    try:
        return _read(folder, config, labelled=labelled)
    except FvvError as error:
        raise error.for_patient(folder.name) from error
    except OSError as error:  # A folder or file that may not be looked into is this patient's trouble alone.
        message = f"cannot be read: {error.strerror or error}"
        raise InputError(message, patient=folder.name, file=error.filename or folder) from error


def case_files(folder: Path) -> list[Path]:
    """The files of a patient folder that preparation may depend on, sorted by name."""
    stems = ("b0", "b1000", "stroke_roi", "flairviz_roi", "mask", "mask_roi")
    names = [f"{stem}{suffix}" for stem in stems for suffix in (".nii", ".nii.gz", ".bval")]
    return sorted(path for path in (folder / name for name in names) if path.is_file())


def image_sha256(case: Case) -> str:
    """Hash of the values of b0 and b1000: knows an examination again under any name and compression."""
    digest = hashlib.sha256()
    for volume in (case.b0, case.b1000):
        digest.update(np.ascontiguousarray(volume.array, dtype=np.float64).tobytes())
    return digest.hexdigest()


def _read(folder: Path, config: PreprocessConfig, *, labelled: bool) -> Case:
    if not folder.is_dir():
        raise InputError("no such folder", file=folder)
    b1000_path = _required(folder, "b1000")
    b0_path = _required(folder, "b0")
    b1000 = read_volume(b1000_path, index=config.b1000_index, target_b=1000.0)
    b0 = read_volume(b0_path, index=config.b0_index, target_b=0.0)
    notes: list[str] = []
    if _displacement(b0, b1000) > GRID_TOLERANCE_MM:
        if not config.resample_b0:
            raise _off_grid(b0_path, b0, b1000_path, b1000, "--resample-b0")
        b0 = resample_onto(b0, b1000, order=1)
        notes.append("b0 resampled onto b1000's grid")

    rois: dict[str, Volume] = {}
    for name, *other_names in (("stroke_roi",), ("flairviz_roi",), ("mask", "mask_roi")):
        if name != "mask" and not labelled:
            continue
        path = find_image(folder, name, *other_names)
        if path is not None:
            rois[name] = _read_roi(path, b1000_path, b1000, config, notes)
        elif name != "mask":
            raise InputError("missing", file=folder / f"{name}.nii.gz", hint="every labelled patient needs this file")
    return Case(
        patient=folder.name,
        b0=b0,
        b1000=b1000,
        stroke_roi=rois.get("stroke_roi"),
        flair_visible_roi=rois.get("flairviz_roi"),
        mask=rois.get("mask"),
        b1000_file=b1000_path,
        notes=tuple(notes),
    )


def _required(folder: Path, stem: str) -> Path:
    path = find_image(folder, stem)
    if path is None:
        raise InputError("missing", file=folder / f"{stem}.nii.gz")
    return path


def _read_roi(path: Path, b1000_path: Path, b1000: Volume, config: PreprocessConfig, notes: list[str]) -> Volume:
    roi = read_volume(path)
    values = np.unique(roi.array)
    if len(values) > 2 or not np.isin(values, (0.0, 1.0)).all():
        notes.append(f"{path.name} is not 0/1 (values {values.min():g} to {values.max():g}): taken where over 0.5")
    roi = Volume(roi.array > 0.5, roi.affine)
    if _displacement(roi, b1000) > GRID_TOLERANCE_MM:
        if not config.resample_rois:
            raise _off_grid(path, roi, b1000_path, b1000, "--resample-rois")
        roi = resample_onto(roi, b1000, order=0)
        notes.append(f"{path.name} resampled onto b1000's grid")
    return roi


def _displacement(a: Volume, b: Volume) -> float:
    return corner_displacement_mm(a, b) if a.array.shape == b.array.shape else float("inf")


def _off_grid(path: Path, volume: Volume, b1000_path: Path, b1000: Volume, option: str) -> GeometryError:
    if volume.array.shape != b1000.array.shape:
        difference = f"shape {volume.array.shape} against {b1000.array.shape}"
    else:
        difference = f"corners lie up to {corner_displacement_mm(volume, b1000):.3g} mm apart"
    return GeometryError(
        f"not on the grid of {b1000_path.name}: {difference}",
        file=path,
        hint=f"{option} resamples it onto {b1000_path.name}",
    )
