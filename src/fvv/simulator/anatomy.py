"""The average brain prepared for sampling, and how one person's brain differs from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray, UInt8Array
from fvv.simulator.fields import logistic, smooth_noise
from fvv.simulator.head import HeadSurroundings, build_surroundings
from fvv.simulator.lattice import LATTICE_SHAPE, LATTICE_STEP_MM, LatticeMap, lattice_positions, on_lattice

T1_OF_CSF = 75.0
T1_OF_GREY = 160.0
"""Typical intensities of the ICBM152 T1 average, read off its ventricles and where its grey-matter map is 1."""
SHARPENING = 1.2
"""Gain of the unsharp mask that deepens the average's blurred sulci."""


@dataclass(frozen=True, slots=True)
class TissueAtlas:
    """Average maps, (i, j, k) uint8, 1 mm, RAS; T1 is 0 outside the brain.

    Attributes:
        t1: intensity 0..255.
        grey_matter, white_matter: probability times 255.
        origin_mm: MNI position of voxel (0, 0, 0).
    """

    t1: UInt8Array
    grey_matter: UInt8Array
    white_matter: UInt8Array
    origin_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class HeadModel:
    """All that is sampled to make a person, computed once from the atlas.

    Attributes:
        parenchyma: about 0 in CSF and 1 in grey matter, 1 mm, sulci sharpened.
        white_matter: 0..1, 1 mm.
        hull_distance_mm: signed distance to the brain's closed surface, negative inside, 2 mm.
        ventricle_distance_mm: distance to the nearest ventricle, 2 mm.
        ventricle_pull: unit-scaled vectors at the ventricles' walls pointing into them, three 2 mm maps.
        surroundings: what lies outside the brain.
    """

    parenchyma: LatticeMap
    white_matter: LatticeMap
    hull_distance_mm: LatticeMap
    ventricle_distance_mm: LatticeMap
    ventricle_pull: tuple[LatticeMap, LatticeMap, LatticeMap]
    surroundings: HeadSurroundings


@dataclass(frozen=True, slots=True)
class PersonShape:
    """How one person's head differs from the average; the same at every examination.

    Attributes:
        scale: size relative to the atlas along x, y, z.
        elastic_mm: displacement (3, i, j, k) on the 2 mm lattice coarsened by `ELASTIC_STEP`.
        ventricle_growth_mm: outward shift of the ventricles' walls.
        csf_threshold: parenchyma value below which a voxel is CSF; more means wider sulci.
        rim_mm: thickness of the CSF between brain and skull.
        tilt_rad: habitual rotations about x, y, z.
    """

    scale: tuple[float, float, float]
    elastic_mm: FloatArray
    ventricle_growth_mm: float
    csf_threshold: float
    rim_mm: float
    tilt_rad: tuple[float, float, float]


ELASTIC_STEP = 2


def build_head_model(atlas: TissueAtlas) -> HeadModel:
    """Prepare the atlas: takes about two seconds, done once in a process."""
    brain = atlas.t1 > 0
    t1 = atlas.t1.astype(np.float32)
    # Blur inside the brain only, or the rim would look brighter than it is.
    weight = np.maximum(ndimage.gaussian_filter(brain.astype(np.float32), 3.0, truncate=2.5), 1e-3)
    sharp = np.where(brain, t1 + SHARPENING * (t1 - ndimage.gaussian_filter(t1, 3.0, truncate=2.5) / weight), 0.0)
    parenchyma = np.clip((sharp - T1_OF_CSF) / (T1_OF_GREY - T1_OF_CSF), 0.0, 1.5).astype(np.float32)
    hull = _closed_hull(on_lattice(brain.astype(np.float32), atlas.origin_mm) > 0)
    distance = _signed_distance_mm(hull)
    ventricles = _ventricles(on_lattice(parenchyma, atlas.origin_mm), distance)
    smooth = ndimage.gaussian_filter(ventricles.astype(np.float32), 1.5)
    # A step blurred by s has slope 1 / (s sqrt(2 pi)) at its edge: divide, so that the pull is about 1 at the wall.
    edge = 1.0 / (1.5 * np.sqrt(2.0 * np.pi))
    pull = [LatticeMap((component / edge).astype(np.float32)) for component in np.gradient(smooth)]
    white = np.clip((atlas.white_matter.astype(np.float32) / 255.0 - 0.5) * 1.5 + 0.5, 0.0, 1.0)
    return HeadModel(
        parenchyma=LatticeMap(parenchyma, atlas.origin_mm, 1.0),
        white_matter=LatticeMap(white.astype(np.float32), atlas.origin_mm, 1.0),
        hull_distance_mm=LatticeMap(distance),
        ventricle_distance_mm=LatticeMap(
            (ndimage.distance_transform_edt(~ventricles) * LATTICE_STEP_MM).astype(np.float32)
        ),
        ventricle_pull=(pull[0], pull[1], pull[2]),
        surroundings=build_surroundings(distance),
    )


def draw_person_shape(rng: np.random.Generator) -> PersonShape:
    """Ranges found useful in trials, chosen here: sizes 0.84 to 1.05 by axis, bumps of 1 to 4 mm over 28 to 50 mm."""
    coarse = tuple(-(-n // ELASTIC_STEP) for n in LATTICE_SHAPE)
    step = LATTICE_STEP_MM * ELASTIC_STEP
    wide, fine = rng.uniform(28.0, 50.0) / step, rng.uniform(9.0, 14.0) / step
    amplitude, ripple = rng.uniform(1.0, 3.5), rng.uniform(0.5, 1.1)
    shape = (coarse[0], coarse[1], coarse[2])
    elastic = np.stack(
        [
            amplitude * smooth_noise(rng, shape, (wide,) * 3) + ripple * smooth_noise(rng, shape, (fine,) * 3)
            for _ in range(3)
        ]
    )
    atrophy = rng.beta(1.5, 2.0)
    # The ICBM average is larger than an average head.
    size = rng.uniform(0.87, 1.02)
    scale = size * rng.uniform(0.97, 1.03, 3)
    return PersonShape(
        scale=(float(scale[0]), float(scale[1]), float(scale[2])),
        elastic_mm=elastic,
        ventricle_growth_mm=float(-0.6 + 4.0 * np.clip(atrophy + rng.normal(0, 0.15), 0, 1)),
        csf_threshold=float(0.25 + 0.35 * atrophy),
        rim_mm=float(0.3 + 2.5 * np.clip(atrophy + rng.normal(0, 0.15), 0, 1)),
        tilt_rad=tuple(np.deg2rad(rng.normal(0.0, (4.0, 2.0, 2.0))).tolist()),
    )


def deform(points_mm: FloatArray, model: HeadModel, person: PersonShape) -> FloatArray:
    """Move atlas positions (3, ...) to where this person's anatomy at them is found in the average."""
    elastic = [
        LatticeMap(component, step_mm=LATTICE_STEP_MM * ELASTIC_STEP).sample(points_mm)
        for component in person.elastic_mm
    ]
    moved = points_mm + np.stack(elastic)
    pull = np.stack([component.sample(moved) for component in model.ventricle_pull])
    return np.asarray(moved + np.float32(person.ventricle_growth_mm) * pull, dtype=np.float32)


def tissue_fractions(
    points_mm: FloatArray, hull_distance_mm: FloatArray, model: HeadModel, person: PersonShape
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fractions of grey matter, white matter and CSF at deformed atlas positions (3, n); they add up to 1."""
    parenchyma = logistic((model.parenchyma.sample(points_mm) - person.csf_threshold) / 0.07)
    # Beyond the hull there is only the CSF rim.
    parenchyma *= hull_distance_mm < 1.0
    white = parenchyma * model.white_matter.sample(points_mm)
    return parenchyma - white, white, 1.0 - parenchyma


def rotation_matrix(angles_rad: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation about x, then y, then z; (3, 3) float64."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles_rad), np.sin(angles_rad)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def _closed_hull(brain: BoolArray) -> BoolArray:
    """Close gaps up to about 12 mm (sulci, fissures) and fill holes (ventricles)."""
    reach = 6.0 / LATTICE_STEP_MM
    grown = ndimage.distance_transform_edt(~brain) <= reach
    closed = ndimage.distance_transform_edt(grown) > reach
    return np.asarray(ndimage.binary_fill_holes(closed | brain))


def _signed_distance_mm(mask: BoolArray) -> FloatArray:
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    return np.asarray((outside - inside) * LATTICE_STEP_MM, dtype=np.float32)


def _ventricles(parenchyma: FloatArray, hull_distance_mm: FloatArray) -> BoolArray:
    """Deep CSF: ventricles, without the cisterns below and the fissures that reach the surface."""
    x, y, z = lattice_positions()
    box = (np.abs(x) < 40) & (y > -80) & (y < 45) & (z > -12) & (z < 34)
    midline_fissure = (np.abs(x) < 4) & ((y > 20) | (z > 18))
    insula = (np.abs(x) > 24) & (y > -35)
    deep = (parenchyma < 0.45) & (hull_distance_mm < -22) & box & ~midline_fissure & ~insula
    return np.asarray(ndimage.binary_opening(deep, iterations=1) | (deep & (np.abs(x) < 22) & (z > 2)))
