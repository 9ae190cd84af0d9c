from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from fvv.data import Failure, Role
from fvv.errors import FvvError, InputError, StoreError
from fvv.io.atomic import atomic_write, write_text
from fvv.io.lock import only_writer
from fvv.io.manifest import (
    list_patients,
    read_folds,
    read_lines,
    read_table,
    refuse_missing_folder,
    write_failures,
    write_folds,
    write_table,
)

FOLDS = "participant_id\tpatient_id\tfold_0\tfold_1\na\tx\ttrain\ttest\nb\ty\ttest\ttrain\nc\tz\tvalid\tvalid\n"


def test_no_folder_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list_patients(tmp_path / "none")
    with pytest.raises(InputError, match="holds no patient"):
        list_patients(tmp_path)


def test_folds_survive_the_file(tmp_path: Path) -> None:
    (tmp_path / "folds.tsv").write_text(FOLDS)
    plan = read_folds(tmp_path / "folds.tsv")
    assert plan.participants(0, Role.TEST) == ("b",)
    write_folds(tmp_path / "again.tsv", plan)
    assert (tmp_path / "again.tsv").read_text() == FOLDS


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("test\ttrain", "testing\ttrain"), "line 3: 'testing' is not a valid Role"),
        (("b\ty", "b\ty\u200b"), "names on one line"),
        (("b\ty", "b\tX"), "same but for case"),
        (("fold_1", "fold_2"), "must be fold_0, fold_1"),
        (("b\ty", "b\tx"), "one person"),
        (("test\ttrain", "train\ttrain"), "fold 0 has no test"),
    ],
)
def test_a_bad_split_is_refused(tmp_path: Path, change: tuple[str, str], match: str) -> None:
    (tmp_path / "folds.tsv").write_text(FOLDS.replace(*change))
    with pytest.raises(StoreError, match=match):
        read_folds(tmp_path / "folds.tsv")


def test_tables_keep_commas_quotes_and_unknowns(tmp_path: Path) -> None:
    rows = [{"a": 'say "hi", you', "b": None}, {"a": "é", "b": 0}]
    write_table(tmp_path / "t.csv", rows)
    assert read_table(tmp_path / "t.csv") == [{"a": 'say "hi", you', "b": ""}, {"a": "é", "b": "0"}]
    write_table(tmp_path / "t.tsv", rows)
    assert read_table(tmp_path / "t.tsv")[0]["b"] == "n/a"


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "@x", "-", "-a b", "'=1", "''@x", "'", "it's", "-1_0x"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_no_text_is_run_as_a_formula_and_it_reads_back_as_it_was(tmp_path: Path, text: str, name: str) -> None:
    write_table(tmp_path / name, [{"a": text, "b": "x"}])
    assert not (tmp_path / name).read_text().splitlines()[1].startswith(("=", "+", "-", "@"))
    assert read_table(tmp_path / name) == [{"a": text, "b": "x"}]


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"a": -1.5, "b": "-2e3", "c": "+4"}])
    assert (tmp_path / "t.csv").read_text() == "a,b,c\n-1.5,-2e3,+4\n"


def test_blank_lines_count_for_nothing_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes(b"\xef\xbb\xbf\r\na\tb\r\n\r\n \t\r\n1\t2\r\n\n3\t4")
    assert read_lines(tmp_path / "t.tsv") == [(5, {"a": "1", "b": "2"}), (7, {"a": "3", "b": "4"})]


def test_a_pipe_and_a_broken_link_are_no_tables(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tsv")
    (tmp_path / "link.tsv").symlink_to("nowhere")
    for name, words in (("pipe.tsv", "regular file"), ("link.tsv", "broken link to nowhere")):
        with pytest.raises(InputError, match=words):
            read_table(tmp_path / name)
        with pytest.raises(StoreError, match=words):
            read_folds(tmp_path / name)


def test_cells_separated_otherwise_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"lacks column a.*separated by commas, .tsv needs tabs"):
        read_table(tmp_path / "t.tsv", required=("a",))


def test_a_link_to_a_folder_that_is_away_is_a_patient_and_one_to_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "p0").mkdir()
    (tmp_path / "p1").symlink_to("unmounted/p1")
    (tmp_path / "README.md").symlink_to("nowhere")
    (tmp_path / "LICENSE").symlink_to(".git/annex/objects/x/MD5E-s1--a")
    (tmp_path / "a_file").write_text("")
    assert list_patients(tmp_path) == ("p0", "p1")
    for name, words in (("p1", "broken link to unmounted/p1"), ("a_file", "found a file"), ("p2", "no such folder")):
        with pytest.raises(InputError, match=words):
            refuse_missing_folder(tmp_path / name)


@pytest.mark.parametrize("pair", [("Anna", "anna"), ("Ren\u00e9", "Rene\u0301")])
def test_two_folders_that_many_disks_take_for_one_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    for name in pair:
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="same name but for case or accents"):
        list_patients(tmp_path)


def test_no_failure_is_still_a_table(tmp_path: Path) -> None:
    write_failures(tmp_path / "f.csv", [])
    assert (tmp_path / "f.csv").read_text() == "patient,reason\n"
    write_failures(tmp_path / "f.csv", [Failure("p", "b0, broken")])
    assert read_table(tmp_path / "f.csv") == [{"patient": "p", "reason": "b0, broken"}]


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


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(FvvError, match="another fvv process"), only_writer(tmp_path):
        pass
    with only_writer(tmp_path):  # free again
        pass


def test_errors_cross_process_borders_whole() -> None:
    error = StoreError("broken", patient="p", file="x.nii", hint="mend it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is StoreError
    assert str(again) == str(error) == "patient p, x.nii: broken (mend it)"
