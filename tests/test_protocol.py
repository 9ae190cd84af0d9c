"""Which volumes are b0 and b1000, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.protocol import (
    Average,
    b0_volumes,
    b1000_volumes,
    choice_note,
    is_brought_to_b1000,
    is_usual_b1000,
    shells,
    split,
)


@pytest.mark.parametrize(
    ("b_values", "indices", "others"),
    [
        ([0, 1000, 1005, 5, 2000, 995], (1, 2, 5), ""),
        ([0, 750, 1000, 1250], (2,), "750, 1250"),
        ([0, 990, 995, 1000, 1005, 1010, 700, 705], (1, 2, 3, 4, 5), "702.5"),
        ([800, 0, 1200, 1190], (2, 3), "800"),
        ([800, 1200], (0,), "1200"),
        ([0, 800], (1,), ""),
        ([0, 650], (1,), ""),
        ([0, 600, 1400], (1,), "1400"),
        ([2500, 0, 1500], (2,), "2500"),
        ([0, 2505, 2495], (1, 2), ""),
        ([0, 450, 2600], None, ""),
        ([float("nan"), 0], None, ""),
    ],
)
def test_the_shell_nearest_to_1000_alone(b_values: list[float], indices: tuple[int, ...], others: str) -> None:
    shell = b1000_volumes(b_values)
    if indices is None:
        assert shell is None
        return
    assert shell is not None
    assert shell.indices == indices
    assert shell.b_value == pytest.approx(np.mean([b_values[index] for index in indices]))
    note = choice_note(shell.b_value, [one.b_value for one in shells(b_values)])
    assert note.startswith(f"also holds b = {others} s/mm^2; only b = {shell.b_value:g}" if others else "")
    assert bool(note) is bool(others)


@pytest.mark.parametrize(
    ("b_values", "indices"),
    [([0, 1000, 5], (0, 2)), ([50, 1000], (0,)), ([0, 50, 1000, 0], (0, 3)), ([1000, 51], None)],
)
def test_the_lowest_shell_of_b0_alone(b_values: list[float], indices: tuple[int, ...] | None) -> None:
    shell = b0_volumes(b_values)
    assert (None if shell is None else shell.indices) == indices


def test_b_values_as_they_are_and_those_that_are_brought_to_1000() -> None:
    assert [is_usual_b1000(b) for b in (849, 850, 1000, 1150, 1151)] == [False, True, True, True, False]
    brought = [is_brought_to_b1000(b) for b in (None, 0, 450, 500, 849, 850, 1150, 1151, 2500, 2505, 2600, 3000)]
    assert brought == [False, False, False, True, True, False, False, True, True, True, False, False]


@pytest.mark.parametrize(("b_value", "mean"), [(0, 2.5), (50, 2.5), (1000, 2.0)])
def test_averages(b_value: float, mean: float) -> None:
    average = Average(b_value)
    image = np.full((2, 2, 1), 1.0)
    average.add(image)
    assert average.mean() is image
    average.add(np.full((2, 2, 1), 4.0))
    np.testing.assert_allclose(average.mean(), mean)
    assert (image == 1).all()


def test_split() -> None:
    assert split([], 1.0) == []
    assert split([5.0, 1.0, 2.0, 9.0, 5.5], 1.0) == [[1, 2], [0, 4], [3]]
