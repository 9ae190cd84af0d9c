"""Whole simulated cases: what must hold in every one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("nilearn")

from fvv.config import SimulateConfig
from fvv.imaging.brain import otsu_mask
from fvv.simulator.anatomy import average_head
from fvv.simulator.case import SIMULATOR_VERSION, simulate_case
from fvv.simulator.scanner import SITES

SITES_BY_NAME = {site.name: site for site in SITES}
CONFIG = SimulateConfig(seed=11, skull_stripped_share=0.0)
NUMBERS = (2, 4, 11)
"""One case at each site."""
SMALL = 4


@pytest.fixture(scope="module", autouse=True)
def coarse_grid():
    """Signal on a 2 mm grid, one point a slice: the laws are the same, and a case takes a fraction of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fvv.simulator.patient.FINE_VOXEL_MM", 2.0)
        patch.setattr("fvv.simulator.patient.SUBSLICES", 1)
        yield


@pytest.fixture(scope="module")
def model():
    return average_head()


@pytest.fixture(scope="module")
def cases(model):
    return [simulate_case(number, model, CONFIG) for number in NUMBERS]


def test_same_number_same_images(cases, model):
    again = simulate_case(NUMBERS[1], model, CONFIG)
    for name in ("b0", "b1000", "flair", "stroke", "flair_visible", "brain", "affine"):
        np.testing.assert_array_equal(getattr(again, name), getattr(cases[1], name))
    assert again.record == cases[1].record


def test_images_masks_and_truth_are_those_of_the_version(cases):
    """Fails where they change and the version does not: `simulate` would go on with a cohort made otherwise."""
    made = {3: ([197.5037, 54.0768, 227.0751], 455265, [0.9601, 0.0735, 1968.83])}
    images, brain, volumes = made[SIMULATOR_VERSION]
    case = cases[0]
    assert [image.mean() for image in (case.b0, case.b1000, case.flair)] == pytest.approx(images, rel=1e-3)
    assert case.brain.sum() == pytest.approx(brain, rel=1e-3)
    record = case.record
    found = [record.lesion_volume_ml, record.flair_visible_ml, record.brain_volume_ml]
    assert found == pytest.approx(volumes, rel=2e-2)


def test_another_seed_gives_another_head(cases, model):
    other = simulate_case(NUMBERS[1], model, CONFIG.model_copy(update={"seed": 12}))
    assert other.record != cases[1].record


def test_masks_are_nested_and_on_one_grid(cases):
    for case in cases:
        shapes = {getattr(case, n).shape for n in ("b0", "b1000", "flair", "stroke", "flair_visible", "brain")}
        assert shapes == {case.b0.shape}
        assert not (case.stroke & ~case.brain).any()
        assert not (case.flair_visible & ~case.stroke).any()
        assert 900 < case.record.brain_volume_ml < 2400


def test_contrast_is_that_of_diffusion_mri(cases):
    for case in cases:
        normal = case.brain & ~case.stroke
        tissue = np.median(case.b1000[normal])
        background = case.b1000[:6, :6].mean()
        csf = normal & (case.b0 > np.quantile(case.b0[normal], 0.99))
        assert background < 0.3 * tissue
        assert np.median(case.b0[csf]) > 1.3 * np.median(case.b0[normal])
        assert np.median(case.b1000[csf]) < 1.3 * tissue
        if case.record.lesion_volume_ml > 1:
            assert np.median(case.b1000[case.stroke]) > 1.1 * tissue
            assert case.record.contrast_to_noise >= CONFIG.minimum_contrast_to_noise
            assert case.record.brightening >= CONFIG.minimum_brightening


def test_images_fit_scanner_integers(cases):
    for case in cases:
        assert case.b0.dtype == case.b1000.dtype == np.int16
        assert case.b0.min() >= 0
        assert 500 < case.b0.max() < 20000


def test_affines_say_which_way_the_array_is_stored(cases):
    """Scanners that store RAS and LAS put the head in the same place of the world."""
    seen = set()
    for case in cases:
        direction = np.sign(case.affine[0, 0])
        assert direction == (1 if SITES_BY_NAME[case.record.site].left_to_right else -1)
        centre = case.affine @ np.append(np.argwhere(case.brain).mean(axis=0), 1.0)
        assert abs(centre[0]) < 15.0
        seen.add(direction)
    assert seen == {-1.0, 1.0}


def test_mirrored_storage_is_the_only_difference_between_orientations(model, monkeypatch):
    images = []
    for left_to_right in (True, False):
        sites = tuple(replace(site, left_to_right=left_to_right) for site in SITES)
        monkeypatch.setattr("fvv.simulator.visits.SITES", sites)
        images.append(simulate_case(SMALL, model, CONFIG))
    kept, mirrored = images
    np.testing.assert_array_equal(kept.b1000, mirrored.b1000[::-1])
    last = np.array([kept.b0.shape[0] - 1, 0, 0, 1.0])
    np.testing.assert_allclose(kept.affine @ last, mirrored.affine @ [0, 0, 0, 1.0], atol=1e-9)


def test_a_late_scan_shows_more_on_flair_than_an_early_one(model):
    fractions = []
    for hours in (0.9, 60.0):
        config = CONFIG.model_copy(update={"onset_range_h": (hours, hours + 0.01), "stroke_free_share": 0.0})
        record = simulate_case(SMALL, model, config).record
        fractions.append(record.flair_visible_ml / record.lesion_volume_ml)
        assert record.dwi_flair_mismatch is (hours < 2)
    assert fractions[0] < 0.05
    assert fractions[1] > 0.5


def test_no_stroke_means_empty_masks_and_no_label(model):
    case = simulate_case(SMALL, model, CONFIG.model_copy(update={"stroke_free_share": 1.0}))
    assert not case.stroke.any()
    assert not case.flair_visible.any()
    assert case.record.dwi_flair_mismatch is None
    assert case.record.onset_h is None


def test_skull_stripping_empties_all_but_the_brain(model):
    case = simulate_case(SMALL, model, CONFIG.model_copy(update={"skull_stripped_share": 1.0}))
    outside = np.median(case.b0[~case.brain])
    assert outside == 0
    assert (case.b0[case.brain] > 0).mean() > 0.85


def test_the_mask_is_that_of_a_tool_that_keeps_the_csf_around_the_brain(cases):
    """Without it the mask found by brightness is 7 % larger."""
    ratios = [otsu_mask(case.b0, case.b1000).sum() / case.brain.sum() for case in cases]
    assert 0.95 < np.mean(ratios) < 1.05


def test_without_distractors_the_same_head_has_no_old_damage(model):
    plain, damaged = (
        simulate_case(number, model, CONFIG.model_copy(update={"distractors": distractors}))
        for number, distractors in ((NUMBERS[0], False), (NUMBERS[0], True))
    )
    assert not plain.record.old_damage
    assert damaged.record.old_damage
    np.testing.assert_array_equal(plain.brain, damaged.brain)
    assert (plain.b0 != damaged.b0).any()


def test_air_bends_the_image_a_little_or_much_but_never_the_person(model):
    kinds = ("none", "smooth", "bands", "physics")
    by_air = {kind: simulate_case(NUMBERS[2], model, CONFIG.model_copy(update={"near_air": kind})) for kind in kinds}
    volumes = [case.record.brain_volume_ml for case in by_air.values()]
    np.testing.assert_allclose(volumes, volumes[0], rtol=0.05)
    assert len({case.b1000.tobytes() for case in by_air.values()}) == len(by_air)
    assert len({(case.record.pattern, case.record.te_ms, case.record.old_damage) for case in by_air.values()}) == 1


def test_a_reader_who_looks_for_contrast_outlines_less(model):
    whole, tight = (
        simulate_case(NUMBERS[0], model, CONFIG.model_copy(update={"reader_threshold": threshold}))
        for threshold in (0.0, 0.5)
    )
    np.testing.assert_array_equal(whole.b1000, tight.b1000)
    assert not (tight.stroke & ~whole.stroke).any()
    assert 0.4 * whole.stroke.sum() < tight.stroke.sum() < whole.stroke.sum()
    assert tight.record.contrast_to_noise > whole.record.contrast_to_noise


def test_fixed_appearance_is_the_same_at_every_site(model):
    fixed = CONFIG.model_copy(update={"vary_appearance": False})
    records = [simulate_case(number, model, fixed).record for number in NUMBERS]
    assert len({(record.te_ms, record.tr_ms, record.b_s_mm2, record.snr) for record in records}) == 1
