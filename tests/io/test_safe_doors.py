"""Settings files, names and errors: bounded, regular, on one line, naming the right file."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from fvv.cli import main
from fvv.cli.options import assignment
from fvv.config import PredictConfig, load_config
from fvv.errors import ConfigError, FvvError, InputError
from fvv.io.atomic import atomic_write, clear_remains, write_text
from fvv.io.inputs import Examination, find_examinations
from fvv.io.tables import read_table
from fvv.stages.convert import read_chosen_checkpoints
from fvv.system.regular import read_yaml


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe.yaml")
    return tmp_path / "pipe.yaml"


@pytest.mark.parametrize("read", [load_config, read_chosen_checkpoints])
def test_settings_are_no_pipe(read, pipe: Path) -> None:
    with pytest.raises(ConfigError, match="expected a regular file"):
        read(pipe)


@pytest.mark.parametrize("words", [["verify", "-c"], ["convert", "--models-file"]])
def test_the_command_line_waits_for_no_pipe(words: list[str], pipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, str(pipe)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prepare: " + "[" * 200_000, "nested more than"),
        ("a: 2001-99-99", "cannot read"),
        ("a: " + "9" * 5000, "cannot read"),
        ("#" * (2**20 + 1), "cannot read settings: holds"),
        ("a: \x00", "cannot read"),
    ],
)
def test_no_yaml_ends_in_a_traceback(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_yaml(tmp_path / "s.yaml")
    assert len(str(caught.value)) < 1000


def test_merges_that_repeat_each_other_are_refused_in_time(tmp_path: Path) -> None:
    lines = ["x0: &x0 {a: 1, b: 2}"]
    lines += [f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    started = time.monotonic()
    with pytest.raises(ConfigError, match="more than 20 aliases"):
        load_config(tmp_path / "s.yaml")
    assert time.monotonic() - started < 30  # It would take hours.


@pytest.mark.parametrize("value", ["2001-99-99", "9" * 5000, "[" * 5000])
def test_set_takes_any_text(value: str) -> None:
    assert assignment(f"train.name={value}") == ("train.name", value)


NAMES = ["p\nerror: all is lost", "p\x1b[2K", "p\u202egpj", os.fsdecode(b"p\xff")]


@pytest.mark.parametrize("name", NAMES)
def test_an_examination_with_an_unsafe_name_is_refused_at_every_door(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for image in ("b0.nii.gz", "b1000.nii.gz"):
        (folder / image).write_bytes(b"")
    (tmp_path / f"{name}.zip").write_bytes(b"")
    (zipped,) = find_examinations(tmp_path / f"{name}.zip")
    assert zipped.name.isprintable()
    with pytest.raises(InputError, match="rename"):
        zipped.read(PredictConfig())
    for place in (folder, tmp_path):
        with pytest.raises(InputError, match="rename") as caught:
            find_examinations(place)
        assert str(caught.value).isprintable()
    with pytest.raises(InputError, match="rename"):
        Examination(name, tmp_path, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_is_one_line(name: str) -> None:
    for error in (FvvError(f"no {name}"), FvvError("x", examination_id=name), FvvError("x", file=name, hint=name)):
        assert str(error).isprintable()
    assert str(FvvError("one line:\n  and another\n")) == "one line: and another"


def test_cells_of_tables_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text('participant_id\tsite\np\t"a\nb\x1b[2K"\n')
    assert read_table(tmp_path / "participants.tsv") == [{"participant_id": "p", "site": "a\\nb\\x1b[2K"}]


def test_an_error_of_another_file_is_not_called_a_write(tmp_path: Path) -> None:
    with pytest.raises(FvvError) as caught, atomic_write(tmp_path / "out.txt"):
        (tmp_path / "input.nii").read_bytes()
    assert str(caught.value) == f"{tmp_path / 'input.nii'}: No such file or directory"


def test_a_full_disk_names_the_target(tmp_path: Path) -> None:
    with pytest.raises(FvvError) as caught, atomic_write(tmp_path / "out.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value) == f"{tmp_path / 'out.txt'}: cannot write: No space left on device"
    with pytest.raises(FvvError) as caught, atomic_write(tmp_path / "out") as temporary:
        raise OSError(errno.ENOSPC, "full", str(temporary / "part" / "0"))
    assert str(caught.value) == f"{tmp_path / 'out'}: cannot write: full"


def test_a_file_of_an_unfinished_folder_is_named_as_it_would_be(tmp_path: Path) -> None:
    def onto_a_folder() -> None:
        with atomic_write(tmp_path / "sim_1") as folder:
            (folder / "b0").mkdir(parents=True)
            write_text(folder / "b0", "")

    with pytest.raises(FvvError) as caught:
        onto_a_folder()
    assert caught.value.file == str(tmp_path / "sim_1" / "b0")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FvvError) as caught:
        write_text(tmp_path / "file" / "a" / "b.txt", "x")
    assert caught.value.file == str(tmp_path / "file" / "a")


def test_only_remains_of_ours_are_cleared(tmp_path: Path) -> None:
    mine = [".partial-notahexa-x", ".partial-0011aabb", ".partial-0011aabb-", "partial-0011aabb-x", ".replaced-12-x"]
    for name in [*mine, ".partial-0011aabb-x\ny", ".partial-0011aabb-x"]:
        (tmp_path / name).write_text("")
    clear_remains(tmp_path)
    assert {item.name for item in tmp_path.iterdir()} == set(mine)
