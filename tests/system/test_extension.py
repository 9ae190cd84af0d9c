"""Names of the user's own code."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fvv.config import LossConfig, PreprocessConfig
from fvv.errors import ConfigError
from fvv.system.extension import extension


def test_a_name_is_what_it_stands_for() -> None:
    assert extension("os.path:join", "check") is __import__("os").path.join


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:f", r"check no_such_module:f: ModuleNotFoundError.*PYTHONPATH"),
        ("os.path:joint", "os.path has no joint .is it join for joint"),
        ("math:pi", "something to call, found float"),
        ("broken_module:f", "ZeroDivisionError"),
    ],
)
def test_what_stands_for_nothing_is_refused(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=said):
        extension(name, "check")


@pytest.mark.parametrize("name", ["", "module", "module:", ":f", "a b:f", "a:f()", "../a:f", "a.:f", "a:f\n", "1a:f"])
def test_settings_take_names_alone(name: str) -> None:
    with pytest.raises(ValidationError):
        PreprocessConfig(checks=(name,))
    with pytest.raises(ValidationError):
        LossConfig(function=name)
