from __future__ import annotations

import numpy as np
import pytest

from fvv.config import DecisionConfig
from fvv.data import DecisionState, Finding, Prediction, Severity
from fvv.imaging.decision import decide, decide_again, decide_volumes, format_ml
from fvv.imaging.fusion import fuse_folds
from imaging.test_fusion import masks_of


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
        f"only {agreeing} of {len(per_model)} models agree with the decision (FVV against the cut-off, "
        "within the ensemble's stroke)"
    )
    assert warned == ([] if agreeing is None else [Finding("models-disagree", message, Severity.WARNING)])


def test_agreement_is_within_the_fused_stroke_and_not_of_models_alone() -> None:
    """Two of four models predict no stroke; what they predict FLAIR-visible counts in that of the others."""
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
