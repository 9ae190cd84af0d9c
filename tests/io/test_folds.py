from __future__ import annotations

from pathlib import Path

import pytest

from fvv.data import Role
from fvv.errors import StoreError
from fvv.io.folds import read_folds, write_folds

FOLDS = "examination_id\tperson_id\tfold_0\tfold_1\na\tx\ttrain\ttest\nb\ty\ttest\ttrain\nc\tz\tvalid\tvalid\n"


def test_folds_survive_the_file(tmp_path: Path) -> None:
    (tmp_path / "folds.tsv").write_text(FOLDS)
    plan = read_folds(tmp_path / "folds.tsv")
    assert plan.participants(0, Role.TEST) == ("b",)
    write_folds(tmp_path / "again.tsv", plan)
    assert (tmp_path / "again.tsv").read_text() == FOLDS


@pytest.mark.parametrize(
    "header", ["participant_id\tpatient_id", "participant_id\tperson_id", "examination_id\tpatient_id"]
)
def test_columns_may_be_spelt_as_in_participants(tmp_path: Path, header: str) -> None:
    (tmp_path / "folds.tsv").write_text(FOLDS.replace("examination_id\tperson_id", header))
    write_folds(tmp_path / "again.tsv", read_folds(tmp_path / "folds.tsv"))
    assert (tmp_path / "again.tsv").read_text() == FOLDS


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("test\ttrain", "testing\ttrain"), "line 3: 'testing' is not a valid Role"),
        (("person_id", "examination_id\tparticipant_id"), "twice"),
        (("person_id", "person"), "lacks column person_id"),
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
