"""Files that carry a hash of their own content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fvv.errors import InputError
from fvv.io.sealed import SEAL, read_sealed, sealed, write_sealed

CONTENT = {"b": (1, 2.5), "a": {"x": None, "name": "Åsa"}}


def test_the_seal_holds_whatever_the_order_and_layout(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_sealed(file, CONTENT)
    found = read_sealed(file)
    assert found == {"b": [1, 2.5], "a": {"x": None, "name": "Åsa"}}
    assert sealed(found) == json.loads(file.read_text())
    file.write_text(json.dumps(sealed(found), sort_keys=True))
    assert read_sealed(file) == found


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", "[" * 100_000])
def test_what_is_no_sealed_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="damaged"):
        read_sealed(tmp_path / "a.json")


def test_any_change_breaks_the_seal(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_sealed(file, CONTENT)
    content = json.loads(file.read_text())
    for change in ({"b": [1, 2.6]}, {"c": 0}, {SEAL: "0" * 64}):
        file.write_text(json.dumps({**content, **change}))
        with pytest.raises(InputError, match="edited or damaged"):
            read_sealed(file)


def test_only_finite_numbers_are_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_sealed(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
