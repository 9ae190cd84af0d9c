from __future__ import annotations

import numpy as np
import pytest

from builders import prepared_case
from fvv.arrays import FloatArray
from fvv.config import PROFILES, DecisionConfig
from fvv.data import DecisionState
from fvv.recipes.parity import Changed, Logits, compare_forms
from fvv.schemas.bundle import Parity


def marks(brain: float, stroke: float, visible: float) -> Logits:
    """A model that predicts, in each channel, where b1000 is over a threshold."""
    thresholds = np.array([brain, stroke, visible])[:, None, None, None]

    def run(padded: FloatArray) -> FloatArray:
        return np.asarray(padded[0, 3:-3] - thresholds, dtype=np.float32)

    return run


def compared(
    first: Logits, second: Logits, rng: np.random.Generator, patients: int = 1, visible_logit: float = 0.0
) -> tuple[Parity, tuple[Changed, ...]]:
    cases = (prepared_case(rng, examination_id=f"p{n}") for n in range(patients))
    profile, decision = PROFILES["robust-v3"], DecisionConfig()
    return compare_forms(first, second, cases, profile=profile, decision=decision, visible_logit=visible_logit)


def test_a_form_agrees_with_itself(rng: np.random.Generator) -> None:
    found, changed = compared(marks(-9, 1, 2), marks(-9, 1, 2), rng, patients=2)
    assert found.patients == 2
    assert found.voxels == 2 * 3 * 8 * 256 * 256
    assert (
        found.largest_logit_difference
        == found.largest_slab_difference
        == found.sign_flips
        == found.largest_fvv_difference_ml
        == 0
    )
    assert found.stroke_dice == found.lowest_stroke_dice == 1
    assert changed == ()


def test_what_differs_is_counted(rng: np.random.Generator) -> None:
    found, _ = compared(marks(-9, 1, 2), marks(-9, 1.5, 2), rng)
    assert found.largest_logit_difference == pytest.approx(0.5, abs=1e-5)
    b1000 = prepared_case(np.random.default_rng(20251123)).b1000.astype(np.float32)
    over_1, over_15 = (b1000 > 1).sum(), (b1000 > 1.5).sum()
    assert found.sign_flips == over_1 - over_15
    assert found.stroke_dice == pytest.approx(2 * over_15 / (over_1 + over_15))
    assert found.largest_fvv_difference_ml == 0  # what is over 2 lies in both strokes


def test_flair_visible_voxels_are_compared_at_the_limit_of_the_bundle(rng: np.random.Generator) -> None:
    forms = marks(-9, 1, 1.4), marks(-9, 1, 1.6)
    at_limit, _ = compared(*forms, np.random.default_rng(1), visible_logit=-0.5)
    shifted, _ = compared(marks(-9, 1, 0.9), marks(-9, 1, 1.1), np.random.default_rng(1))
    at_zero, _ = compared(*forms, np.random.default_rng(1))
    for number in ("sign_flips", "largest_fvv_difference_ml"):
        assert getattr(at_limit, number) == pytest.approx(getattr(shifted, number), rel=1e-3)
        assert getattr(at_limit, number) != pytest.approx(getattr(at_zero, number), rel=0.1)


def test_a_changed_decision_is_listed_but_not_named_in_the_bundle(rng: np.random.Generator) -> None:
    found, changed = compared(marks(-9, 1, 1), marks(-9, 1, 99), rng)
    assert changed == (("p0", DecisionState.MISMATCH_UNLIKELY, DecisionState.MISMATCH_LIKELY),)
    assert found.decisions_changed == 1
    assert "p0" not in found.model_dump_json()


def test_not_a_number_is_never_small(rng: np.random.Generator) -> None:
    assert np.isnan(compared(marks(-9, 1, 1), marks(-9, 1, float("nan")), rng)[0].largest_logit_difference)
