"""Agreement with the reference pipeline on a real patient (skipped where its outputs are not at hand)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fvv.config import PROFILES, EvaluateConfig, PredictConfig, PreprocessConfig
from fvv.imaging.preprocess import preprocess_case
from fvv.io.case import read_case
from fvv.io.shipped import shipped_bundle, shipped_or_refuse
from fvv.io.tables import read_table
from fvv.stages.evaluate import evaluate_external
from fvv.stages.predict import predict

pytestmark = pytest.mark.golden

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
CASES = (
    "S01_128x160x8",
    "S01_192x192x30",
    "S01_192x192x8",
    "S01_241x272x8",
    "S01_250x262x8",
    "S01_256x256x30",
    "S01_320x260x8",
)


@pytest.mark.parametrize("name", CASES)
def test_preprocessing_equals_the_reference(golden: Path, name: str) -> None:
    case = read_case(golden / "cases" / name, PreprocessConfig(), labelled=True)
    ours = preprocess_case(case, PROFILES["reference-v1"])
    theirs = np.load(golden / "preprocessed" / f"{name}.npz")
    for field in ("brain", "stroke", "flair_visible"):
        np.testing.assert_array_equal(getattr(ours, field), theirs[field])
    for field, image in (("norm_b0", ours.b0), ("norm_b1000", ours.b1000)):
        np.testing.assert_allclose(image.astype(np.float32), theirs[field].astype(np.float32), atol=2e-2)
    assert ours.voxel_volume_ml == pytest.approx(float(theirs["voxel_volume_ml"]), abs=1e-6)
    assert ours.grid.scale == pytest.approx(float(theirs["scale"]))


@pytest.mark.parametrize("name", ["S01_192x192x30", "S01_256x256x30"])
def test_prediction_equals_the_reference(golden: Path, tmp_path: Path, name: str) -> None:
    predict(golden / "cases" / name, golden / "models", tmp_path, PredictConfig(compute={"device": "cpu"}))
    (row,) = read_table(tmp_path / "results.csv")
    (expected,) = [line for line in read_table(golden / "direct" / "results.csv") if line["Patient"] == name]
    for field in ("BrainMaskVoxels", "StrokeBlobVoxels", "FlairVizVoxels"):
        assert float(row[field]) == pytest.approx(float(expected[field]), rel=1e-9)
    for field in ("BrainMaskVolume", "StrokeBlobVolume", "FlairVizVolume"):
        assert float(row[field]) == pytest.approx(float(expected[field]), rel=1e-6)
    ours = np.asarray(nib.load(tmp_path / name / "predictions.nii.gz").dataobj)
    theirs = np.asarray(nib.load(golden / "direct" / name / "predictions.nii.gz").dataobj)
    np.testing.assert_array_equal(ours[..., :2], theirs[..., :2])
    # The reference truncates interpolated votes, we round them: ours are equal or one higher.
    difference = ours[..., 2].astype(int) - theirs[..., 2]
    assert set(np.unique(difference)) <= {0, 1}


def test_the_model_in_the_package_marks_a_real_stroke(golden: Path, tmp_path: Path) -> None:
    shipped = shipped_bundle()
    assert shipped is not None
    cases = [golden / "cases" / name for name in ("S01_192x192x30", "S01_256x256x30")]
    mask = golden / "brain_ads" / "S01_256x256x30.nii.gz"
    words = [*map(str, cases), *(word for case in cases for word in ("--brain", f"{case.name}={mask}"))]
    subprocess.run(
        [sys.executable, EXPERIMENTS / "real_cohort.py", *words, "-o", tmp_path / "real"],
        check=True,
        capture_output=True,
    )
    config = EvaluateConfig(
        own_masks=True, heatmaps=False, bootstrap_samples=10, compute={"device": "cpu", "workers": 1}
    )
    result = evaluate_external(tmp_path / "real", shipped, tmp_path / "out", config)
    assert not result.failures
    rows = read_table(tmp_path / "out" / "patients.csv")
    assert len(rows) == 2
    for row in rows:
        assert float(row["stroke_dice"]) >= 0.88
        assert float(row["brain_dice"]) >= 0.94  # against another tool's opinion


def test_the_scale_of_b1000_changes_no_answer(golden: Path, tmp_path: Path) -> None:
    """Without a common scale, the ADC is assumed: a healthy head stays one, and a stroke keeps its volume."""
    healthy = golden.parent / "real" / "healthy"
    heads = [golden / "cases" / "S01_192x192x30", *(healthy / name for name in ("siemens_trio", "toshiba_ax_i1000"))]
    if not healthy.is_dir():
        pytest.skip("the healthy heads are not here")
    for head in heads:
        b0, b1000 = (nib.load(head / f"{name}.nii.gz") for name in ("b0", "b1000"))
        for name, gain in (("as_it_is", 1.0), ("scaled", 0.3)):
            folder = tmp_path / "heads" / f"{head.name}_{name}"
            folder.mkdir(parents=True)
            nib.save(b0, folder / "b0.nii.gz")
            scaled = nib.Nifti1Image((gain * b1000.get_fdata()).astype(np.float32), b1000.affine)
            nib.save(scaled, folder / "b1000.nii.gz")
    predict(tmp_path / "heads", shipped_or_refuse(), tmp_path / "out", PredictConfig(compute={"device": "cpu"}))
    rows = {row["Patient"]: row for row in read_table(tmp_path / "out" / "results.csv")}
    for head in heads:
        one, other = (rows[f"{head.name}_{name}"] for name in ("as_it_is", "scaled"))
        assert one["decision"] == other["decision"]
        assert one["decision"] == ("mismatch unlikely" if head is heads[0] else "no lesion found")
        for volume in ("StrokeBlobVolume", "FlairVizVolume"):
            assert float(other[volume]) == pytest.approx(float(one[volume]), rel=1e-3, abs=1e-3)
