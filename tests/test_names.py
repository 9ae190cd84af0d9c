"""Names from outside on one line."""

import pytest

from fvv.names import counted, first_alike, first_few, is_plain, nearest_hint, plain, same_name_key


def test_a_plain_text_is_one_printable_line() -> None:
    assert plain("Åsa 1") == "Åsa 1"
    assert plain("a\nb\x1b[2K\u202e\udcff") == "a\\nb\\x1b[2K\\u202e\\udcff"
    assert is_plain(plain("a\r\x00"))
    assert same_name_key("Anna") == same_name_key("ANNA")
    assert same_name_key("e\u0301") == same_name_key("\u00c9")


def test_of_many_names_the_first_are_given() -> None:
    assert first_few(["a", "b"]) == "a, b"
    assert first_few(["a\n", "b", "c"], 2) == "a\\n, b and 1 more"


def test_a_number_agrees_with_its_noun() -> None:
    assert [counted(number, "patient") for number in (0, 1, 2)] == ["0 patients", "1 patient", "2 patients"]
    assert counted(2, "mismatch", "mismatches") == "2 mismatches"


@pytest.mark.parametrize("pair", [("Anna", "anna"), ("Ren\u00e9", "Rene\u0301")])
def test_names_that_many_disks_take_for_one_are_found(pair: tuple[str, str]) -> None:
    assert first_alike(["x", *pair]) == pair
    assert first_alike(["x", pair[0], pair[0]]) is None


def test_only_names_that_resemble_are_offered() -> None:
    assert nearest_hint(["site", "zzz"], ["Site", "age"]) == "is it Site for site?"
    assert nearest_hint(["zzz"], ["Site"]) is None
