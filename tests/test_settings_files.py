"""Settings files that say something else than people mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import write_onnx
from fvv.config import load_config
from fvv.errors import ConfigError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle
from fvv.system.cores import most_threads, most_workers
from fvv.system.parallel import map_items
from fvv.system.regular import read_yaml


def settings(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "text",
    [
        "decision: {cutoff_ml: 0.5}\ndecision: {minimum_lesion_ml: 1}\n",
        "decision:\n  cutoff_ml: 0.5\n  cutoff_ml: 20\n",
        "decision: {cutoff_ml: 0.5, cutoff_ml: 20}",
    ],
)
def test_a_key_stands_once(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="stands twice"):
        load_config(settings(tmp_path, text))


def test_a_merge_may_be_overridden(tmp_path: Path) -> None:
    text = "evaluate: &all {bootstrap_samples: 20}\nother: {<<: *all, bootstrap_samples: 30}"
    assert read_yaml(settings(tmp_path, text))["other"] == {"bootstrap_samples": 30}


@pytest.mark.parametrize("written", ["true", "yes", "on", "1:30", "0x10"])
def test_what_is_no_number_is_none(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigError, match="cutoff_ml"):
        load_config(settings(tmp_path, f"decision: {{cutoff_ml: {written}}}"))
    with pytest.raises(ConfigError, match="workers"):
        load_config(settings(tmp_path, f"predict: {{workers: {written}}}"))


@pytest.mark.parametrize(("written", "meant"), [("010", 10), ("1e1", 10), ("+2.5", 2.5), (".5", 0.5), ("7", 7)])
def test_numbers_are_decimal(tmp_path: Path, written: str, meant: float) -> None:
    assert load_config(settings(tmp_path, f"decision: {{cutoff_ml: {written}}}")).decision.cutoff_ml == meant


@pytest.mark.parametrize(("written", "meant"), [("yes", True), ("True", True), ("off", False), ("false", False)])
def test_truth_as_people_write_it(tmp_path: Path, written: str, meant: bool) -> None:
    assert load_config(settings(tmp_path, f"evaluate: {{heatmaps: {written}}}")).evaluate.heatmaps is meant


def test_other_encodings_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes("decision: {cutoff_ml: 1}".encode("utf-16"))
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        load_config(tmp_path / "settings.yaml")


def test_no_more_threads_and_processes_than_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_onnx(tmp_path / "model1.onnx")
    taken: list[int] = []

    class NotedError(Exception):
        pass

    def note(_file: Path, _providers: object, threads: int, _size: int) -> None:
        taken.append(threads)
        raise NotedError

    monkeypatch.setattr("fvv.inference.sessions.OnnxModel.open", note)
    with pytest.raises(NotedError):
        OnnxEnsemble.from_bundle(ModelBundle.open(tmp_path), device="cpu", threads=100_000, confirmed=False)
    assert taken == [max(1, most_threads() - 1)]  # Shared by two runs, of which each brings one of its own.
    monkeypatch.setattr("fvv.system.parallel._in_processes", lambda _function, _items, workers: iter([(0, workers)]))
    assert next(iter(map_items(int, range(10**6), workers=10**6, description="x")))[1] == most_workers()
