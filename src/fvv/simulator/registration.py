"""Where a real head lies in the atlas: an affine from its brain mask and ventricles, without landmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from fvv.arrays import Affine, BoolArray, FloatArray
from fvv.errors import InputError
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.space import lattice_positions, logistic, rotation_matrix

COARSE, FINE = (1500, 2), (5000, 8)
"""Image points that the fit looks at, and its iterations: from each pitch, and from the best of these fits."""
ROOM_MM = 12.0
"""Around the brain, in the part of the image that counts."""
SOFT_MM = 3.0
"""Width of the soft edges of hull and ventricles."""
VENTRICLE_WEIGHT = 0.4
DEEP_MM = 18.0
"""Fluid this far inside the brain mask is taken for ventricle."""
PITCHES_RAD = tuple(np.deg2rad((-15.0, 0.0, 15.0)).tolist())
LEAST_OVERLAP = 0.8
"""Soft Dice of brain mask and hull below which a head counts as not found (chosen here)."""


def fit_to_atlas(brain: BoolArray, fluid: BoolArray, affine: Affine, model: HeadModel) -> Affine:
    """The affine that lays a head into the atlas: rotation, one size along each axis, shift.

    It maximises the soft Dice of the brain mask with the average head's hull, and that of the deep fluid with its
    ventricles; Powell's method (doi 10.1093/comjnl/7.2.155) from three pitches. Nothing in it is random.

    Args:
        brain: (i, j, k) mask.
        fluid: (i, j, k) where the image shows CSF.
        affine: (4, 4), voxel to RAS+ mm; its axes must be right within some 40 degrees.
        model: the average head.

    Returns:
        (4, 4), RAS+ mm to atlas mm.

    Raises:
        InputError: the two do not overlap well.
    """
    head = _Head(brain, fluid, affine)
    fits = [_fit(head, model, np.array([pitch, *[0.0] * 8]), COARSE) for pitch in PITCHES_RAD]
    values = min(fits, key=lambda fit: fit.loss).values
    fit = _fit(head, model, values, FINE)
    if fit.overlap < LEAST_OVERLAP:
        raise InputError(
            f"the brain could not be laid into the atlas: overlap {fit.overlap:.2f}, expected {LEAST_OVERLAP} or more",
            hint="add mask.nii.gz, or check the orientation in the image's affine",
        )
    return fit.to_atlas


class _Head(NamedTuple):
    brain: BoolArray
    fluid: BoolArray
    affine: Affine


class _Fit(NamedTuple):
    values: NDArray[np.float64]  # rotations in rad, logarithms of sizes, shifts in units of 100 mm: all of one size
    loss: float
    overlap: float
    to_atlas: Affine


def _fit(head: _Head, model: HeadModel, start: NDArray[np.float64], effort: tuple[int, int]) -> _Fit:
    brain, _, affine = head
    mm, inside, ventricle = _points(head, effort[0])
    low, high = _hull_box(model)
    held = affine[:3, :3] @ np.stack(np.nonzero(brain)) + affine[:3, 3:]
    first, last = held.min(axis=1), held.max(axis=1)
    # The bottom of a brain mask is where the image ends, often: width and length tell the size.
    size = (last - first)[:2].mean() / (high - low)[:2].mean()

    def matrix(values: NDArray[np.float64]) -> Affine:
        turn = np.diag(np.exp(-values[3:6]) / size) @ rotation_matrix((values[0], values[1], values[2]))
        out = np.eye(4)
        out[:3, :3] = turn
        out[:3, 3] = (low + high) / 2.0 + 100.0 * values[6:9] - turn @ ((first + last) / 2.0)
        return out

    def overlaps(values: NDArray[np.float64]) -> tuple[float, float]:
        to_atlas = matrix(values)
        at = (to_atlas[:3, :3] @ mm + to_atlas[:3, 3:]).astype(np.float32)
        hull = logistic(-model.hull_distance_mm.sample(at, outside=100.0) / SOFT_MM)
        deep = logistic((1.0 - model.ventricle_distance_mm.sample(at, outside=100.0)) / (SOFT_MM / 2.0))
        return _soft_dice(hull, inside), _soft_dice(deep * (inside > 0), ventricle)

    def loss(values: NDArray[np.float64]) -> float:
        hull, deep = overlaps(values)
        return -hull - VENTRICLE_WEIGHT * deep

    options = {"xtol": 4e-3, "ftol": 2e-4, "maxiter": effort[1]}
    best = optimize.minimize(loss, start, method="Powell", options=options)
    return _Fit(best.x, float(best.fun), overlaps(best.x)[0], matrix(best.x))


def _points(head: _Head, points: int) -> tuple[NDArray[np.float64], FloatArray, FloatArray]:
    """Positions (3, n) in mm on an even grid around the brain; mask and ventricle at each, 0 or 1."""
    brain, fluid, affine = head
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    held = [np.flatnonzero(brain.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    bounds = [
        (max(int(at[0] - ROOM_MM / edge), 0), min(int(at[-1] + ROOM_MM / edge) + 1, n))
        for at, edge, n in zip(held, spacing, brain.shape, strict=True)
    ]
    volume = np.prod([(high - low) * edge for (low, high), edge in zip(bounds, spacing, strict=True)])
    step = np.cbrt(volume / points)
    axes = [
        np.unique(np.arange(low, high, max(step / edge, 1.0)).astype(int))
        for (low, high), edge in zip(bounds, spacing, strict=True)
    ]
    deep = ndimage.distance_transform_edt(brain, sampling=spacing) > DEEP_MM
    share = ndimage.uniform_filter((fluid & deep).astype(np.float32), [max(1, round(step / edge)) for edge in spacing])
    index = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    i, j, k = index
    mm = affine[:3, :3] @ index + affine[:3, 3:]
    return mm, brain[i, j, k].astype(np.float32), share[i, j, k]


def _hull_box(model: HeadModel) -> tuple[FloatArray, FloatArray]:
    inside = model.hull_distance_mm.array < 0
    limits = [np.broadcast_to(axis, inside.shape)[inside] for axis in lattice_positions()]
    return np.array([part.min() for part in limits]), np.array([part.max() for part in limits])


def _soft_dice(a: FloatArray, b: FloatArray) -> float:
    return float(2.0 * (a * b).sum() / max(float(a.sum() + b.sum()), 1e-6))
