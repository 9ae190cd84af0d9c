"""The table of real heads, on heads of a few voxels."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from builders import head, save, write_onnx
from fvv.config import PROFILES, PostprocessConfig
from fvv.io.bundle import write_manifest
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.system.fingerprint import file_sha256

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "real_heads.py"


def write_models(folder: Path, **changes: object) -> Path:
    entry = ModelEntry(file="model1.onnx", sha256=file_sha256(write_onnx(folder / "model1.onnx")), fold=0)
    manifest = BundleManifest(software="test", run_name="tiny", profile=PROFILES["robust-v1"], models=(entry,))
    write_manifest(folder, manifest.model_copy(update=changes))
    return folder


@pytest.fixture
def heads(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A healthy head, a false positive in one, a stroke with its reference, one without, one that is no head."""
    places = {"healthy/calm": False, "healthy/alarm": True, "stroke/known": True, "stroke/unknown": True}
    for name, lesion in places.items():
        images = head(rng, lesion=lesion)
        for image in ("b0", "b1000"):
            save(tmp_path / "real" / name / f"{image}.nii.gz", images[image])
        if name == "stroke/known":
            save(tmp_path / "real" / name / "lesion.nii.gz", images["stroke_roi"])
    for image in ("b0", "b1000"):
        save(tmp_path / "real" / "healthy" / "noise" / f"{image}.nii.gz", np.abs(rng.normal(0, 10, (64, 64, 10))))
    return tmp_path / "real"


def run(*arguments: object) -> int:
    return int(runpy.run_path(str(SCRIPT))["main"]([str(one) for one in arguments]))


def test_every_head_has_a_line_and_the_sums_are_theirs(
    heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "heads.json"
    assert run(heads, "-m", write_models(tmp_path / "models"), "--threads", 1, "--json", written) == 0
    records = {one["head"]: one for one in json.loads(written.read_text())}
    assert records["healthy/noise"]["predicted_ml"] is None
    assert records["healthy/calm"]["false_positive_ml"] == 0
    assert (records["stroke/known"]["hit"], records["stroke/unknown"]["hit"]) == (True, None)
    lines = capsys.readouterr().out.splitlines()
    by_name = {line.split()[0]: line for line in lines if line.startswith(("healthy/", "stroke/"))}
    assert sorted(by_name) == ["healthy/alarm", "healthy/calm", "healthy/noise", "stroke/known", "stroke/unknown"]
    assert "no lesion found" in by_name["healthy/calm"]
    assert "not assessable" in by_name["healthy/noise"]
    assert " hit" in by_name["stroke/known"]
    assert " hit" not in by_name["stroke/unknown"]
    predicted, false = by_name["healthy/alarm"].split("unlikely")[1].split()[:2]
    assert float(predicted) == float(false) > 1
    healthy, strokes = lines[-2:]
    assert f"1 not assessable, 1 of 2 no lesion found; false {false} mL together, at most {false} mL" in healthy
    assert strokes.startswith(
        "strokes: 2 heads, 1 without an answer or a reference, 1 of 1 found, mean Dice 1.000, false 0.00"
    )


def test_the_bundles_post_processing_is_done(heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strict = PostprocessConfig(minimum_core_mm3=10, core_logit=1000)
    assert run(heads, "-m", write_models(tmp_path / "models", postprocess=strict), "--threads", 1) == 0
    said = capsys.readouterr().out
    assert "2 of 2 no lesion found; false 0.00 mL together, at most 0.00 mL, 0 over 0.5 mL" in said
    assert "0 of 1 found, mean Dice 0.000" in said


def test_a_folder_without_heads_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "-m", write_models(tmp_path / "models")) == 1
    assert "no b1000.nii.gz" in capsys.readouterr().err
