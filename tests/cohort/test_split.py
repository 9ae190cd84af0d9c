"""The split from one run to the next: what people changed stays, and nobody changes side."""

from __future__ import annotations

from pathlib import Path

import pytest

from fvv.cohort.folds import SplitInput
from fvv.cohort.split import SPLIT_FILE, SplitSettings, StoredSplit, given_split, write_split
from fvv.data import FoldPlan, Participant, Role
from fvv.errors import StoreError
from fvv.io.folds import FOLDS_FILE, read_folds

TWO, THREE = SplitSettings(2, 0.2, 0), SplitSettings(3, 0.2, 0)


def cases(*numbers: int, **persons: str) -> list[SplitInput]:
    """Examinations p0 ..., each of a person of its own or of the one named."""
    names = [f"p{number}" for number in numbers]
    return [SplitInput(Participant(name, persons.get(name, name)), 1.0 + n, 0.5) for n, name in enumerate(names)]


def run(store: Path, present: list[SplitInput], settings: SplitSettings = TWO) -> StoredSplit:
    """What `prepare` does with the split."""
    people = {case.participant.examination_id: case.participant.person_id for case in present}
    before = StoredSplit.read(store, people)
    before.refuse_unfit(settings, people)
    split = before.updated(present, settings)
    write_split(store, split, before)
    return split


def sides(split: StoredSplit) -> dict[str, tuple[Role, ...]]:
    return {row.examination_id: row.roles for row in split.rows}


def content(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    run(tmp_path, cases(*range(6)))
    return tmp_path


def test_new_patients_join_and_nobody_changes_side(store: Path) -> None:
    before = sides(StoredSplit.read(store, ()))
    split = run(store, cases(*range(10)))
    assert sides(split).items() >= before.items()
    plan = FoldPlan(split.rows)
    assert [len(plan.participants(fold, Role.TEST)) for fold in range(2)] == [5, 5]
    assert run(store, cases(*range(10))) == split


def test_a_new_scan_of_a_known_person_takes_that_persons_side(store: Path) -> None:
    after = sides(run(store, cases(*range(7), p6="p1")))
    assert after["p6"] == after["p1"]


def test_an_edited_split_is_extended_and_the_edited_file_kept(store: Path) -> None:
    file = store / FOLDS_FILE
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    edited = [[*row[:2], *row[:1:-1], "mine"] for row in rows[1:] if row[0] != "p2"]  # folds exchanged, p2 out
    text = "\n".join("\t".join(row) for row in [[*rows[0], "note"], *edited]) + "\n"
    file.write_text(text)
    assert run(store, cases(*range(6))).removed == {"p2"}
    assert file.read_text() == text
    split = run(store, cases(*range(7)))
    written = {name: [role.value for role in roles] for name, roles in sides(split).items()}
    assert {row[0]: list(row[2:4]) for row in edited}.items() <= written.items()
    assert set(written) == {"p0", "p1", "p3", "p4", "p5", "p6"}
    (copy,) = store.glob("folds_before_*.tsv")
    assert copy.read_text() == text


def test_other_settings_do_not_replace_an_edited_split(store: Path) -> None:
    file = store / FOLDS_FILE
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(StoreError, match=r"edited or given, and other settings \(kfolds 3.*kfolds 2"):
        run(store, cases(*range(6)), THREE)
    file.write_text("\n".join(lines) + "\n")  # Not edited: it is replaced.
    assert FoldPlan(run(store, cases(*range(6)), THREE).rows).n_folds == 3


def test_a_deleted_split_comes_back_as_it_was(store: Path) -> None:
    before = content(store)
    (store / FOLDS_FILE).unlink()
    run(store, cases(*range(6)))
    assert content(store) == before


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema_version": 1, "rows": 3}', None])
def test_without_its_memory_a_split_counts_as_edited(store: Path, damage: bytes | None) -> None:
    text = (store / FOLDS_FILE).read_text()
    (store / SPLIT_FILE).unlink()
    if damage is not None:
        (store / SPLIT_FILE).write_bytes(damage)
    split = run(store, cases(*range(6)), THREE)
    assert split.edited
    assert (store / FOLDS_FILE).read_text() == text


def test_who_is_missing_leaves_the_split_and_returns_to_the_same_side(store: Path) -> None:
    before = sides(StoredSplit.read(store, ()))
    assert "p4" not in sides(run(store, cases(0, 1, 2, 3, 5)))
    run(store, cases(0, 1, 2, 3, 5, 6))
    assert sides(run(store, cases(*range(7)))).items() >= before.items()


def test_a_split_that_cannot_be_kept_is_made_again_unless_it_was_edited(store: Path) -> None:
    plan = FoldPlan(run(store, cases(*range(6)), THREE).rows)
    tested = {int(name[1:]) for name in plan.participants(0, Role.TEST)}
    plan = FoldPlan(run(store, cases(*set(range(6)) - tested), THREE).rows)
    assert len(plan.rows) == 4
    file = store / FOLDS_FILE
    file.write_text(file.read_text().replace("valid", "train", 1))
    edited = file.read_text()
    alone = next(part[0] for fold in range(3) if len(part := plan.participants(fold, Role.TEST)) == 1)
    with pytest.raises(StoreError, match=r"has no (test|train) patient"):
        run(store, cases(*set(range(6)) - tested - {int(alone[1:])}), THREE)
    assert file.read_text() == edited


def test_two_sides_of_one_person_are_refused(store: Path) -> None:
    plan = read_folds(store / FOLDS_FILE)
    one, two = (plan.participants(fold, Role.TEST)[0] for fold in range(2))
    with pytest.raises(StoreError, match="are one person but have different roles"):
        run(store, cases(*range(6), **{one: "same", two: "same"}))


def test_a_given_split_stays_and_who_is_not_in_it_stays_out(store: Path) -> None:
    given = store / "mine.tsv"
    given.write_text("participant_id\tpatient_id\tfold_0\np0\tp0\ttrain\np1\tp1\ttest\np2\tp2\tvalid\np9\tp9\ttest\n")
    people = {case.participant.examination_id: case.participant for case in cases(*range(6))}
    split = given_split(read_folds(given), people, TWO)
    assert split.removed == {"p3", "p4", "p5"}
    write_split(store, split, StoredSplit.read(store, people))
    assert list(sides(run(store, cases(*range(7))))) == ["p0", "p1", "p2"]
    people["p2"] = Participant("p2", "other")
    with pytest.raises(StoreError, match="p2 is p2 in the given split and other in the cohort"):
        given_split(read_folds(given), people, TWO)


def test_forgotten_examinations_are_nowhere(store: Path) -> None:
    split = StoredSplit.read(store, ()).without({"p1"})
    assert "p1" not in sides(split)
    assert len(split.rows) == 5


@pytest.mark.parametrize("damage", [b"", b"participant_id\n", b"\xff", b"participant_id\tpatient_id\tfold_0\np0\n"])
def test_a_damaged_split_is_refused_with_the_way_out(store: Path, damage: bytes) -> None:
    before = content(store)
    (store / FOLDS_FILE).write_bytes(damage)
    with pytest.raises(StoreError, match="delete it: `fvv prepare` then writes the last split again"):
        run(store, cases(*range(6)))
    (store / FOLDS_FILE).unlink()
    run(store, cases(*range(6)))
    assert content(store) == before
