"""The demo: order of the stages, what it hands from one to the next, and how it treats a folder of an earlier run."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cohorts import cohort
from fvv.analysis.marker import marker_data
from fvv.analysis.summary import summarise_cohort
from fvv.config import Config, EvaluateConfig, load_config
from fvv.data import Failure
from fvv.errors import ConfigError, ModelError, OutputExistsError
from fvv.recipes.publish import EvaluateResult
from fvv.schemas.summary import Estimate, Summary
from fvv.stages import demo as module
from fvv.stages.demo import demo

STAGES = ("simulate", "verify", "prepare", "train_all_folds", "convert", "evaluate", "predict")


@dataclass(frozen=True)
class Result:
    name: str
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        return f"{self.name} said this"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    calls: list[tuple[str, dict[str, Any]]] = []

    def stand_in(name: str) -> Any:
        signature = inspect.signature(getattr(module, name))

        def call(*args: Any, **kwargs: Any) -> Result:
            calls.append((name, dict(signature.bind(*args, **kwargs).arguments)))
            return Result(name, (Failure("sim_0007", "no brain"),) if name == "prepare" else ())

        return call

    for name in STAGES:
        monkeypatch.setattr(module, name, stand_in(name))
    monkeypatch.setattr(module, "shipped_bundle", lambda: None)
    return calls


def evaluation(auc: float) -> EvaluateResult:
    """An evaluation of the cohort in `cohorts` with another AUC."""
    patients = cohort()
    config = EvaluateConfig(bootstrap_samples=5)
    findings = summarise_cohort(patients, marker_data(patients, 0.2), config)
    marker = findings.marker.model_copy(update={"auc": Estimate(auc, math.nan, math.nan)})
    found = Summary(
        **{**dict(findings), "marker": marker}, evaluation="external", counts={}, comparison=None, run={},
        settings=config, models_sha256={}, sources={}, cohort="unknown", failures=(),
    )  # fmt: skip
    return EvaluateResult(Path("x"), tuple(patients), found)


def test_stages_run_in_order_each_on_what_the_one_before_wrote(
    calls: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    demo(tmp_path / "run", Config())
    assert [name for name, _ in calls] == ["simulate", *STAGES]
    (_, images), (_, new), (_, verify), (_, prepare), (_, train), (_, convert), (_, evaluate), (_, predict) = calls
    assert images["output"] == verify["input_path"] == prepare["input_path"]
    assert prepare["output_path"] == train["store"] == convert["store"] == evaluate["store"]
    assert train["output"] == convert["checkpoints"]
    assert convert["output"] == evaluate["models"] == predict["models"]
    assert convert["name"] == train["config"].name
    assert new["output"] == predict["input_path"]


def test_new_patients_are_others_and_come_without_mask(calls: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    demo(tmp_path / "run", Config())
    images, new = calls[0][1]["config"], calls[1][1]["config"]
    assert images.seed != new.seed
    assert new.cases == 2
    assert not new.write_mask


def test_one_seed_and_number_of_cases_for_all(calls: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    demo(tmp_path / "run", Config(), cases=5, seed=9)
    configs = {name: arguments["config"] for name, arguments in reversed(calls)}
    assert configs["simulate"].cases == 5
    assert [configs[name].seed for name in ("simulate", "prepare", "train_all_folds", "evaluate")] == [9] * 4


def test_failures_name_their_step_and_the_summary_shows_the_results(
    calls: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    demo(tmp_path / "run", Config())
    report = tmp_path / "run" / "processed_data" / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    result = demo(tmp_path / "run", Config())
    assert result.failures == (Failure("sim_0007", "prepare: no brain"),)
    assert "evaluate said this" in result.summary()
    assert str(report) in result.summary()
    assert len(result.seconds) == 9
    assert "holds no model" in result.summary()


def test_the_model_in_the_package_is_shown_beside_the_demos_own(
    calls: list[tuple[str, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def external(*args: Any, **kwargs: Any) -> EvaluateResult:
        asked.append(args)
        return evaluation(0.6)

    monkeypatch.setattr(EvaluateResult, "summary", lambda _: "evaluate said this")
    monkeypatch.setattr(module, "shipped_bundle", lambda: Path("package/models/drawn-v1"))
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: evaluation(math.nan))
    monkeypatch.setattr(module, "evaluate_external", external)
    config = load_config(overrides={"evaluate.calibrate": True})
    text = demo(tmp_path / "run", config).summary()
    images, models, output, settings = asked[0]
    assert (images, models, output.parent) == (
        tmp_path / "run" / "input_data",
        Path("package/models/drawn-v1"),
        tmp_path / "run",
    )
    assert not settings.calibrate  # What lies in the package is never written to.
    (line,) = (line for line in text.splitlines() if line.startswith("mismatch, AUC"))
    assert line.split()[-2:] == ["n/a", "0.600"]
    assert "drawn-v1" in text


def test_a_cohort_that_the_packages_model_has_seen_is_no_failure(
    calls: list[tuple[str, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> EvaluateResult:
        raise ModelError("the ensemble was trained on this person")

    monkeypatch.setattr(module, "shipped_bundle", lambda: Path("drawn-v1"))
    monkeypatch.setattr(module, "evaluate_external", refuse)
    result = demo(tmp_path / "run", Config())
    assert "could not be tested on this cohort: the ensemble was trained on this person" in result.summary()
    assert "shipped model" not in {failure.reason.partition(":")[0] for failure in result.failures}


@pytest.mark.parametrize("name", ["input_data", "demo.yaml", "saved_models"])
def test_folders_of_others_are_left_alone(calls: list[tuple[str, dict[str, Any]]], tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputExistsError, match="not written by fvv"):
        demo(tmp_path, Config())
    assert (tmp_path / name).read_text() == "mine"
    assert calls == []


def test_a_second_run_goes_on_and_other_settings_are_refused(
    calls: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    demo(tmp_path / "run", Config(), seed=1)
    demo(tmp_path / "run", Config(), seed=1)
    assert load_config(tmp_path / "run" / "demo.yaml").simulate.seed == 1
    before = len(calls)
    with pytest.raises(ConfigError, match="other settings"):
        demo(tmp_path / "run", Config(), seed=2)
    assert len(calls) == before
