"""Filters, labels and statistics of the page's engine are those of NumPy and SciPy, to the last bit."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from web.parity import ENGINE, NODE

pytestmark = pytest.mark.skipif(NODE is None or not ENGINE.exists(), reason="no engine: make web")

SCRIPT = """
import { readFileSync } from "node:fs";
const [arrays, intensity, median, filters, format] = await Promise.all(
  ["arrays", "intensity", "median", "ndimage", "format"].map((name) => import(`${process.argv[1]}/${name}.js`)));
const { volumes, masks, values, shares, numbers } = JSON.parse(readFileSync(0, "utf8"));
const found = { medians: [], labels: [], eroded: [], dilated: [] };
for (const { shape, data, passes } of volumes)
  found.medians.push([...median.median3x3x3({ data: Float64Array.from(data), shape }, passes).data]);
for (const { shape, data } of masks) {
  const mask = { data: Uint8Array.from(data), shape };
  found.labels.push([...filters.label(mask).data]);
  found.eroded.push([...filters.erode(mask, filters.IN_PLANE).data]);
  found.dilated.push([...filters.dilate(mask, filters.CROSS).data]);
}
found.quantiles = arrays.quantiles(Float64Array.from(values), shares);
found.halves = values.map(intensity.toFloat16);
found.written = numbers.map((one) => [0, 1, 2].map((decimals) => format.fixed(one, decimals)));
console.log(JSON.stringify(found));
"""
SHAPES = [(1, 1, 1), (1, 2, 1), (3, 1, 8), (5, 7, 9), (2, 3, 40), (9, 9, 6), (4, 5, 16)]
SHARES = [0.0, 0.05, 0.5, 0.5, 0.613, 0.95, 1.0]
RNG = np.random.default_rng(27)
# Whole numbers go through WebAssembly, up to the largest that it holds; others do not.
VOLUMES = [RNG.integers(0, high, shape) * scale for shape in SHAPES for high, scale in ((4, 1), (65536, 1), (9, 0.3))]
MASKS = [RNG.random(shape) < share for shape in SHAPES for share in (0.1, 0.3, 0.9)]
VALUES = np.concatenate([RNG.normal(0, 10.0**power, 40) for power in range(-9, 4)] + [np.array([0.0, 1.0, -15.0])])
NUMBERS = [0.5, 1.5, 2.5, -1.5, 0.125, 0.375, 2.125, 2.675, 1.005, 0.045, 12.5, 0.25, 1e-9, 0.0, 99.995, 1e6 + 0.5]
PASSES = 3
PLANE = np.ones((3, 3, 1), bool)


@pytest.fixture(scope="module")
def engine() -> dict[str, Any]:
    """What the engine makes of the arrays above."""
    assert NODE is not None
    given = {
        "volumes": [{"shape": one.shape, "data": one.ravel().tolist(), "passes": PASSES} for one in VOLUMES],
        "masks": [{"shape": one.shape, "data": one.ravel().astype(int).tolist()} for one in MASKS],
        "values": VALUES.tolist(),
        "shares": SHARES,
        "numbers": NUMBERS,
    }
    command = [NODE, "--input-type=module", "--eval", SCRIPT, str(ENGINE.parents[1] / "engine")]
    run = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_medians_are_scipys_and_repeat_the_border(engine: dict[str, Any]) -> None:
    for volume, found in zip(VOLUMES, engine["medians"], strict=True):
        expected = volume
        for _ in range(PASSES):
            expected = ndimage.median_filter(expected, size=3, mode="nearest")
        assert found == expected.ravel().tolist(), volume.shape


def test_components_are_numbered_as_scipy_does(engine: dict[str, Any]) -> None:
    for mask, found in zip(MASKS, engine["labels"], strict=True):
        assert found == ndimage.label(mask, np.ones((3, 3, 3)))[0].ravel().tolist(), mask.shape


def test_masks_shrink_and_grow_as_scipys(engine: dict[str, Any]) -> None:
    for mask, eroded, dilated in zip(MASKS, engine["eroded"], engine["dilated"], strict=True):
        assert eroded == ndimage.binary_erosion(mask, PLANE).ravel().tolist(), mask.shape
        assert dilated == ndimage.binary_dilation(mask).ravel().tolist(), mask.shape


def test_quantiles_and_halves_are_numpys(engine: dict[str, Any]) -> None:
    assert engine["quantiles"] == np.quantile(VALUES, SHARES).tolist()
    assert engine["halves"] == VALUES.astype(np.float16).astype(float).tolist()


def test_numbers_in_sentences_are_written_as_python_does(engine: dict[str, Any]) -> None:
    assert engine["written"] == [[f"{one:.{decimals}f}" for decimals in range(3)] for one in NUMBERS]
