"""From models to a fused stroke: the evidence asked of it."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest

from builders import prepared_case
from fvv.arrays import BoolArray, FloatArray
from fvv.config import PROFILES, PostprocessConfig
from fvv.data import Channel, FusedSegmentation, PreparedCase, Severity
from fvv.recipes.segment import segment_case

RULE = PostprocessConfig(minimum_core_mm3=20, core_logit=3)


class Stub:
    """Models whose logits are given: (n, 3, i, j, k)."""

    profile = PROFILES["robust-v1"]
    provider = ""

    def __init__(self, *logits: FloatArray) -> None:
        self.logits = logits
        self.asked: list[bool] = []

    def __len__(self) -> int:
        return len(self.logits)

    def each_output(
        self, padded: FloatArray, *, stroke_logits: bool, visible_logit: float
    ) -> Generator[tuple[BoolArray, FloatArray | None]]:
        self.asked.append(stroke_logits)
        for one in self.logits:
            slices_first = np.moveaxis(one, 3, 1)
            over = np.array([0.0, 0.0, visible_logit]).reshape(3, 1, 1, 1)
            yield slices_first > over, slices_first[Channel.STROKE.value] if stroke_logits else None


@pytest.fixture
def case(rng: np.random.Generator) -> PreparedCase:
    return prepared_case(rng, slices=4, size=64)


def logits_of(case: PreparedCase, *strengths: float) -> FloatArray:
    """Brain everywhere, and strokes of 8 x 8 x 2 voxels (640 mm3) of these logits."""
    logits = np.full((3, *case.brain.shape), -5.0, dtype=np.float32)
    logits[Channel.BRAIN.value] = 5
    for number, strength in enumerate(strengths):
        logits[Channel.STROKE.value, 5 + 20 * number : 13 + 20 * number, 20:28, 1:3] = strength
    logits[Channel.FLAIR_VISIBLE.value] = logits[Channel.STROKE.value]
    return logits


def same(one: FusedSegmentation, other: FusedSegmentation) -> None:
    for name in ("brain", "stroke", "flair_visible_votes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.flair_visible_voxels_per_model == other.flair_visible_voxels_per_model
    assert one.findings == other.findings


def test_the_mean_over_the_models_counts(case: PreparedCase) -> None:
    models = Stub(logits_of(case, 5, 1), logits_of(case, 2, 9), logits_of(case, 2.5, -2))
    fused = segment_case(case, models, RULE)
    assert fused.stroke[5:13].sum() == 128  # A mean of 3.17.
    assert not fused.stroke[25:].any()  # One model is very sure, the mean is 2.67.
    assert fused.flair_visible_voxels_per_model == (128, 128, 128)
    removed, doubtful = fused.findings
    assert (removed.code, removed.severity) == ("weak-evidence-removed", Severity.NOTE)
    assert "1 of 2 components (0.64 of 1.28 mL)" in removed.message
    assert doubtful.code == "doubtful-lesion"  # No voxel has a mean over 4.
    assert "1 of 1 component (0.64 of 0.64 mL)" in doubtful.message


def test_an_interrupt_while_the_models_are_stopped_is_not_lost(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python drops what a generator raises that nobody closes."""

    class Slow(Stub):
        def each_output(
            self, padded: FloatArray, *, stroke_logits: bool, visible_logit: float
        ) -> Generator[tuple[BoolArray, FloatArray | None]]:
            try:
                yield from super().each_output(padded, stroke_logits=stroke_logits, visible_logit=visible_logit)
            except GeneratorExit:
                raise KeyboardInterrupt from None

    def fail(masks: Generator[BoolArray], *_: object) -> FusedSegmentation:
        next(masks)
        raise MemoryError

    monkeypatch.setattr("fvv.recipes.segment.fuse_folds", fail)
    with pytest.raises(KeyboardInterrupt):
        segment_case(case, Slow(logits_of(case, 5), logits_of(case, 5)))


def test_the_order_of_the_models_does_not_matter(case: PreparedCase) -> None:
    logits = [logits_of(case, *strengths) for strengths in ((5, 1), (2, 9), (2.5, 3), (4, 4))]
    same(segment_case(case, Stub(*logits), RULE), segment_case(case, Stub(*logits[::-1]), RULE))


@pytest.mark.parametrize("off", [PostprocessConfig(), PostprocessConfig(minimum_lesion_mm3=30, maximum_relative_adc=1)])
def test_where_the_rule_is_off_no_logits_are_kept_and_nothing_changes(
    case: PreparedCase, off: PostprocessConfig
) -> None:
    models = Stub(logits_of(case, 0.1, 1), logits_of(case, 0.2, 9))
    fused = segment_case(case, models, off)
    assert models.asked == [False]
    assert fused.stroke.sum() == 256
    assert fused.findings == ()
    segment_case(case, models, RULE)
    assert models.asked == [False, True]


def test_a_visible_part_that_is_small_in_its_component_counts_for_no_model(case: PreparedCase) -> None:
    logits = [logits_of(case, 5, 6) for _ in range(2)]
    for number, one in enumerate(logits):
        one[Channel.FLAIR_VISIBLE.value] = -1
        one[Channel.FLAIR_VISIBLE.value, 5:6, 20:28, 1:3] = 1  # An eighth of the first component.
        one[Channel.FLAIR_VISIBLE.value, 25 : 27 + number, 20:28, 1:3] = 1  # A quarter and more of the second.
    fused = segment_case(case, Stub(*logits), PostprocessConfig(minimum_visible_share=0.2))
    assert fused.stroke.sum() == 256  # The stroke stays whole.
    assert not fused.flair_visible_votes[5:13].any()
    assert fused.flair_visible_voxels_per_model == (32, 48)
    assert fused.flair_visible_voxels == 40
    assert [(one.code, one.severity) for one in fused.findings] == [("visible-part-removed", Severity.NOTE)]
    off = segment_case(case, Stub(*logits), PostprocessConfig())
    assert (off.flair_visible_voxels_per_model, off.findings) == ((48, 64), ())


@pytest.mark.parametrize(("limit", "visible"), [(0.0, 64), (-0.75, 96), (-1.0, 96), (-1.5, 128)])
def test_the_settings_say_over_which_logit_a_voxel_is_flair_visible(
    case: PreparedCase, limit: float, visible: int
) -> None:
    logits = logits_of(case, 5)
    logits[Channel.FLAIR_VISIBLE.value, 9:11] = -0.5
    logits[Channel.FLAIR_VISIBLE.value, 11:13] = -1.0
    fused = segment_case(case, Stub(logits), PostprocessConfig(visible_logit=limit))
    assert (int(fused.stroke.sum()), fused.flair_visible_voxels) == (128, visible)


def test_no_brain_does_not_silence_the_rule(case: PreparedCase) -> None:
    logits = logits_of(case, 1)
    logits[Channel.BRAIN.value, 8:] = -5
    fused = segment_case(case, Stub(logits), RULE)
    assert [one.code for one in fused.findings] == ["no-brain", "weak-evidence-removed"]
