"""From the native grid to the working grid and back.

The working grid is 256 x 256 in plane; slices are never touched. Forward: reorient, zoom each slice, pad or crop about
the centre. Back: undo each of these in turn.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import BoolArray
from fvv.data import InPlaneGrid, Orientation, Volume
from fvv.errors import GeometryError

SHRINK_OVER = 272
ENLARGE_UNDER = 240
"""In-plane sizes between these are left as they are (the reference pipeline's bounds, voxels)."""
SAME_GRID_SHARE = 0.1
"""Of the smallest voxel edge: two grids are one when no corner lies farther apart."""
MOST_SLICES = 384
"""Of the working grid: a whole head at 0.7 mm. Each takes half a megabyte for each image."""
LONGEST_OVER_SIZE = 8
"""A zoomed slice may be this many times as long as the working grid before it is cropped."""
_AXIAL: Orientation = ((0, 1), (1, 1), (2, 1))
_FLIPS = tuple(product((1, -1), repeat=3))
_Scalar = TypeVar("_Scalar", bound=np.generic)


def corner_displacement_mm(a: Volume, b: Volume) -> float:
    """Largest distance between the same corner voxel of two grids of one shape, mm."""
    far = np.array(a.array.shape) - 1
    corners = np.array([[i, j, k, 1] for i in (0, far[0]) for j in (0, far[1]) for k in (0, far[2])], dtype=float)
    difference = corners @ (a.affine - b.affine).T
    return float(np.sqrt((difference[:, :3] ** 2).sum(axis=1)).max())


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether two volumes have one shape and, to a tenth of the smallest voxel edge, one place.

    Less is rounding: header fields are float32, and a q-form's quaternion moves the far corners by micrometres.
    """
    if a.array.shape != b.array.shape:
        return False
    return corner_displacement_mm(a, b) <= SAME_GRID_SHARE * min(*a.spacing_mm, *b.spacing_mm)


def reflected(volume: NDArray[_Scalar], brain: BoolArray, *, outside: float) -> NDArray[_Scalar]:
    """A volume reflected at the middle of the brain's extent along the first axis, left to right.

    Args:
        volume: (i, j, k).
        brain: (i, j, k) bool.
        outside: value where the other side lies outside the grid, and everywhere without a brain.
    """
    result = np.full_like(volume, outside)
    columns = np.flatnonzero(brain.any(axis=(1, 2)))
    if columns.size:
        opposite = columns[0] + columns[-1] - np.arange(len(volume))
        there = (opposite >= 0) & (opposite < len(volume))
        result[there] = volume[opposite[there]]
    return result


def reoriented_like(volume: Volume, like: Volume) -> Volume | None:
    """The same voxels with their axes in the order and direction of another grid; None where that is not its grid."""
    order = nib.orientations.io_orientation(np.linalg.inv(like.affine) @ volume.affine)
    if np.isnan(order).any():
        return None
    array = np.ascontiguousarray(nib.orientations.apply_orientation(volume.array, order))
    affine = volume.affine @ nib.orientations.inv_ornt_aff(order, volume.array.shape)
    turned = Volume(array, affine)
    return turned if same_grid(turned, like) else None


def resample_onto(volume: Volume, like: Volume, *, order: int) -> Volume:
    """Resample onto another grid: order 0 is nearest (ROIs, dtype kept), 1 linear (images). Outside is 0."""
    to_source = np.linalg.inv(volume.affine) @ like.affine
    array = ndimage.affine_transform(
        volume.array.astype(np.float64), to_source[:3, :3], to_source[:3, 3], output_shape=like.array.shape, order=order
    )
    return Volume(array > 0.5 if volume.array.dtype == bool else array, like.affine)


def plan_grid(volume: Volume, size: int = 256, *, keep_left_right: bool = False) -> InPlaneGrid:
    """Work out how a native grid becomes the working grid.

    The zoom is the reference's rule: with in-plane sizes nx, ny, scale 1; if either is under 240, min(size/nx,
    size/ny); if either is over 272, max(size/nx, size/ny), and this later rule wins.

    Args:
        volume: on the native grid.
        size: edge of the working grid, voxels.
        keep_left_right: leave axial images as they are stored, whichever way left-right runs, as the reference does;
            otherwise the axes become right, anterior, superior.

    Raises:
        GeometryError: the working grid, or the zoomed slices that are then cropped to it, would be too large.
    """
    orientation = _reference_orientation(volume) if keep_left_right else _nearest_ras(volume)
    shape = volume.array.shape
    grid = InPlaneGrid((shape[0], shape[1], shape[2]), volume.affine, orientation, scale=1.0, size=size)
    nx, ny, _ = grid.oriented_shape
    scale = 1.0
    if min(nx, ny) < ENLARGE_UNDER * size / 256:
        scale = min(size / nx, size / ny)
    if max(nx, ny) > SHRINK_OVER * size / 256:
        scale = max(size / nx, size / ny)
    _refuse_too_large(volume.array.shape, grid.oriented_shape, scale, size)
    return InPlaneGrid(grid.native_shape, volume.affine, orientation, scale=scale, size=size)


def _refuse_too_large(stored: tuple[int, ...], oriented: tuple[int, int, int], scale: float, size: int) -> None:
    """Bound every array before it is made: of few voxels of odd proportions, zooming makes gigabytes."""
    nx, ny, slices = oriented
    as_stored = f"{' x '.join(map(str, stored))} voxels"
    if slices > MOST_SLICES:
        raise GeometryError(
            f"{slices} axial slices ({as_stored}), expected at most {MOST_SLICES}",
            hint="resample the image to slices of 1 mm or more",
        )
    if scale * max(nx, ny) > LONGEST_OVER_SIZE * size:
        raise GeometryError(
            f"{nx} x {ny} voxels in an axial slice ({as_stored}): no slice of a head has such proportions",
            hint="the axes may be in another order than the affine says; otherwise resample to square voxels",
        )


def to_working_grid(array: np.ndarray, grid: InPlaneGrid) -> np.ndarray:
    """Bring an image (linear, anti-aliased when shrinking) or a mask (bool: nearest) onto the working grid.

    Args:
        array: (i, j, k) on the native grid.

    Returns:
        (size, size, slices), float64 or bool.
    """
    return pad_or_crop(scale_slices(array, grid), grid.size)


def scale_slices(array: np.ndarray, grid: InPlaneGrid, *, order: int | None = None) -> np.ndarray:
    """The first half of `to_working_grid`: reorient and zoom, without padding or cropping.

    Args:
        array: (i, j, k) on the native grid, float or bool.
        order: 0 takes the nearest voxel of an image too; None: as `to_working_grid` says.
    """
    oriented = _reorient(array, grid.orientation)
    if grid.scale == 1.0:
        return oriented
    scaled = np.empty(grid.scaled_shape, dtype=oriented.dtype)
    for k in range(oriented.shape[2]):
        scaled[..., k] = resize_slice(oriented[..., k], grid.scaled_shape[:2], order=order)
    return scaled


def resize_slice(image: np.ndarray, shape: tuple[int, int], *, order: int | None = None) -> np.ndarray:
    """Resize one slice so that its field of view stays the same: scikit-image's `resize` with its defaults, to the bit.

    The published pipeline resizes with scikit-image, so its choices are kept: the border is mirrored without its last
    voxel; where an axis shrinks by a factor f > 1, a Gaussian of standard deviation (f - 1) / 2 voxels comes first;
    results stay within the range of the input.

    Args:
        image: (i, j), bool or float.
        shape: of the result.
        order: 0 takes the nearest voxel, 1 interpolates linearly, after the Gaussian; None: 0 for bool, 1 for float.

    Returns:
        (i, j), of the dtype that came in.
    """
    if order is None:
        order = 0 if image.dtype == bool else 1
    factors = np.divide(image.shape, shape)
    smooth = image
    if order > 0 and (factors > 1).any():
        smooth = ndimage.gaussian_filter(image, np.maximum(0, (factors - 1) / 2), mode="mirror")
    resized = ndimage.zoom(smooth, 1 / factors, order=order, mode="mirror", grid_mode=True)
    if order > 0:  # Rounding may leave the range by the last digit. `fmin` and `fmax` pass over NaN.
        np.clip(resized, np.fmin.reduce(image, axis=None), np.fmax.reduce(image, axis=None), out=resized)
    return np.asarray(resized)


def pad_or_crop(array: np.ndarray, *lengths: int) -> np.ndarray:
    """Pad with 0 or crop the two in-plane axes about the centre, the smaller half first.

    What this has made of lengths is undone by the lengths before; what was cropped is then 0.

    Args:
        array: (i, j, k).
        lengths: of i and j; one alone is of both.
    """
    for axis, length in enumerate((lengths * 2)[:2]):
        change = length - array.shape[axis]
        half = abs(change) // 2
        if change < 0:
            array = array.take(range(half, half + length), axis=axis)
        elif change > 0:
            pads = [(0, 0)] * array.ndim
            pads[axis] = (half, change - half)
            array = np.pad(array, pads)
    return array


def restore_to_native(array: np.ndarray, grid: InPlaneGrid) -> np.ndarray:
    """Bring a result from the working grid back to the native grid.

    Args:
        array: (size, size, slices); bool masks go back by nearest neighbour, counts (uint8 votes) linearly and rounded,
            fractions linearly.

    Returns:
        (i, j, k) on the native grid, of the dtype that came in. What the forward crop had cut off is 0.
    """
    array = pad_or_crop(array, *grid.scaled_shape[:2])
    if grid.scale != 1.0:
        array = _resize_slices(array, grid.oriented_shape)
    return _undo_orientation(array, grid.orientation)


def slice_axis(grid: InPlaneGrid) -> int:
    """The stored axis along which the network's slices are stacked."""
    return next(stored for stored, (axis, _) in enumerate(grid.orientation) if axis == 2)


def _reference_orientation(volume: Volume) -> Orientation:
    found = nib.orientations.io_orientation(volume.affine)
    # Left-right may run either way: such images are kept as stored, as the reference does.
    if found[0, 0] == 0 and tuple(found[1]) == (1, 1) and tuple(found[2]) == (2, 1):
        return _AXIAL
    return tuple((int(axis), int(flip)) for axis, flip in found)


def _nearest_ras(volume: Volume) -> Orientation:
    """The orientation after which the axes lie nearest to right, anterior, superior.

    Nearest: the sum of the three direction cosines is the largest. Where an image lies between two orientations (turned
    by 45 degrees) the cosines themselves decide. So the answer is one whatever way the image is stored.
    """
    cosines = np.round(volume.affine[:3, :3] / volume.spacing_mm, 6) + 0.0  # No -0.0.

    def nearness(orientation: Orientation) -> tuple[float, ...]:
        turned = np.zeros((3, 3))
        for stored_axis, (axis, flip) in enumerate(orientation):
            turned[:, axis] = cosines[:, stored_axis] * flip
        return round(float(np.trace(turned)), 5), *turned.ravel()

    ways = [tuple(zip(axes, flips, strict=True)) for axes in permutations(range(3)) for flips in _FLIPS]
    return max(ways, key=nearness)


def _reorient(array: np.ndarray, orientation: Orientation) -> np.ndarray:
    turned = array if orientation == _AXIAL else nib.orientations.apply_orientation(array, np.array(orientation))
    return np.ascontiguousarray(turned)


def _undo_orientation(array: np.ndarray, orientation: Orientation) -> np.ndarray:
    if orientation == _AXIAL:
        return array
    back = nib.orientations.ornt_transform(np.array(_AXIAL), np.array(orientation))
    return np.ascontiguousarray(nib.orientations.apply_orientation(array, back))


def _resize_slices(array: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    restored = np.empty(shape, dtype=array.dtype)
    for k in range(shape[2]):
        if array.dtype == bool:
            restored[..., k] = resize_slice(array[..., k], shape[:2])
        else:
            values = resize_slice(array[..., k].astype(np.float64), shape[:2])
            restored[..., k] = values if array.dtype.kind == "f" else np.rint(values).astype(array.dtype)
    return restored
