"""What is taken out of a fused stroke. A rule judges whole components; applied twice it changes nothing more.

`believable_stroke` asks each component for evidence of its own. It stays if one of these holds:

* acute: its median ADC is low against the brain's, lower than on the mirrored side (or the models are certain of a
  larger core), and the models are sure of a core;
* late: the models are certain of a large core, and it is clearly brighter on b1000 than the mirrored side. About a week
  after onset the ADC of an infarct is normal again while it is still bright (Lansberg et al., AJNR 2001; 22: 637-644);
* satellite: another component stays by one of these, and the models are certain of a large core of it.

Where b0 and b1000 have different scales, components are judged by an ADC that is computed as if the brain's median were
normal, ln(b0/b1000) = 0.85.

`believable_visible` leaves the stroke as it is and asks its FLAIR-visible part for a share of each component: single
voxels of a large stroke that is not visible add up to more than the cut-off of the FVV.
"""

from __future__ import annotations

from enum import Enum, auto

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray, UInt8Array
from fvv.config import DecisionConfig, PostprocessConfig
from fvv.data import Finding, PreparedCase, Severity
from fvv.imaging.adc import relative_adc, signal_scales
from fvv.imaging.brain import bounding_box
from fvv.imaging.fusion import visible_to_half
from fvv.imaging.geometry import reflected

_TOUCHING = np.ones((3, 3, 3))
"""Voxels that touch by a corner are of one component."""
PUBLISHED_CUTOFF_ML = DecisionConfig().cutoff_ml
"""Of the FVV."""
_MIRROR_BLUR = (3.0, 3.0, 0.5)
"""Voxels of the working grid: no head is so symmetric that single voxels could be compared."""
_MIRROR_REACH = (12, 12, 2)
"""Voxels: four standard deviations, where SciPy ends the Gaussian."""


class _Verdict(Enum):
    """What becomes of a component."""

    STAYS = auto()
    HARDLY_SURE = auto()
    SYMMETRIC = auto()
    LATE = auto()
    SATELLITE = auto()
    REMOVED = auto()


_DOUBTS = {
    _Verdict.HARDLY_SURE: "the models are hardly sure",
    _Verdict.SYMMETRIC: "its ADC is not lower than on the mirrored side",
    _Verdict.LATE: "its ADC is not low",
}
"""Why a component that stays is doubtful."""
_ASSUMED_ADC = (
    "b0 and b1000 have different intensity scales: the stroke was judged as if the brain's median ADC were normal"
)


def remaining_stroke(
    stroke: BoolArray,
    brain: BoolArray,
    *,
    mean_logit: FloatArray | None,
    case: PreparedCase,
    config: PostprocessConfig,
) -> tuple[BoolArray, tuple[Finding, ...]]:
    """What post-processing leaves of a fused stroke, and what is to be said of it; arguments of `believable_stroke`.

    `mean_logit` is None where no evidence is asked for.

    Raises:
        InputError: evidence is asked for, and the case was prepared without the scale of its signals.
    """
    stroke = without_small_components(stroke, config.minimum_lesion_mm3, 1000 * case.voxel_volume_ml)
    if mean_logit is None:
        return stroke, ()
    if _asks_for_adc(config):
        signal_scales(case)  # Also where no stroke is predicted: a cohort must not fail at its strokes alone.
    return believable_stroke(stroke, brain, mean_logit, case=case, config=config)


def without_small_components(mask: BoolArray, minimum_mm3: float, voxel_mm3: float) -> BoolArray:
    """The components of a mask that are no smaller than a volume; voxels that touch by a corner belong together."""
    if not minimum_mm3:
        return mask
    box = bounding_box(mask)
    labels, _ = ndimage.label(mask[box], structure=_TOUCHING)
    kept = np.bincount(labels.ravel()) * voxel_mm3 >= _just_under(minimum_mm3)
    kept[0] = False
    return _with_part(mask, box, kept[labels])


def _with_part(like: BoolArray, box: tuple[slice, ...], part: BoolArray) -> BoolArray:
    """A mask of the shape of another that is a part in a box, and False elsewhere."""
    mask = np.zeros_like(like)
    mask[box] = part
    return mask


def _just_under(limit: float) -> float:
    """A billionth of tolerance: exactly the limit is enough, whatever the rounding of voxels times volume or share."""
    return limit * (1 - 1e-9)


def believable_stroke(
    stroke: BoolArray, brain: BoolArray, mean_logit: FloatArray, *, case: PreparedCase, config: PostprocessConfig
) -> tuple[BoolArray, tuple[Finding, ...]]:
    """The components of a stroke that have evidence of their own.

    Args:
        stroke: (i, j, k) bool, inside the brain.
        brain: (i, j, k) bool, fused.
        mean_logit: (i, j, k) stroke logit, mean over the models.
        case: the examination.
        config: what counts as evidence.

    Returns:
        (i, j, k) bool, and what was removed, was judged by an assumption, or is doubtful.

    Raises:
        InputError: the ADC is asked for, and the case was prepared without the scale of its signals.
    """
    around = bounding_box(stroke)
    labels, n = ndimage.label(stroke[around], structure=_TOUCHING)
    if not n:
        return stroke, ()
    clues = _Clues(case, brain, mean_logit, config)
    components = []
    for label, part in enumerate(ndimage.find_objects(labels), start=1):
        box = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(around, part, strict=True))
        components.append((labels[part] == label, box))
    verdicts = [clues.verdict(*component) for component in components]
    if any(clues.has_satellites(*component, verdict) for component, verdict in zip(components, verdicts, strict=True)):
        verdicts = [_Verdict.SATELLITE if verdict is _Verdict.REMOVED else verdict for verdict in verdicts]
    kept = np.array([False, *(verdict is not _Verdict.REMOVED for verdict in verdicts)])
    volumes_ml = np.bincount(labels.ravel())[1:] * case.voxel_volume_ml
    findings = _findings(verdicts, volumes_ml)
    if clues.adc_is_assumed:
        findings.append(Finding("evidence-without-adc", _ASSUMED_ADC, Severity.WARNING))
    return _with_part(stroke, around, kept[labels]), tuple(findings)


def believable_visible(
    stroke: BoolArray,
    brain: BoolArray,
    votes: UInt8Array,
    n_models: int,
    *,
    case: PreparedCase,
    config: PostprocessConfig,
) -> tuple[BoolArray, tuple[Finding, ...]]:
    """The components of a stroke whose FLAIR-visible part counts.

    It counts in a component if it is large enough, or if the component's ADC is about normal again: such a stroke is
    late, and visible on FLAIR.

    Args:
        stroke: (i, j, k) bool.
        brain: (i, j, k) bool, fused.
        votes: (i, j, k) uint8, models that call a voxel FLAIR-visible; 0 outside the stroke.
        n_models: how many were asked.
        case: the examination.
        config: the share of a component's voxels that must be FLAIR-visible to at least half of the models, and the ADC
            that is no longer low.

    Returns:
        (i, j, k) bool, and how much does not count: a warning where this alone would reach the published cut-off of the
        FVV, for then the answer may rest on it.

    Raises:
        InputError: the ADC is asked for, and the case was prepared without the scale of its signals.
    """
    share = config.minimum_visible_share
    if not share or not votes.any():
        return stroke, ()
    box = bounding_box(stroke)
    labels, n = ndimage.label(stroke[box], structure=_TOUCHING)
    sizes, visible, voted = (
        np.bincount(labels.ravel(), weights, minlength=n + 1)
        for weights in (None, visible_to_half(votes[box], n_models).ravel(), votes[box].ravel())
    )
    dropped = (visible < _just_under(share) * sizes) & (voted > 0)
    highest = config.maximum_relative_adc
    if highest is not None and dropped.any():
        adc, _ = relative_adc(case, brain)
        for label in np.flatnonzero(dropped):
            dropped[label] = not _median(adc[box][labels == label]) >= highest
    if not dropped.any():
        return stroke, ()
    volume_ml = float(voted[dropped].sum()) / n_models * case.voxel_volume_ml
    message = (
        f"{volume_ml:.2f} mL not counted as FLAIR-visible: less than {100 * share:g}% of the component, in "
        f"{np.count_nonzero(dropped)} of {n} component{'' if n == 1 else 's'}"
    )
    severity = Severity.WARNING if volume_ml >= PUBLISHED_CUTOFF_ML else Severity.NOTE
    counted = _with_part(stroke, box, (labels > 0) & ~dropped[labels])
    return counted, (Finding("visible-part-removed", message, severity),)


def _asks_for_adc(config: PostprocessConfig) -> bool:
    return config.maximum_relative_adc is not None or config.minimum_mirror_drop is not None


class _Clues:
    """What components are judged by; each volume is computed when a component first needs it."""

    def __init__(self, case: PreparedCase, brain: BoolArray, mean_logit: FloatArray, config: PostprocessConfig) -> None:
        self._case, self._brain, self._logit, self._config = case, brain, mean_logit, config
        self._adc: FloatArray = np.empty(0)
        self.adc_is_assumed = False
        if _asks_for_adc(config):
            self._adc, self.adc_is_assumed = relative_adc(case, brain)
        self._mirrored_adc: FloatArray | None = None
        self._brighter: FloatArray | None = None

    def verdict(self, inside: BoolArray, box: tuple[slice, ...]) -> _Verdict:
        """Whether the component inside a box has evidence of its own, and what speaks against it all the same."""
        config = self._config
        sure = self._core_mm3(inside, box, config.core_logit) >= _just_under(config.minimum_core_mm3)
        certain_mm3 = self._core_mm3(inside, box, config.certain_logit)
        certain = certain_mm3 >= _just_under(config.certain_core_mm3)
        surely = certain_mm3 >= _just_under(config.minimum_core_mm3)
        clear = _Verdict.STAYS if surely else _Verdict.HARDLY_SURE
        if sure and self._low_adc(box, inside):
            if self._lower_than_mirrored(box, inside):
                return clear
            if config.certain_core_mm3 and certain:
                return _Verdict.SYMMETRIC
        late = config.late_core_mm3 is not None and certain_mm3 >= _just_under(config.late_core_mm3)
        if late and self._contrast(box, inside) >= config.late_contrast:
            return _Verdict.LATE
        return _Verdict.REMOVED

    def has_satellites(self, inside: BoolArray, box: tuple[slice, ...], verdict: _Verdict) -> bool:
        """Whether a component has evidence, and is so certain that others need none."""
        least = self._config.satellite_core_mm3
        if least is None or verdict is _Verdict.REMOVED:
            return False
        return self._core_mm3(inside, box, self._config.certain_logit) >= _just_under(least)

    def _core_mm3(self, inside: BoolArray, box: tuple[slice, ...], logit: float) -> float:
        over = np.count_nonzero(self._logit[box][inside] > logit)
        return float(over * (1000 * self._case.voxel_volume_ml))

    def _low_adc(self, box: tuple[slice, ...], inside: BoolArray) -> bool:
        highest = self._config.maximum_relative_adc
        return highest is None or _median(self._adc[box][inside]) < highest

    def _lower_than_mirrored(self, box: tuple[slice, ...], inside: BoolArray) -> bool:
        least = self._config.minimum_mirror_drop
        if least is None:
            return True
        if self._mirrored_adc is None:
            # Where the other side holds no brain, as if it held usual tissue.
            self._mirrored_adc = mirrored(np.nan_to_num(self._adc, nan=1.0), self._brain)
        return _median((self._mirrored_adc[box] - self._adc[box])[inside]) >= least

    def _contrast(self, box: tuple[slice, ...], inside: BoolArray) -> float:
        if self._brighter is None:
            b1000 = self._case.b1000.astype(np.float32)
            self._brighter = ndimage.gaussian_filter(b1000, _MIRROR_BLUR) - mirrored(b1000, self._brain)
        return _median(self._brighter[box][inside])


def mirrored(volume: FloatArray, brain: BoolArray) -> FloatArray:
    """A volume blurred and reflected at the middle of the brain's extent along the first axis, left to right.

    Args:
        volume: (i, j, k), finite.
        brain: (i, j, k) bool, not empty.

    Returns:
        (i, j, k), right within the box of the brain; NaN where the other side lies outside the grid or far from it.
    """
    box = bounding_box(brain, _MIRROR_REACH)
    blurred = np.full_like(volume, np.nan)
    blurred[box] = ndimage.gaussian_filter(volume[box], _MIRROR_BLUR)
    return reflected(blurred, brain, outside=np.nan)


def _median(values: FloatArray) -> float:
    """Of what was measured; NaN, of which every comparison is false, where nothing was."""
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")


def _findings(verdicts: list[_Verdict], volumes_ml: FloatArray) -> list[Finding]:
    def those(*wanted: _Verdict) -> BoolArray:
        return np.array([verdict in wanted for verdict in verdicts])

    removed, satellites, doubtful = those(_Verdict.REMOVED), those(_Verdict.SATELLITE), those(*_DOUBTS)
    found = []
    if removed.any():
        left = "; nothing is left of the stroke" if removed.all() else ""
        what = f"removed from the stroke for too little evidence: {_components(removed, volumes_ml)}{left}"
        found.append(Finding("weak-evidence-removed", what, Severity.NOTE))
    if satellites.any():
        which = _components(satellites, volumes_ml)
        message = f"kept beside a certain stroke, with too little evidence of their own: {which}"
        found.append(Finding("satellites-kept", message, Severity.NOTE))
    if doubtful.any():
        why = ", ".join(dict.fromkeys(_DOUBTS[verdict] for verdict in verdicts if verdict in _DOUBTS))
        which = _components(doubtful[~removed], volumes_ml[~removed])
        message = f"reported lesion has weak evidence: {which}: {why}"
        found.append(Finding("doubtful-lesion", message, Severity.WARNING))
    return found


def _components(which: BoolArray, volumes_ml: FloatArray) -> str:
    n, volume_ml = np.count_nonzero(which), float(volumes_ml[which].sum())
    return (
        f"{n} of {len(which)} component{'' if len(which) == 1 else 's'} ({volume_ml:.2f} of {volumes_ml.sum():.2f} mL)"
    )


def in_words(config: PostprocessConfig) -> str:
    """The evidence rule: what an acute stroke, a late one and a satellite need; "" where the rule is off."""
    if not config.asks_for_evidence:
        return ""
    acute = [_core_in_words(config.minimum_core_mm3, config.core_logit)]
    if config.maximum_relative_adc is not None:
        acute.append(f"a median ADC under {config.maximum_relative_adc:g} of the brain's")
    if config.minimum_mirror_drop is not None:
        lower = f"at least {config.minimum_mirror_drop:g} lower than on the mirrored side"
        certain = _core_in_words(config.certain_core_mm3, config.certain_logit)
        acute.append(f"{lower} (or {certain})" if config.certain_core_mm3 else lower)
    kinds = [", ".join(acute)]
    if config.late_core_mm3 is not None:
        late = _core_in_words(config.late_core_mm3, config.certain_logit)
        kinds.append(
            f"or {late}, brighter on b1000 than the mirrored side by a z-score of at least {config.late_contrast:g}"
        )
    if _asks_for_adc(config):
        kinds.append("where b0 and b1000 have different intensity scales, with the brain's median ADC taken as normal")
    if config.satellite_core_mm3 is not None:
        certain = _core_in_words(config.satellite_core_mm3, config.certain_logit)
        kinds.append(f"or, without evidence of its own, another component that has it and {certain}")
    return "; ".join(kinds)


def _core_in_words(volume_mm3: float, logit: float) -> str:
    return f"at least {volume_mm3:g} mm³ with a mean logit over {logit:g}"
