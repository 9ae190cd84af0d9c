from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest
from dipy.segment.mask import median_otsu as dipy_median_otsu
from scipy.ndimage import median_filter

from fvv.imaging.brain import median_otsu
from fvv.imaging.median import _median_of, median_3x3x3


@pytest.mark.parametrize("shape", [(20, 17, 9), (5, 4, 1), (1, 6, 3), (2, 2, 2)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_equals_the_general_filter(rng: np.random.Generator, shape: tuple[int, int, int], dtype: type) -> None:
    for volume in (rng.normal(scale=1000, size=shape).astype(dtype), rng.integers(0, 4, shape).astype(dtype)):
        expected = volume
        for passes in range(1, 4):
            expected = median_filter(expected, 3)
            found = median_3x3x3(volume, passes)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == dtype


def test_the_network_finds_the_median_of_all_zeros_and_ones() -> None:
    """By the 0-1 principle it then finds that of any numbers, whatever their order and however many are equal."""
    # Sorted both ways, the zeros of a column's 3 x 3 values form stairs: no row holds more of them than the row before.
    stairs = [zeros for zeros in product(range(4), repeat=3) if sorted(zeros, reverse=True) == list(zeros)]
    columns = [[int(b >= zeros[a]) for a in range(3) for b in range(3)] for zeros in stairs]
    ways = np.array(list(product(columns, repeat=3)))  # (8000, column, place in it)
    values = list(np.moveaxis(ways, 0, 2).swapaxes(0, 1).reshape(27, -1))
    np.testing.assert_array_equal(_median_of(values), ways.sum(axis=(1, 2)) >= 14)


def test_large_and_negative_values_are_kept_exactly(rng: np.random.Generator) -> None:
    volume = rng.integers(-(2**40), 2**40, (6, 6, 6)).astype(np.float64)
    np.testing.assert_array_equal(median_3x3x3(volume), median_filter(volume, 3))


def test_the_mask_is_dipys(rng: np.random.Generator) -> None:
    """Between two blobs of tissue in noise, the thresholded medians are those of dipy's median_otsu to the voxel."""
    volume = rng.normal(20, 8, (40, 40, 10))
    volume[8:30, 8:30, 2:8] += 300
    volume[12:20, 12:20, 3:6] += 500
    _, expected = dipy_median_otsu(volume, median_radius=1, numpass=4)
    assert expected.any()
    np.testing.assert_array_equal(median_otsu(volume), expected)


@pytest.mark.parametrize("slices", [3, 4])
def test_few_slices_are_no_colours(slices: int) -> None:
    volume = np.zeros((24, 24, slices))
    volume[6:18, 6:18] = 100.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert median_otsu(volume)[12, 12].all()
