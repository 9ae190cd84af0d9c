"""Individual heads: from a label map to MNI coordinates, to a head that can be sampled, to persons of a cohort."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest

from fvv.config import SimulateConfig
from fvv.errors import InputError
from fvv.simulator import anatomies, label_maps
from fvv.simulator.anatomies import anatomy_files, build_individual_head, head_of_person, mirrored
from fvv.simulator.anatomy import closed_hull, signed_distance_mm
from fvv.simulator.case import simulate_case
from fvv.simulator.files import hash_sources
from fvv.simulator.label_maps import LANDMARKS, read_labels, to_mni
from fvv.simulator.regions import CONSTANTS, Region, draw_regions
from fvv.simulator.space import lattice_positions, rotation_matrix

VOXEL_MM = 2.0
TO_MNI = np.eye(4)
TO_MNI[:3, :3] = rotation_matrix((0.15, -0.05, 0.08)) @ np.diag([1.15, 1.08, 1.2])
TO_MNI[:3, 3] = (3.0, -14.0, 8.0)
"""How the head of these tests lies."""
SINUS_MM, EYE_MM = (0.0, 77.0, -5.0), (33.0, 84.0, -30.0)


def block_head(*, around: bool) -> tuple[np.ndarray, np.ndarray]:
    """A head of blocks and balls at the places of real structures; its labels and affine."""
    shape, affine = (100, 116, 100), np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = (-100.0, -112.0, -104.0)
    index = np.indices(shape).reshape(3, -1)
    x, y, z = ((TO_MNI @ affine)[:3, :3] @ index + (TO_MNI @ affine)[:3, 3:]).reshape(3, *shape)

    def block(grown: float, low: float = -30.0) -> np.ndarray:
        return (abs(x) < 67 + grown) & (y > -99 - grown) & (y < 67 + grown) & (z > low - grown) & (z < 75 + grown)

    def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
        return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < radius**2

    labels = np.zeros(shape, dtype=np.int16)
    if around:
        labels[block(20, -60)] = label_maps.SKIN
        labels[block(17, -60)] = label_maps.SOFT_TISSUE
        labels[block(10, -40)] = label_maps.CORTICAL_BONE
        labels[ball(SINUS_MM, 5)] = 0
        labels[ball(EYE_MM, 12)] = label_maps.EYES
        labels[block(4)] = 24
    labels[block(0)] = np.where(x < 0, 3, 42)[block(0)]
    labels[block(-6)] = np.where(x < 0, 2, 41)[block(-6)]
    for landmark in LANDMARKS:
        cx, cy, cz = landmark.centre_mm
        for side, number in ((-1, landmark.left), (1, landmark.right)):
            labels[ball((side * cx, cy, cz), 4.5)] = number
    labels[ball((0, -26, -24), 6)] = 16
    for side, number in ((-1, 4), (1, 43)):
        labels[ball((side * 10, -5, 26), 7)] = number
    return labels, affine


@pytest.fixture(scope="module")
def head():
    return build_individual_head(*block_head(around=True))


@pytest.fixture
def folder(tmp_path):
    labels, affine = block_head(around=False)
    (tmp_path / "maps").mkdir()
    nib.Nifti1Image(labels, affine).to_filename(tmp_path / "maps" / "one.nii.gz")
    labels[0, 0, 0] = 24
    nib.Nifti1Image(labels, affine).to_filename(tmp_path / "maps" / "two.nii.gz")
    return tmp_path / "maps"


def test_the_way_to_mni_is_found_whatever_way_a_head_lies():
    labels, affine = block_head(around=False)
    found = to_mni(labels, affine)
    corners = np.array([(x, y, z, 1.0) for x in (-60, 60) for y in (-90, 60) for z in (-40, 70)])
    own = corners @ np.linalg.inv(TO_MNI).T
    assert np.linalg.norm((own @ found.T - corners)[:, :3], axis=1).max() < 3.0


def test_a_structure_with_stray_voxels_counts_little():
    labels, affine = block_head(around=False)
    usual = to_mni(labels, affine)
    labels[80:90, 20:30, 60:70] = 17
    moved = to_mni(labels, affine)
    middle = np.array([0.0, -15.0, 0.0, 1.0])
    assert np.linalg.norm((moved - usual) @ middle) < 2.0


def test_labels_are_read_upright_however_stored(tmp_path):
    labels, affine = block_head(around=False)
    turned = affine @ np.array([[-1, 0, 0, 99], [0, 0, 1, 0], [0, -1, 0, 99], [0, 0, 0, 1.0]])
    stored = labels[::-1, :, ::-1].transpose(0, 2, 1)
    nib.Nifti1Image(np.ascontiguousarray(stored), turned).to_filename(tmp_path / "turned.nii.gz")
    found, found_affine = read_labels(tmp_path / "turned.nii.gz")
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_allclose(found_affine, affine)


def test_what_is_no_label_map_is_refused(tmp_path):
    path = tmp_path / "image.nii.gz"
    labels, affine = block_head(around=False)
    nib.Nifti1Image(labels.astype(np.float32) + 0.5, affine).to_filename(path)
    with pytest.raises(InputError, match="whole numbers"):
        read_labels(path)
    nib.Nifti1Image(np.where(labels == 10, 0, labels), affine).to_filename(path)
    with pytest.raises(InputError, match=r"structures are missing: 10") as error:
        read_labels(path)
    assert error.value.file == str(path)


def test_structures_lie_where_the_average_head_has_them(head):
    wanted = {
        Region.THALAMUS: (11.6, -18.5, 6.1),
        Region.PALLIDUM: (-20.0, -3.8, -1.5),
        Region.BRAINSTEM: (0, -27, -26),
    }
    points = np.array(list(wanted.values()), dtype=np.float32).T
    assert head.regions.nearest(points).tolist() == list(wanted)
    assert head.parenchyma.sample(points).min() > 0.9
    in_white, in_cortex, in_ventricle = np.array([(40, 0, 40), (40, 0, 73), (10, -5, 26)], dtype=np.float32)[:, :, None]
    assert head.white_matter.sample(in_white) > 0.9 > 0.1 > head.white_matter.sample(in_cortex)
    assert head.parenchyma.sample(in_ventricle) < 0.1
    assert head.ventricle_distance_mm.sample(in_ventricle) == 0
    assert head.hull_distance_mm.sample(in_white) < -20


def test_fissures_take_tissue_from_the_cerebellum_and_give_none(head):
    towards = np.random.default_rng(0).normal(size=(3, 400)).astype(np.float32)
    towards /= np.linalg.norm(towards, axis=0)
    towards[1:] = -np.abs(towards[1:])  # Away from the other structures.
    centre = np.array([[24.0], [-61.9], [-37.0]], dtype=np.float32)
    beyond = head.parenchyma.sample(centre + 8.0 * towards)
    within = head.parenchyma.sample(centre + 2.0 * towards)
    assert beyond.max() < 0.1
    assert 0.3 < within.min() < 0.8
    assert head.white_matter.sample(centre + 2.0 * towards).max() < 0.1


def test_bone_air_and_eyes_lie_where_the_labels_say(head):
    around = head.surroundings
    sinus, eye, bone, muscle, outside = (
        np.array(place, dtype=np.float32)[:, None] for place in (SINUS_MM, EYE_MM, (0, 0, 82), (0, 0, -52), (0, 0, 100))
    )
    assert around.air.sample(sinus) > 0.9 > 0.1 > around.bone.sample(sinus)
    assert around.vitreous.sample(eye) > 0.9
    assert around.bone.sample(bone) > 0.9
    assert around.air.sample(outside) == 0 > around.outline_mm.sample(outside)
    assert around.muscle.sample(muscle) + around.fat.sample(muscle) > 0.9
    # The neck goes on below the map's lowest slice.
    assert (around.outline_mm.array[:, :, 0] > 0).mean() > 0.05


def test_the_csf_around_the_brain_ends_at_one_distance_however_wide_it_is():
    radius = np.sqrt(sum(part**2 for part in lattice_positions()))
    brain = radius < 60
    alone = anatomies._hull_distance(brain, np.zeros_like(brain))
    np.testing.assert_allclose(alone, signed_distance_mm(closed_hull(brain)))
    for width_mm in (4.0, 9.0):
        found = anatomies._hull_distance(brain, radius < 60 + width_mm)
        assert found[(radius > 60) & (radius < 58 + width_mm)].max() < anatomies.CAVITY
        assert found[radius > 64 + width_mm].min() > anatomies.CAVITY
        np.testing.assert_allclose(found[radius < 58], alone[radius < 58])


def test_mirroring_exchanges_left_and_right(head):
    other = mirrored(head)
    points = np.random.default_rng(0).uniform(-60, 60, (3, 50)).astype(np.float32)
    across = points * np.array([[-1.0], [1.0], [1.0]], dtype=np.float32)
    for name in ("parenchyma", "white_matter", "hull_distance_mm", "ventricle_distance_mm"):
        np.testing.assert_allclose(getattr(other, name).sample(across), getattr(head, name).sample(points), atol=1e-4)
    np.testing.assert_allclose(
        other.ventricle_pull[0].sample(across), -head.ventricle_pull[0].sample(points), atol=1e-5
    )
    np.testing.assert_array_equal(mirrored(other).regions.array, head.regions.array)


def test_persons_differ_in_their_regions_and_every_region_has_constants():
    assert set(CONSTANTS) == set(Region)
    one, two = (draw_regions(np.random.default_rng(seed)) for seed in (1, 2))
    assert (one.t2 != two.t2).all()
    assert one.t2[Region.PALLIDUM] < one.t2[Region.CORTEX]


def test_files_are_known_by_content_not_by_name_or_place(folder):
    config = SimulateConfig(anatomies=folder)
    before, sources = [file.sha256 for file in anatomy_files(config)], hash_sources(config)
    other = folder.parent / "other"
    other.mkdir()
    shutil.copy(folder / "one.nii.gz", other / "z.nii.gz")
    shutil.copy(folder / "two.nii.gz", other / "a.nii.gz")
    moved = SimulateConfig(anatomies=other)
    assert [file.sha256 for file in anatomy_files(moved)] == before
    assert hash_sources(moved) == sources != hash_sources(SimulateConfig(anatomies=other, anatomy_files=("a.nii.gz",)))
    assert "anatomies" not in hash_sources(SimulateConfig())


def test_files_that_are_not_there_are_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"no such label map: three\.nii\.gz"):
        anatomy_files(SimulateConfig(anatomies=folder, anatomy_files=("three.nii.gz",)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no label map"):
        anatomy_files(SimulateConfig(anatomies=tmp_path / "empty"))


def test_persons_choose_among_all_anatomies_and_keep_theirs(folder, head, monkeypatch):
    monkeypatch.setattr(anatomies, "_prepared", lambda file: head if "one" in file.path.name else None)
    monkeypatch.setattr(anatomies, "mirrored", lambda chosen: (chosen, "mirrored"))
    config = SimulateConfig(anatomies=folder)
    chosen = [head_of_person(person, config) for person in range(1, 30)]
    assert chosen == [head_of_person(person, config) for person in range(1, 30)]
    for kind in (head, None, (head, "mirrored"), (None, "mirrored")):
        assert kind in chosen


def test_a_person_with_an_anatomy_is_examined_like_any_other(head, monkeypatch):
    monkeypatch.setattr("fvv.simulator.patient.FINE_VOXEL_MM", 2.5)
    monkeypatch.setattr("fvv.simulator.patient.SUBSLICES", 1)
    case = simulate_case(1, head, SimulateConfig(seed=3, skull_stripped_share=0.0, stroke_free_share=1.0))
    assert case.record.anatomy is None  # This head was not read from a file.
    assert 700 < case.record.brain_volume_ml < 2600
    assert case.b1000[case.brain].mean() > 3 * case.b1000[:5, :5].mean()
