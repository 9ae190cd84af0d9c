from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from builders import ellipsoid
from fvv.data import Volume
from fvv.errors import GeometryError
from fvv.imaging.geometry import (
    corner_displacement_mm,
    pad_or_crop,
    plan_grid,
    resample_onto,
    restore_to_native,
    scale_slices,
    slice_axis,
    to_working_grid,
)

AXIAL = np.diag([1.0, 1.0, 5.0, 1.0])


def volume_of(shape: tuple[int, int, int], affine: np.ndarray = AXIAL) -> Volume:
    return Volume(np.zeros(shape), affine)


@pytest.mark.parametrize(
    ("nx", "ny", "scale"),
    [
        (256, 256, 1.0),
        (240, 272, 1.0),
        (239, 260, 256 / 260),  # one side too small: the smaller of the two ratios
        (260, 239, 256 / 260),
        (192, 192, 256 / 192),
        (128, 160, 1.6),
        (320, 260, 256 / 260),  # too large: the larger ratio, so that the crop cuts
        (200, 300, 256 / 200),  # both: the later rule wins
        (512, 512, 0.5),
    ],
)
def test_zoom_follows_the_reference_rule(nx: int, ny: int, scale: float) -> None:
    assert plan_grid(volume_of((nx, ny, 3))).scale == pytest.approx(scale)


def test_the_rule_scales_with_the_working_grid() -> None:
    for nx, ny in ((239, 260), (250, 270), (300, 256)):
        twice = plan_grid(volume_of((2 * nx, 2 * ny, 3)), size=512)
        assert twice.scale == plan_grid(volume_of((nx, ny, 3))).scale
        assert to_working_grid(np.ones((2 * nx, 2 * ny, 3), dtype=bool), twice).shape == (512, 512, 3)
    assert plan_grid(volume_of((479, 500, 3)), size=512).scale == 512 / 500


@pytest.mark.parametrize("shape", [(256, 256, 3), (192, 180, 3), (128, 160, 2), (241, 272, 2), (250, 262, 2)])
def test_masks_come_back_as_they_went(shape: tuple[int, int, int]) -> None:
    mask = ellipsoid(shape, (shape[0] / 2, shape[1] / 2, 1), (shape[0] / 4, shape[1] / 3, 5))
    grid = plan_grid(volume_of(shape))
    working = to_working_grid(mask, grid)
    assert working.shape == (256, 256, shape[2])
    assert working.dtype == bool
    back = restore_to_native(working, grid)
    assert back.shape == shape
    overlap = 2 * (back & mask).sum() / (back.sum() + mask.sum())
    assert overlap > (0.9999 if grid.scale == 1.0 else 0.99)


@pytest.mark.parametrize("shape", [(192, 192, 2), (128, 128, 2), (128, 160, 2), (300, 280, 2)])
def test_volume_in_ml_survives_the_zoom(shape: tuple[int, int, int]) -> None:
    mask = ellipsoid(shape, (shape[0] / 2, shape[1] / 2, 0.5), (shape[0] / 5, shape[1] / 5, 5))
    volume = volume_of(shape)
    grid = plan_grid(volume)
    before = mask.sum() * volume.voxel_volume_ml
    after = to_working_grid(mask, grid).sum() * grid.voxel_volume_ml
    assert after == pytest.approx(before, rel=0.01)
    assert np.prod(grid.spacing_mm) / 1000 == pytest.approx(grid.voxel_volume_ml)


def test_padding_puts_the_smaller_half_first() -> None:
    line = np.arange(1, 4, dtype=float)[:, None, None] * np.ones((3, 6, 1))
    padded = pad_or_crop(line, 6)
    assert padded[:, 0, 0].tolist() == [0, 1, 2, 3, 0, 0]
    assert pad_or_crop(padded, 3)[:, 0, 0].tolist() == [1, 2, 3]
    assert pad_or_crop(line, 4)[:, 0, 0].tolist() == [1, 2, 3, 0]
    assert pad_or_crop(line, 2)[:, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("nx", [255, 257])
def test_one_voxel_too_many_or_too_few_is_cut_or_added_at_the_end(nx: int) -> None:
    image = np.arange(1.0, nx + 1)[:, None, None] * np.ones((nx, 256, 1))
    grid = plan_grid(volume_of((nx, 256, 1)))
    kept = np.minimum(image, 256) * (image <= 256)
    np.testing.assert_array_equal(restore_to_native(to_working_grid(image, grid), grid), kept)


def test_the_way_back_is_nearest_for_masks_and_linear_for_votes() -> None:
    mask = np.zeros((256, 256, 1), dtype=bool)
    mask[100, 100] = True
    grid = plan_grid(volume_of((768, 768, 1)))  # three times as fine
    back = restore_to_native(mask, grid)
    assert back.sum() == 9
    assert back[300:303, 300:303].all()
    votes = np.zeros((256, 256, 1), np.uint8)
    votes[128:] = 100
    back = restore_to_native(votes, plan_grid(volume_of((512, 512, 1))))
    assert back[250:262, 9, 0].tolist() == [0] * 5 + [25, 75] + [100] * 5


def test_votes_come_back_rounded_not_truncated() -> None:
    grid = plan_grid(volume_of((128, 128, 1)))
    votes = np.full((256, 256, 1), 9, np.uint8)
    votes[:, 128:] = 10
    back = restore_to_native(votes, grid)
    assert back.dtype == np.uint8
    assert set(np.unique(back)) == {9, 10}
    assert (back == 10).sum() == 128 * 64


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product([1, -1], repeat=3)))
def test_any_storage_order_gives_the_same_working_image(axes: tuple[int, ...], flips: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    image = nib.Nifti1Image(rng.random((250, 244, 4)), AXIAL)
    target = np.array([[axis, flip] for axis, flip in zip(axes, flips, strict=True)])
    stored = image.as_reoriented(target)
    volume = Volume(np.asarray(stored.dataobj), stored.affine)
    grid = plan_grid(volume)
    working = to_working_grid(volume.array, grid)
    expected = to_working_grid(np.asarray(image.dataobj), plan_grid(Volume(np.asarray(image.dataobj), AXIAL)))
    np.testing.assert_array_equal(working, expected)
    np.testing.assert_array_equal(restore_to_native(working, grid), volume.array)
    assert volume.array.shape[slice_axis(grid)] == 4


def test_the_reference_keeps_an_image_stored_right_to_left(rng: np.random.Generator) -> None:
    image = rng.random((256, 256, 3))
    volume = Volume(image, AXIAL @ np.diag([-1.0, 1.0, 1.0, 1.0]))
    np.testing.assert_array_equal(to_working_grid(image, plan_grid(volume, keep_left_right=True)), image)
    np.testing.assert_array_equal(to_working_grid(image, plan_grid(volume)), image[::-1])


@pytest.mark.parametrize("angles_deg", [(0, 0, 0), (20, -10, 5), (45, 0, 0), (0, 45, 45), (30, 40, 80)])
def test_oblique_images_turn_to_one_orientation_however_stored(angles_deg: tuple[float, ...]) -> None:
    """Also where two orientations are equally near."""
    rng = np.random.default_rng(3)
    rotation = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = np.float32(rotation @ np.diag([0.9, 1.1, 5.0]))
    image = rng.random((7, 6, 4))
    ways = []
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product([1, -1], repeat=3):
            target = np.array([[axis, flip] for axis, flip in zip(axes, flips, strict=True)])
            stored = nib.orientations.apply_orientation(image, target)
            volume = Volume(stored, affine @ nib.orientations.inv_ornt_aff(target, image.shape))
            grid = plan_grid(volume, size=8)
            working = to_working_grid(volume.array, grid)
            ways.append((working.tobytes(), grid.spacing_mm, grid.voxel_volume_ml))
    assert len(ways) == 48
    assert len(set(ways)) == 1


def test_resampling_onto_the_own_grid_changes_nothing(rng: np.random.Generator) -> None:
    volume = Volume(rng.random((8, 9, 5)), np.diag([2.0, 2.0, 4.0, 1.0]))
    np.testing.assert_allclose(resample_onto(volume, volume, order=1).array, volume.array, atol=1e-12)


def test_resampling_follows_a_shift_of_one_voxel(rng: np.random.Generator) -> None:
    volume = Volume(rng.random((8, 9, 5)), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = 1.0
    moved = resample_onto(volume, Volume(volume.array, shifted), order=0)
    np.testing.assert_allclose(moved.array[:-1], volume.array[1:])


def test_resampling_is_linear_for_images_and_takes_the_shape_of_the_other_grid() -> None:
    image = np.zeros((6, 3, 3))
    image[3:] = 8.0
    halves = Volume(np.zeros((10, 3, 3)), np.diag([0.5, 1.0, 1.0, 1.0]))
    found = resample_onto(Volume(image, np.eye(4)), halves, order=1)
    assert found.array[:, 1, 1].tolist() == [0, 0, 0, 0, 0, 4, 8, 8, 8, 8]
    np.testing.assert_array_equal(found.affine, halves.affine)


def test_a_resampled_roi_is_a_roi() -> None:
    roi = np.zeros((6, 3, 3), dtype=bool)
    roi[3:] = True
    found = resample_onto(Volume(roi, np.eye(4)), Volume(np.zeros((12, 3, 3)), np.diag([0.5, 1, 1, 1])), order=0)
    assert found.array.dtype == bool
    assert not found.array[:5].any()  # The voxel in the middle goes either way.
    assert found.array[6:11, 1, 1].all()


def test_corner_displacement_is_the_largest_of_all_voxels(rng: np.random.Generator) -> None:
    for _ in range(20):
        shape = tuple(int(n) for n in rng.integers(2, 7, 3))
        a, b = (Volume(np.zeros(shape), AXIAL + np.pad(rng.normal(0, 0.02, (3, 4)), ((0, 1), (0, 0)))) for _ in "ab")
        places = np.stack([*np.indices(shape).reshape(3, -1), np.ones(np.prod(shape))])
        moved = np.linalg.norm(((a.affine - b.affine) @ places)[:3], axis=0)
        assert corner_displacement_mm(a, b) == pytest.approx(moved.max())


def test_corner_displacement_is_a_distance_in_mm() -> None:
    shifted = AXIAL.copy()
    shifted[:3, 3] = (3.0, 4.0, 0.0)
    assert corner_displacement_mm(volume_of((4, 4, 4)), volume_of((4, 4, 4), shifted)) == pytest.approx(5.0)


def test_singular_affine_is_refused() -> None:
    with pytest.raises(GeometryError, match="singular"):
        Volume(np.zeros((2, 2, 2)), np.diag([1.0, 1.0, 0.0, 1.0]))


@pytest.mark.parametrize("shape", [(1024, 2, 30), (2, 1024, 30), (512, 25, 60), (64, 64, 1000)])
def test_what_would_take_gigabytes_is_refused_before(shape: tuple[int, int, int]) -> None:
    with pytest.raises(GeometryError, match=" x ".join(map(str, shape))):
        plan_grid(Volume(np.broadcast_to(0.0, shape), np.eye(4)))


@pytest.mark.parametrize("shape", [(1024, 1024, 30), (25, 256, 256), (512, 200, 60), (256, 256, 384)])
def test_odd_but_possible_matrices_are_not(shape: tuple[int, int, int]) -> None:
    grid = plan_grid(Volume(np.broadcast_to(0.0, shape), np.eye(4)))
    assert np.prod(grid.scaled_shape) <= 8 * np.prod(grid.working_shape)


def test_scaled_slices_keep_a_constant() -> None:
    shape = (128, 128, 10)
    scaled = scale_slices(np.full(shape, 5.0), plan_grid(volume_of(shape)))
    np.testing.assert_allclose(scaled, 5.0)
