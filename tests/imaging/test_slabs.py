from __future__ import annotations

import numpy as np
import pytest

from fvv.imaging.slabs import extract_slabs


@pytest.mark.parametrize("context", [1, 3])
def test_slabs_hold_each_slice_in_its_middle(rng: np.random.Generator, context: int) -> None:
    padded = rng.random((2, 9 + 2 * context, 4, 4))
    slabs = extract_slabs(padded, 2, 7, context)
    assert slabs.shape == (5, 2, 2 * context + 1, 4, 4)
    for index, k in enumerate(range(2, 7)):
        np.testing.assert_array_equal(slabs[index, :, context], padded[:, k + context])
