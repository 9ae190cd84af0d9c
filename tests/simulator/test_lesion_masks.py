"""Strokes shaped like real masks: laws of volume, place and side; what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fvv.config import SimulateConfig
from fvv.errors import InputError
from fvv.io.nifti import write_volume
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.lesion_masks import (
    ShapeChange,
    draw_change,
    list_masks,
    mask_depth,
    mask_lesion,
    masks_digest,
    read_mask,
)
from fvv.simulator.lesions import VOXEL_ML
from fvv.simulator.patient import choose_lesion
from fvv.simulator.space import lattice_positions
from simulations import ball_head

AFFINE = np.array([[-1.0, 0, 0, 78.0], [0, 1, 0, -112.0], [0, 0, 1, -50.0], [0, 0, 0, 1]])
SHAPE = (157, 189, 136)


def ellipsoid(centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> np.ndarray:
    """A mask on the grid of `AFFINE`."""
    index = np.indices(SHAPE, dtype=np.float32)
    mm = np.einsum("ij,j...->i...", AFFINE[:3, :3].astype(np.float32), index)
    mm += AFFINE[:3, 3].reshape(3, 1, 1, 1).astype(np.float32)
    squares = [((mm[axis] - centre_mm[axis]) / radii_mm[axis]) ** 2 for axis in range(3)]
    return np.asarray(sum(squares) < 1)


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return ball_head()


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three strokes of 14, 1.2 and 0.003 mL, on the right."""
    folder = tmp_path_factory.mktemp("masks")
    write_volume(folder / "large.nii.gz", ellipsoid((40, -10, 10), (12, 18, 16)).astype(np.uint8), AFFINE)
    write_volume(folder / "medium.nii.gz", ellipsoid((25, 5, 5), (5, 9, 6.5)).astype(np.uint8), AFFINE)
    small = np.zeros(SHAPE, np.uint8)
    small[60, 100, 60:63] = 1
    write_volume(folder / "small.nii.gz", small, AFFINE)
    return folder


@pytest.mark.parametrize("name", ["large", "medium"])
@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_the_volume_is_the_masks(masks: Path, model: HeadModel, name: str, seed: int | None) -> None:
    mask = read_mask(masks / f"{name}.nii.gz")
    change = ShapeChange() if seed is None else draw_change(np.random.default_rng(seed))
    inside = mask_depth(mask, change, model) > 0
    assert inside.sum() * VOXEL_ML == pytest.approx(mask.volume_ml, rel=0.1)


def test_the_lesion_lies_where_the_mask_lies(masks: Path, model: HeadModel) -> None:
    inside = mask_depth(read_mask(masks / "large.nii.gz"), ShapeChange(), model) > 0
    centre = [np.broadcast_to(axis, inside.shape)[inside].mean() for axis in lattice_positions()]
    np.testing.assert_allclose(centre, (40, -10, 10), atol=1.0)


def test_three_voxels_survive(masks: Path, model: HeadModel) -> None:
    mask = read_mask(masks / "small.nii.gz")
    assert mask.volume_ml == pytest.approx(0.003)
    for seed in range(4):
        assert mask_depth(mask, draw_change(np.random.default_rng(seed)), model).max() > 0


def test_a_flipped_mask_gives_the_mirrored_lesion(masks: Path, model: HeadModel, tmp_path: Path) -> None:
    write_volume(tmp_path / "flipped.nii.gz", ellipsoid((-40, -10, 10), (12, 18, 16)).astype(np.uint8), AFFINE)
    straight = mask_depth(read_mask(masks / "large.nii.gz"), ShapeChange(), model)
    flipped = mask_depth(read_mask(tmp_path / "flipped.nii.gz"), ShapeChange(), model)
    mirrored = mask_depth(read_mask(masks / "large.nii.gz"), ShapeChange(mirrored=True), model)
    np.testing.assert_array_equal((flipped > 0)[::-1], straight > 0)
    np.testing.assert_array_equal(mirrored > 0, flipped > 0)


def test_a_mirrored_change_is_the_mirror_image_of_the_change(masks: Path, model: HeadModel) -> None:
    mask, change = read_mask(masks / "large.nii.gz"), draw_change(np.random.default_rng(3))
    parts = {"turn": change.turn, "shift_mm": change.shift_mm, "elastic_mm": change.elastic_mm}
    one, other = (mask_depth(mask, ShapeChange(mirrored=side, **parts), model) > 0 for side in (False, True))
    assert (one[::-1] != other).mean() < 1e-5


def test_outside_the_brain_and_in_its_ventricles_there_is_no_stroke(model: HeadModel, tmp_path: Path) -> None:
    # Half of it lies beyond the ball's surface, and it holds the ventricle.
    write_volume(tmp_path / "wide.nii.gz", ellipsoid((30, -15, 0), (50, 12, 12)).astype(np.uint8), AFFINE)
    inside = mask_depth(read_mask(tmp_path / "wide.nii.gz"), ShapeChange(), model) > 0
    assert inside.any()
    assert not inside[model.hull_distance_mm.array >= 0].any()
    assert not inside[model.ventricle_distance_mm.array <= 1.0].any()


def test_the_same_seed_gives_the_same_stroke_and_its_record_names_the_mask(masks: Path, model: HeadModel) -> None:
    def lesion(seed: int):
        shapes, rng = (np.random.default_rng((seed, part)) for part in range(2))
        return mask_lesion(shapes, rng, list_masks(masks), model, SimulateConfig(), atlas_share=1.0)

    first, again, other = lesion(1), lesion(1), lesion(2)
    assert (first.pattern, first.mask in {"large.nii.gz", "medium.nii.gz", "small.nii.gz"}) == ("mask", True)
    np.testing.assert_array_equal(first.depth_mm, again.depth_mm)
    assert first.appearance == again.appearance
    assert not np.array_equal(first.depth_mm, other.depth_mm)


def test_masks_take_their_share_and_leave_the_other_strokes_as_they_are(masks: Path, model: HeadModel) -> None:
    def lesion(config: SimulateConfig, person: int):
        rng = np.random.default_rng(person)
        return choose_lesion(rng, model, config, person=person, attempt=0, atlas_share=1.0)

    without, half = SimulateConfig(), SimulateConfig(lesions=masks, lesion_mask_share=0.5)
    kinds = []
    for person in range(1, 21):
        usual, one = lesion(without, person), lesion(half, person)
        kinds.append(one.mask is not None)
        if one.mask is None:
            np.testing.assert_array_equal(one.depth_mm, usual.depth_mm)
    assert 4 <= sum(kinds) <= 16
    only = SimulateConfig(lesions=masks, lesion_mask_share=1.0, lesion_files=("medium.nii.gz",))
    assert {lesion(only, person).mask for person in range(4)} == {"medium.nii.gz"}


def test_the_hash_is_of_names_and_contents_and_not_of_the_place(masks: Path, tmp_path: Path) -> None:
    copies = [tmp_path / path.name for path in list_masks(masks)]
    for path, copy in zip(list_masks(masks), copies, strict=True):
        copy.write_bytes(path.read_bytes())
    assert masks_digest(list_masks(tmp_path)) == masks_digest(list_masks(masks))
    write_volume(copies[0], ellipsoid((40, -10, 10), (12, 18, 17)).astype(np.uint8), AFFINE)
    assert masks_digest(list_masks(tmp_path)) != masks_digest(list_masks(masks))


def test_folders_without_the_masks_are_refused(masks: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no stroke mask"):
        list_masks(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        list_masks(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"not there, such as other\.nii\.gz"):
        list_masks(masks, ("large.nii.gz", "other.nii.gz"))


def test_what_is_no_mask_in_mni_space_is_refused(tmp_path: Path) -> None:
    labels = ellipsoid((40, -10, 10), (5, 5, 5)).astype(np.uint8)
    labels[0, 0, 0] = 2
    far = AFFINE.copy()
    far[:3, 3] += 300.0
    for name, array, affine, message in (
        ("labels", labels, AFFINE, "not a binary mask"),
        ("empty", np.zeros(SHAPE, np.uint8), AFFINE, "an empty mask"),
        ("far", ellipsoid((40, -10, 10), (5, 5, 5)).astype(np.uint8), far, r"centre is at \(340, 290, 310\) mm"),
    ):
        write_volume(tmp_path / f"{name}.nii.gz", array, affine)
        with pytest.raises(InputError, match=message):
            read_mask(tmp_path / f"{name}.nii.gz")
