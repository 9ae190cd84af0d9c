"""Comparisons give the package's own numbers, and an error where there is no answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fvv
from fvv.analysis.metrics import segmentation_metrics
from fvv.errors import GeometryError, StatisticsError

SPACING = (1.0, 1.0, 5.0)


@pytest.fixture
def masks(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    reference, predicted = rng.random((2, 12, 12, 6)) > 0.8
    return reference, predicted


def test_masks_are_compared_as_the_evaluation_does(masks: tuple[np.ndarray, np.ndarray]) -> None:
    found = fvv.compare_masks(*masks, SPACING)
    wanted = segmentation_metrics(*masks, SPACING)
    assert {name: getattr(found, name) for name in type(wanted).model_fields} == wanted.model_dump()
    assert found.reference_ml == pytest.approx(masks[0].sum() * 0.005)
    assert found.predicted_ml == pytest.approx(masks[1].sum() * 0.005)
    assert sum(size for size, _ in found.lesions) == pytest.approx(found.reference_ml)


def test_the_kind_of_mask_does_not_matter(masks: tuple[np.ndarray, np.ndarray]) -> None:
    wanted = fvv.compare_masks(*masks, SPACING)
    affine = np.diag([*SPACING, 1.0])
    assert fvv.compare_masks(masks[0].astype(float), masks[1].astype(np.uint8), SPACING) == wanted
    volumes = [fvv.Volume(mask.astype(np.int16), affine) for mask in masks]
    assert fvv.compare_masks(*volumes) == wanted
    assert fvv.compare_masks(masks[0], volumes[1]) == wanted


def test_identical_and_empty_masks(masks: tuple[np.ndarray, np.ndarray]) -> None:
    same = fvv.compare_masks(masks[0], masks[0], SPACING)
    assert (same.dice_coefficient, same.hausdorff_distance_95_mm, same.lesions_false_positive) == (1, 0, 0)
    nothing = np.zeros_like(masks[0])
    assert math.isnan(fvv.compare_masks(nothing, nothing, SPACING).dice_coefficient)


def test_masks_that_cannot_be_compared(masks: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = masks
    with pytest.raises(GeometryError, match="spacing_mm"):
        fvv.compare_masks(one, other)
    with pytest.raises(GeometryError, match="one shape"):
        fvv.compare_masks(one, other[1:], SPACING)
    with pytest.raises(GeometryError, match="predicted: expected a bool mask"):
        fvv.compare_masks(one, other * 0.5, SPACING)
    with pytest.raises(GeometryError, match="0 mm"):
        fvv.compare_masks(one, other, (1.0, 0.0, 1.0))
    with pytest.raises(GeometryError, match="different grids"):
        fvv.compare_masks(fvv.Volume(one, np.eye(4)), fvv.Volume(other, 2 * np.eye(4)))


@pytest.fixture
def marker(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mismatch = np.arange(40) % 2 == 0
    return np.exp(rng.normal(size=40) + ~mismatch), mismatch


class TestStatistics:
    """Those of the evaluation, with checked inputs."""

    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        pytest.importorskip("statsmodels")
        pytest.importorskip("sklearn")

    def test_auc_is_that_of_the_library(self, marker: tuple[np.ndarray, np.ndarray]) -> None:
        from sklearn.metrics import roc_auc_score  # noqa: PLC0415

        volumes, mismatch = marker
        found = fvv.auc(volumes.tolist(), mismatch.astype(int).tolist())
        assert found.value == pytest.approx(roc_auc_score(mismatch, -volumes))
        assert found.low < found.value < found.high

    def test_persons_who_occur_twice_widen_the_interval(self, marker: tuple[np.ndarray, np.ndarray]) -> None:
        volumes, mismatch = (np.tile(one, 2) for one in marker)
        persons = [f"person {n}" for n in range(40)] * 2
        alone, grouped = fvv.auc(volumes, mismatch), fvv.auc(volumes, mismatch, persons=persons)
        assert grouped.value == alone.value
        assert grouped.high - grouped.low > alone.high - alone.low
        assert grouped == fvv.auc(volumes, mismatch, persons=persons)

    def test_without_error_there_is_no_interval_and_a_warning(self) -> None:
        with pytest.warns(UserWarning, match="AUC: no interval") as said:
            assert fvv.auc([0.0, 0.1, 2, 3], [1, 1, 0, 0]).value == 1
        assert said[0].filename == __file__

    def test_kappa_known_answers(self) -> None:
        # Fleiss, Levin and Paik's form: agreement 0.7, expected 0.5.
        first = ["a"] * 25 + ["b"] * 25
        second = ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15
        found = fvv.kappa(first, second)
        assert found.value == pytest.approx(0.4)
        assert found.low < 0.4 < found.high

    def test_agreement_of_a_shift(self, rng: np.random.Generator) -> None:
        first = rng.normal(10, 3, 30)
        found = fvv.agreement(first, first + rng.normal(1, 0.1, 30))
        assert found.bias.value == pytest.approx(1, abs=0.1)
        assert found.bias.low < found.bias.value < found.bias.high
        assert found.lower_limit < found.bias.value < found.upper_limit

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (([1, 2, 3], [0, 1]), "lengths differ: fvv_ml 3, mismatch 2"),
            (([1, 2, math.nan], [0, 1, 1]), "1 of 3 are not finite"),
            (([1, math.inf], [0, 1]), "not finite"),
            (([1, 2, 3], [1, 1, 1]), "all have one label"),
            (([1, 2, 3], [0, 1, 2]), "0 and 1"),
            (([1, 2, 3], [0, 1, math.nan]), "mismatch: 1 of 3"),
            ((["much", 2], [0, 1]), "expected numbers"),
            (([[1, 2]], [[0, 1]]), "shape"),
            (([], []), "no examination"),
        ],
    )
    def test_auc_refuses(self, given: tuple[list[float], list[float]], said: str) -> None:
        with pytest.raises(StatisticsError, match=said):
            fvv.auc(*given)

    def test_persons_are_counted_too(self) -> None:
        with pytest.raises(ValueError, match="persons 1"):
            fvv.auc([1, 2], [0, 1], persons=["a"])

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ((["a"], ["a", "b"]), "lengths differ"),
            ((["a", None], ["a", "b"]), "missing"),
            (([0.0, math.nan], [0.0, 1.0]), "missing"),
            ((["a", "a"], ["a", "a"]), "two categories"),
            (([], []), "no examination"),
        ],
    )
    def test_kappa_refuses(self, given: tuple[list[object], list[object]], said: str) -> None:
        with pytest.raises(StatisticsError, match=said):
            fvv.kappa(*given)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (([1, 2], [1, 2]), "three pairs"),
            (([1, 1, 1], [1, 2, 3]), "all numbers of first are 1"),
            (([1, 2, 3], [1, 2, math.inf]), "second: 1 of 3"),
            (([1, 2, 3], [1, 2]), "lengths differ"),
        ],
    )
    def test_agreement_refuses(self, given: tuple[list[float], list[float]], said: str) -> None:
        with pytest.raises(StatisticsError, match=said):
            fvv.agreement(*given)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fvv.analysis.statistics", None)
    with pytest.raises(fvv.FvvError, match=r"\.\[report\]"):
        fvv.auc([1, 2], [0, 1])
