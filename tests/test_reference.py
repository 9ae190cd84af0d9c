"""Pages written from the code still say what the code says (`make reference` writes them)."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from fvv.config import Config, load_config
from fvv.io.ownership import claim
from fvv.io.shipped import shipped_bundle
from fvv.schemas.migrations import CURRENT, migrated
from simulations import write_simulation

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)]+)\)")


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "docs" / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_default_settings_file_holds_the_defaults() -> None:
    assert load_config(ROOT / "configs" / "default.yaml") == Config()


def test_default_settings_file_leaves_nothing_out(writer: ModuleType) -> None:
    assert writer.DEFAULTS.read_text(encoding="utf-8") == writer.default_settings()


def test_commands_page_is_current(writer: ModuleType) -> None:
    assert writer.COMMANDS.read_text(encoding="utf-8") == writer.commands()


def test_schema_pages_are_current(writer: ModuleType) -> None:
    pages = {form.page.name: writer.schema(form) for form in writer.FORMATS}
    assert {page.name: page.read_text(encoding="utf-8") for page in writer.SCHEMAS.iterdir()} == pages
    assert {form.model.kind for form in writer.FORMATS} == set(CURRENT)


def test_files_page_lists_every_format(writer: ModuleType) -> None:
    assert writer.FILES.read_text(encoding="utf-8") == writer.files_page()
    assert all(path.exists() for path in (writer.FILES.parent / link for link in LINK.findall(writer.formats())))


def test_schemas_are_of_the_files_that_are_written(writer: ModuleType, tmp_path: Path) -> None:
    """Of a sealed, an unsealed and a written-by-hand kind; the fields of the others come from the same models."""
    write_simulation(tmp_path)
    claim(tmp_path, ["a.txt"])
    shipped = shipped_bundle()
    assert shipped is not None
    files = {
        "simulation": tmp_path / "simulation.json",
        "ownership": tmp_path / ".fvv.json",
        "bundle": shipped / "bundle.json",
    }
    for form in writer.FORMATS:
        if file := files.get(form.model.kind):
            schema = json.loads(writer.schema(form))
            found = migrated(form.model.kind, json.loads(file.read_text()), file)
            assert set(schema["required"]) <= found.keys() <= schema["properties"].keys()
            assert found["schema_version"] == schema["properties"]["schema_version"]["const"]
