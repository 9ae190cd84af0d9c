"""What must hold for any grid: forward and back, whatever the size, the spacing, the axes and the flips."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fvv.data import InPlaneGrid, Volume
from fvv.imaging.geometry import pad_or_crop, plan_grid, restore_to_native, to_working_grid

AXES = [
    tuple(zip(order, flips, strict=True))
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)


def volume(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], axes: tuple[tuple[int, int], ...]
) -> Volume:
    """A smooth ball on a grid whose stored axes run along any world axis in any direction."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for stored, (world, sign) in enumerate(axes):
        affine[world, stored] = sign * spacing[world]
    grid = np.ogrid[tuple(slice(0, 1, n * 1j) if n > 1 else slice(0, 1) for n in shape)]
    return Volume(np.asarray(sum((axis - 0.45) ** 2 for axis in grid) < 0.1), affine)


@SETTINGS
@given(
    nx=st.integers(240, 272),
    ny=st.integers(240, 272),
    slices=st.integers(1, 4),
    axes=st.sampled_from(AXES),
)
def test_without_zoom_the_way_back_is_exact_where_nothing_was_cropped(nx, ny, slices, axes):
    shape = tuple((nx, ny, slices)[world] for world, _ in axes)
    image = volume(shape, (1.0, 1.0, 5.0), axes)
    grid = plan_grid(image)
    restored = restore_to_native(to_working_grid(image.array, grid), grid)
    assert restored.shape == image.array.shape
    ones = restore_to_native(to_working_grid(np.ones(shape, dtype=bool), grid), grid)
    assert np.array_equal(restored, image.array & ones)
    assert ones.mean() >= min(1, 256 / nx) * min(1, 256 / ny) - 1e-9


@SETTINGS
@given(
    nx=st.integers(60, 420),
    ny=st.integers(60, 420),
    slices=st.integers(1, 3),
    dx=st.floats(0.4, 3.0),
    axes=st.sampled_from(AXES),
)
def test_shape_and_volume_survive_any_zoom(nx, ny, slices, dx, axes):
    shape = tuple((nx, ny, slices)[world] for world, _ in axes)
    image = volume(shape, (dx, dx, 5.0), axes)
    grid = plan_grid(image)
    working = to_working_grid(image.array, grid)
    assert working.shape == grid.working_shape == (256, 256, slices)
    assert restore_to_native(working, grid).shape == shape
    assert np.isclose(np.prod(grid.spacing_mm) / 1000, grid.voxel_volume_ml)
    if min(nx, ny) / max(nx, ny) > 0.95 and image.array.sum() > 500:  # Nothing is cropped, the ball has many voxels.
        native_ml = image.array.sum() * image.voxel_volume_ml
        assert abs(working.sum() * grid.voxel_volume_ml / native_ml - 1) < 0.1


@SETTINGS
@given(length=st.integers(1, 600), other=st.integers(1, 600))
def test_padding_and_cropping_keep_the_centre(length, other):
    array = np.zeros((length, other, 1))
    array[length // 2, other // 2] = 1
    result = pad_or_crop(array, 256)
    assert result.shape == (256, 256, 1)
    i, j, _ = (int(axis[0]) for axis in np.nonzero(result))
    assert abs(i - 128) <= 1
    assert abs(j - 128) <= 1


@SETTINGS
@given(nx=st.integers(60, 420), ny=st.integers(60, 420), votes=st.integers(0, 10))
def test_a_count_that_is_the_same_everywhere_stays_so(nx, ny, votes):
    grid = plan_grid(Volume(np.zeros((nx, ny, 2)), np.diag([1.0, 1.0, 5.0, 1.0])))
    back = restore_to_native(np.full((256, 256, 2), votes, dtype=np.uint8), grid)
    inside = restore_to_native(np.ones((256, 256, 2), dtype=bool), grid)
    assert back.dtype == np.uint8
    assert back.max() == votes
    assert set(np.unique(back[inside])) <= set(range(votes + 1))


def test_every_orientation_is_covered():
    assert len(AXES) == 48
    assert isinstance(plan_grid(volume((64, 64, 3), (1.0, 1.0, 5.0), AXES[0])), InPlaneGrid)
