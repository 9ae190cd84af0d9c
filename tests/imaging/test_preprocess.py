from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from builders import AFFINE, case_of, head
from fvv.config import PROFILES, PreprocessConfig
from fvv.data import Severity, Volume
from fvv.errors import ConfigError, MaskError
from fvv.imaging.geometry import plan_grid, to_working_grid
from fvv.imaging.intensity import reference_voxels
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import assess_quality
from fvv.imaging.quality.masks import brain_volume
from fvv.imaging.quality.view import native_view

ROBUST, ROBUST_V2 = PROFILES["robust-v1"], PROFILES["robust-v2"]
BOUNDS = PreprocessConfig().brain_volume_bounds_ml


def codes(findings: object) -> set[str]:
    return {finding.code for finding in findings}  # type: ignore[attr-defined]


def test_prepared_case_is_on_the_working_grid(rng: np.random.Generator) -> None:
    images = head(rng)
    prepared = preprocess_case(case_of(images), ROBUST)
    assert prepared.b0.shape == (256, 256, 10)
    assert prepared.b0.dtype == prepared.b1000.dtype == np.float16
    assert prepared.stroke is not None
    assert not (prepared.stroke & ~prepared.brain).any()
    native = images["stroke_roi"].sum() * Volume(images["b0"], AFFINE).voxel_volume_ml
    assert prepared.stroke.sum() * prepared.voxel_volume_ml == pytest.approx(native, rel=0.02)


def test_rois_are_cut_counted_and_noted(rng: np.random.Generator) -> None:
    images = head(rng)
    images["flairviz_roi"] = images["flairviz_roi"].copy()
    images["flairviz_roi"][40:44, 20:24, 5] = True
    prepared = preprocess_case(case_of(images), ROBUST)
    assert prepared.flair_visible is not None
    assert prepared.stroke is not None
    assert not (prepared.flair_visible & ~prepared.stroke).any()
    (finding,) = prepared.findings
    assert finding.code == "roi-cut"
    assert "256 of" in finding.message  # 4 x 4 voxels, four times finer each way


def test_empty_stroke_roi_means_no_lesion(rng: np.random.Generator) -> None:
    prepared = preprocess_case(case_of(head(rng, lesion=False)), ROBUST)
    assert codes(prepared.findings) == {"empty-roi"}


def test_zscores_are_the_same_with_and_without_a_mask_file_in_robust_v2(rng: np.random.Generator) -> None:
    images = head(rng)
    given = case_of(images | {"brain": images["brain"] & (images["b0"] < np.median(images["b0"][images["brain"]]))})
    found = replace(given, mask=None)
    old, new = ([preprocess_case(case, profile) for case in (found, given)] for profile in (ROBUST, ROBUST_V2))
    for name in ("b0", "b1000"):
        np.testing.assert_array_equal(getattr(new[0], name), getattr(new[1], name))
        assert not np.array_equal(getattr(old[0], name), getattr(old[1], name))
    np.testing.assert_array_equal(new[1].brain, old[1].brain)
    assert new[1].brain.sum() < new[0].brain.sum()


def test_a_new_patient_has_no_rois(rng: np.random.Generator) -> None:
    case = replace(case_of(head(rng)), stroke_roi=None, flair_visible_roi=None)
    prepared = preprocess_case(case, ROBUST)
    assert prepared.stroke is None
    assert prepared.flair_visible is None


def test_empty_brain_mask_is_an_error_naming_the_patient(rng: np.random.Generator) -> None:
    images = head(rng)
    images["brain"] = np.zeros_like(images["brain"])
    with pytest.raises(MaskError, match="patient p: the brain mask is empty"):
        preprocess_case(case_of(images), ROBUST)


def test_mask_method_given_refuses_without_a_file(rng: np.random.Generator) -> None:
    case = replace(case_of(head(rng)), mask=None)
    with pytest.raises(MaskError, match="no brain mask file"):
        preprocess_case(case, PreprocessConfig(mask_method="given").applied_to(ROBUST))


def test_a_crop_through_the_brain_is_said(rng: np.random.Generator) -> None:
    images = head(rng)
    # 64 x 32 becomes 512 x 256: the wider axis loses half of what it shows.
    wide = {name: array[:, 16:48] for name, array in images.items()}
    wide["brain"] = np.ones_like(wide["brain"])
    wide = {name: np.repeat(array, 6, axis=0)[:, :, :3].repeat(6, axis=1) for name, array in wide.items()}
    prepared = preprocess_case(case_of(wide), ROBUST)
    assert "brain-cut" in codes(prepared.findings)


def test_profile_hash_knows_every_choice() -> None:
    assert ROBUST.sha256 != PROFILES["reference-v1"].sha256
    assert PreprocessConfig(mask_method="otsu").applied_to(ROBUST).sha256 != ROBUST.sha256
    assert PreprocessConfig().applied_to(ROBUST) == ROBUST


def test_mask_method_command_needs_a_command() -> None:
    with pytest.raises(ConfigError, match="needs a command"):
        PreprocessConfig(mask_method="command").applied_to(ROBUST)


def test_a_clean_patient_raises_no_finding(rng: np.random.Generator) -> None:
    case = case_of(head(rng))
    assert assess_quality(native_view(case, preprocess_case(case, ROBUST), brain_volume_bounds_ml=BOUNDS)) == ()


def test_swapped_images_are_named(rng: np.random.Generator) -> None:
    case = case_of(head(rng))
    swapped = replace(case, b0=case.b1000, b1000=case.b0)
    findings = assess_quality(native_view(swapped, preprocess_case(swapped, ROBUST), brain_volume_bounds_ml=BOUNDS))
    assert "swapped" in codes(findings)


def test_the_same_image_twice_is_named(rng: np.random.Generator) -> None:
    case = case_of(head(rng))
    same = replace(case, b0=case.b1000)
    findings = assess_quality(native_view(same, preprocess_case(same, ROBUST), brain_volume_bounds_ml=BOUNDS))
    assert "same-image" in codes(findings)


@pytest.mark.parametrize(("slices", "expected"), [(10, {"brain-volume"}), (2, set())])
def test_small_brains_are_refused_unless_only_a_part_was_scanned(
    rng: np.random.Generator, slices: int, expected: set[str]
) -> None:
    images = head(rng)
    images["brain"] = images["brain"].copy()
    images["brain"][:, :, :4] = images["brain"][:, :, 6:] = False  # about 250 mL
    middle = {name: array[:, :, 5 - slices // 2 : 5 + slices // 2] for name, array in images.items()}
    case = case_of(middle)
    findings = list(brain_volume(native_view(case, preprocess_case(case, ROBUST), brain_volume_bounds_ml=BOUNDS)))
    assert codes(findings) == expected
    assert all(finding.severity is Severity.NOT_ASSESSABLE for finding in findings)


def test_only_what_no_zscore_tells_apart_is_zoomed_in_another_way(rng: np.random.Generator) -> None:
    """An ordinary image is interpolated as ever, bit for bit; a glaring lesion keeps its brightness and its edge."""
    images = head(rng)
    case = replace(case_of(images), mask=None)
    scaled = to_working_grid(case.b1000.array, plan_grid(case.b1000))
    prepared = preprocess_case(case, ROBUST)
    reference = reference_voxels(scaled, prepared.brain, outlier_robust=True)
    mean, deviation = scaled[reference].mean(), scaled[reference].std()
    np.testing.assert_array_equal(prepared.b1000, np.clip((scaled - mean) / deviation, -10, 10).astype(np.float16))

    glaring = np.where(images["stroke_roi"], 5000.0, images["b1000"])
    bright = preprocess_case(replace(case, b1000=Volume(glaring, AFFINE)), ROBUST).b1000
    lesion = images["stroke_roi"].repeat(4, axis=0).repeat(4, axis=1)
    assert (bright[lesion] > 9.9).all()
    assert bright[~lesion].max() < 5.1


def test_models_of_before_robust_v2_are_still_known_by_their_profile() -> None:
    hashes = {name: profile.sha256[:8] for name, profile in PROFILES.items()}
    assert hashes["reference-v1"] == "5f37cafe"
    assert hashes["robust-v1"] == "4fa17c02"
    assert hashes["robust-v2"] == "d28dc6d3"
    assert len(set(hashes.values())) == 4
