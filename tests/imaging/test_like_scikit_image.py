"""The few functions that the published pipeline takes from scikit-image, against scikit-image, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.analysis.slices import _any_of_blocks
from fvv.analysis.viewer import _blocks
from fvv.imaging.brain import otsu_threshold
from fvv.imaging.geometry import resize_slice

transform = pytest.importorskip("skimage.transform")
filters = pytest.importorskip("skimage.filters")
measure = pytest.importorskip("skimage.measure")

SHAPES = [(2, 300), (25, 256), (96, 128), (128, 128), (179, 211), (240, 320), (256, 256), (320, 260), (512, 480)]
SEEDS = range(12)


def _image(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values of one of the ranges that images come in: raw, signed, 0 to 1, constant, with or without empty border."""
    kinds = (
        rng.gamma(2.0, 200.0, shape),
        rng.normal(0.0, 1000.0, shape),
        rng.random(shape),
        rng.integers(0, 4096, shape).astype(np.float64),
        np.full(shape, rng.normal()),
        rng.random(shape) * 1e-12,
    )
    image = kinds[rng.integers(len(kinds))]
    return np.where(rng.random(shape) < rng.choice([0.0, 0.5]), 0.0, image)


@pytest.mark.parametrize("seed", SEEDS)
def test_scaling_is_rescale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for shape in SHAPES:
        scale = rng.choice([256 / shape[0], 256 / shape[1], rng.uniform(0.3, 3)])
        scaled = tuple(int(np.round(length * scale)) for length in shape)
        if max(scaled) > 1200:
            continue
        image = _image(rng, shape)
        np.testing.assert_array_equal(resize_slice(image, scaled), transform.rescale(image, scale))
        nearest = transform.rescale(image, scale, order=0, anti_aliasing=False)
        np.testing.assert_array_equal(resize_slice(image, scaled, order=0), nearest)
        mask = rng.random(shape) < 0.3
        found = resize_slice(mask, scaled)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, transform.rescale(mask, scale))


@pytest.mark.parametrize("seed", SEEDS)
def test_restoring_is_resize(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    for shape in SHAPES:
        working = 256, int(rng.integers(20, 600))
        votes = rng.integers(0, 11, working).astype(np.float64)
        expected = transform.resize(votes, shape, order=1, preserve_range=True)
        np.testing.assert_array_equal(resize_slice(votes, shape), expected)
        mask = rng.random(working) < 0.3
        np.testing.assert_array_equal(resize_slice(mask, shape), transform.resize(mask, shape, order=0))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(40))
def test_threshold_is_otsus(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(200 + seed)
    for shape in ((7,), (64, 64), (40, 30, 5)):
        image = _image(rng, shape).astype(dtype)
        image[..., : shape[-1] // 2] *= rng.choice([1, 3, 30])
        assert otsu_threshold(image) == filters.threshold_otsu(image.ravel())


@pytest.mark.parametrize("seed", range(40))
def test_blocks_are_block_reduce(seed: int) -> None:
    rng = np.random.default_rng(300 + seed)
    shape = rng.integers(1, 40, 3)
    step = int(rng.integers(2, 6))
    mask = rng.random(shape) < 0.1
    np.testing.assert_array_equal(_any_of_blocks(mask, step), measure.block_reduce(mask, (step, step, 1), np.any))
    factors = [int(rng.integers(1, min(length, 5) + 1)) for length in shape]
    whole = tuple(slice(length // factor * factor) for length, factor in zip(shape, factors, strict=True))
    for array in (rng.integers(0, 256, shape).astype(np.uint8), mask, rng.random(shape)):
        expected = measure.block_reduce(array[whole], tuple(factors), np.mean, func_kwargs={"dtype": np.float32})
        np.testing.assert_array_equal(_blocks(array, factors), expected)
