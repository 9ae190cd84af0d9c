"""What should be a small regular file, and is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fvv.errors import InputError
from fvv.system.regular import read_regular_text, refuse_irregular


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
