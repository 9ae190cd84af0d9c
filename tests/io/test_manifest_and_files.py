from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from fvv.data import Failure, Role
from fvv.errors import FvvError, InputError, OutputExistsError, StoreError
from fvv.io.atomic import atomic_write, write_text
from fvv.io.lock import only_writer
from fvv.io.manifest import (
    list_patients,
    read_folds,
    read_participants,
    read_table,
    write_failures,
    write_folds,
    write_table,
)

FOLDS = "participant_id\tpatient_id\tfold_0\tfold_1\na\tx\ttrain\ttest\nb\ty\ttest\ttrain\nc\tz\tvalid\tvalid\n"


def cohort(tmp_path: Path, table: str | None, *folders: str) -> Path:
    for name in folders or ("a", "b"):
        (tmp_path / name).mkdir()
    if table is not None:
        (tmp_path / "participants.tsv").write_text(table, encoding="utf-8")
    return tmp_path


def test_folders_without_a_table_are_persons_of_their_own(tmp_path: Path) -> None:
    known = read_participants(cohort(tmp_path, None, "a", "b", ".hidden"))
    assert {name: one.person for name, one in known.items()} == {"a": "a", "b": "b"}
    assert known["a"].dwi_flair_mismatch is None


def test_the_table_gives_person_site_and_label(tmp_path: Path) -> None:
    table = "participant_id\tpatient_id\tsite\tdwi_flair_mismatch\na\tx\tParis\t1\nb\tx\tn/a\tn/a\n"
    known = read_participants(cohort(tmp_path, table, "a", "b", "c"))
    assert known["a"].person == known["b"].person == "x"
    assert known["a"].site == "Paris"
    assert known["a"].dwi_flair_mismatch is True
    assert known["b"].site == ""
    assert known["b"].dwi_flair_mismatch is None
    assert known["c"].person == "c"


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("id\na\n", "lacks column participant_id"),
        ("participant_id\na\na\n", "line 3: a is listed twice"),
        ("participant_id\tdwi_flair_mismatch\na\tyes\n", "must be 0, 1 or empty, got 'yes'"),
        ("participant_id\tsite\na\n", "another number of cells"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, table: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        read_participants(cohort(tmp_path, table))


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


def test_existing_output_is_refused_unless_asked(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "1")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_text(tmp_path / "x", "2", overwrite=False)


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
