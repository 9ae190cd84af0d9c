"""What may be written into a bundle after an evaluation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from builders import write_onnx
from fvv.analysis.calibration import fit_calibration
from fvv.errors import ModelError
from fvv.io.bundle import ModelBundle, write_manifest
from fvv.recipes.publish import EvaluateResult, calibrated
from fvv.schemas.bundle import Calibration


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    write_onnx(tmp_path / "model1.onnx")
    write_manifest(tmp_path, ModelBundle.open(tmp_path).manifest)
    return ModelBundle.open(tmp_path)


def result_with(bundle: ModelBundle, curve: Calibration | None) -> EvaluateResult:
    """A result of which the curve alone matters."""
    calibration = None if curve is None else SimpleNamespace(curve=curve)
    return EvaluateResult(bundle.path, (), SimpleNamespace(marker=SimpleNamespace(calibration=calibration)))


@pytest.mark.parametrize(("inverted", "constant"), [(False, False), (True, False), (False, True)])
def test_a_curve_against_the_answers_is_refused(bundle: ModelBundle, inverted: bool, constant: bool) -> None:
    """Small volumes are called mismatch, so P(mismatch) must fall with the volume."""
    fvv_ml = np.array([0.0, 0.1, 0.4, 2.0, 0.3, 3.0, 9.0, 20.0])
    mismatch = np.array([True] * 4 + [False] * 4)
    curve = fit_calibration(np.ones(8) if constant else fvv_ml, mismatch != inverted, 0.1)
    result = result_with(bundle, curve)
    if inverted or constant:
        with pytest.raises(ModelError, match="slope"):
            calibrated(result, bundle)
        assert ModelBundle.open(bundle.path).manifest.calibration is None
    else:
        calibrated(result, bundle)
        assert ModelBundle.open(bundle.path).manifest.calibration == curve


def test_a_refusal_says_that_an_older_curve_stays(bundle: ModelBundle) -> None:
    older = fit_calibration(np.array([0.0, 0.1, 2.0, 9.0]), np.array([True, True, False, False]), 0.1)
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"calibration": older}))
    bundle = ModelBundle.open(bundle.path)
    with pytest.raises(ModelError, match="both classes are needed; the bundle keeps the curve it has"):
        calibrated(result_with(bundle, None), bundle)
