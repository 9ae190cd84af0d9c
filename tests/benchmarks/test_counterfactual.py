"""The counterfactual heads, and the tables made of their answers."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("sklearn")

from builders import case_of, head
from fvv.analysis.statistics import Bootstrap
from fvv.data import Case, DecisionState

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "counterfactual.py"
BOOTSTRAP = Bootstrap(20, np.random.default_rng(0))


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def case(rng: np.random.Generator) -> Case:
    return case_of(head(rng))


def test_healthy_b0_leaves_the_adc_and_all_outside_the_stroke(script: dict[str, Any], case: Case) -> None:
    changed = script["with_healthy_b0"](case)
    stroke = case.stroke_roi.array
    ratio, before = (one.b1000.array[stroke] / one.b0.array[stroke] for one in (changed, case))
    np.testing.assert_allclose(ratio, before, rtol=1e-9)
    # The rim is graded over about one voxel.
    far = ~np.asarray(np.pad(stroke, 3))
    for shift in np.ndindex(7, 7, 7):
        far &= ~np.roll(np.pad(stroke, 3), np.array(shift) - 3, (0, 1, 2))
    away = far[3:-3, 3:-3, 3:-3]
    np.testing.assert_array_equal(changed.b0.array[away], case.b0.array[away])
    np.testing.assert_array_equal(changed.b1000.array[away], case.b1000.array[away])
    mirror = case.b0.array[~stroke & case.mask.array]
    assert abs(np.median(changed.b0.array[stroke]) - np.median(mirror)) < 0.5 * np.std(mirror)


def test_a_head_stored_in_another_way_lies_where_it_lay(script: dict[str, Any], case: Case) -> None:
    stored = script["stored_as"](case, (2, 0, 1), (1, -1, 1))
    for one in (case, stored):
        place = np.argwhere(one.stroke_roi.array).mean(axis=0)
        np.testing.assert_allclose(
            nib.affines.apply_affine(one.b0.affine, place),
            nib.affines.apply_affine(case.b0.affine, np.argwhere(case.stroke_roi.array).mean(axis=0)),
        )
    assert nib.aff2axcodes(stored.b0.affine) != nib.aff2axcodes(case.b0.affine)


def answer(script: dict[str, Any], name: str, group: str = "as it is", **changes: Any) -> Any:
    usual = {"reference_ml": 80.0, "predicted_ml": 80.0, "fvv_ml": 0.0, "found": True, "mismatch": True, "attempt": 0}
    usual["decision"] = DecisionState.MISMATCH_LIKELY.value
    return script["Answer"](name, group, **(usual | changes))


def test_only_the_same_strokes_are_twins(script: dict[str, Any]) -> None:
    answers = [answer(script, "a"), answer(script, "b"), answer(script, "a", "T2 unchanged")]
    answers.append(answer(script, "b", "T2 unchanged", attempt=1))
    assert [one.name for one in script["same_strokes"](answers)] == ["a"]


def test_strokes_that_are_not_assessable_are_in_no_share(script: dict[str, Any]) -> None:
    answers = [answer(script, "a"), answer(script, "b", fvv_ml=3.0, decision="mismatch unlikely")]
    answers.append(answer(script, "c", fvv_ml=None, predicted_ml=None, decision="not assessable", found=None))
    rows = {row.size: row for row in script["unchanged_by_size"](answers, BOOTSTRAP)}
    large = rows["70 mL or more"]
    assert (large.strokes, large.fvv_low.successes, large.likely.successes) == (2, 1, 1)
    assert large.fvv_largest_ml == 3.0
    assert rows["under 10 mL"].strokes == 0


def test_an_answer_that_is_size_alone_says_nothing_within_a_size(script: dict[str, Any]) -> None:
    """FVV = volume: AUC is that of the volume, and a half within groups in which the label does not follow size."""
    volumes = [1.0, 2.0, 2.0, 1.0, 100.0, 200.0, 200.0, 100.0, 110.0]
    labels = [True, True, True, False, False, False, True, False, False]
    answers = [
        answer(script, str(n), reference_ml=ml, predicted_ml=ml, fvv_ml=ml, mismatch=label)
        for n, (ml, label) in enumerate(zip(volumes, labels, strict=True))
    ]
    rows = {row.size: row for row in script["auc_by_size"](answers, BOOTSTRAP)}
    assert rows["all"].fvv == rows["all"].reference == rows["all"].predicted
    assert rows["all"].fvv.value > 0.6
    assert rows["70 mL or more"].fvv.value < 0.5
    assert (rows["all"].mismatch, rows["all"].no_mismatch) == (4, 5)


def test_one_way_not_assessable_is_no_small_difference(script: dict[str, Any]) -> None:
    apart = script["largest_difference_ml"]
    assert apart([answer(script, "a"), answer(script, "a", fvv_ml=0.25)]) == 0.25
    assert np.isnan(apart([answer(script, "a"), answer(script, "a", fvv_ml=None, predicted_ml=None)]))


def test_the_report_is_json_without_nan(script: dict[str, Any]) -> None:
    cohort = [answer(script, "a"), answer(script, "a", "T2 unchanged")]
    lines, content = script["report"]({"simulated": cohort, "real": cohort, "stored": cohort})
    assert json.loads(json.dumps(content, allow_nan=False))["t2_unchanged"][0]["strokes"] == 1
    assert any("70 mL or more" in line for line in lines)
