"""Every experiment says what it does, and README.md has it in its table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")

FOLDER = Path(__file__).resolve().parents[2] / "experiments"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_help_and_table_name_the_experiment(
    file: Path,
    experiment: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", [str(file), "--help"])
    with pytest.raises(SystemExit) as end:
        experiment(file.stem).main()
    assert end.value.code == 0
    assert f"python experiments/{file.name}" in capsys.readouterr().out
    assert f"experiments/{file.name}" in (FOLDER / "README.md").read_text(encoding="utf-8")
