"""The page for browsers holds every model of its bundle, byte for byte, and no person."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import pytest

from builders import write_onnx
from fvv.config import PROFILES
from fvv.data import hashed_ids
from fvv.errors import ConfigError, OutputExistsError
from fvv.io.bundle import write_manifest
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.stages.page import page
from fvv.system.fingerprint import file_sha256

NOTICE = "of </script> and <!--"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three models, and a template with a place for them."""
    folder = tmp_path / "models"
    entries = []
    for number in range(3):
        file = write_onnx(folder / f"model{number + 1}.onnx", biases=(1.5, -2.0, -float(number)))
        entries.append(ModelEntry(file=file.name, sha256=file_sha256(file), trained_on=hashed_ids(["somebody"])))
    profile = PROFILES["robust-v3"]
    write_manifest(
        folder,
        BundleManifest(software="test", run_name="tiny", profile=profile, models=tuple(entries), notice=NOTICE),
    )
    template = tmp_path / "template.html.gz"
    template.write_bytes(gzip.compress(b"<body><!--BUNDLE--></body>"))
    monkeypatch.setattr("fvv.stages.page.TEMPLATE", template)
    return folder


def test_the_page_holds_every_model_and_nobody(models: Path, tmp_path: Path) -> None:
    result = page(models, tmp_path / "fvv.html")
    assert "tiny" in result.summary()
    text = result.file.read_text(encoding="utf-8")
    (content,) = re.findall(r'^<body><script type="application/json" id="fvv-bundle">(.*)</script></body>$', text)
    held = json.loads(content)
    assert {name: base64.b64decode(model) for name, model in held["models"].items()} == {
        path.name: path.read_bytes() for path in models.glob("*.onnx")
    }
    assert held["manifest"]["models"] == [
        {"file": f"model{number}.onnx", "sha256": file_sha256(models / f"model{number}.onnx")} for number in (1, 2, 3)
    ]
    assert held["manifest"]["notice"] == NOTICE
    assert hashed_ids(["somebody"])[0] not in text


def test_a_file_that_is_there_is_replaced_only_when_asked_for(models: Path, tmp_path: Path) -> None:
    (tmp_path / "fvv.html").write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite replaces it"):
        page(models, tmp_path / "fvv.html")
    assert (tmp_path / "fvv.html").read_text() == "mine"
    page(models, tmp_path / "fvv.html", overwrite=True)
    assert "fvv-bundle" in (tmp_path / "fvv.html").read_text()


def test_an_installation_without_a_page_says_what_builds_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fvv.stages.page.TEMPLATE", tmp_path / "none")
    with pytest.raises(ConfigError, match="make web"):
        page(models, tmp_path / "fvv.html")
