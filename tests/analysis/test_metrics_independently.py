"""Our metrics against those of other libraries, on 50 random pairs of masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from fvv.analysis.metrics import segmentation_metrics

N_PAIRS = 50
SHAPE = (18, 16, 9)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.ndarray, np.ndarray, tuple[float, float, float]]]:
    """Smooth random blobs, and voxel edges, of every size."""
    rng = np.random.default_rng(50)

    def blob() -> np.ndarray:
        field = ndimage.gaussian_filter(rng.normal(size=SHAPE), rng.uniform(0.5, 2.5))
        return field > np.quantile(field, rng.uniform(0.3, 0.98))

    return [(blob(), blob(), tuple(rng.uniform(0.5, 6.0, 3))) for _ in range(N_PAIRS)]


def test_ratios_agree_with_scikit_learn(pairs):
    theirs = {
        "dice_coefficient": sklearn_metrics.f1_score,
        "intersection_over_union": sklearn_metrics.jaccard_score,
        "accuracy": sklearn_metrics.accuracy_score,
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score,
        "sensitivity": sklearn_metrics.recall_score,
        "precision": sklearn_metrics.precision_score,
        "specificity": lambda truth, mask: sklearn_metrics.recall_score(~truth, ~mask),
    }
    for truth, mask, spacing_mm in pairs:
        ours = segmentation_metrics(truth, mask, spacing_mm)
        for name, function in theirs.items():
            assert getattr(ours, name) == pytest.approx(function(truth.ravel(), mask.ravel()), abs=1e-6), name


def test_surface_distances_agree_with_monai(pairs):
    monai = pytest.importorskip("monai.metrics", reason="MONAI is not installed")
    for truth, mask, spacing_mm in pairs:
        ours = segmentation_metrics(truth, mask, spacing_mm)
        given = {"y_pred": mask[None, None].astype(np.float32), "y": truth[None, None].astype(np.float32)}
        tensors = {name: monai_tensor(array) for name, array in given.items()}
        options = {"include_background": True, "spacing": list(spacing_mm)}
        hausdorff = monai.compute_hausdorff_distance(**tensors, percentile=95, **options)
        average = monai.compute_average_surface_distance(**tensors, symmetric=True, **options)
        assert ours.hausdorff_distance_95_mm == pytest.approx(float(hausdorff), abs=1e-3)
        assert ours.average_surface_distance_mm == pytest.approx(float(average), abs=1e-3)


def monai_tensor(array: np.ndarray) -> object:
    return pytest.importorskip("torch").from_numpy(array)
