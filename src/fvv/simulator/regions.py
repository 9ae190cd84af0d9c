"""Kinds of healthy brain that a label map tells apart, and how T2 and ADC of each differ from the usual.

T2 and ADC are factors against the grey and white matter of `tissue.py` (ADC 0.82 and 0.73 x 10-3 mm2/s). Those of ADC
lead to what Helenius et al. 2002 (AJNR 23:194-199) measured in 80 healthy people: 0.89 in the cortex, 0.75 in deep
grey, 0.70 in white matter; deep white matter and cerebellum are lower, as the healthy heads of
experiments/healthy_statistics.py show them. Cortex has a T2 of 95 ms at 3 T, white matter 70 ms (99 ± 7 and 69 ± 3 ms:
Stanisz et al. 2005, doi 10.1002/mrm.20605). The other factors of T2 are chosen here: nuclei with iron are darker than
cortex, tracts of densely packed fibres and limbic cortex brighter on b1000, as clinical images show them.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray, UInt8Array
from fvv.simulator import label_maps as labels
from fvv.simulator.space import smooth_noise


class Region(IntEnum):
    """What a voxel of the region map is; CSF and all outside the brain is NONE."""

    NONE = 0
    WHITE_MATTER = 1
    DEEP_WHITE_MATTER = 2
    CEREBELLAR_WHITE_MATTER = 3
    BRAINSTEM = 4
    POSTERIOR_LIMB = 5
    CORTICOSPINAL = 6
    SPLENIUM = 7
    PALLIDUM = 8
    NIGRA = 9  # with the red nucleus
    DENTATE = 10
    THALAMUS = 11
    CAUDATE = 12
    PUTAMEN = 13
    ACCUMBENS = 14
    CEREBELLAR_CORTEX = 15
    CORTEX = 16
    INSULA = 17
    CINGULATE = 18
    HIPPOCAMPUS = 19
    AMYGDALA = 20
    CHOROID_PLEXUS = 21
    BLOOD = 22


class Constants(NamedTuple):
    """Of a region: T2 and ADC over those of the usual grey or white matter, and how much of it is white matter."""

    t2: float
    adc: float
    white: float


CONSTANTS = {
    Region.NONE: Constants(1.0, 1.0, 0.0),
    Region.WHITE_MATTER: Constants(1.0, 0.98, 1.0),
    Region.DEEP_WHITE_MATTER: Constants(1.0, 0.92, 1.0),
    Region.CEREBELLAR_WHITE_MATTER: Constants(1.02, 0.91, 1.0),
    Region.BRAINSTEM: Constants(1.10, 0.97, 0.8),
    Region.POSTERIOR_LIMB: Constants(1.07, 0.91, 1.0),
    Region.CORTICOSPINAL: Constants(1.06, 0.91, 1.0),
    Region.SPLENIUM: Constants(1.05, 0.92, 1.0),
    Region.PALLIDUM: Constants(0.72, 0.97, 0.5),
    Region.NIGRA: Constants(0.72, 0.97, 0.5),
    Region.DENTATE: Constants(0.76, 0.95, 0.5),
    Region.THALAMUS: Constants(0.92, 0.95, 0.3),
    Region.CAUDATE: Constants(0.95, 0.92, 0.0),
    Region.PUTAMEN: Constants(0.90, 0.89, 0.0),
    Region.ACCUMBENS: Constants(0.95, 0.92, 0.0),
    Region.CEREBELLAR_CORTEX: Constants(0.96, 0.89, 0.0),
    Region.CORTEX: Constants(1.08, 1.06, 0.0),
    Region.INSULA: Constants(1.14, 1.03, 0.0),
    Region.CINGULATE: Constants(1.14, 1.02, 0.0),
    Region.HIPPOCAMPUS: Constants(1.15, 1.02, 0.0),
    Region.AMYGDALA: Constants(1.14, 1.0, 0.0),
    Region.CHOROID_PLEXUS: Constants(1.6, 1.6, 0.0),
    Region.BLOOD: Constants(0.7, 1.2, 0.0),
}
BETWEEN_PERSONS = Constants(0.05, 0.03, 0.0)
"""Standard deviation of a region's own factor between persons (chosen here)."""
_OF_LABELS = {
    Region.WHITE_MATTER: labels.WHITE_MATTER + labels.VENTRAL_DIENCEPHALON + labels.OTHER_TISSUE,
    Region.CEREBELLAR_WHITE_MATTER: labels.CEREBELLAR_WHITE_MATTER,
    Region.BRAINSTEM: (*labels.BRAINSTEM, labels.SPINAL_CORD),
    Region.PALLIDUM: labels.PALLIDUM,
    Region.THALAMUS: labels.THALAMUS,
    Region.CAUDATE: labels.CAUDATE,
    Region.PUTAMEN: labels.PUTAMEN,
    Region.ACCUMBENS: labels.ACCUMBENS,
    Region.CEREBELLAR_CORTEX: labels.CEREBELLAR_CORTEX,
    Region.CORTEX: labels.CORTEX,
    Region.HIPPOCAMPUS: labels.HIPPOCAMPUS,
    Region.AMYGDALA: labels.AMYGDALA,
    Region.CHOROID_PLEXUS: labels.CHOROID_PLEXUS,
    Region.BLOOD: (labels.VEINS, labels.ARTERIES),
}


def _table() -> UInt8Array:
    table = np.zeros(np.iinfo(np.int16).max + 1, dtype=np.uint8)
    table[labels.FIRST_PARCEL :] = Region.CORTEX
    for region, numbers in _OF_LABELS.items():
        table[list(numbers)] = region
    return table


REGION_OF_LABEL = _table()
"""Region of each number of a label map; 0 is CSF or outside the brain."""
CORTICOSPINAL_MM = (
    (33, -24, 58),
    (27, -22, 32),
    (23, -19, 14),
    (19, -16, 2),
    (13, -18, -13),
    (6, -24, -32),
    (4, -36, -52),
)
"""Course of the right corticospinal tract in MNI coordinates, from the hand knob to the pyramid (chosen here)."""
Place = tuple[tuple[float, float, float], tuple[float, float, float]]
NIGRA_MM, DENTATE_MM = ((9, -18, -12), (6, 6, 5)), ((17, -58, -36), (7, 6, 5))
SPLENIUM_MM = ((0, -37, 15), (22, 9, 9))
"""Centres and radii of ellipsoids in MNI coordinates (chosen here); only white matter or brainstem in them counts."""


class RegionFactors(NamedTuple):
    """One person's T2 and ADC by region: arrays (len(Region),) float32."""

    t2: FloatArray
    adc: FloatArray


def draw_regions(rng: np.random.Generator) -> RegionFactors:
    """One person's factors: the usual ones, each off by `BETWEEN_PERSONS`."""
    usual = np.array([CONSTANTS[region][:2] for region in Region])
    own = usual * np.clip(1.0 + np.array(BETWEEN_PERSONS[:2]) * rng.standard_normal(usual.shape), 0.8, 1.2)
    return RegionFactors(*own.T.astype(np.float32))


def region_map(found: labels.LabelArray, origin_mm: tuple[float, float, float]) -> UInt8Array:
    """Sort a label map's voxels into regions.

    Insula and cingulate cortex, tracts and small nuclei have no label of their own: they are found by what they lie
    beside (posterior limb: white matter between thalamus and lentiform nucleus) or by MNI coordinates.

    Args:
        found: (i, j, k), 1 mm, in MNI coordinates.
        origin_mm: MNI position of voxel (0, 0, 0).
    """
    result = REGION_OF_LABEL[found]
    white_matter = (Region.WHITE_MATTER, Region.DEEP_WHITE_MATTER)
    stem = (*white_matter, Region.BRAINSTEM)
    half = result[::2, ::2, ::2]  # Places are soft: half the resolution tells them.
    x, y, z = (
        (start + 2.0 * np.arange(n, dtype=np.float32)).reshape([-1 if axis == i else 1 for i in range(3)])
        for axis, (start, n) in enumerate(zip(origin_mm, half.shape, strict=True))
    )
    x = np.abs(x)
    thalamus, putamen, pallidum = (
        _distance_mm(half == region) for region in (Region.THALAMUS, Region.PUTAMEN, Region.PALLIDUM)
    )
    callosum = (half == Region.WHITE_MATTER) & (x < 4) & (y > -48) & (y < 36) & (z > -4) & (z < 34)
    ragged = 2.0 * smooth_noise(np.random.default_rng(0), half.shape, (5.0, 5.0, 5.0))  # No tract is a tube.
    between = (thalamus < 8) & (np.minimum(putamen, pallidum) < 8) & (y < 4) & (z > -6)
    places: tuple[tuple[Region, tuple[Region, ...], BoolArray], ...] = (
        (Region.DEEP_WHITE_MATTER, white_matter, _distance_mm(half == Region.CORTEX) > 6),
        (Region.POSTERIOR_LIMB, white_matter, between),
        (Region.CORTICOSPINAL, stem, _from_course(x, y, z) + ragged < np.where(z > 20, 6.0, 4.5)),
        (Region.SPLENIUM, white_matter, _ellipsoid(x, y, z, SPLENIUM_MM)),
        (Region.NIGRA, stem, _ellipsoid(x, y, z, NIGRA_MM)),
        (Region.DENTATE, (Region.CEREBELLAR_WHITE_MATTER,), _ellipsoid(x, y, z, DENTATE_MM)),
        (Region.INSULA, (Region.CORTEX,), (putamen < 14) & (x > 26) & (z > -16)),
        (Region.CINGULATE, (Region.CORTEX,), (_distance_mm(callosum) < 13) & (x < 14)),
    )
    for region, parents, place in places:
        there = place.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(n) for n in result.shape)]
        result[there & np.isin(result, parents)] = region
    # Where the tissue's soft edge reaches into CSF it is still that tissue.
    return np.where(result == Region.NONE, ndimage.maximum_filter(result, 3), result)


def white_share(regions: UInt8Array) -> FloatArray:
    """How much of a region map's tissue is white matter, 0..1, float32; 0 where there is none."""
    return np.array([CONSTANTS[region].white for region in Region], dtype=np.float32)[regions]


def _distance_mm(mask: BoolArray) -> FloatArray:
    return np.asarray(ndimage.distance_transform_edt(~mask) * 2.0, dtype=np.float32)


def _ellipsoid(x: FloatArray, y: FloatArray, z: FloatArray, place: Place) -> BoolArray:
    (cx, cy, cz), (rx, ry, rz) = place
    return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1)


def _from_course(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """Distance in mm to the right corticospinal tract."""
    shape = np.broadcast_shapes(x.shape, y.shape, z.shape)
    nearest = np.full(shape, 1e6, dtype=np.float32)
    for start, stop in pairwise(np.array(CORTICOSPINAL_MM, dtype=np.float32)):
        along = stop - start
        share = sum((axis - a) * d for axis, a, d in zip((x, y, z), start, along, strict=True)) / (along @ along)
        share = np.clip(share, 0.0, 1.0)
        squares = sum((axis - a - share * d) ** 2 for axis, a, d in zip((x, y, z), start, along, strict=True))
        np.minimum(nearest, squares, out=nearest)
    return np.sqrt(nearest)
