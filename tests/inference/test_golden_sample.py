from __future__ import annotations

import numpy as np
import pytest

from fvv.config import PROFILES
from fvv.inference.golden import difference, golden_input

PROFILE = PROFILES["robust-v1"]


def test_the_input_is_drawn_alike_every_time_and_holds_a_lesion() -> None:
    images = golden_input(PROFILE)
    assert images.shape == (2, 11, 256, 256)
    assert images.dtype == np.float16
    np.testing.assert_array_equal(images, golden_input(PROFILE))
    assert (images[0, 5] > 2).sum() > 500


@pytest.mark.parametrize(
    ("change", "fp32", "int8"),
    [(0.0, True, True), (1e-4, True, True), (5e-3, False, True), (0.1, False, False), (np.nan, False, False)],
)
def test_bounds(rng: np.random.Generator, change: float, *, fp32: bool, int8: bool) -> None:
    kept = rng.normal(size=(1, 3, 5, 64, 64)) + 3 * rng.choice([-2, 2], (1, 3, 5, 64, 64))
    found = difference(kept + change, kept)
    assert found.accepted("fp32") is fp32
    assert found.accepted("int8") is int8


def test_one_voxel_far_off_fails_float32_alone(rng: np.random.Generator) -> None:
    kept = rng.normal(size=(1, 3, 5, 64, 64))
    found = kept.copy()
    found[0, 0, 0, 0, 0] += 1
    assert not difference(found, kept).accepted("fp32")
    assert difference(found, kept).accepted("int8")


def test_one_model_of_ten_is_not_averaged_away(rng: np.random.Generator) -> None:
    kept = rng.normal(size=(10, 3, 5, 64, 64))
    found = kept.copy()
    found[4] += 0.1
    assert difference(found, kept) == difference(found[4:5], kept[4:5])
