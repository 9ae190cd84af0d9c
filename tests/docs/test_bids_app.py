"""The BIDS App hands a data set, or the named participants of it, to `fvv predict`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "container" / "bids_app.py"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], list[str]]]:
    """Gives the words that `fvv` gets, and what lies in its input."""
    spec = importlib.util.spec_from_file_location("bids_app", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*words: str) -> tuple[list[str], list[str]]:
        got: list[list[str]] = []

        def fvv(given: list[str]) -> int:
            got.extend((given, sorted(entry.name for entry in Path(given[1]).iterdir())))
            return 0

        monkeypatch.setattr(module, "fvv", fvv)
        assert module.main(words) == 0
        return got[0], got[1]

    return run


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    for name in ("sub-01", "sub-02", "derivatives"):
        (tmp_path / name).mkdir()
    (tmp_path / "dataset_description.json").write_text("{}")
    return tmp_path


def test_the_whole_data_set(app: Callable[..., tuple[list[str], list[str]]], data_set: Path) -> None:
    words, _ = app(str(data_set), "out", "participant", "--workers", "2")
    assert words == ["predict", str(data_set), "-o", "out", "--layout", "bids", "--workers", "2"]


@pytest.mark.parametrize("label", ["02", "sub-02"])
def test_one_participant(app: Callable[..., tuple[list[str], list[str]]], data_set: Path, label: str) -> None:
    _, seen = app(str(data_set), "out", "participant", "--participant_label", label)
    assert seen == ["dataset_description.json", "sub-02"]


@pytest.mark.parametrize("words", [["participant", "--participant_label", "03"], ["group"]])
def test_what_is_not_there_is_wrong_usage(
    app: Callable[..., tuple[list[str], list[str]]], data_set: Path, words: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        app(str(data_set), "out", *words)
