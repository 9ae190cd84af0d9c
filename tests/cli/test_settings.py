"""`fvv settings`: what is printed is a settings file, and says what differs from the defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fvv.cli import main
from fvv.cli.settings import PACKAGED, as_yaml, json_schema, settings_file
from fvv.config import SHARED, STAGES, Config, load_config
from fvv.errors import ConfigError


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["settings", *words]) == 0
    return capsys.readouterr().out


def test_what_is_printed_is_a_settings_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(printed(capsys, "-c", "demo", "--set", "compute.workers=3"), encoding="utf-8")
    assert load_config(file) == load_config(settings_file(Path("demo")), {"compute.workers": 3})


def test_only_what_differs_names_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert "# default:" not in "".join(line.partition(": ")[2] for line in printed(capsys).splitlines(keepends=True))
    lines = printed(capsys, "prepare", "--set", "prepare.kfolds=3").splitlines()
    assert [line for line in lines if "  # default: " in line] == ["  kfolds: 3  # default: 10"]
    assert list(yaml.safe_load("\n".join(lines))) == ["prepare"]


def test_a_section_that_may_be_missing() -> None:
    config = load_config(overrides={"postprocess": {}})
    assert yaml.safe_load(as_yaml(config, "postprocess"))["postprocess"]


def test_an_unknown_section_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "trian"]) == 1
    assert "simulate, prepare, train" in capsys.readouterr().err


def test_packaged_settings_go_by_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    assert load_config(settings_file(Path("demo"))).prepare.kfolds == 3
    Path("model").write_text("prepare: {kfolds: 7}\n", encoding="utf-8")
    assert load_config(settings_file(Path("model"))).prepare.kfolds == 7
    Path("folder").mkdir()
    for path in (Path("none.yaml"), Path(), Path("folder"), Path("a/demo")):
        assert settings_file(path) == path  # Reading it then says what is wrong.
    with pytest.raises(ConfigError, match="default, demo, model"):
        settings_file(Path("demoo"))


def test_the_schema_has_every_setting_in_one_place() -> None:
    schema: dict[str, Any] = json.loads(json_schema())
    assert set(schema["properties"]) == set(Config.model_fields)
    for stage in STAGES:
        definition = schema["$defs"][schema["properties"][stage]["$ref"].rpartition("/")[2]]
        assert not set(SHARED) & set(definition["properties"])
        assert definition["additionalProperties"] is False
    assert schema["$defs"]["PrepareConfig"]["properties"]["kfolds"]["minimum"] == 2


@pytest.mark.parametrize("name", PACKAGED)
def test_the_schema_accepts_the_files_of_the_package(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    content = yaml.safe_load(PACKAGED[name].read_text(encoding="utf-8"))
    jsonschema.validate(content, json.loads(json_schema()))
    with pytest.raises(jsonschema.ValidationError, match="kfold"):
        jsonschema.validate({"prepare": {"kfold": 3}}, json.loads(json_schema()))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("prepare.kfold", "prepare.kfolds"),
        ("kfolds", "prepare.kfolds"),
        ("predict.cutoff_ml", "decision.cutoff_ml"),
        ("predict.cutof", "decision.cutoff_ml"),
        ("train.learning_rat", "train.learning_rate"),
        ("trian.epochs", "train"),
        ("train.loss.brain_wieght", "train.loss.brain_weight"),
    ],
)
def test_a_misspelt_setting_names_the_right_one(key: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}"):
        load_config(overrides={key: 1})


def test_nothing_is_guessed_where_nothing_is_near() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(overrides={"xyz": 1})
    assert "did you mean" not in str(error.value)
