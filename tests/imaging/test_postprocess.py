from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from fvv.config import DecisionConfig, PostprocessConfig
from fvv.data import DecisionState, Finding, FusedSegmentation, InPlaneGrid, PreparedCase, Severity, SignalScale
from fvv.errors import InputError
from fvv.imaging.adc import RESCALED
from fvv.imaging.decision import decide
from fvv.imaging.fusion import fuse_folds
from fvv.imaging.postprocess import (
    believable_stroke,
    believable_visible,
    in_words,
    mirrored,
    remaining_stroke,
    without_small_components,
)

SHAPE = (32, 32, 6)
VOXEL_MM3 = 2.0 * 2.0 * 5.0
BRAIN = np.zeros(SHAPE, dtype=bool)
BRAIN[4:28, 4:28] = True


@pytest.fixture
def stroke(rng: np.random.Generator) -> np.ndarray:
    """Two lesions and crumbs."""
    mask = rng.random(SHAPE) > 0.995
    mask[8:12, 10:20] = mask[18:22, 10:20] = True
    return mask & BRAIN


@pytest.mark.parametrize("minimum_mm3", [0.0, 100.0, 1e6])
def test_nothing_is_added_and_twice_is_once(stroke: np.ndarray, minimum_mm3: float) -> None:
    once = without_small_components(stroke, minimum_mm3, VOXEL_MM3)
    assert not (once & ~stroke).any()
    np.testing.assert_array_equal(without_small_components(once, minimum_mm3, VOXEL_MM3), once)
    assert (once == stroke).all() == (minimum_mm3 == 0)
    assert not without_small_components(np.zeros_like(stroke), minimum_mm3, VOXEL_MM3).any()


def test_components_are_judged_one_by_one_and_corners_join() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:4, 2:4, 2] = True  # four voxels
    mask[4, 4, 3] = True  # a fifth, at a corner
    mask[20:22, 20:22, 2] = True  # four
    kept = without_small_components(mask, 5 * VOXEL_MM3, VOXEL_MM3)
    assert kept.sum() == 5
    assert kept[4, 4, 3]
    assert without_small_components(mask, 4 * VOXEL_MM3, VOXEL_MM3).sum() == 9


def test_fvv_is_counted_in_the_stroke_that_is_left(stroke: np.ndarray) -> None:
    masks = np.stack([np.stack([BRAIN, stroke, stroke]), np.stack([BRAIN, stroke, np.zeros_like(stroke)])])
    fused = fuse_folds(masks, lambda stroke, _: (without_small_components(stroke, 500.0, VOXEL_MM3), ()))
    n = int(fused.stroke.sum())
    assert 0 < n < stroke.sum()
    assert fused.flair_visible_voxels_per_model == (n, 0)
    assert fused.flair_visible_voxels == n / 2
    assert not fused.flair_visible_votes[~fused.stroke].any()


RULE = PostprocessConfig(
    minimum_core_mm3=40, core_logit=3, maximum_relative_adc=0.9, minimum_mirror_drop=0.05, certain_logit=4,
    certain_core_mm3=200, late_core_mm3=1000, late_contrast=1.5,
)  # fmt: skip
B0, DROP = 500.0, 0.8
"""Signal of tissue on b0, and its ln(b0/b1000)."""
HEAD = (64, 64, 6)
TISSUE = np.zeros(HEAD, dtype=bool)
TISSUE[8:56, 6:58] = True
HERE = (slice(14, 22), slice(20, 30), slice(2, 4))
"""160 voxels of 20 mm3 on one side."""
THERE = (slice(42, 50), *HERE[1:])
"""The same on the other side: the brain's columns are 8 to 55."""
BOTH_SIDES = ((slice(9, 27), slice(15, 35), slice(0, 6)), (slice(37, 55), slice(15, 35), slice(0, 6)))
"""Tissue around both: the mirrored side is blurred, and what is small there vanishes."""


def head_with(*lesions: tuple[tuple[slice, ...], float, float], rescaled: bool = False) -> PreparedCase:
    """A head; each lesion is a place, its ADC and its b0 as multiples of those of tissue."""
    b0, drop = np.where(TISSUE, B0, 20.0), np.full(HEAD, DROP)
    for place, adc, brightness in lesions:
        drop[place] *= adc
        b0[place] *= brightness
    signals = {"b0": b0, "b1000": b0 * np.exp(-drop)}
    scales = {f"{name}_scale": SignalScale(float(signal[TISSUE].mean()), 60.0) for name, signal in signals.items()}
    images = {name: (signal - scales[f"{name}_scale"].mean) / 60 for name, signal in signals.items()}
    grid = InPlaneGrid(HEAD, np.diag([2.0, 2.0, 5.0, 1.0]), ((0, 1), (1, 1), (2, 1)), 1.0, 64)
    said = (Finding(RESCALED, "each was rescaled separately", Severity.NOTE),) if rescaled else ()
    return PreparedCase("p", brain=TISSUE, grid=grid, findings=said, **images, **scales)  # type: ignore[arg-type]


def at(*places: tuple[slice, ...]) -> np.ndarray:
    mask = np.zeros(HEAD, dtype=bool)
    for place in places:
        mask[place] = True
    return mask


def logits_of(stroke: np.ndarray, core: float, n_core: int) -> np.ndarray:
    """1 in the stroke, `core` in the first so many voxels of it, -5 elsewhere."""
    logits = np.where(stroke, 1.0, -5.0).astype(np.float32)
    logits[tuple(axis[:n_core] for axis in np.nonzero(stroke))] = core
    return logits


@pytest.mark.parametrize(
    ("adc", "brightness", "both_sides", "core", "n_core", "stays", "doubt"),
    [
        (0.6, 1.0, False, 4.5, 10, True, ""),
        (0.6, 1.0, False, 3.5, 10, True, "hardly sure"),
        (0.6, 1.0, False, 3.5, 2, True, "hardly sure"),  # a core of exactly 40 mm3
        (0.6, 1.0, False, 3.5, 1, False, ""),
        (0.6, 1.0, False, 2.9, 160, False, ""),
        (0.95, 1.0, False, 4.5, 10, False, ""),
        (1.0, 1.0, False, 4.5, 49, False, ""),
        (0.6, 1.0, True, 4.5, 9, False, ""),  # as low on the other side
        (0.6, 1.0, True, 4.5, 10, True, "mirrored side"),  # a certain core of exactly 200 mm3
        (1.0, 2.0, False, 4.5, 50, True, "not low"),  # a late infarct: 1000 mm3 of certain core
        (1.3, 2.5, False, 4.5, 160, True, "not low"),
        (1.0, 2.0, False, 4.5, 49, False, ""),
        (1.0, 2.0, True, 4.5, 160, False, ""),  # bright on both sides
        (1.0, 1.2, False, 4.5, 160, False, ""),  # hardly brighter
    ],
)
def test_a_component_needs_evidence_of_its_own(
    adc: float, brightness: float, both_sides: bool, core: float, n_core: int, stays: bool, doubt: str
) -> None:
    lesions = [(place, adc, brightness) for place in (BOTH_SIDES if both_sides else (HERE,))]
    stroke = at(HERE)
    kept, findings = believable_stroke(
        stroke, TISSUE, logits_of(stroke, core, n_core), case=head_with(*lesions), config=RULE
    )
    np.testing.assert_array_equal(kept, stroke if stays else np.zeros_like(stroke))
    if not stays:
        (said,) = findings
        assert (said.code, said.severity) == ("weak-evidence-removed", Severity.NOTE)
        assert "1 of 1 component (3.20 of 3.20 mL)" in said.message
        assert "nothing is left" in said.message
    elif doubt:
        (said,) = findings
        assert (said.code, said.severity) == ("doubtful-lesion", Severity.WARNING)
        assert said.message.startswith("reported lesion has weak evidence: 1 of 1 component (3.20 of 3.20 mL): ")
        assert doubt in said.message
    else:
        assert findings == ()


def test_components_are_judged_one_by_one_and_what_is_removed_is_counted() -> None:
    stroke = at(HERE, THERE)
    logits = logits_of(stroke, 5.0, 320)
    case = head_with((HERE, 0.6, 1.0))
    kept, findings = believable_stroke(stroke, TISSUE, logits, case=case, config=RULE)
    np.testing.assert_array_equal(kept, at(HERE))
    (said,) = findings
    assert said.message == "removed from the stroke for too little evidence: 1 of 2 components (3.20 of 6.40 mL)"


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_whole_components_go_and_twice_is_once(seed: int, rescaled: bool) -> None:
    rng = np.random.default_rng(seed)
    places = [(slice(x, x + 5), slice(y, y + 5), slice(1, 4)) for x in (10, 20, 36, 46) for y in (10, 22, 34, 46)]
    lesions = [(place, rng.uniform(0.5, 1.2), rng.uniform(0.8, 2.5)) for place in places[1:]]
    case, stroke = head_with((places[0], 0.3, 1.0), *lesions, rescaled=rescaled), at(*places)
    logits = rng.normal(0.0, 0.5, HEAD)
    for place, certainty in zip(places, [7.0, -1.0, *rng.uniform(0, 7, len(places) - 2)], strict=True):
        logits[place] += certainty
    kept, _ = believable_stroke(stroke, TISSUE, logits, case=case, config=RULE)
    satellites = RULE.model_copy(update={"satellite_core_mm3": 1.0})
    more, _ = believable_stroke(stroke, TISSUE, logits, case=case, config=satellites)
    np.testing.assert_array_equal(more, stroke)  # The first component is certain.
    assert not (kept & ~stroke).any()
    labels, n = ndimage.label(stroke, structure=np.ones((3, 3, 3)))
    whole = [bool(kept[labels == label].all()) for label in range(1, n + 1)]
    assert n == len(places)
    assert 0 < sum(whole) < n
    assert kept.sum() == sum(int((labels == label).sum()) for label, stays in enumerate(whole, 1) if stays)
    again, findings = believable_stroke(kept, TISSUE, logits, case=case, config=RULE)
    np.testing.assert_array_equal(again, kept)
    assert "weak-evidence-removed" not in [one.code for one in findings]


@pytest.mark.parametrize("stroke", [at(HERE), at()], ids=["stroke", "none"])
def test_an_examination_whose_scales_are_not_known_is_not_judged(stroke: np.ndarray) -> None:
    case, logits = replace(head_with((HERE, 0.6, 1.0)), b0_scale=None), logits_of(stroke, 4.5, 160)
    with pytest.raises(InputError, match="patient p: prepared without the scale of its signals"):
        remaining_stroke(stroke, TISSUE, mean_logit=logits, case=case, config=RULE)
    found, _ = remaining_stroke(stroke, TISSUE, mean_logit=None, case=case, config=RULE)
    np.testing.assert_array_equal(found, stroke)


@pytest.mark.parametrize("gain", [0.3, 1.0, 6.0])
@pytest.mark.parametrize(
    ("place", "adc", "core", "n_core"),
    [
        (HERE, 0.6, 4.5, 2),  # acute
        (HERE, 0.6, 4.5, 1),  # no core
        (HERE, 0.85, 3.5, 160),  # hardly sure
        (HERE, 0.99, 4.5, 8),  # ADC not low
        (BOTH_SIDES[0], 0.6, 3.5, 160),  # the same on the mirrored side
    ],
)
def test_a_gain_of_b1000_alone_changes_no_verdict(
    place: tuple[slice, ...], adc: float, core: float, n_core: int, gain: float
) -> None:
    stroke, lesions = at(HERE), [(place, adc, 1.0)] + ([(BOTH_SIDES[1], adc, 1.0)] if place is not HERE else [])
    case = head_with(*lesions)
    gained = replace(case, b1000_scale=SignalScale(gain * case.b1000_scale.mean, gain * case.b1000_scale.deviation))
    (kept, said), (expected, usual) = (
        believable_stroke(stroke, TISSUE, logits_of(stroke, core, n_core), case=one, config=RULE)
        for one in (gained, case)
    )
    np.testing.assert_array_equal(kept, expected)
    assert [one for one in said if one.code != "evidence-without-adc"] == list(usual)
    assert (len(said) > len(usual)) == (gain != 1)


@pytest.mark.parametrize(
    ("asked", "core", "n_core", "stays"),
    [
        (None, 4.5, 160, False),  # off
        (1000.0, 4.5, 50, True),  # a certain core of exactly 1000 mm3 beside it
        (1000.0, 4.5, 49, False),
        (1000.0, 3.9, 160, False),  # sure, but not certain
    ],
)
def test_a_component_beside_a_certain_stroke_needs_no_evidence(
    asked: float | None, core: float, n_core: int, stays: bool
) -> None:
    stroke, config = at(HERE, THERE), RULE.model_copy(update={"satellite_core_mm3": asked})
    logits = logits_of(at(HERE), core, n_core)
    logits[THERE] = 1.0
    kept, findings = believable_stroke(stroke, TISSUE, logits, case=head_with((HERE, 0.6, 1.0)), config=config)
    np.testing.assert_array_equal(kept, stroke if stays else at(HERE))
    found = {one.code: (one.severity, one.message) for one in findings}
    assert ("weak-evidence-removed" in found) == (not stays)
    said = "kept beside a certain stroke, with too little evidence of their own: 1 of 2 components (3.20 of 6.40 mL)"
    assert found.get("satellites-kept") == ((Severity.NOTE, said) if stays else None)
    assert "doubtful-lesion" not in found or core < 4


def test_a_large_core_without_evidence_keeps_no_other_component() -> None:
    """Bright tissue of normal ADC on both sides of a healthy head is no reason to believe more of it."""
    stroke, config = at(HERE, THERE), RULE.model_copy(update={"satellite_core_mm3": 1000.0})
    kept, findings = believable_stroke(stroke, TISSUE, logits_of(stroke, 4.5, 320), case=head_with(), config=config)
    assert not kept.any()
    assert [one.code for one in findings] == ["weak-evidence-removed"]


def test_the_rule_in_words_names_every_kind_of_evidence() -> None:
    rule = PostprocessConfig(
        minimum_core_mm3=3, core_logit=2, maximum_relative_adc=0.88, minimum_mirror_drop=0.1, certain_core_mm3=60,
        late_core_mm3=300,
    )  # fmt: skip
    acute, late, no_adc = in_words(rule).split("; ")
    assert no_adc == "where b0 and b1000 have different intensity scales, with the brain's median ADC taken as normal"
    certain = "at least 60 mm³ with a mean logit over 4"
    assert acute == (
        "at least 3 mm³ with a mean logit over 2, a median ADC under 0.88 of the brain's, at least 0.1 lower than on "
        f"the mirrored side (or {certain})"
    )
    assert late == (
        "or at least 300 mm³ with a mean logit over 4, brighter on b1000 than the mirrored side by a z-score of at "
        "least 1.5"
    )
    satellites = in_words(rule.model_copy(update={"satellite_core_mm3": 1000.0})).split("; ")[-1]
    assert satellites == (
        "or, without evidence of its own, another component that has it and at least 1000 mm³ with a mean logit over 4"
    )


def test_rules_that_are_off_ask_for_nothing() -> None:
    assert not PostprocessConfig(minimum_lesion_mm3=30, maximum_relative_adc=0.9).asks_for_evidence
    assert in_words(PostprocessConfig(minimum_lesion_mm3=30)) == ""
    assert in_words(PostprocessConfig(minimum_core_mm3=40)) == "at least 40 mm³ with a mean logit over 3"
    logits_alone = PostprocessConfig(minimum_core_mm3=40)
    stroke = at(HERE, THERE)
    case = head_with(rescaled=True)  # No ADC is asked for, so none is missed.
    kept, findings = believable_stroke(stroke, TISSUE, logits_of(stroke, 3.5, 2), case=case, config=logits_alone)
    np.testing.assert_array_equal(kept, at(HERE))
    assert [one.code for one in findings] == ["weak-evidence-removed", "doubtful-lesion"]


def test_nothing_found_is_nothing_said() -> None:
    nothing = np.zeros(HEAD, dtype=bool)
    kept, findings = believable_stroke(nothing, TISSUE, np.zeros(HEAD), case=head_with(rescaled=True), config=RULE)
    assert not kept.any()
    assert findings == ()


def test_where_all_was_removed_no_lesion_is_found_and_the_answer_says_why() -> None:
    stroke = at(HERE)
    kept, findings = believable_stroke(stroke, TISSUE, logits_of(stroke, 1.0, 0), case=head_with(), config=RULE)
    fused = FusedSegmentation(3, TISSUE, kept, np.zeros(HEAD, dtype=np.uint8), 0.0, (0, 0, 0), findings)
    decision = decide(fused, 0.02, (), DecisionConfig())
    assert decision.state is DecisionState.NO_LESION_FOUND
    assert [reason.code for reason in decision.reasons] == ["no-lesion", "weak-evidence-removed"]


TWO = (slice(10, 15), slice(10, 14), slice(3, 4)), (slice(40, 50), slice(10, 20), slice(3, 5))
"""Two components, of 20 and of 200 voxels of 0.02 mL."""


def visible_part(
    stroke: np.ndarray, votes: np.ndarray, n_models: int, share: float,
    *lesions: tuple[tuple[slice, ...], float, float], rescaled: bool = False,
) -> tuple[np.ndarray, tuple[Finding, ...]]:  # fmt: skip
    config = PostprocessConfig(minimum_visible_share=share, maximum_relative_adc=0.9 if lesions else None)
    case = head_with(*lesions, rescaled=rescaled)
    return believable_visible(stroke, TISSUE, votes, n_models, case=case, config=config)


@pytest.mark.parametrize(("share", "counts"), [(0.0, (20, 200)), (0.15, (20, 200)), (0.16, (20, 0)), (0.6, (0, 0))])
def test_the_visible_part_of_a_component_counts_from_a_share_on(share: float, counts: tuple[int, int]) -> None:
    stroke, votes = at(*TWO), np.zeros(HEAD, dtype=np.uint8)
    votes[10:15, 10:12, 3] = 2  # 10 of 20 voxels, to two of three models.
    votes[40:43, 10:20, 3] = 3  # 30 of 200, exactly 15 %,
    votes[43:50, 10:20, 4] = 1  # and 70 more to one model, which is no half.
    counted, findings = visible_part(stroke, votes, 3, share)
    assert tuple(int(counted[place].sum()) for place in TWO) == counts
    if counts == (20, 200):
        assert findings == ()
        return
    (said,) = findings
    n, volume_ml = (1, "1.07") if counts[0] else (2, "1.20")  # (30 * 3 + 70) / 3 voxels, and 10 * 2 / 3 more.
    less = f"less than {100 * share:g}% of the component, in {n} of 2 components"
    message = f"{volume_ml} mL not counted as FLAIR-visible: {less}"
    assert said == Finding("visible-part-removed", message, Severity.WARNING)  # Over 0.5 mL: the answer may rest on it.
    once = np.where(counted, votes, 0).astype(np.uint8)
    again, nothing = visible_part(stroke, once, 3, share)
    np.testing.assert_array_equal(np.where(again, once, 0), once)
    assert nothing == ()


def test_a_small_visible_part_that_does_not_count_is_a_note() -> None:
    votes = np.zeros(HEAD, dtype=np.uint8)
    votes[10:12, 10, 3] = 1  # One model of two is half of them.
    stroke = at(*TWO)
    (said,) = visible_part(stroke, votes, 2, 0.125)[1]
    assert (said.message, said.severity) == (
        "0.02 mL not counted as FLAIR-visible: less than 12.5% of the component, in 1 of 2 components",
        Severity.NOTE,
    )
    assert visible_part(stroke, votes, 2, 0.1)[1] == ()


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize(("adc", "counts"), [(0.6, 0), (1.0, 200)])
def test_the_visible_part_of_a_late_stroke_counts_however_small(adc: float, rescaled: bool, counts: int) -> None:
    """Its ADC is about normal again, be it measured or assumed."""
    stroke, votes = at(TWO[1]), np.zeros(HEAD, dtype=np.uint8)
    votes[40:41, 10:20, 3] = 3
    counted, findings = visible_part(stroke, votes, 3, 0.15, (TWO[1], adc, 1.0), rescaled=rescaled)
    assert counted.sum() == counts
    assert [one.code for one in findings] == ([] if counts else ["visible-part-removed"])


def test_what_is_not_visible_at_all_is_not_mentioned() -> None:
    votes = np.zeros(HEAD, dtype=np.uint8)
    counted, findings = visible_part(at(*TWO), votes, 3, 0.5)
    np.testing.assert_array_equal(counted, at(*TWO))
    assert findings == ()


def test_the_mirror_stands_in_the_middle_of_the_brain() -> None:
    volume = at(HERE).astype(float)
    other = mirrored(volume, TISSUE)
    assert other[THERE].mean() > 0.3 > other[HERE].max()
    np.testing.assert_allclose(other, mirrored(at(THERE).astype(float), TISSUE)[63::-1], atol=1e-9)
    aside = TISSUE & (np.arange(64) < 28)[:, None, None]  # Its middle is column 17.5: from 36 on, nothing is opposite.
    assert np.isnan(mirrored(volume, aside)[36:]).all()
    assert np.isfinite(mirrored(volume, aside)[:36]).all()
