"""A labelled patient as the store takes it: read, masked, prepared, and judged as a new patient would be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fvv.config import PrepareConfig, PreprocessingProfile
from fvv.data import Case, PreparedCase, Severity
from fvv.errors import InputError, MaskError
from fvv.imaging.preprocess import working_grid
from fvv.io.case import read_case
from fvv.io.nifti import find_image
from fvv.recipes.examine import Settings, prepare_and_check

_REQUIRED = ("b0", "b1000", "stroke_roi", "flairviz_roi")


def prepare_labelled(folder: Path, profile: PreprocessingProfile, config: PrepareConfig) -> tuple[Case, PreparedCase]:
    """Prepare one patient.

    Args:
        folder: the patient's.
        profile: how.
        config: which files and volumes are read, which brain volumes are possible.

    Returns:
        The examination as read, and prepared, with all that quality control says of it among its findings.

    Raises:
        InputError: a file is missing or unreadable.
        GeometryError: files do not lie on one grid.
        MaskError: no trustworthy brain mask.
    """
    case = read_case(folder, config.preprocess, labelled=True)
    settings = Settings(profile, config.preprocess)
    case, prepared, findings = prepare_and_check(case, settings, working_grid(case, profile))
    for finding in findings:
        if finding.code == "brain-volume":
            raise MaskError(finding.message, hint="give a mask file, or another --mask-method", patient=case.patient)
    return case, replace(prepared, findings=findings)


def refuse_unassessable(prepared: PreparedCase) -> None:
    """Refuse an examination that could not be assessed if it were a new patient's.

    Raises:
        InputError: quality control says so; the message holds every reason.
    """
    reasons = [finding.message for finding in prepared.findings if finding.severity is Severity.NOT_ASSESSABLE]
    if reasons:
        hint = "correct the images, or store it all the same with --quality warn"
        raise InputError(f"not assessable: {'; '.join(reasons)}", patient=prepared.patient, hint=hint)


def files_reachable(folder: Path) -> bool:
    """Whether a patient's files are there and can be opened: one that fails all the same is unusable, not away."""
    try:
        if any(item.is_symlink() and not item.exists() for item in folder.iterdir()):
            return False
        for stem in _REQUIRED:
            image = find_image(folder, stem)
            if image is None or not image.is_file():
                return False
            with image.open("rb") as stream:
                stream.read(1)
    except InputError:  # Two forms of one image.
        return True
    except OSError:
        return False
    return True
