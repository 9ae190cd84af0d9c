"""A file of any earlier version is read as one of today; a newer one is refused."""

from pathlib import Path
from typing import Any

import pytest

from fvv.errors import InputError
from fvv.schemas import migrations
from fvv.schemas.migrations import migrated

FILE = Path("some.json")


@pytest.fixture(autouse=True)
def _thing(monkeypatch: pytest.MonkeyPatch) -> None:
    def to_two(content: dict[str, Any]) -> dict[str, Any]:
        return {"name": content["nom"]}

    def to_three(content: dict[str, Any]) -> dict[str, Any]:
        return {**content, "size": 0}

    monkeypatch.setattr(migrations, "CURRENT", {"thing": 3})
    monkeypatch.setattr(migrations, "STEPS", {("thing", 1): to_two, ("thing", 2): to_three})


def test_every_step_is_taken_in_order() -> None:
    assert migrated("thing", {"schema_version": 1, "nom": "a"}, FILE) == {"schema_version": 3, "name": "a", "size": 0}


def test_todays_version_passes_unchanged() -> None:
    content = {"schema_version": 3, "name": "a", "size": 2}
    assert migrated("thing", content, FILE) == content


@pytest.mark.parametrize("version", [None, "1", True, 0])
def test_no_usable_version_is_refused(version: object) -> None:
    with pytest.raises(InputError, match=r"thing file"):
        migrated("thing", {"schema_version": version}, FILE)


def test_a_newer_version_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match="newer version") as refused:
        migrated("thing", {"schema_version": 4}, FILE)
    assert refused.value.hint == "install a newer fvv"
