"""participants.tsv and the folders: matched, or refused with both sides named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fvv.cohort.participants import PARTICIPANTS_FILE, read_participants
from fvv.errors import InputError

HEADER = "participant_id\tpatient_id\tsite\tdwi_flair_mismatch\n"


def cohort(tmp_path: Path, table: str | bytes | None, *folders: str) -> Path:
    for name in folders or ("a", "b"):
        (tmp_path / name).mkdir()
    if table is not None:
        (tmp_path / PARTICIPANTS_FILE).write_bytes(table.encode() if isinstance(table, str) else table)
    return tmp_path


def test_folders_without_a_table_are_persons_of_their_own(tmp_path: Path) -> None:
    known = read_participants(cohort(tmp_path, None, "a", "b", ".hidden"))
    assert {name: one.person_id for name, one in known.items()} == {"a": "a", "b": "b"}
    assert known["a"].dwi_flair_mismatch is None


def test_the_table_gives_person_site_and_label(tmp_path: Path) -> None:
    table = f"{HEADER}a\tx\tParis\t1\nb\tx\tn/a\tn/a\nc\t\t\t0\n"
    known = read_participants(cohort(tmp_path, table, "a", "b", "c"))
    assert known["a"].person_id == known["b"].person_id == "x"
    assert known["a"].site == "Paris"
    assert known["a"].dwi_flair_mismatch is True
    assert known["b"].site == ""
    assert known["b"].dwi_flair_mismatch is None
    assert known["c"].person_id == "c"
    assert known["c"].dwi_flair_mismatch is False


def test_the_table_says_who_has_no_stroke(tmp_path: Path) -> None:
    table = "participant_id\tstroke_free\na\t1\nb\t0\nc\tn/a\n"
    known = read_participants(cohort(tmp_path, table, "a", "b", "c"))
    assert [one.stroke_free for one in known.values()] == [True, False, False]


@pytest.mark.parametrize(
    "table",
    [
        f"{HEADER}a\tx\ts\t1.0\nb\tx\ts\t0.0\n",  # a program that knows numbers only
        f"{HEADER}a\tx\ts\t1\nb\tx\ts\t0\n".replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + f"{HEADER}a\tx\ts\t1\nb\tx\ts\t0\n".encode(),
        f"\n{HEADER}\n\na\tx\ts\t1\n \t \t\t\nb\tx\ts\t0\n\n\n",
        f"{HEADER}a \t x\ts\t1\n b\tx\ts\t0",
        "age\tparticipant_id\tpatient_id\tsite\tdwi_flair_mismatch\tside\tpatient_age\n"
        "8\ta\tx\ts\t1\tleft\t7,5\n9\tb\tx\ts\t0\tright\t8,5\n",
    ],
)
def test_other_programs_ways_of_writing_change_nothing(tmp_path: Path, table: str | bytes) -> None:
    known = read_participants(cohort(tmp_path, table))
    assert [one.person_id for one in known.values()] == ["x", "x"]
    assert [one.dwi_flair_mismatch for one in known.values()] == [True, False]


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("id\na\n", "lacks column participant_id"),
        ("Participant_ID\na\nb\n", r"lacks column participant_id.*is it Participant_ID for participant_id\?"),
        ("participant_id\na\na\n", "line 3: a is listed twice"),
        ("participant_id\tdwi_flair_mismatch\na\tyes\nb\t1\n", "line 2: .*must be 1 .*, got 'yes'"),
        ("participant_id\tdwi_flair_mismatch\na\t1\nb\t1,0\n", "line 3: .*got '1,0'"),
        ("participant_id\tdwi_flair_mismatch\na\t1\nb\t2\n", "got '2'"),
        ("participant_id\tstroke_free\na\tyes\nb\t1\n", "line 2: stroke_free must be 1 .*, got 'yes'"),
        ("participant_id\tstroke-free\na\t1\nb\t1\n", "resembles stroke_free"),
        ("participant_id\tstroke_free\tdwi_flair_mismatch\na\t1\t0\nb\t1\t\n", "a is stroke_free and has a dwi"),
        ("participant_id\tsite\na\n", "another number of cells"),
        ("participant_id,patient_id\na,x\nb,x\n", "separated by commas, .tsv needs tabs"),
        ("participant_id;patient_id\na;x\nb;x\n", "separated by semicolons"),
        ("participant_id\tpatient_id\na\t1\nb\t001\n", "the same number: '001' and '1'"),
        ("participant_id\tpatient_id\na\t12\nb\t12.0\n", "the same number"),
        ("participant_id\tpatient_id\na\t1.2E+05\nb\tx\n", "lost its digits"),
        ("participant_id\tpatient_id\na\tx\nb\ty\n".encode("utf-16"), "save it as UTF-8"),
        ("participant_id\tpatientid\na\tx\nb\tx\n", "column patientid is unknown and resembles patient_id"),
        ("participant_id\tPatient_ID\na\tx\nb\tx\n", "column Patient_ID is unknown and resembles patient_id"),
        ("participant_id\tperson\na\tx\nb\tx\n", "column person is unknown and resembles patient_id"),
        ("participant_id\tmismatch\na\t1\nb\t1\n", "resembles dwi_flair_mismatch"),
        ("participant_id\tDWI-FLAIR mismatch\na\t1\nb\t1\n", "resembles dwi_flair_mismatch"),
        ("participant_id\tSite\na\t1\nb\t1\n", "resembles site"),
        ("participant_id\tpatient_id\na\tNaN\nb\tNaN\n", "'NaN' is no person"),
        ("participant_id\tpatient_id\na\tx\n\ty\n", "line 3: participant_id is empty|must be the name of a folder"),
        ("participant_id\na\nb\n../../etc\n", "must be the name of a folder"),
        ("participant_id\na\nb\n/etc\n", "must be the name of a folder"),
        ("participant_id\tpatient_id\na\tx\x1b[2J\nb\tx\n", "must be printable text on one line"),
        ('participant_id\tpatient_id\na\t"x\nb\tx\n', "a quote too many"),
        ('participant_id\tpatient_id\na\t"x\nb\ty"\n', "is a quote not closed"),
        ("participant_id\tpatient_id\na\tDupont\nb\tDUPONT\n", "same but for case"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, table: str | bytes, match: str) -> None:
    with pytest.raises(InputError, match=match):
        read_participants(cohort(tmp_path, table))


@pytest.mark.parametrize(
    ("written", "folder"),
    [("1", "001"), ("1.0", "1"), ("sub-01", "01"), ("01", "sub-01"), ("P_1", "P-1"), ("p1", "P1"), ("P 1", "P1")],
)
def test_names_that_nearly_match_are_refused_and_offered(tmp_path: Path, written: str, folder: str) -> None:
    folder_of_data = cohort(tmp_path, f"{HEADER}{written}\tx\ts\t1\nb\tx\ts\t1\n", folder, "b")
    for unlisted in ("refuse", "own-person"):
        with pytest.raises(InputError, match=f"write the folder's own name: {folder} for {written}") as caught:
            read_participants(folder_of_data, unlisted=unlisted)
        assert f"1 folders have no row ({folder}) and 1 rows have no folder ({written})" in str(caught.value)


def test_folders_without_a_row_are_persons_only_where_that_is_said(tmp_path: Path) -> None:
    folder = cohort(tmp_path, f"{HEADER}a\tx\ts\t1\n", "a", "control")
    with pytest.raises(InputError, match=r"1 folders have no row \(control\).*--unlisted own-person"):
        read_participants(folder)
    assert read_participants(folder, unlisted="own-person")["control"].person_id == "control"


def test_a_row_whose_folder_is_missing_is_a_patient_that_will_fail(tmp_path: Path) -> None:
    known = read_participants(cohort(tmp_path, f"{HEADER}a\tx\ts\t1\nb\tx\ts\t1\ngone\tz\ts\t1\n"))
    assert sorted(known) == ["a", "b", "gone"]


@pytest.mark.parametrize("name", ["participants.csv", "Participants.TSV", "participants.tsv.txt", "patients.xlsx"])
def test_a_table_under_another_name_is_not_missed(tmp_path: Path, name: str) -> None:
    (cohort(tmp_path, None) / name).write_text(f"{HEADER}a\tx\ts\t1\nb\tx\ts\t1\n")
    with pytest.raises(InputError, match=r"there is no participants.tsv, and this resembles it"):
        read_participants(tmp_path)


def test_a_pipe_and_a_broken_link_for_a_table_are_refused(tmp_path: Path) -> None:
    os.mkfifo(cohort(tmp_path, None) / PARTICIPANTS_FILE)
    with pytest.raises(InputError, match="expected a regular file"):
        read_participants(tmp_path)
    (tmp_path / PARTICIPANTS_FILE).unlink()
    (tmp_path / PARTICIPANTS_FILE).symlink_to(".git/annex/objects/missing")
    with pytest.raises(InputError, match="a broken link"):
        read_participants(tmp_path)
