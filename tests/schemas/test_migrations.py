"""A file of any earlier version is read as one of today; a newer one is refused."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fvv.schemas
from fvv.errors import InputError
from fvv.schemas import migrations
from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT, migrated

FILE = Path("some.json")


def _models(base: type[FileModel] = FileModel) -> Iterator[type[FileModel]]:
    """Every model that names a kind of its own."""
    for module in pkgutil.iter_modules(fvv.schemas.__path__):
        importlib.import_module(f"fvv.schemas.{module.name}")
    for model in base.__subclasses__():
        if "kind" in vars(model):
            yield model
        yield from _models(model)


MODELS = sorted(_models(), key=lambda model: model.kind)


def test_every_kind_has_one_model_and_every_model_a_version() -> None:
    assert [model.kind for model in MODELS] == sorted(CURRENT)
    assert all(model.model_fields["schema_version"].default == CURRENT[model.kind] for model in MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_a_version_without_a_step_and_a_newer_one_are_refused_in_one_line(model: type[FileModel]) -> None:
    for version, words in ((0, "cannot be read any more"), (CURRENT[model.kind] + 1, "newer version")):
        with pytest.raises(InputError, match=words) as refused:
            model.parse({"schema_version": version}, FILE)
        assert "\n" not in str(refused.value)
        assert f"some.json: {model.kind} file of" in str(refused.value)


@pytest.fixture
def _thing(monkeypatch: pytest.MonkeyPatch) -> None:
    def to_two(content: dict[str, Any]) -> dict[str, Any]:
        return {"name": content["nom"]}

    def to_three(content: dict[str, Any]) -> dict[str, Any]:
        return {**content, "size": 0}

    monkeypatch.setattr(migrations, "CURRENT", {"thing": 3})
    monkeypatch.setattr(migrations, "STEPS", {("thing", 1): to_two, ("thing", 2): to_three})


@pytest.mark.usefixtures("_thing")
def test_every_step_is_taken_in_order() -> None:
    assert migrated("thing", {"schema_version": 1, "nom": "a"}, FILE) == {"schema_version": 3, "name": "a", "size": 0}


@pytest.mark.usefixtures("_thing")
def test_todays_version_passes_unchanged() -> None:
    content = {"schema_version": 3, "name": "a", "size": 2}
    assert migrated("thing", content, FILE) == content


@pytest.mark.usefixtures("_thing")
@pytest.mark.parametrize("version", [None, "1", True, 0])
def test_no_usable_version_is_refused(version: object) -> None:
    with pytest.raises(InputError, match=r"thing file"):
        migrated("thing", {"schema_version": version}, FILE)


@pytest.mark.usefixtures("_thing")
def test_a_newer_version_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match="newer version") as refused:
        migrated("thing", {"schema_version": 4}, FILE)
    assert refused.value.hint == "install a newer fvv"
