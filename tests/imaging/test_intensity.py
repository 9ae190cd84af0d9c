from __future__ import annotations

import numpy as np
import pytest

from fvv.errors import MaskError
from fvv.imaging.intensity import reference_voxels, signal_scale, zscore


def scores_of(image: np.ndarray, inside: np.ndarray, dtype: str = "float32") -> np.ndarray:
    return zscore(image, signal_scale(image, inside), clip=10.0, dtype=dtype)


def test_zscores_have_mean_zero_and_deviation_one_inside(rng: np.random.Generator) -> None:
    image = rng.normal(300, 40, (20, 20, 4))
    inside = rng.random(image.shape) > 0.5
    scores = scores_of(image, inside)[inside].astype(float)
    assert scores.mean() == pytest.approx(0, abs=1e-5)
    assert scores.std() == pytest.approx(1, abs=1e-5)


def test_zscores_do_not_depend_on_the_intensity_scale(rng: np.random.Generator) -> None:
    image, inside = rng.normal(300, 40, (20, 20, 4)), np.ones((20, 20, 4), dtype=bool)
    np.testing.assert_allclose(scores_of(image, inside), scores_of(image / 4000 - 7, inside), atol=2e-3)


def test_the_scale_takes_zscores_back_to_the_signal(rng: np.random.Generator) -> None:
    image, inside = rng.normal(300, 40, (20, 20, 4)), np.ones((20, 20, 4), dtype=bool)
    scale = signal_scale(image, inside)
    np.testing.assert_allclose(scores_of(image, inside, "float16") * scale.deviation + scale.mean, image, rtol=2e-3)


def test_zscores_are_clipped() -> None:
    image = np.zeros((10, 10, 10))
    image[0, 0, 0], image[0, 0, 1] = 1e6, 1.0
    assert scores_of(image, np.ones(image.shape, dtype=bool)).max() == 10


@pytest.mark.parametrize("image", [np.ones((3, 3, 3)), np.full((3, 3, 3), 1e4)])
def test_constant_image_has_no_scale(image: np.ndarray) -> None:
    with pytest.raises(MaskError, match="constant"):
        signal_scale(image, np.ones(image.shape, dtype=bool))


def test_empty_mask_has_no_scale() -> None:
    with pytest.raises(MaskError, match="empty"):
        signal_scale(np.ones((3, 3, 3)), np.zeros((3, 3, 3), dtype=bool))


def test_robust_scale_ignores_a_bright_lesion(rng: np.random.Generator) -> None:
    clean = rng.normal(200, 10, (30, 30, 5))
    brain = np.ones(clean.shape, dtype=bool)
    ill = clean.copy()
    ill[:10, :10] += 800
    kept = reference_voxels(ill, brain, outlier_robust=True)
    assert not kept[:10, :10].any()
    assert kept[15:].mean() > 0.99
    assert reference_voxels(ill, brain, outlier_robust=False).all()
