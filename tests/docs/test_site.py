"""The pages build without a warning, and nothing on them is loaded from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fvv

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ROOT / "mkdocs.yml", "-d", folder]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    assert {page.name: LOADED.findall(page.read_text(encoding="utf-8")) for page in pages} == {
        page.name: [] for page in pages
    }


def test_every_public_name_is_on_the_page_of_the_api(site: Path) -> None:
    page = (site / "reference" / "python-api.html").read_text(encoding="utf-8")
    missing = [
        name for name in fvv.__all__ if name != "__version__" and not re.search(rf'id="fvv[\w.]*\.{name}"', page)
    ]
    assert missing == []


def test_every_setting_is_on_the_page_of_settings(site: Path) -> None:
    page = (site / "reference" / "all-settings.html").read_text(encoding="utf-8")
    stages = ("simulate", "prepare", "train", "convert", "evaluate", "predict", "listen")
    for section in ("preprocess", "decision", *stages):
        assert f'id="{section}"' in page
