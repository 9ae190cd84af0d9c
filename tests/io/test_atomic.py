from __future__ import annotations

from pathlib import Path

import pytest

from fvv.errors import FvvError
from fvv.io.atomic import atomic_write, clear_remains, write_text


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["x.txt"]


def test_folders_are_replaced_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_write(tmp_path / "d") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [item.name for item in (tmp_path / "d").iterdir()] == ["two"]
    assert [item.name for item in tmp_path.iterdir()] == ["d"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FvvError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "x")


def test_what_a_killed_run_left_is_cleared_and_what_it_moved_aside_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".partial-0011aabb-p.json").write_text("half")
    (tmp_path / ".partial-0011aabb-old-p").mkdir()
    (tmp_path / ".replaced-0011aabb-lost" / "inner").mkdir(parents=True)
    (tmp_path / ".replaced-0011aabb-kept").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / ".partial-mine").write_text("not ours")
    clear_remains(tmp_path)
    assert {item.name for item in tmp_path.iterdir()} == {"lost", "kept", ".partial-mine"}
    assert (tmp_path / "lost" / "inner").is_dir()
