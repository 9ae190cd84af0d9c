"""One hash of all that a result depends on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from fvv.config import DecisionConfig
from fvv.data import DecisionState, Finding, Severity
from fvv.errors import InputError
from fvv.system.fingerprint import file_sha256, fingerprint

FINDING = Finding("few-slices", "8 slices", Severity.NOTE)


def test_the_order_of_parts_does_not_count_and_their_names_do() -> None:
    assert fingerprint(a=1, b={"x": 1, "y": 2}) == fingerprint(b={"y": 2, "x": 1}, a=1)
    assert fingerprint(a=1) != fingerprint(b=1)
    assert fingerprint(a=[1, 2]) != fingerprint(a=[2, 1])
    assert len(fingerprint()) == 64


@pytest.mark.parametrize("parts", [{}, {"b": {"y": 2.5, "x": "é"}, "a": [1, None], "": True}])
def test_it_is_the_hash_of_the_whole_as_json_with_sorted_keys(parts: dict[str, Any]) -> None:
    """Results of earlier runs are known by it."""
    assert fingerprint(**parts) == hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def test_typed_values_hash_as_what_they_hold() -> None:
    config = DecisionConfig(cutoff_ml=2.0)
    assert fingerprint(config=config) == fingerprint(config=config.model_dump(mode="json"))
    assert fingerprint(state=DecisionState.NOT_ASSESSABLE, pair=(1, 2)) == fingerprint(
        state="not assessable", pair=[1, 2]
    )
    as_json = {"code": "few-slices", "message": "8 slices", "severity": "note"}
    assert fingerprint(findings=(FINDING,)) == fingerprint(findings=[as_json])
    assert fingerprint(config=config) != fingerprint(config=DecisionConfig(cutoff_ml=2.1))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf")
    with pytest.raises(InputError, match="cannot be read"):
        file_sha256(tmp_path / "none")
