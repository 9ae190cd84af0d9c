"""A labelled patient as the store takes it: read, masked, prepared, and judged as a new patient would be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.config import PROFILES, PrepareConfig, PreprocessConfig, PreprocessingProfile
from fvv.data import Case, Channel, Finding, Participant, PreparedCase, Severity, Volume
from fvv.errors import InputError, MaskError
from fvv.imaging.preprocess import working_grid
from fvv.io.case import Place, case_files, image_stem, read_place
from fvv.io.nifti import find_image
from fvv.names import first_few
from fvv.recipes.examine import Settings, prepare_and_check

ROI_STEMS = {Channel.STROKE: "stroke_roi", Channel.FLAIR_VISIBLE: "flairviz_roi"}
"""The reference masks of a patient's folder, by what they show."""
_ALIKE = 0.75
"""A file whose name is like that of a missing mask to this ratio of `difflib` is taken for a typing error."""


def profile_of(config: PrepareConfig) -> PreprocessingProfile:
    """The preprocessing that the settings ask for."""
    return config.preprocess.applied_to(PROFILES[config.profile])


def read_labelled(
    place: Place,
    participant: Participant,
    config: PreprocessConfig,
    *,
    finite: bool,
    optional: Collection[Channel] = (),
) -> Case:
    """Read an examination with what is known of its lesion.

    A stroke-free examination, which participants.tsv must call so, needs no ROI files and gets empty ROIs. Any other
    mask that is not there is unknown, never empty, where it may be missing at all.

    Args:
        place: its folder, or its files.
        finite: refuse images with voxels that are not finite.
        optional: channels whose mask may be missing, beside those that `PreprocessConfig.partial_labels` allows.

    Raises:
        InputError: a mask is missing that must be there, or a file has nearly its name; nothing at all is known of the
            lesion; or an ROI holds voxels, and the table says that there is no stroke.
    """
    case = read_place(place, config, finite=finite)
    rois = {Channel.STROKE: case.stroke_roi, Channel.FLAIR_VISIBLE: case.flair_visible_roi}
    empty = Volume(np.zeros(case.b1000.array.shape, dtype=bool), case.b1000.affine)
    if participant.stroke_free:
        for channel, roi in rois.items():
            if roi is not None and roi.array.any():
                message = f"{PARTICIPANTS_FILE} says stroke_free, the ROI holds {int(roi.array.sum())} voxels"
                raise _error(message, "correct the one or the other", place, participant, channel)
        return replace(case, stroke_roi=empty, flair_visible_roi=empty)
    for channel, roi in rois.items():
        if roi is None:
            _refuse_missing(place, participant, channel, allowed=config.partial_labels or channel in optional)
    if case.stroke_roi is not None and case.flair_visible_roi is None and not case.stroke_roi.array.any():
        return replace(case, flair_visible_roi=empty)
    visible = case.flair_visible_roi is not None and bool(case.flair_visible_roi.array.any())
    if case.stroke_roi is None and not visible and participant.dwi_flair_mismatch is None:
        message = "nothing is known of its lesion: no mask, and no dwi_flair_mismatch in the table"
        raise InputError(message, examination_id=participant.examination_id, hint="leave it out, or outline it")
    return case


def prepare_labelled(place: Place, participant: Participant, config: PrepareConfig) -> tuple[Case, PreparedCase]:
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
    case = read_labelled(place, participant, config.preprocess, finite=True)
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


def unknown_lines(known: Mapping[str, Collection[Channel]]) -> list[str]:
    """A line for each mask that some examinations lack, for people: whom a typing error in a name made unknown is seen.

    Args:
        known: of each examination, the channels that have a reference mask.
    """
    lines = []
    for channel, stem in ROI_STEMS.items():
        lacking = [name for name in sorted(known) if channel not in known[name]]
        if lacking:
            counted = f"{len(lacking)} of {len(known)} examinations"
            lines.append(f"{channel.title} unknown, no {stem}: {counted}: {first_few(lacking, 10)}")
    return lines


def files_reachable(place: Place, participant: Participant, config: PreprocessConfig) -> bool:
    """Whether a patient's files are there and can be opened: one that fails nevertheless is unusable, not away."""
    required = [] if participant.stroke_free or config.partial_labels else list(ROI_STEMS.values())
    try:
        if isinstance(place, Path):
            if any(item.is_symlink() and not item.exists() for item in place.iterdir()):
                return False
            if not find_image(place, "b0") and not find_image(place, "adc"):
                return False
            if any(find_image(place, stem) is None for stem in ("b1000", *required)):
                return False
        files = case_files(place)
        for image in files:
            with image.open("rb") as stream:
                stream.read(1)
        return bool(files)
    except InputError:  # Two forms of one image.
        return True
    except OSError:
        return False


def _refuse_missing(place: Place, participant: Participant, channel: Channel, *, allowed: bool) -> None:
    if not allowed:
        hint = (
            f"every labelled patient needs this file; of a stroke-free one say so in {PARTICIPANTS_FILE}: stroke_free 1"
            "; where masks are missing on purpose, --partial-labels takes what there is"
        )
        raise _error("missing", hint, place, participant, channel)
    stem = ROI_STEMS[channel]
    if isinstance(place, Path):
        for file in sorted(item for item in place.iterdir() if item.is_file()):
            name = image_stem(file)
            if name is not None and SequenceMatcher(None, name.casefold(), stem).ratio() >= _ALIKE:
                message = f"there is no {stem}, and this resembles it"
                raise InputError(
                    message, examination_id=participant.examination_id, file=file, hint="rename it, or move it away"
                )


def _error(message: str, hint: str, place: Place, participant: Participant, channel: Channel) -> InputError:
    stem = ROI_STEMS[channel]
    file = place / f"{stem}.nii.gz" if isinstance(place, Path) else f"{stem} of {place.b1000.name}"
    return InputError(message, examination_id=participant.examination_id, file=file, hint=hint)
