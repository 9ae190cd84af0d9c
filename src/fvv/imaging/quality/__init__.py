"""What may make a number untrustworthy, each with a code, a sentence and a severity.

To add a check: write a generator that takes a `NativeView` and yields a `Finding` where something is wrong, its limits
as documented constants beside it, in the module of what it looks at; name it in `CHECKS`; add its code to
docs/explanation/quality.md, which also says how far clean examinations lie from the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from fvv.data import Finding
from fvv.errors import ConfigError
from fvv.imaging.adc import NO_COMMON_GAIN, RESCALED
from fvv.imaging.quality import alignment, contrast, masks, shape, signal, stack, usual
from fvv.imaging.quality.view import NativeView
from fvv.system.extension import extension

_THREADS = 2
"""Checks that run side by side (chosen here): NumPy and SciPy share the processor while they sort and filter."""
Check = Callable[[NativeView], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (
    signal.missing_numbers,
    signal.grey_levels,
    signal.noise,
    masks.brain_volume,
    masks.mask_on_lesion,
    masks.brain_at_edge,
    shape.size_and_axes,
    stack.number_of_slices,
    stack.slice_spacing,
    stack.blank_slices,
    stack.cut_ends,
    stack.repeated_slices,
    stack.motion,
    contrast.stated_b_value,
    contrast.unstated_b_value,
    contrast.kind_of_image,
    alignment.displacement,
    contrast.common_gain,
    usual.unlike_training,
    masks.roi_places,
    masks.roi_brightness,
)
"""Every check, in the order in which findings are listed."""
TOPICS: Mapping[str, frozenset[str]] = {
    "signal and noise": frozenset({"not-finite", "intensity-range", "spike", "noise"}),
    "brain mask": frozenset({"no-brain-mask", "brain-volume", "mask-on-lesion", "brain-at-edge", "brain-cut"}),
    "size of the head": frozenset({"brain-size", "head-axes"}),
    "slices": frozenset(
        {"few-slices", "slice-axis", "slice-gap", "missing-slices", "brain-cut-by-slices", "repeated-slices"}
    ),
    "motion": frozenset({"motion", "signal-dropout"}),
    "b-value": frozenset({"b-value", "b-value-unstated"}),
    "kind of image": frozenset({"same-image", "uniform", "swapped", "b1000-is-adc", "b1000-is-flair"}),
    "b0 aligned with b1000": frozenset({"misaligned"}),
    "common intensity scale": frozenset({NO_COMMON_GAIN, RESCALED}),
    "similar to the training images": frozenset({"unlike-training"}),
}
"""What the checks look at, in words for readers, with the codes of their findings; checks of ROIs are left out."""


def topics_passed(findings: Iterable[Finding]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Topics of which no check found anything, and those of which one did; both in the order of `TOPICS`."""
    codes = {finding.code for finding in findings}
    passed = tuple(topic for topic, of_topic in TOPICS.items() if not codes & of_topic)
    return passed, tuple(topic for topic in TOPICS if topic not in passed)


def assess_quality(view: NativeView, own: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Everything there is to say about an examination, and about its ROIs if it has some, before it is believed.

    Args:
        own: names of the user's own checks, "package.module:name".

    Returns:
        The findings of preparation, then those of `CHECKS` and of the user's own.

    Raises:
        ConfigError: a name stands for no check, or a check yields something other than findings.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        of_checks = threads.map(lambda check: tuple(check(view)), CHECKS)
        found = [*view.prepared.findings, *chain.from_iterable(of_checks)]
    for name in own:
        mine = list(extension(name, "quality check")(view))
        if any(not isinstance(finding, Finding) for finding in mine):
            raise ConfigError(f"quality check {name}: expected findings, got {mine!r:.100}")
        found += mine
    return tuple(found)
