"""From an examination as read to what the network sees: one function for training, testing and new patients."""

from __future__ import annotations

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import PreprocessingProfile
from fvv.data import Case, Finding, InPlaneGrid, PreparedCase, Severity
from fvv.errors import FvvError, MaskError
from fvv.imaging.adc import RESCALED
from fvv.imaging.brain import otsu_mask, robust_mask
from fvv.imaging.geometry import pad_or_crop, plan_grid, scale_slices, to_working_grid
from fvv.imaging.intensity import reference_voxels, same_range, signal_scale, zscore

CROP_WARNING = 0.995
"""A crop that keeps less than this share of the brain is worth a warning."""
ORDINARY_LESION = 5.0
"""z-score of an acute infarct on b1000 (simulated patients: 3.5 to 6.5)."""


def working_grid(case: Case, profile: PreprocessingProfile) -> InPlaneGrid:
    """How an examination's native grid becomes the profile's working grid."""
    return plan_grid(case.b1000, profile.grid_size, keep_left_right=profile.orientation == "as-stored")


def preprocess_case(case: Case, profile: PreprocessingProfile, grid: InPlaneGrid | None = None) -> PreparedCase:
    """Prepare one examination.

    Steps: reorient and zoom in plane; brain mask; pad or crop to the working grid; z-scores inside the mask; cut the
    stroke ROI to the brain and the FLAIR-visible ROI to the stroke.

    Args:
        case: images on one native grid; a mask, where given, is used whatever the profile's method.
        profile: the preprocessing the network was, or will be, trained with.
        grid: from `working_grid`; None: it is planned here.

    Raises:
        MaskError: no brain found, or no mask given where the profile asks for one.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> from fvv.config import PROFILES
        >>> image, mask = np.random.default_rng(0).uniform(100, 200, (64, 64, 5)), np.ones((64, 64, 5), bool)
        >>> b0, brain = (fvv.Volume(array, np.diag([4.0, 4.0, 10.0, 1.0])) for array in (image, mask))
        >>> fvv.preprocess_case(fvv.Case("noise", b0, b0, mask=brain), PROFILES["robust-v3"]).b0.shape
        (256, 256, 5)
    """
    try:
        return _preprocess(case, profile, grid or working_grid(case, profile))
    except FvvError as error:
        raise error.for_examination(case.examination_id) from error


def cut_rois(
    case: Case, brain: BoolArray, grid: InPlaneGrid
) -> tuple[BoolArray | None, BoolArray | None, list[Finding]]:
    """Stroke ROI cut to the brain and FLAIR-visible ROI cut to the stroke, on the working grid, and what that cut off.

    Where the stroke is unknown, the FLAIR-visible ROI is cut to the brain.

    Args:
        case: with its ROIs; without, None is given.
        brain: (i, j, k) bool on the working grid.
    """
    findings: list[Finding] = []
    stroke = flair_visible = None
    if case.stroke_roi is not None:
        stroke = _cut(to_working_grid(case.stroke_roi.array, grid), brain, "stroke ROI", "the brain mask", findings)
    if case.flair_visible_roi is not None:
        visible = to_working_grid(case.flair_visible_roi.array, grid)
        within, bound = (brain, "the brain mask") if stroke is None else (stroke, "the stroke ROI")
        flair_visible = _cut(visible, within, "FLAIR-visible ROI", bound, findings)
    if stroke is not None and not stroke.any():
        findings.append(Finding("empty-roi", "the stroke ROI is empty: taken as no lesion", Severity.NOTE))
    return stroke, flair_visible, findings


def _preprocess(case: Case, profile: PreprocessingProfile, grid: InPlaneGrid) -> PreparedCase:
    findings = [Finding("reader-note", note, Severity.NOTE) for note in case.notes]
    findings += [Finding("reader-warning", warning, Severity.WARNING) for warning in case.warnings]
    if same_range(case.b0.array, case.b1000.array):
        findings.append(
            Finding(RESCALED, "b0 and b1000 have the same intensity range: each was rescaled separately", Severity.NOTE)
        )
    b0 = scale_slices(case.b0.array, grid)
    b1000 = scale_slices(case.b1000.array, grid)

    whole_brain, within = _masks(case, b0, b1000, grid, profile)
    if profile.outlier_robust_zscore and grid.scale != 1.0:
        scale = signal_scale(b1000, _reference(b1000, within, profile))
        if case.b1000.array.max() > scale.signal(profile.clip):
            b1000 = _zoom_without_glare(case.b1000.array, scale.signal(ORDINARY_LESION), grid)
            whole_brain, within = _masks(case, b0, b1000, grid, profile)
    brain, within, b0, b1000 = (pad_or_crop(part, profile.grid_size) for part in (whole_brain, within, b0, b1000))
    kept = brain.sum() / whole_brain.sum()
    if kept < CROP_WARNING:
        message = f"the 256 x 256 grid cuts brain away: {kept:.1%} of the mask is kept"
        findings.append(Finding("brain-cut", message, Severity.WARNING))

    reference = _reference(b1000, within, profile)
    b0_scale, b1000_scale = signal_scale(b0, reference), signal_scale(b1000, reference)
    stroke, flair_visible, cut = cut_rois(case, brain, grid)
    return PreparedCase(
        examination_id=case.examination_id,
        b0=zscore(b0, b0_scale, clip=profile.clip, dtype=profile.zscore_dtype),
        b1000=zscore(b1000, b1000_scale, clip=profile.clip, dtype=profile.zscore_dtype),
        brain=brain,
        stroke=stroke,
        flair_visible=flair_visible,
        grid=grid,
        findings=(*findings, *cut),
        b0_scale=b0_scale,
        b1000_scale=b1000_scale,
    )


def _zoom_without_glare(image: FloatArray, level: float, grid: InPlaneGrid) -> FloatArray:
    """Zoom a lesion brighter than any z-score tells apart so that it ends where a lesion of ordinary brightness does.

    Interpolated, an edge reaches the farther into the tissue the brighter the lesion is. So only what is under the
    level is interpolated; what is over it stays with its own voxel.
    """
    excess = np.maximum(image - level, 0.0)
    return np.asarray(scale_slices(image - excess, grid) + scale_slices(excess, grid, order=0))


def _masks(
    case: Case, b0: FloatArray, b1000: FloatArray, grid: InPlaneGrid, profile: PreprocessingProfile
) -> tuple[BoolArray, BoolArray]:
    """The brain, and the mask that the z-scores' scale is taken from, on the scaled, not yet cropped grid."""
    brain = _brain_mask(case, b0, b1000, grid, profile)
    if profile.scale_mask == "brain" or (case.mask is None and profile.mask_method == "robust"):
        return brain, brain
    return brain, robust_mask(b0, b1000)


def _reference(b1000: FloatArray, within: BoolArray, profile: PreprocessingProfile) -> BoolArray:
    return reference_voxels(b1000, within, outlier_robust=profile.outlier_robust_zscore)


def _brain_mask(
    case: Case, b0: FloatArray, b1000: FloatArray, grid: InPlaneGrid, profile: PreprocessingProfile
) -> BoolArray:
    """Brain mask on the scaled, not yet cropped grid; never empty."""
    if case.mask is not None:
        mask = scale_slices(case.mask.array, grid)
    elif profile.mask_method == "otsu":
        mask = otsu_mask(b0, b1000)
    elif profile.mask_method == "robust":
        mask = robust_mask(b0, b1000)
    else:
        raise MaskError("no brain mask file", hint="add mask.nii.gz, or choose --mask-method robust")
    if not mask.any():
        raise MaskError(
            "the brain mask is empty: nothing can be measured", hint="give a mask file, or another --mask-method"
        )
    return np.asarray(mask)


def _cut(roi: BoolArray, within: BoolArray, name: str, bound: str, findings: list[Finding]) -> BoolArray:
    outside = int((roi & ~within).sum())
    if outside:
        message = f"{outside} of {int(roi.sum())} voxels of the {name} lay outside {bound} and were cut"
        findings.append(Finding("roi-cut", message, Severity.NOTE))
    return np.asarray(roi & within)
