"""Only what this program wrote is replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fvv.errors import OutputExistsError
from fvv.io.ownership import MARKER, claim, claimed


def test_what_is_claimed_may_be_claimed_again(tmp_path: Path) -> None:
    claim(tmp_path / "out", ["a.csv"])
    (tmp_path / "out" / "a.csv").write_text("ours")
    claim(tmp_path / "out", ["a.csv", "masks"])
    assert claimed(tmp_path / "out") == {"a.csv", "masks"}


@pytest.mark.parametrize("kind", ["file", "folder", "broken link"])
def test_what_others_wrote_is_refused(tmp_path: Path, kind: str) -> None:
    there = tmp_path / "a.csv"
    if kind == "file":
        there.write_text("theirs")
    elif kind == "folder":
        there.mkdir()
    else:
        there.symlink_to("nowhere")
    with pytest.raises(OutputExistsError, match="not written by fvv"):
        claim(tmp_path, ["b.csv", "a.csv"])
    assert claimed(tmp_path) == frozenset()


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"schema_version": 99, "writers": {}})])
def test_a_damaged_marker_protects_everything(tmp_path: Path, content: str) -> None:
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(OutputExistsError, match="may be replaced"):
        claim(tmp_path, ["a.csv"])


def test_a_stage_does_not_replace_what_another_wrote(tmp_path: Path) -> None:
    claim(tmp_path, ["report.html"], stage="evaluate")
    claim(tmp_path, ["a.csv"])
    for name in ("report.html", "a.csv"):
        (tmp_path / name).write_text("ours")
    claim(tmp_path, ["report.html"], stage="evaluate")
    claim(tmp_path, ["a.csv"], stage="predict")
    with pytest.raises(OutputExistsError, match="written by `fvv evaluate`"):
        claim(tmp_path, ["report.html"], stage="predict")
