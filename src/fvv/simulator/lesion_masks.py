"""Strokes with the place, shape and size of real ones: masks in MNI space become depth maps on the 2 mm lattice."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import Affine, FloatArray
from fvv.config import SimulateConfig
from fvv.errors import InputError
from fvv.imaging.brain import bounding_box
from fvv.io.nifti import SUFFIXES, read_volume
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.lesions import OUTSIDE_MM, Lesion, appearance_of_size, volume_threshold
from fvv.simulator.space import (
    LATTICE_ORIGIN_MM,
    LATTICE_SHAPE,
    LATTICE_STEP_MM,
    LatticeMap,
    lattice_positions,
    rotation_matrix,
    smooth_noise,
)
from fvv.system.fingerprint import file_sha256, fingerprint

MARGIN_VOXELS = 8
"""Around the lesion, in the box that is kept of a mask; beyond it the depth stays what it is at the box's border."""
SMOOTHING_VOXELS = 0.7
"""Standard deviation of the filter that takes a mask's stairs away."""
MNI_BOX_MM = ((-80.0, 80.0), (-115.0, 85.0), (-75.0, 90.0))
"""Holds the brain of the ICBM152 average."""
LEAST_SHARE_IN_BOX = 0.9
BEYOND_TISSUE_MM = -1.0
"""Largest depth outside the brain and in its ventricles."""
ELASTIC_STEP_MM = 8.0
ELASTIC_SHAPE = tuple(int(n * LATTICE_STEP_MM // ELASTIC_STEP_MM) + 2 for n in LATTICE_SHAPE)
"""Lattice of the smooth deformation: as wide as the head's."""


@dataclass(frozen=True, slots=True)
class StrokeMask:
    """A real stroke.

    Attributes:
        name: of the file.
        depth_mm: (i, j, k) float32, about the distance to the edge, positive inside; the box around the lesion.
        to_voxel: (4, 4), MNI mm to voxels of `depth_mm`.
        low_mm, high_mm: (3,), MNI corners of that box.
        volume_ml: of the mask.
    """

    name: str
    depth_mm: FloatArray
    to_voxel: Affine
    low_mm: NDArray[np.float64]
    high_mm: NDArray[np.float64]
    volume_ml: float


@dataclass(frozen=True, slots=True)
class ShapeChange:
    """How a simulated stroke differs from its mask; the defaults change nothing.

    Attributes:
        mirrored: to the other side, after all other changes.
        turn: (3, 3), rotation and size about the lesion's centre, from the new lesion to the mask.
        shift_mm: (3,).
        elastic_mm: (3, i, j, k) displacement on the lattice of `ELASTIC_STEP_MM`.
    """

    mirrored: bool = False
    turn: NDArray[np.float64] | None = None
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    elastic_mm: FloatArray | None = None


def list_masks(folder: Path, names: Collection[str] = ()) -> tuple[Path, ...]:
    """The masks in a folder, sorted by name.

    Args:
        folder: NIfTI files, one a stroke.
        names: those to use; empty: all.

    Raises:
        InputError: no such folder, no mask in it, or a name that is not there.
    """
    if not folder.is_dir():
        raise InputError("no such folder of stroke masks", file=folder, hint="set simulate.lesions to a folder")
    found = {path.name: path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and path.name[0] != "."}
    if not found:
        message = "holds no stroke mask: expected files that end in .nii.gz or .nii"
        raise InputError(message, file=folder, hint="put one binary mask in MNI space for each stroke there")
    if missing := sorted(set(names) - found.keys()):
        message = f"{len(missing)} of simulate.lesion_files are not there, such as {missing[0]}"
        raise InputError(message, file=folder, hint="correct simulate.lesion_files")
    return tuple(found[name] for name in sorted(names or found))


def masks_digest(files: Collection[Path]) -> str:
    """One hash of the names and contents of masks, whatever folder they lie in."""
    return fingerprint(masks={path.name: file_sha256(path) for path in files})


def read_mask(path: Path) -> StrokeMask:
    """Read a stroke mask in MNI space.

    Raises:
        InputError: unreadable, empty, not binary, or not in MNI space.
    """
    volume = read_volume(path)
    values = np.unique(volume.array)
    if len(values) > 2 or values[0] != 0:
        found = ", ".join(f"{value:g}" for value in values[:4])
        message = f"not a binary mask: expected 0 and one other value, found {len(values)} values ({found} ...)"
        raise InputError(message, file=path, hint="threshold it first")
    mask = volume.array > 0
    if not mask.any():
        raise InputError("an empty mask: expected the voxels of one stroke", file=path, hint="remove the file")
    to_mm = volume.affine
    positions = to_mm[:3, :3] @ np.stack(np.nonzero(mask)) + to_mm[:3, 3:]
    low, high = np.asarray(MNI_BOX_MM).T[:, :, None]
    if np.mean(((positions > low) & (positions < high)).all(axis=0)) < LEAST_SHARE_IN_BOX:
        centre = ", ".join(f"{value:.0f}" for value in positions.mean(axis=1))
        message = f"lies outside the brain of MNI space: its centre is at ({centre}) mm"
        raise InputError(message, file=path, hint="warp the mask to MNI space, or correct its affine")
    # Room around the lesion, even where it ends at the image's border.
    padded, start = np.pad(mask, MARGIN_VOXELS), -MARGIN_VOXELS
    box = bounding_box(padded, (MARGIN_VOXELS,) * 3)
    corner = to_mm @ np.array([*(part.start + start for part in box), 1.0])
    to_mm = to_mm.copy()
    to_mm[:3, 3] = corner[:3]
    inside = padded[box]
    spacing = volume.spacing_mm
    # A voxel's centre lies half a voxel from the edge.
    half = min(spacing) / 2.0
    within, without = (ndimage.distance_transform_edt(part, sampling=spacing) for part in (inside, ~inside))
    depth = np.where(inside, within - half, half - without).astype(np.float32)
    edges = to_mm[:3, :3] @ np.stack(np.meshgrid(*([0, n - 1] for n in inside.shape))).reshape(3, -1) + to_mm[:3, 3:]
    return StrokeMask(
        name=path.name,
        depth_mm=ndimage.gaussian_filter(depth, SMOOTHING_VOXELS, mode="nearest"),
        to_voxel=np.asarray(np.linalg.inv(to_mm), dtype=np.float64),
        low_mm=edges.min(axis=1),
        high_mm=edges.max(axis=1),
        volume_ml=float(mask.sum()) * volume.voxel_volume_ml,
    )


def draw_change(rng: np.random.Generator) -> ShapeChange:
    """A random change: either side, rotated by some degrees, 0.88 to 1.14 as long along each axis, moved by some mm,
    bent smoothly by 1 to 3 mm over 24 to 48 mm (all chosen here).
    """
    size = np.exp(rng.uniform(np.log(0.88), np.log(1.14), 3))
    wide, amplitude = rng.uniform(24.0, 48.0) / ELASTIC_STEP_MM, rng.uniform(1.0, 3.0)
    shape = (ELASTIC_SHAPE[0], ELASTIC_SHAPE[1], ELASTIC_SHAPE[2])
    elastic = np.stack([amplitude * smooth_noise(rng, shape, (wide,) * 3) for _ in range(3)])
    angles = np.deg2rad(rng.normal(0.0, 6.0, 3))
    shift = rng.normal(0.0, 2.5, 3)
    return ShapeChange(
        mirrored=bool(rng.random() < 0.5),
        turn=np.diag(1.0 / size) @ rotation_matrix((angles[0], angles[1], angles[2])),
        shift_mm=(float(shift[0]), float(shift[1]), float(shift[2])),
        elastic_mm=elastic,
    )


def mask_depth(mask: StrokeMask, change: ShapeChange, model: HeadModel) -> FloatArray:
    """A mask's stroke in the atlas, cut to the brain without its ventricles.

    It has the volume of the mask, as far as there is tissue for it.

    Returns:
        Depth map in mm on the 2 mm lattice, float32.
    """
    window = _window(mask, change)
    x, y, z = lattice_positions()
    grid = (x[window[0]], y[:, window[1]], z[:, :, window[2]])
    points = np.stack([np.broadcast_to(axis, np.broadcast_shapes(*(g.shape for g in grid))) for axis in grid])
    depth = _sample(mask, change, points.astype(np.float32))
    hull, ventricles = (part.array[window] for part in (model.hull_distance_mm, model.ventricle_distance_mm))
    allowed = (hull < 0) & (ventricles > 1.0)
    depth = depth - volume_threshold(depth, allowed, mask.volume_ml)
    out = np.full(LATTICE_SHAPE, OUTSIDE_MM, dtype=np.float32)
    out[window] = np.where(allowed, depth, np.minimum(depth, BEYOND_TISSUE_MM))
    return out


def mask_lesion(
    shapes: np.random.Generator,
    rng: np.random.Generator,
    files: tuple[Path, ...],
    model: HeadModel,
    config: SimulateConfig,
    *,
    atlas_share: float,
) -> Lesion:
    """One stroke with the shape of a mask.

    Args:
        shapes: chooses the mask and its change.
        rng: chooses how the tissue behaves.
        files: of `list_masks`.
        model: the average head.
        config: ranges of the appearance.
        atlas_share: the atlas volume over the person's volume.

    Raises:
        InputError: as `read_mask`.
    """
    mask = read_mask(files[shapes.integers(len(files))])
    depth = mask_depth(mask, draw_change(shapes), model)
    return Lesion("mask", depth, appearance_of_size(rng, mask.volume_ml / atlas_share, config), mask.name)


def _window(mask: StrokeMask, change: ShapeChange) -> tuple[slice, slice, slice]:
    """Part of the lattice that the lesion may reach."""
    centre, reach = (mask.low_mm + mask.high_mm) / 2.0, (mask.high_mm - mask.low_mm) / 2.0
    room = 0.0 if change.turn is None else 0.15 * float(reach.max()) + 4.0
    room += 0.0 if change.elastic_mm is None else float(np.abs(change.elastic_mm).max())
    low, high = centre - reach - room + change.shift_mm, centre + reach + room + change.shift_mm
    if change.mirrored:
        low[0], high[0] = -high[0], -low[0]
    bounds = []
    for first, last, origin, n in zip(low, high, LATTICE_ORIGIN_MM, LATTICE_SHAPE, strict=True):
        start = int(np.clip(np.floor((first - origin) / LATTICE_STEP_MM), 0, n - 2))
        bounds.append(slice(start, int(np.clip(np.ceil((last - origin) / LATTICE_STEP_MM) + 1, start + 2, n))))
    return bounds[0], bounds[1], bounds[2]


def _sample(mask: StrokeMask, change: ShapeChange, points_mm: FloatArray) -> FloatArray:
    """Depth of the changed lesion at atlas positions (3, ...)."""
    moved = points_mm.astype(np.float64)
    if change.mirrored:
        moved[0] *= -1.0
    if change.elastic_mm is not None:
        moved = moved + np.stack(
            [LatticeMap(part, step_mm=ELASTIC_STEP_MM).sample(moved.astype(np.float32)) for part in change.elastic_mm]
        )
    column = (3,) + (1,) * (points_mm.ndim - 1)
    centre = ((mask.low_mm + mask.high_mm) / 2.0).reshape(column)
    moved = moved - np.asarray(change.shift_mm).reshape(column) - centre
    if change.turn is not None:
        moved = np.tensordot(change.turn, moved, axes=1)
    index = np.tensordot(mask.to_voxel[:3, :3], moved + centre, axes=1) + mask.to_voxel[:3, 3].reshape(column)
    return np.asarray(ndimage.map_coordinates(mask.depth_mm, index, order=1, mode="nearest", output=np.float32))
