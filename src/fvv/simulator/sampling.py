"""The head in the scanner: from every point of a fine slice grid to the place in the average head that lies there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fvv.arrays import FloatArray
from fvv.simulator.anatomy import HeadModel, PersonShape, deform, rotation_matrix
from fvv.simulator.artefacts import Distortion
from fvv.simulator.fields import apply_separably, linear_upsampling
from fvv.simulator.scanner import Protocol

FINE_VOXEL_MM = 1.1
"""In-plane edge of the grid on which signal is computed: as fine as the atlas resolves, finer than any EPI measures."""
SUBSLICES = 3
"""Points through each slice's thickness: with 3 to 6 mm slices one every 1 to 2 mm."""
COARSE_STEP = 3
"""Deformation and distortion are smooth: computed at every third fine voxel in the plane."""
ATLAS_CENTRE_MM = (0.0, -18.0, 2.0)
"""Point of the average head that is laid in the middle of the magnet."""


@dataclass(frozen=True, slots=True)
class Pose:
    """How the head lies: atlas = turn @ image + offset, in mm.

    Attributes:
        turn: (3, 3), rotation and size.
        offset_mm: (3,).
    """

    turn: NDArray[np.float64]
    offset_mm: NDArray[np.float64]

    @property
    def atlas_share(self) -> float:
        """Atlas volume over image volume."""
        return float(np.linalg.det(self.turn))


@dataclass(frozen=True, slots=True)
class PlacedHead:
    """Where the head's points are, on the fine grid (x, y, slice, subslice) flattened.

    Attributes:
        shape: of the fine grid.
        brain_index, surroundings_index: flat indices of the points in each part.
        brain_mm, surroundings_mm: (3, n) deformed atlas positions of those points.
        brain_hull_mm: (n,) distance to the brain's surface at the brain's points.
        brain_pile_up, surroundings_pile_up: (n,) intensity factor of the distortion.
    """

    shape: tuple[int, int, int, int]
    brain_index: NDArray[np.intp]
    brain_mm: FloatArray
    brain_hull_mm: FloatArray
    brain_pile_up: FloatArray
    surroundings_index: NDArray[np.intp]
    surroundings_mm: FloatArray
    surroundings_pile_up: FloatArray

    def slices(self, index: NDArray[np.intp], values: FloatArray) -> FloatArray:
        """Put point values on the grid and average through each slice: float32 (x, y, slice)."""
        subslices = self.shape[3]
        voxels = int(np.prod(self.shape[:3]))
        sums = np.bincount(index // subslices, weights=values, minlength=voxels)
        return np.asarray(sums.reshape(self.shape[:3]) / subslices, dtype=np.float32)


def draw_pose(rng: np.random.Generator, person: PersonShape) -> Pose:
    """Lay the person down: a few degrees off each time, slices tilted like the orbitomeatal line or like AC-PC."""
    angles = np.asarray(person.tilt_rad) + np.deg2rad(rng.normal(0.0, (3.0, 3.0, 4.0)))
    angles[0] += np.deg2rad(rng.choice([0.0, rng.uniform(-6.0, 14.0)]))
    turn = np.diag(1.0 / np.asarray(person.scale)) @ rotation_matrix((angles[0], angles[1], angles[2]))
    return Pose(turn, np.asarray(ATLAS_CENTRE_MM) + rng.normal(0.0, (3.0, 5.0, 3.0)))


def place_head(
    protocol: Protocol, pose: Pose, person: PersonShape, model: HeadModel, distortion: Distortion
) -> PlacedHead:
    """Find the deformed, distorted atlas position of every fine point that lies in the head."""
    nx, ny = (2 * round(edge / FINE_VOXEL_MM / 2) for edge in protocol.fov_mm)
    shape = (nx, ny, protocol.n_slices, SUBSLICES)
    points, pile_up = _coarse_positions(protocol, pose, person, model, distortion, size=(nx, ny))
    up = (linear_upsampling(nx, COARSE_STEP), linear_upsampling(ny, COARSE_STEP))
    hull = apply_separably(model.hull_distance_mm.sample(points, outside=200.0), *up).reshape(-1)
    depth = apply_separably(model.surroundings.outline_mm.sample(points, outside=-50.0), *up).reshape(-1)
    near_brain = np.flatnonzero(hull < person.rim_mm + 3.0)
    outer = np.flatnonzero((hull > 0.0) & (depth > -2.0))
    fine = np.stack([apply_separably(component, *up).reshape(-1) for component in points])
    factor = apply_separably(pile_up, *up).reshape(-1)
    exact = model.hull_distance_mm.sample(fine[:, near_brain], outside=200.0)
    in_brain = exact < person.rim_mm
    brain = near_brain[in_brain]
    return PlacedHead(
        shape=shape,
        brain_index=brain,
        brain_mm=fine[:, brain],
        brain_hull_mm=exact[in_brain],
        brain_pile_up=factor[brain],
        surroundings_index=outer,
        surroundings_mm=fine[:, outer],
        surroundings_pile_up=factor[outer],
    )


def _coarse_positions(
    protocol: Protocol,
    pose: Pose,
    person: PersonShape,
    model: HeadModel,
    distortion: Distortion,
    *,
    size: tuple[int, int],
) -> tuple[FloatArray, FloatArray]:
    """Atlas positions (3, cx, cy, slices * subslices) and intensity factors (cx, cy, slices * subslices)."""
    x, y = (
        (np.arange(linear_upsampling(n, COARSE_STEP).shape[1]) * COARSE_STEP / n - 0.5) * edge
        for n, edge in zip(size, protocol.fov_mm, strict=True)
    )
    middle = (np.arange(protocol.n_slices) - (protocol.n_slices - 1) / 2) * protocol.spacing_mm
    within = ((np.arange(SUBSLICES) + 0.5) / SUBSLICES - 0.5) * protocol.thickness_mm
    z = (middle[:, None] + within[None, :]).reshape(-1)
    image = np.stack(np.meshgrid(x, y, z, indexing="ij")).astype(np.float32)
    turn = pose.turn.astype(np.float32)
    rigid = np.tensordot(turn, image, axes=1) + pose.offset_mm.astype(np.float32)[:, None, None, None]
    shift, pile_up = distortion.at(rigid, turn[:, 1])
    rigid += turn[:, 1][:, None, None, None] * shift
    return deform(rigid, model, person), pile_up
