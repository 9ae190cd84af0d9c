"""Folders of models as the page reads them, beside Python: the same are refused, the others have the same settings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fvv.errors import FvvError
from fvv.io.bundle import ModelBundle
from fvv.io.shipped import shipped_or_refuse
from fvv.system.fingerprint import file_sha256
from web.parity import NODE, ROOT

READER = ROOT / "web" / "build" / "node" / "bundles.js"
pytestmark = pytest.mark.skipif(NODE is None or not READER.exists(), reason="no engine: make web")
Change = Callable[[dict[str, Any]], object]


def _set(*path: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] = value

    return change


ACCEPTED: dict[str, Change] = {
    "as_written": lambda _: None,
    "older": lambda content: (
        content.update(schema_version=1),
        [content["profile"].pop(name) for name in ("scale_mask", "orientation")],
    ),
    "with_a_limit_without_adc": lambda content: (
        content.update(schema_version=2),
        content["postprocess"].update(core_without_adc_mm3=10.0),
    ),
    "with_that_limit_alone": lambda content: content.update(
        schema_version=2, postprocess={"core_without_adc_mm3": 10.0}
    ),
    "not_calibrated": lambda content: content.pop("calibration"),
    "without_postprocess": lambda content: content.pop("postprocess"),
}
REFUSED: dict[str, Change] = {
    "newer": _set("schema_version", value=99),
    "no_version": lambda content: content.pop("schema_version"),
    "other_profile": _set("profile", "name", value="robust-v9"),
    "no_profile": lambda content: content.pop("profile"),
    "no_run_name": lambda content: content.pop("run_name"),
    "no_models": _set("models", value=[]),
    "outside": lambda content: content["models"][0].update(file="../model1.onnx"),
    "other_hash": lambda content: content["models"][0].update(sha256="0" * 64),
    "missing_file": lambda content: content["models"][0].update(file="model9.onnx"),
    "one_fold_twice": lambda content: content["models"].append({**content["models"][0]}),
    "a_limit_that_is_no_more": _set("postprocess", "core_without_adc_mm3", value=10.0),
    "unknown_field": _set("postprocess", "minimum_colour", value=1),
    "text_for_a_number": _set("postprocess", "core_logit", value=[1]),
    "one_number_of_a_range": _set("intensity_range", value={"b0_fluid": [1]}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Small bundles, and what the page's reader says of each."""
    assert NODE is not None
    folder = tmp_path_factory.mktemp("bundles")
    content = json.loads((shipped_or_refuse() / "bundle.json").read_text())
    content = {**content, "golden": None}
    for name, change in {**ACCEPTED, **REFUSED}.items():
        (folder / name).mkdir()
        (folder / name / "model1.onnx").write_bytes(b"weights")
        entry = {"file": "model1.onnx", "sha256": file_sha256(folder / name / "model1.onnx"), "fold": 0}
        one = json.loads(json.dumps({**content, "models": [entry]}))
        change(one)
        (folder / name / "bundle.json").write_text(json.dumps(one))
    for name, text in (("no_json", "{"), ("a_list", "[]")):
        (folder / name).mkdir()
        (folder / name / "bundle.json").write_text(text)
    said = subprocess.run([NODE, str(READER), str(folder)], check=True, capture_output=True, text=True).stdout
    return folder, json.loads(said)


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_python_opens_is_opened_with_the_same_settings(folders: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, page = folders
    manifest = ModelBundle.open(folder / name).manifest.model_dump(mode="json")
    ours = page[name]
    for part in ("profile", "postprocess"):
        assert ours[part] == {field: manifest[part][field] for field in ours[part]}
        assert set(manifest[part]) - set(ours[part]) <= {"mask_command"}
    curve = manifest["calibration"]
    assert ours["calibration"] == (curve and {name: value for name, value in curve.items() if name != "patients"})
    assert ours["intensity_range"] == manifest["intensity_range"]
    assert (ours["run_name"], ours["notice"]) == (manifest["run_name"], manifest["notice"])


@pytest.mark.parametrize("name", [*REFUSED, "no_json", "a_list"])
def test_what_python_refuses_is_refused_in_one_sentence(folders: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, page = folders
    with pytest.raises(FvvError):
        ModelBundle.open(folder / name)
    assert page[name]["error"]
    assert "\n" not in page[name]["error"]
