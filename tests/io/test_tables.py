from __future__ import annotations

import os
from pathlib import Path

import pytest

from fvv.data import Failure
from fvv.errors import FvvError, InputError, StoreError
from fvv.io.folds import read_folds
from fvv.io.tables import counted_reasons, read_lines, read_table, write_failures, write_parquet, write_table


def test_reasons_are_counted_by_kind_and_name_the_first() -> None:
    failures = [Failure(f"p{n}", f"patient p{n}, /data/p{n}/b0.nii.gz: missing (copy it)") for n in range(4)]
    failures += [Failure("q", "patient q: brain of 200.5 mL"), Failure("r", "patient r: brain of 180 mL")]
    failures += [Failure("s", "patient s: not assessable: swapped (give (b0) again)")]
    said = counted_reasons(failures)
    assert said == (
        "4: b0.nii.gz: missing [p0, p1, p2 and 1 more]; 2: brain of 200.5 mL [q, r]; 1: not assessable: swapped [s]"
    )
    assert counted_reasons(failures, most=1).endswith("and 1 more]; 3: other reasons")
    assert counted_reasons([]) == ""


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


def test_a_column_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b, a\n1,2,3\n")
    with pytest.raises(InputError, match="twice"):
        read_table(tmp_path / "t.csv")


def test_no_failure_is_still_a_table(tmp_path: Path) -> None:
    write_failures(tmp_path / "f.csv", [])
    assert (tmp_path / "f.csv").read_text() == "examination_id,reason\n"
    write_failures(tmp_path / "f.csv", [Failure("p", "b0, broken")])
    assert read_table(tmp_path / "f.csv") == [{"examination_id": "p", "reason": "b0, broken"}]


def test_a_parquet_table_holds_the_rows_with_their_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"Patient": "=a", "voxels": 3, "ml": None}, {"Patient": "b", "voxels": None, "ml": 1}]
    write_parquet(tmp_path / "t.parquet", rows, {"Patient": str, "voxels": int, "ml": float})
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.to_pylist() == rows
    assert [str(kind) for kind in table.schema.types] == ["string", "int64", "double"]


def test_without_pyarrow_a_parquet_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(FvvError, match=r"needs pyarrow.*results\.csv has the same rows"):
        write_parquet(tmp_path / "t.parquet", [], {})
