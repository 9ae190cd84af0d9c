"""Real heads with a simulated stroke: laws, on a synthetic head that is read as if it were real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from fvv.config import SimulateConfig
from fvv.data import Participant
from fvv.errors import InputError
from fvv.io.nifti import write_volume
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.lesions import Lesion
from fvv.simulator.real_case import case_on_head
from fvv.simulator.real_heads import RealHead, choose_head, heads_digest, known_head, load_head, noise_level
from fvv.simulator.real_stroke import WrittenStroke, denoised, flair_factor, tissue_share, typical_adc, write_stroke
from fvv.simulator.registration import fit_to_atlas
from fvv.simulator.space import lattice_positions, rotation_matrix
from simulations import APPEARANCE, ball_head

ADC = 0.8e-3
NOISE = 12.0
SPACING = np.array([2.0, 2.0, 4.0])
SHAPE = (88, 96, 42)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ball is the same from all sides: every pitch is right."""
    monkeypatch.setattr("fvv.simulator.registration.PITCHES_RAD", (0.0,))
    monkeypatch.setattr("fvv.simulator.registration.FINE", (1500, 2))


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return ball_head()


def ball_images(noise: float = NOISE, *, turned: bool = False) -> tuple[RealHead, np.ndarray]:
    """A ball of uniform brain (radius 75 mm) with a ventricle of 8 mm, b0 1000; and its depth in mm."""
    affine = np.diag([*SPACING, 1.0])
    if turned:
        affine[:3, :3] = rotation_matrix((0.2, 0.05, 0.1)) @ affine[:3, :3]
    affine[:3, 3] = np.array([3.0, -20.0, 4.0]) - affine[:3, :3] @ (np.array(SHAPE) / 2.0)
    mm = np.tensordot(affine[:3, :3], np.indices(SHAPE), axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    radius = np.linalg.norm(mm - np.array([3.0, -20.0, 4.0]).reshape(3, 1, 1, 1), axis=0)
    brain, fluid = radius < 75.0, radius < 8.0
    clean0 = np.where(fluid, 2800.0, 1000.0) * brain
    clean1 = clean0 * np.exp(-1000.0 * np.where(fluid, 3.0e-3, ADC))
    rng = np.random.default_rng(0)
    b0, b1000 = (
        np.rint(np.hypot(image + noise * rng.standard_normal(SHAPE), noise * rng.standard_normal(SHAPE)))
        for image in (clean0, clean1)
    )
    to_atlas = np.eye(4)
    to_atlas[:3, 3] = (-3.0, 5.0, -4.0)
    return RealHead("ball", "A", b0, b1000, brain, affine, to_atlas, (noise, noise)), 75.0 - radius


@pytest.fixture(scope="module")
def head() -> RealHead:
    return ball_images()[0]


def ball_lesion(centre_mm: tuple[float, float, float] = (40, -15, 0), radius_mm: float = 20.0, **appearance) -> Lesion:
    x, y, z = lattice_positions()
    cx, cy, cz = centre_mm
    depth = radius_mm - np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2)
    even = {"core_to_rim": 0.0, "patchiness": 0.0, "effacement": 0.0, **appearance}
    return Lesion("ball", depth.astype(np.float32), replace(APPEARANCE, **even))


def written(head: RealHead, lesion: Lesion, onset_h: float = 6.0, **settings) -> WrittenStroke:
    return write_stroke(head, lesion, onset_h=onset_h, rng=np.random.default_rng(1), config=SimulateConfig(**settings))


def inner(roi: np.ndarray) -> np.ndarray:
    """Away from the lesion's edge."""
    return ndimage.binary_erosion(roi, iterations=2)


def test_without_a_stroke_the_pair_comes_out_unchanged(head: RealHead, model: HeadModel) -> None:
    case = case_on_head(1, head, model, SimulateConfig(stroke_free_share=1.0))
    np.testing.assert_array_equal(case.b0, head.b0)
    np.testing.assert_array_equal(case.b1000, head.b1000)
    assert (case.b0.dtype, case.b1000.dtype) == (np.int16, np.int16)
    assert not case.stroke.any()
    record = case.record
    assert (record.pattern, record.dwi_flair_mismatch, record.head, record.patient_id) == ("none", None, "ball", "A")


def test_images_that_are_no_whole_numbers_stay_so(head: RealHead, model: HeadModel) -> None:
    part = replace(head, b0=head.b0 / 1000.0, b1000=head.b1000 / 1000.0)
    case = case_on_head(1, part, model, SimulateConfig(stroke_free_share=1.0))
    np.testing.assert_array_equal(case.b1000, (head.b1000 / 1000.0).astype(np.float32))


def test_outside_the_lesion_nothing_changes(head: RealHead) -> None:
    stroke = written(head, ball_lesion())
    far = ~ndimage.binary_dilation(stroke.roi, iterations=4)
    np.testing.assert_array_equal(stroke.b0[far], head.b0[far])
    np.testing.assert_array_equal(stroke.b1000[far], head.b1000[far])


def test_the_rois_volume_is_the_lesions(head: RealHead) -> None:
    stroke = written(head, ball_lesion())
    expected_ml = 4.0 / 3.0 * np.pi * 20.0**3 / 1000.0
    assert stroke.roi.sum() * np.prod(SPACING) / 1000.0 == pytest.approx(expected_ml, rel=0.05)


@pytest.mark.parametrize("factor", [0.45, 0.7])
def test_adc_falls_by_the_factor(head: RealHead, factor: float) -> None:
    stroke = written(head, ball_lesion(adc_factor=factor, core_to_rim=0.0))
    core = inner(stroke.roi)
    adc = np.log(stroke.b0[core].mean() / stroke.b1000[core].mean()) / 1000.0
    # `apply_stroke` leaves the rim's ADC up to 0.08 higher.
    assert adc / ADC == pytest.approx(factor + 0.03, abs=0.05)


def test_b0_grows_with_t2_and_not_before(head: RealHead) -> None:
    ratios = []
    for hours in (0.5, 6.0, 24.0):
        stroke = written(head, ball_lesion(), hours)
        core = inner(stroke.roi)
        ratios.append(stroke.b0[core].mean() / head.b0[core].mean())
    assert ratios[0] == pytest.approx(1.0, abs=1e-6)
    assert ratios[0] < ratios[1] < ratios[2]


def test_where_t2_has_not_changed_flair_shows_nothing(head: RealHead) -> None:
    early, late = (written(head, ball_lesion(effacement=0.8), hours) for hours in (0.7, 40.0))
    assert early.roi.any()
    assert not early.flair_visible.any()
    assert late.flair_visible.sum() > 0.8 * late.roi.sum()
    assert not (late.flair_visible & ~late.roi).any()


@pytest.mark.parametrize("image", ["b0", "b1000"])
def test_noise_in_the_lesion_is_that_around_it(head: RealHead, image: str) -> None:
    stroke = written(head, ball_lesion(adc_factor=0.4, t2_amplitude=1.4), 40.0)
    core, around = inner(stroke.roi), inner(head.brain & ~ndimage.binary_dilation(stroke.roi, iterations=3))
    changed, before = getattr(stroke, image), getattr(head, image)
    assert changed[core].mean() > 1.3 * before[core].mean()
    assert noise_level(changed, core) == pytest.approx(noise_level(before, around), rel=0.15)


def test_the_floor_of_magnitude_images_stays(model: HeadModel) -> None:
    """Where b1000 is noise alone, an infarct of little signal adds little."""
    quiet, _ = ball_images(noise=300.0)
    stroke = written(quiet, ball_lesion(adc_factor=0.5), 0.5)
    core = inner(stroke.roi)
    gain = stroke.b1000[core].mean() - quiet.b1000[core].mean()
    # Without noise it would be 1000 (exp(-0.4) - exp(-0.8)) = 221.
    assert 0 < gain < 221.0


def test_csf_in_the_lesion_stays_csf(head: RealHead) -> None:
    """The lesion's ball holds the ventricle."""
    stroke = written(head, ball_lesion((0, -15, 0), 24.0))
    ventricle = head.b0 > 2400.0
    assert not stroke.roi[ventricle].any()
    assert np.abs(stroke.b0[ventricle] / head.b0[ventricle] - 1.0).max() < 0.05


def test_swelling_squeezes_fluid_and_lets_tissue_grow(model: HeadModel) -> None:
    head, _ = ball_images(noise=0.0)
    mixed = np.zeros(SHAPE, bool)
    mixed[62:68, 46:52, 20:22] = True
    # Half of the room is CSF.
    b0, b1000 = head.b0.copy(), head.b1000.copy()
    b0[mixed], b1000[mixed] = 1900.0, 500.0 * np.exp(-0.8) + 1400.0 * np.exp(-3.0)
    head = replace(head, b0=b0, b1000=b1000)
    wide, narrow = (written(head, ball_lesion(effacement=share), 0.5) for share in (0.0, 0.8))
    assert narrow.b0[mixed].mean() < 0.8 * wide.b0[mixed].mean()
    assert narrow.b1000[mixed].mean() > 1.2 * wide.b1000[mixed].mean()
    elsewhere = inner(narrow.roi) & ~ndimage.binary_dilation(mixed, iterations=2)
    np.testing.assert_allclose(narrow.b0[elsewhere], wide.b0[elsewhere], rtol=0.02)


def test_partial_volume_at_the_edge(model: HeadModel) -> None:
    head, _ = ball_images(noise=0.0)
    stroke = written(head, ball_lesion(), 24.0)
    rise = (stroke.b1000 - head.b1000)[head.brain & (head.b0 == 1000.0)]
    # The core rises more than the rim, by a fifth; what lies between nothing and the rim is partial volume.
    partly = (rise > 0.1 * rise.max()) & (rise < 0.6 * rise.max())
    assert 0.05 < partly.sum() / (rise > 0.6 * rise.max()).sum() < 0.7


def test_a_lesion_on_the_other_side_gives_the_mirror_image() -> None:
    head, _ = ball_images(noise=0.0)
    centre = head.affine[:3, :3] @ (np.array(SHAPE) / 2.0) + head.affine[:3, 3]
    # The image is symmetric about voxel 44: 1 to 87 are mirrored.
    assert centre[0] == pytest.approx(3.0)
    right, left = (written(head, ball_lesion((x, -15, 0))).roi[1:] for x in (40, -40))
    assert right.any()
    np.testing.assert_array_equal(right, left[::-1])


def test_same_seed_same_case(head: RealHead, model: HeadModel) -> None:
    config = SimulateConfig(stroke_free_share=0.0, seed=3)
    one, again, other = (case_on_head(number, head, model, config) for number in (1, 1, 2))
    assert one.record == again.record
    np.testing.assert_array_equal(one.b1000, again.b1000)
    assert not np.array_equal(one.b1000, other.b1000)
    assert one.stroke.any()
    assert one.flair is None
    assert one.record.lesion_volume_ml == pytest.approx(one.stroke.sum() * np.prod(SPACING) / 1000.0)


def test_persons_take_turns_whatever_the_number_of_their_examinations() -> None:
    people = {name: Participant(name, name[0]) for name in ("a1", "a2", "a3", "b1")}
    chosen = [choose_head(people, number, np.random.default_rng(number)) for number in range(1, 41)]
    assert [one.person_id for one in chosen] == ["a", "b"] * 20
    assert {one.examination_id for one in chosen} == set(people)


def write_head(folder: Path, head: RealHead) -> None:
    folder.mkdir(parents=True)
    for name in ("b0", "b1000"):
        write_volume(folder / f"{name}.nii.gz", getattr(head, name).astype(np.int16), head.affine)


def test_a_head_is_read_and_found(head: RealHead, model: HeadModel, tmp_path: Path) -> None:
    write_head(tmp_path / "ball", head)
    found = load_head(tmp_path / "ball", "A", model)
    np.testing.assert_array_equal(found.b0, head.b0)
    assert typical_adc(found) == pytest.approx(ADC, rel=0.03)
    assert found.noise == pytest.approx((NOISE, NOISE), rel=0.15)
    assert found.b_s_mm2 == 1000.0


@pytest.mark.parametrize("turned", [False, True])
def test_the_fit_lays_the_ball_upon_the_ball(model: HeadModel, turned: bool) -> None:
    head, _ = ball_images(turned=turned)
    to_atlas = fit_to_atlas(head.brain, head.b0 > 2000.0, head.affine, model)
    np.testing.assert_allclose(to_atlas[:3, :3] @ (3.0, -20.0, 4.0) + to_atlas[:3, 3], (0, -15, 0), atol=3.0)
    assert np.linalg.det(to_atlas[:3, :3]) == pytest.approx(1.0, rel=0.08)


def test_what_is_no_head_does_not_fit(model: HeadModel) -> None:
    head, depth = ball_images()
    cross = (depth > 0) & (np.indices(SHAPE)[0] % 22 < 4)
    with pytest.raises(InputError, match="could not be laid into the atlas"):
        fit_to_atlas(cross, np.zeros(SHAPE, bool), head.affine, model)


def test_the_hash_knows_persons_and_contents(head: RealHead, tmp_path: Path) -> None:
    write_head(tmp_path / "here" / "one", head)
    write_head(tmp_path / "there" / "one", head)
    assert heads_digest(tmp_path / "here") == heads_digest(tmp_path / "there")
    (tmp_path / "there" / "participants.tsv").write_text("participant_id\tpatient_id\none\tAnna\n")
    assert heads_digest(tmp_path / "here") != heads_digest(tmp_path / "there")
    with pytest.raises(InputError, match="holds no patient folder"):
        heads_digest(tmp_path / "here" / "one")


def test_tissue_is_told_from_fluid_by_diffusion() -> None:
    b0 = np.array([1000.0, 1000.0, 1000.0])
    half = 500.0 * np.exp(-0.8) + 500.0 * np.exp(-3.0)
    share, _ = tissue_share(b0, np.array([1000.0 * np.exp(-0.8), half, 1000.0 * np.exp(-3.0)]), 0.8e-3, b_s_mm2=1000.0)
    np.testing.assert_allclose(share, (1.0, 0.6, 0.0), atol=0.05)


def test_flair_of_unchanged_tissue_is_unchanged_and_grows_with_t2() -> None:
    factors = flair_factor(np.array([1.0, 1.1, 1.5]), np.array([1.0, 1.035, 1.175]))
    assert factors[0] == 1.0
    assert 1.0 < factors[1] < factors[2]


def test_the_filter_keeps_an_edge_and_takes_noise_away(rng: np.random.Generator) -> None:
    image = np.where(np.indices((40, 40, 3))[0] < 20, 100.0, 400.0)
    noisy = image + 10.0 * rng.standard_normal(image.shape)
    smooth = denoised(noisy, 10.0)
    assert (smooth - image)[4:14].std() < 5.0
    assert smooth[20:22].mean() - smooth[18:20].mean() > 280.0


def test_a_head_that_changed_is_read_again(head: RealHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fvv.simulator.real_heads.average_head", ball_head)
    write_head(tmp_path / "one", head)
    first = known_head(tmp_path / "one", "A", "")
    assert known_head(tmp_path / "one", "A", "") is first
    changed = np.where(head.brain, head.b0 + 1.0, 0.0).astype(np.int16)
    write_volume(tmp_path / "one" / "b0.nii.gz", changed, head.affine)
    np.testing.assert_array_equal(known_head(tmp_path / "one", "A", "").b0, changed)
