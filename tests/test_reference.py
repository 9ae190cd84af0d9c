"""Pages written from the code still say what the code says (mend with `make reference`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from fvv.config import Config, load_config

ROOT = Path(__file__).resolve().parents[1]


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
