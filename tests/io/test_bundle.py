"""A bundle's folder as others fill it: pipes, links, odd words, impossible settings; and its probabilities."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders import write_onnx
from fvv.config import PROFILES, PreprocessingProfile
from fvv.errors import ConfigError, FvvError, InputError, ModelError
from fvv.io.bundle import BundleManifest, Calibration, ModelBundle, ModelEntry, file_sha256, write_manifest
from fvv.io.shipped import shipped_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of one model."""
    file = write_onnx(tmp_path / "model1.onnx")
    entries = (ModelEntry(file=file.name, sha256=file_sha256(file), fold=0),)
    about = {"software": "x", "run_name": "r", "profile": PROFILES["robust-v1"], "channels": ()}
    write_manifest(tmp_path, BundleManifest(**about, models=entries))
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["bundle.json", "model1.onnx", "model2.onnx", "golden.npz", "weights.bin"])
@pytest.mark.parametrize("published", [False, True])
def test_a_pipe_is_refused_and_never_opened(folder: Path, name: str, *, published: bool) -> None:
    if published:
        (folder / "bundle.json").unlink()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=f"{name}: expected a regular file"):
        ModelBundle.open(folder)


def test_a_folder_in_the_place_of_a_file(folder: Path) -> None:
    (folder / "model1.onnx").unlink()
    (folder / "model1.onnx").mkdir()
    with pytest.raises(InputError, match=r"model1\.onnx: expected a regular file"):
        ModelBundle.open(folder)
    (folder / "bundle.json").unlink()
    with pytest.raises(InputError, match=r"model1\.onnx: expected a regular file"):
        ModelBundle.open(folder)


@pytest.mark.parametrize("name", ["bundle.json", "model1.onnx"])
def test_a_broken_link_is_no_bundle_in_the_published_format(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "elsewhere")
    with pytest.raises(InputError, match=f"{name}: a broken link"):
        ModelBundle.open(folder)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    change(content)
    (folder / "bundle.json").write_text(json.dumps(content))


def test_words_of_the_maker_stay_on_one_line(folder: Path) -> None:
    edit(folder, lambda content: content.update(run_name="\x1b[31mred", notice="fine\nanna: mismatch likely"))
    described = ModelBundle.open(folder).manifest.description(1, "fp32")
    assert described == r"\x1b[31mred (1 of 1 models, fp32; fine\nanna: mismatch likely)"


def test_odd_words_in_an_error_stay_on_one_line(folder: Path) -> None:
    edit(folder, lambda content: content.update({"a\nb\x1b[2K": 1}))
    with pytest.raises(ModelError) as caught:
        ModelBundle.open(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context_slices", 0), ("context_slices", -3), ("context_slices", 10**9), ("grid_size", 0),
        ("grid_size", 10**6), ("clip", 0.0), ("clip", -1.0), ("clip", 1e9),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_is_refused(folder: Path, field: str, value: float) -> None:
    edit(folder, lambda content: content["profile"].update({field: value}))
    with pytest.raises(ModelError, match=rf"bundle\.json: not a bundle this version reads: profile\.{field}"):
        ModelBundle.open(folder)


def test_clip_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="clip"):
        PreprocessingProfile(name="x", mask_method="otsu", outlier_robust_zscore=False, clip=float("nan"))


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


def test_the_shipped_curve_says_on_whom_it_was_fitted() -> None:
    shipped = shipped_bundle()
    assert shipped is not None
    curve = ModelBundle.open(shipped).manifest.calibration
    assert curve is not None
    assert (curve.fitted_on, curve.patients) == ("simulated", 1044)
    # Platt's targets bound the curve: 1 / (negatives + 2) and (positives + 1) / (positives + 2).
    negatives, positives = round(1 / curve.lowest) - 2, round(1 / (1 - curve.highest)) - 2
    assert negatives + positives == curve.patients
    assert curve.prevalence == pytest.approx(positives / curve.patients, abs=1e-3)
