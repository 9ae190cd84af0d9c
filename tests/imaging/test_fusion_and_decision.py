from __future__ import annotations

import numpy as np
import pytest

from fvv.config import DecisionConfig
from fvv.data import DecisionState, Finding, Prediction, Severity, Volume
from fvv.imaging.decision import decide, decide_again, decide_volumes, format_ml
from fvv.imaging.fusion import fuse_folds, restore_segmentation, visible_to_half
from fvv.imaging.geometry import plan_grid
from fvv.imaging.slabs import extract_slabs

SHAPE = (12, 12, 4)


def masks_of(*models: tuple[slice, slice, slice]) -> np.ndarray:
    """Per model: columns that are brain, stroke, FLAIR-visible."""
    masks = np.zeros((len(models), 3, *SHAPE), dtype=bool)
    for model, columns in enumerate(models):
        for channel, column in enumerate(columns):
            masks[model, channel, column] = True
    return masks


def test_one_model_gives_its_own_masks_cut_to_each_other() -> None:
    fused = fuse_folds(masks_of((slice(0, 8), slice(6, 10), slice(4, 7))))
    assert fused.brain.sum() == 8 * 48
    assert fused.stroke.sum() == 2 * 48  # columns 6, 7: inside the brain
    assert fused.flair_visible_voxels == 48  # column 6: inside the stroke
    assert fused.flair_visible_votes.max() == 1


def test_an_answer_says_of_how_many_models_it_is() -> None:
    fused = fuse_folds(masks_of(*[(slice(0, 8), slice(6, 10), slice(4, 7))] * 3))
    assert fused.n_models == 3
    assert fused.flair_visible_votes.dtype == np.uint8


def test_brain_is_what_half_of_the_models_call_brain() -> None:
    everywhere, nothing, left = slice(0, 12), slice(0, 0), slice(0, 5)
    assert fuse_folds(masks_of((left, left, left), (nothing, left, left))).brain.sum() == 5 * 48
    one_of_three = [(everywhere, left, left)] + [(nothing, left, left)] * 2
    assert fuse_folds(masks_of(*one_of_three)).brain.sum() == 0
    two_of_five = [(everywhere, left, left)] * 2 + [(nothing, left, left)] * 3
    assert fuse_folds(masks_of(*two_of_five)).brain.sum() == 0
    all_of_two = [(left, left, left)] * 2
    assert fuse_folds(masks_of(*all_of_two)).brain.sum() == 5 * 48


def test_half_of_the_models_is_enough() -> None:
    brain, stroke = slice(0, 12), slice(0, 2)
    two_of_four = [(brain, stroke, stroke)] * 2 + [(brain, slice(0, 0), slice(0, 0))] * 2
    assert fuse_folds(masks_of(*two_of_four)).stroke.sum() == 2 * 48
    one_of_three = [(brain, stroke, stroke)] + [(brain, slice(0, 0), slice(0, 0))] * 2
    assert fuse_folds(masks_of(*one_of_three)).stroke.sum() == 0


def test_fvv_is_the_mean_over_models_inside_the_fused_stroke() -> None:
    fused = fuse_folds(
        masks_of(
            (slice(0, 12), slice(0, 4), slice(0, 4)),
            (slice(0, 12), slice(0, 4), slice(2, 8)),
            (slice(0, 12), slice(0, 4), slice(0, 0)),
        )
    )
    assert fused.flair_visible_voxels_per_model == (4 * 48, 2 * 48, 0)
    assert fused.flair_visible_voxels == 2 * 48
    assert fused.flair_visible_votes.sum() == 6 * 48


@pytest.mark.parametrize(("n_models", "fewest"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (200, 100)])
def test_visible_is_what_half_of_the_models_and_at_least_one_see(n_models: int, fewest: int) -> None:
    votes = np.arange(n_models + 1, dtype=np.uint8)[:, None, None]
    np.testing.assert_array_equal(visible_to_half(votes, n_models), votes >= fewest)
    assert visible_to_half(votes, n_models).dtype == bool


def test_models_may_come_one_at_a_time() -> None:
    masks = masks_of((slice(0, 8), slice(6, 10), slice(4, 7)), (slice(0, 9), slice(5, 9), slice(5, 9)))
    at_once, one_by_one = fuse_folds(masks), fuse_folds(mask for mask in masks)
    np.testing.assert_array_equal(at_once.flair_visible_votes, one_by_one.flair_visible_votes)
    assert at_once.flair_visible_voxels_per_model == one_by_one.flair_visible_voxels_per_model == (2 * 48, 4 * 48)


def test_each_models_brain_is_its_largest_piece() -> None:
    masks = masks_of((slice(0, 5), slice(0, 12), slice(0, 0)))
    masks[0, 0, 8:10] = True  # a smaller piece
    fused = fuse_folds(masks)
    assert fused.brain.sum() == 5 * 48
    assert fused.stroke.sum() == 5 * 48


def test_model_order_does_not_matter(rng: np.random.Generator) -> None:
    masks = rng.random((5, 3, *SHAPE)) > 0.4
    one, other = fuse_folds(masks), fuse_folds(masks[::-1])
    np.testing.assert_array_equal(one.stroke, other.stroke)
    np.testing.assert_array_equal(one.flair_visible_votes, other.flair_visible_votes)
    assert one.flair_visible_voxels == other.flair_visible_voxels


def decide_on(fused_masks: np.ndarray | None, *findings: Finding, minimum_ml: float = 0.0) -> DecisionState:
    fused = None if fused_masks is None else fuse_folds(fused_masks)
    return decide(fused, 0.01, findings, DecisionConfig(cutoff_ml=0.5, minimum_lesion_ml=minimum_ml)).state


BRAIN = slice(0, 12)


def test_the_four_answers() -> None:
    assert decide_on(masks_of((BRAIN, slice(0, 2), slice(0, 1)))) is DecisionState.MISMATCH_LIKELY  # 0.48 mL
    assert decide_on(masks_of((BRAIN, slice(0, 2), slice(0, 2)))) is DecisionState.MISMATCH_UNLIKELY  # 0.96 mL
    assert decide_on(masks_of((BRAIN, slice(0, 0), slice(0, 0)))) is DecisionState.NO_LESION_FOUND
    assert decide_on(None) is DecisionState.NOT_ASSESSABLE


def test_no_brain_found_is_never_an_answer_about_the_lesion() -> None:
    assert decide_on(masks_of((slice(0, 0), slice(0, 2), slice(0, 2)))) is DecisionState.NOT_ASSESSABLE


def test_a_grave_finding_wins_and_a_warning_does_not() -> None:
    seen = masks_of((BRAIN, slice(0, 2), slice(0, 2)))
    assert decide_on(seen, Finding("x", "x", Severity.NOT_ASSESSABLE)) is DecisionState.NOT_ASSESSABLE
    assert decide_on(seen, Finding("x", "x", Severity.WARNING)) is DecisionState.MISMATCH_UNLIKELY


def test_a_lesion_under_the_smallest_volume_is_none() -> None:
    seen = masks_of((BRAIN, slice(0, 2), slice(0, 2)))
    assert decide_on(seen, minimum_ml=1.0) is DecisionState.NO_LESION_FOUND


CUTOFF = DecisionConfig(cutoff_ml=0.5, minimum_lesion_ml=0.2)


@pytest.mark.parametrize(
    ("stroke_ml", "fvv_ml", "state", "code", "message"),
    [
        (0.2, 0.0, DecisionState.NO_LESION_FOUND, "no-lesion", "stroke volume 0.200 mL is not over 0.2 mL"),
        (0.21, 0.0, DecisionState.MISMATCH_LIKELY, "fvv-under-cutoff", "FVV 0.000 mL is under 0.5 mL"),
        (9.0, 0.499, DecisionState.MISMATCH_LIKELY, "fvv-under-cutoff", "FVV 0.499 mL is under 0.5 mL"),
        (9.0, 0.5, DecisionState.MISMATCH_UNLIKELY, "fvv-over-cutoff", "FVV 0.500 mL is not under 0.5 mL"),
    ],
)
def test_on_the_cutoff_and_beside_it(
    stroke_ml: float, fvv_ml: float, state: DecisionState, code: str, message: str
) -> None:
    warning = Finding("motion", "it moved", Severity.WARNING)
    decision = decide_volumes(stroke_ml, fvv_ml, (), [warning], CUTOFF)
    assert (decision.state, decision.cutoff_ml) == (state, 0.5)
    assert decision.reasons == (Finding(code, message, Severity.NOTE), warning)


@pytest.mark.parametrize(
    ("per_model", "agreeing"),
    [((0.9,), 0), ((0.4, 0.5), 1), ((0.1, 0.2, 0.9), None), ((0.1, 0.9, 0.5, 0.6), 1), ((0.1,) * 3, None)],
)
def test_the_reader_is_warned_where_under_two_thirds_of_the_models_agree(
    per_model: tuple[float, ...], agreeing: int | None
) -> None:
    _, *warned = decide_volumes(9.0, 0.4, per_model, [], CUTOFF).reasons
    message = (
        f"within the stroke they mark together, the FVV of only {agreeing} of {len(per_model)} models "
        "lies on this side of the cut-off"
    )
    assert warned == ([] if agreeing is None else [Finding("models-disagree", message, Severity.WARNING)])


def test_agreement_is_within_the_fused_stroke_and_not_of_models_alone() -> None:
    """Two of four models mark no stroke; what they mark FLAIR-visible counts in that of the others."""
    everywhere, lesion, nothing = slice(0, 12), slice(0, 2), slice(0, 0)
    masks = masks_of(*[(everywhere, lesion, lesion)] * 2, *[(everywhere, nothing, lesion)] * 2)
    assert fuse_folds(masks).flair_visible_voxels_per_model == (96,) * 4
    assert [fuse_folds([mask]).flair_visible_voxels for mask in masks] == [96, 96, 0, 0]
    assert [reason.code for reason in decide(fuse_folds(masks), 0.01, (), CUTOFF).reasons] == ["fvv-over-cutoff"]


def test_a_model_on_the_cutoff_agrees_with_the_answer_over_it() -> None:
    assert len(decide_volumes(9.0, 0.5, (0.5, 0.6), [], CUTOFF).reasons) == 1


def test_models_are_asked_in_ml() -> None:
    seen = masks_of((BRAIN, slice(0, 2), slice(0, 2)), (BRAIN, slice(0, 2), slice(0, 0)))  # 0.96 and 0 mL
    fused = fuse_folds(seen)
    both = decide(fused, 0.01, (), DecisionConfig(cutoff_ml=0.47, minimum_lesion_ml=0.0)).reasons
    assert [reason.code for reason in both] == ["fvv-over-cutoff", "models-disagree"]
    one = decide(fused, 0.01, (), DecisionConfig(cutoff_ml=1.0, minimum_lesion_ml=0.0)).reasons
    assert [reason.code for reason in one] == ["fvv-under-cutoff"]


def test_what_cannot_be_assessed_keeps_its_reasons_and_its_cutoff() -> None:
    moved = Finding("motion", "it moved", Severity.WARNING)
    fused = fuse_folds(masks_of((slice(0, 0), slice(0, 2), slice(0, 2))))
    decision = decide(fused, 0.01, [moved], CUTOFF)
    no_brain = Finding("no-brain", "the models found no brain", Severity.NOT_ASSESSABLE)
    assert decision.reasons == (moved, no_brain)
    assert decision.cutoff_ml == 0.5


@pytest.mark.parametrize("cutoff_ml", [0.1, 0.5, 2.0])
def test_deciding_again_is_deciding_at_the_other_cutoff(cutoff_ml: float) -> None:
    moved = Finding("motion", "it moved", Severity.WARNING)
    other = CUTOFF.model_copy(update={"cutoff_ml": cutoff_ml})
    for stroke, fvv, per_model in ((0, 0.0, (0.0, 0.0)), (900, 50.0, (30.0, 70.0)), (900, 5.0, (0.0, 10.0))):
        volumes = (stroke * 0.01, fvv * 0.01, tuple(voxels * 0.01 for voxels in per_model))
        first = decide_volumes(*volumes, [moved], CUTOFF)
        done = Prediction("p", first, 2, 0.01, 9900, stroke, fvv, fvv_per_model_ml=volumes[2])
        assert decide_again(done, other) == decide_volumes(*volumes, [moved], other)


@pytest.mark.parametrize("measured", [(None, None), (900, None), (None, 50.0)])
def test_deciding_again_measures_nothing(measured: tuple[int | None, float | None]) -> None:
    first = decide(None, 0.01, [Finding("no-b0", "no b0", Severity.NOT_ASSESSABLE)], CUTOFF)
    again = decide_again(Prediction("p", first, 2, 0.01, 99, *measured), CUTOFF.model_copy(update={"cutoff_ml": 3.0}))
    assert (again.state, again.cutoff_ml, again.reasons) == (DecisionState.NOT_ASSESSABLE, 3.0, first.reasons)


@pytest.mark.parametrize("context", [1, 3])
def test_slabs_hold_each_slice_in_its_middle(rng: np.random.Generator, context: int) -> None:
    padded = rng.random((2, 9 + 2 * context, 4, 4))
    slabs = extract_slabs(padded, 2, 7, context)
    assert slabs.shape == (5, 2, 2 * context + 1, 4, 4)
    for index, k in enumerate(range(2, 7)):
        np.testing.assert_array_equal(slabs[index, :, context], padded[:, k + context])


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        (None, "not measured"),
        (0.0, "0.000 mL"),
        (0.0001, "0.0001 mL"),
        (0.499, "0.499 mL"),
        (0.49996, "0.49996 mL"),
        (0.5, "0.500 mL"),
        (2.345, "2.35 mL"),
        (61.25, "61.2 mL"),
        (1510, "1510 mL"),
    ],
)
def test_volumes_for_people(volume: float | None, text: str) -> None:
    assert format_ml(volume, 0.5) == text


def test_a_volume_just_under_the_cutoff_is_not_said_to_be_the_cutoff() -> None:
    decision = decide_volumes(3.0, 0.4996, (), (), DecisionConfig())
    assert decision.reasons[0].message == "FVV 0.4996 mL is under 0.5 mL"


@pytest.mark.parametrize("edge", [192, 300, 512])
def test_no_vote_lies_outside_the_stroke_on_the_native_grid(edge: int) -> None:
    """Votes are interpolated linearly, the stroke is not: what spills over its edge is no vote."""
    grid = plan_grid(Volume(np.zeros((edge, edge, 3)), np.diag([0.5, 0.5, 5.0, 1.0])))
    x, y, _ = np.ogrid[:256, :256, :3]
    disc = np.broadcast_to((x - 120) ** 2 + (y - 130) ** 2 < 20**2, (256, 256, 3))
    brain = np.broadcast_to((x - 128) ** 2 + (y - 128) ** 2 < 90**2, (256, 256, 3))
    fused = fuse_folds([np.stack([brain, disc, disc])] * 3)
    brain, stroke, votes = restore_segmentation(fused, grid)
    assert votes[stroke].max() == 3
    assert not votes[~stroke].any()
    assert not (stroke & ~brain).any()
    assert (brain.dtype, stroke.dtype, votes.dtype) == (bool, bool, np.uint8)
