from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fvv.errors import InputError, OutputExistsError
from fvv.io.ownership import MARKER, claim, claimed
from fvv.names import is_plain, plain, same_name_key
from fvv.system.regular import read_regular_text, refuse_irregular


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


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"schema_version": 99, "names": []})])
def test_a_damaged_marker_protects_everything(tmp_path: Path, content: str) -> None:
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(OutputExistsError, match="may be replaced"):
        claim(tmp_path, ["a.csv"])


def test_pipes_folders_and_broken_links_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("annexed")
    (tmp_path / "good").write_text("text")
    assert read_regular_text(tmp_path / "good") == "text"
    for name, words in {"pipe": "regular file", ".": "regular file", "link": "broken link to annexed"}.items():
        with pytest.raises(InputError, match=words):
            refuse_irregular(tmp_path / name)
    with pytest.raises(InputError, match="at most 3"):
        read_regular_text(tmp_path / "good", most_bytes=3)


def test_a_plain_text_is_one_printable_line() -> None:
    assert plain("Åsa 1") == "Åsa 1"
    assert plain("a\nb\x1b[2K\u202e\udcff") == "a\\nb\\x1b[2K\\u202e\\udcff"
    assert is_plain(plain("a\r\x00"))
    assert same_name_key("Anna") == same_name_key("ANNA")
    assert same_name_key("e\u0301") == same_name_key("\u00c9")
