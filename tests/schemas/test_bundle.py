"""What a bundle says of itself: its probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fvv.config import PostprocessConfig
from fvv.errors import ConfigError, FvvError, ModelError
from fvv.io.bundle import ModelBundle, read_manifest, write_manifest
from fvv.io.shipped import shipped_bundle
from fvv.schemas.bundle import Calibration

CURVE = Calibration(intercept=-0.2, slope=-0.6, pseudo_volume_ml=0.1, lowest=0.01, highest=0.99, prevalence=0.34)


@pytest.mark.parametrize("fvv_ml", [0.0, 0.5, 2.0, 80.0, 1e9])
def test_probability_at_another_prevalence_is_bayes_on_the_odds(fvv_ml: float) -> None:
    here, there = CURVE.mismatch_probability(fvv_ml), CURVE.mismatch_probability(fvv_ml, prevalence=0.64)
    ratio = (0.64 / 0.36) / (0.34 / 0.66)
    assert there / (1 - there) == pytest.approx(ratio * here / (1 - here))
    assert here < there < 1
    assert CURVE.mismatch_probability(fvv_ml, prevalence=0.34) == pytest.approx(here)


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, float("nan"), float("inf")])
def test_a_prevalence_that_is_no_share_is_refused(prevalence: float) -> None:
    with pytest.raises(ConfigError, match="expected a share between 0 and 1"):
        CURVE.mismatch_probability(1.0, prevalence=prevalence)


def test_a_curve_that_does_not_say_its_prevalence_gives_no_other() -> None:
    unknown = CURVE.model_copy(update={"prevalence": None})
    assert unknown.mismatch_probability(1.0) == CURVE.mismatch_probability(1.0)
    with pytest.raises(FvvError, match="does not say at which prevalence"):
        unknown.mismatch_probability(1.0, prevalence=0.5)


def test_no_certainty_is_changed_by_a_prevalence() -> None:
    steep = CURVE.model_copy(update={"slope": -1e6, "lowest": 0.0, "highest": 1.0})
    assert steep.mismatch_probability(50.0, prevalence=0.9) == 0
    assert steep.mismatch_probability(0.0, prevalence=0.1) == 1


def test_a_bundle_of_version_2_may_hold_a_limit_that_is_no_more(tmp_path: Path) -> None:
    shipped = shipped_bundle()
    assert shipped is not None
    file, content = tmp_path / "bundle.json", json.loads((shipped / "bundle.json").read_text())
    content["postprocess"]["core_without_adc_mm3"] = 10.0
    file.write_text(json.dumps(content | {"schema_version": 2}))
    assert read_manifest(file) == ModelBundle.open(shipped).manifest
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="core_without_adc_mm3"):
        read_manifest(file)
    only = {"schema_version": 2, "postprocess": {"core_without_adc_mm3": 10.0}}
    file.write_text(json.dumps(content | only))
    assert read_manifest(file).postprocess == PostprocessConfig()
    for damaged in ([1], "x"):
        file.write_text(json.dumps(content | only | {"postprocess": damaged}))
        with pytest.raises(ModelError, match="postprocess"):
            read_manifest(file)


def test_the_lines_of_a_bundles_file_are_short_however_many_trained_it(tmp_path: Path) -> None:
    shipped = shipped_bundle()
    assert shipped is not None
    manifest = ModelBundle.open(shipped).manifest
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path / "bundle.json") == manifest
    lines = (tmp_path / "bundle.json").read_text().splitlines()
    ids = sum(len(model.trained_on) for model in manifest.models)
    assert ids > 3 * len(lines)
    assert max(len(line) for line in lines if line.strip().startswith('"') and line.count('"') > 4) <= 120


def test_the_shipped_curve_says_on_whom_it_was_fitted() -> None:
    shipped = shipped_bundle()
    assert shipped is not None
    curve = ModelBundle.open(shipped).manifest.calibration
    assert curve is not None
    assert (curve.fitted_on, curve.patients) == ("simulated", 99)
    # Platt's targets bound the curve: 1 / (negatives + 2) and (positives + 1) / (positives + 2).
    negatives, positives = round(1 / curve.lowest) - 2, round(1 / (1 - curve.highest)) - 2
    assert negatives + positives == curve.patients
    assert curve.prevalence == pytest.approx(positives / curve.patients, abs=1e-3)
