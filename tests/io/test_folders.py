from __future__ import annotations

from pathlib import Path

import pytest

from fvv.errors import InputError
from fvv.io.folders import list_patients, refuse_missing_folder


def test_no_folder_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list_patients(tmp_path / "none")
    with pytest.raises(InputError, match="holds no patient"):
        list_patients(tmp_path)


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


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\udcff"])
def test_folder_names_that_would_spoil_tables_and_terminals(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="rename"):
        list_patients(tmp_path)
