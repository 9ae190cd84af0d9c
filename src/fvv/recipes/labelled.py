"""A labelled patient as the store takes it: read, masked, prepared, and judged as a new patient would be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fvv.config import PROFILES, PrepareConfig, PreprocessingProfile
from fvv.data import Case, Finding, PreparedCase, Severity
from fvv.errors import InputError, MaskError
from fvv.imaging.preprocess import working_grid
from fvv.io.case import read_case
from fvv.io.nifti import find_image
from fvv.recipes.examine import Settings, prepare_and_check

_REQUIRED = ("b0", "b1000", "stroke_roi", "flairviz_roi")


def profile_of(config: PrepareConfig) -> PreprocessingProfile:
    """The preprocessing that the settings ask for."""
    return config.preprocess.applied_to(PROFILES[config.profile])


def prepare_labelled(folder: Path, config: PrepareConfig) -> tuple[Case, PreparedCase]:
    """Prepare one patient.

    Args:
        config: which files and volumes are read, how they are prepared, what quality control refuses.

    Returns:
        The examination as read, and prepared, with all that quality control says of it among its findings.

    Raises:
        InputError: a file is missing or unreadable; or quality control refuses the examination, with every reason.
        GeometryError: files do not lie on one grid.
        MaskError: no trustworthy brain mask.
    """
    case = read_case(folder, config.preprocess, labelled=True)
    settings = Settings(profile_of(config), config.preprocess)
    case, prepared, findings = prepare_and_check(case, settings, working_grid(case, settings.profile))
    for finding in findings:
        if finding.code == "brain-volume":
            raise MaskError(
                finding.message, hint="give a mask file, or another --mask-method", examination_id=case.examination_id
            )
    reasons = [finding.message for finding in findings if finding.severity is Severity.NOT_ASSESSABLE]
    if reasons and config.quality == "refuse":
        hint = "correct the images, or store them with a warning: --quality warn"
        raise InputError(f"not assessable: {'; '.join(reasons)}", examination_id=case.examination_id, hint=hint)
    return case, replace(prepared, findings=findings)


def finding_lines(patient: str, findings: Iterable[Finding]) -> list[str]:
    """A line for each finding of a patient, for people."""
    return [f"{patient}: {finding.severity.value}: {finding.message}" for finding in findings]


def files_reachable(folder: Path) -> bool:
    """Whether a patient's files are there and can be opened: one that fails nevertheless is unusable, not away."""
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
