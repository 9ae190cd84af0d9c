"""One patient folder in: b0, b1000 and what was drawn on them, checked to lie on one grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvv.config import PreprocessConfig
from fvv.data import Case, Volume
from fvv.errors import FvvError, InputError
from fvv.imaging.adc import b0_from_adc
from fvv.imaging.geometry import plan_grid, reoriented_like, resample_onto, same_grid
from fvv.io.folders import refuse_missing_folder
from fvv.io.nifti import find_image, read_shell, read_volume
from fvv.io.roi import off_grid, read_roi
from fvv.protocol import TARGET_B

__all__ = ["CaseFiles", "case_files", "image_sha256", "read_case", "read_files", "same_grid"]


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The files of one examination, named one by one.

    Attributes:
        patient: its name in the results.
        b1000, b0, adc: images; an ADC map stands in for b0 where there is none.
        mask: brain mask.
        stroke_roi, flairviz_roi: what readers drew.
        refusal: why this examination cannot be read, known when it was found; reading it raises this, so that it is
            listed among the failures and not left out in silence.
    """

    patient: str
    b1000: Path
    b0: Path | None = None
    adc: Path | None = None
    mask: Path | None = None
    stroke_roi: Path | None = None
    flairviz_roi: Path | None = None
    refusal: str = ""


def read_case(folder: Path, config: PreprocessConfig, *, labelled: bool, finite: bool | None = None) -> Case:
    """Read one patient's folder.

    Args:
        folder: holds b0, b1000, and for a labelled patient stroke_roi and flairviz_roi (`.nii.gz` or `.nii`);
            a brain mask may be named mask or mask_roi.
        config: which volume of 4D files, whether files on another grid may be resampled.
        labelled: read the two ROI files, which must then be there; a new patient's are not looked at, and may have adc
            in place of b0.
        finite: refuse images with voxels that are not finite; None: those of labelled patients, for training takes no
            such image, while a new patient's are for quality control to judge.

    Raises:
        InputError: a file is missing or unreadable.
        GeometryError: a file lies on another grid than b1000.
    """
    try:
        return _read_files(
            _find_files(folder, labelled=labelled), config, finite=labelled if finite is None else finite
        )
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


def read_files(files: CaseFiles, config: PreprocessConfig, *, finite: bool = False) -> Case:
    """Read one examination from files named one by one; what `read_case` does with those it finds.

    Raises:
        InputError: a file is missing or unreadable, or the ADC map is none.
        GeometryError: a file lies on another grid than b1000.
    """
    try:
        return _read_files(files, config, finite=finite)
    except FvvError as error:
        raise error.for_patient(files.patient) from error


def _find_files(folder: Path, *, labelled: bool) -> CaseFiles:
    refuse_missing_folder(folder)
    b1000 = _required(folder, "b1000")
    b0 = find_image(folder, "b0")
    adc = None if labelled or b0 is not None else find_image(folder, "adc")
    needed = "every labelled patient needs this file"
    rois = [_required(folder, name, hint=needed) for name in ("stroke_roi", "flairviz_roi")] if labelled else [None] * 2
    return CaseFiles(
        patient=folder.name,
        b1000=b1000,
        b0=b0 if b0 is not None or adc is not None else _required(folder, "b0"),
        adc=adc,
        mask=find_image(folder, "mask", "mask_roi"),
        stroke_roi=rois[0],
        flairviz_roi=rois[1],
    )


def _read_files(files: CaseFiles, config: PreprocessConfig, *, finite: bool) -> Case:
    if files.refusal:
        raise InputError(files.refusal, file=files.b1000)
    b1000 = read_volume(files.b1000, index=config.b1000_index, target_b=TARGET_B, finite=finite)
    try:
        plan_grid(b1000)  # Refuses proportions that would take gigabytes.
    except FvvError as error:
        error.file = str(files.b1000)
        raise
    shell = read_shell(files.b1000, index=config.b1000_index)
    b_value = None if shell is None else shell.b_value
    notes = [f"{files.b1000.name}: {shell.note}"] if shell is not None and shell.note else []
    b0 = _read_b0(files, b1000, b_value, config, notes, finite=finite)
    rois: list[Volume | None] = []
    for path in (files.stroke_roi, files.flairviz_roi, files.mask):
        roi = None
        if path is not None:
            roi, said = read_roi(path, files.b1000, b1000, resample=config.resample_rois)
            notes += said
        rois.append(roi)
    return Case(
        patient=files.patient,
        b0=b0,
        b1000=b1000,
        stroke_roi=rois[0],
        flair_visible_roi=rois[1],
        mask=rois[2],
        b1000_file=files.b1000,
        b_value=b_value,
        notes=tuple(notes),
    )


def _read_b0(
    files: CaseFiles,
    b1000: Volume,
    b_value: float | None,
    config: PreprocessConfig,
    notes: list[str],
    *,
    finite: bool,
) -> Volume:
    """b0 as a file holds it, or as the ADC map implies it; on b1000's grid."""
    path = files.b0 or files.adc
    if path is None:
        raise InputError("neither b0 nor an ADC map is given", file=files.b1000)
    volume = read_volume(path, index=config.b0_index, target_b=0.0, finite=finite)
    if not same_grid(volume, b1000):
        turned = reoriented_like(volume, b1000)
        if turned is None and not config.resample_b0:
            raise off_grid(path, volume, files.b1000, b1000, "--resample-b0")
        how = "resampled onto b1000's grid" if turned is None else "brought into b1000's order of axes"
        volume = resample_onto(volume, b1000, order=1) if turned is None else turned
        notes.append(f"{'b0' if files.b0 else path.name} {how}")
    if files.b0 is not None:
        return volume
    try:
        array, unit = b0_from_adc(b1000.array, volume.array, b_value or TARGET_B)
    except FvvError as error:
        error.file = str(path)
        raise
    notes.append(
        f"b0 computed from b1000 and {path.name}, taken to be in {unit}, at b = {b_value or TARGET_B:g} s/mm^2"
    )
    return Volume(array, b1000.affine)


def _required(folder: Path, stem: str, *, hint: str | None = None) -> Path:
    path = find_image(folder, stem)
    if path is None:
        raise InputError("missing", file=folder / f"{stem}.nii.gz", hint=hint)
    return path
