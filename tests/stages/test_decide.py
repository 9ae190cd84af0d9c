from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from builders import write_onnx, write_patient
from fvv.cli import main
from fvv.config import DecisionConfig, PredictConfig
from fvv.data import DecisionState
from fvv.errors import ConfigError, InputError, OutputExistsError
from fvv.io.sealed import write_sealed
from fvv.io.tables import read_table
from fvv.stages.decide import decide
from fvv.stages.predict import predict

LAYOUTS = ("folders", "bids")


@pytest.fixture(scope="module", params=LAYOUTS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients with a lesion, one without, one who is not assessable; two models that disagree."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(7)
    for name in ("a", "b"):
        write_patient(folder / "in" / name, rng)
    write_patient(folder / "in" / "none", rng, lesion=False)
    write_patient(folder / "in" / "same", rng)
    (folder / "in" / "same" / "b0.nii.gz").write_bytes((folder / "in" / "same" / "b1000.nii.gz").read_bytes())
    for number, visible in enumerate((-3.0, -100.0), start=1):
        write_onnx(folder / "models" / f"model{number}.onnx", whole_volume=False, biases=(1.5, -2.0, visible))
    config = PredictConfig(layout=request.param, compute={"device": "cpu"})
    predict(folder / "in", folder / "models", folder / "out", config)
    return folder / "out"


def test_the_smallest_lesion_of_the_prediction_holds_unless_another_is_named(tmp_path: Path) -> None:
    write_patient(tmp_path / "in", np.random.default_rng(7))
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    config = PredictConfig(decision=DecisionConfig(minimum_lesion_ml=500.0), compute={"device": "cpu"})
    predict(tmp_path / "in", tmp_path / "models", tmp_path / "out", config)
    none = DecisionState.NO_LESION_FOUND
    (same,) = decide(tmp_path / "out", DecisionConfig(cutoff_ml=0.5)).after
    assert (same.decision.state, same.decision.minimum_lesion_ml) == (none, 500.0)
    named = DecisionConfig(cutoff_ml=0.5, minimum_lesion_ml=1.0)
    (other,) = decide(tmp_path / "out", named, overwrite=True).after
    assert other.decision.state is DecisionState.MISMATCH_UNLIKELY
    assert main(["decide", str(tmp_path / "out"), "--cutoff", "1.5"]) == 0
    (row,) = read_table(tmp_path / "out" / "decisions_1.5_mL.csv")
    assert (row["decision"], row["minimum_lesion_ml"]) == (none.value, "500.0")


def test_predicting_again_takes_away_answers_of_the_earlier_results(tmp_path: Path) -> None:
    write_patient(tmp_path / "in", np.random.default_rng(7))
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    config = PredictConfig(overwrite=True, compute={"device": "cpu"})
    predict(tmp_path / "in", tmp_path / "models", tmp_path / "out", config)
    table = decide(tmp_path / "out", DecisionConfig(cutoff_ml=200.0)).output
    theirs = tmp_path / "out" / "decisions_mine_mL.csv"
    theirs.write_text("mine")
    predict(tmp_path / "in", tmp_path / "models", tmp_path / "out", config)
    assert table.exists()  # Nothing was predicted again.
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.1, -3.0))
    predict(tmp_path / "in", tmp_path / "models", tmp_path / "out", config)
    assert not table.exists()
    assert theirs.read_text() == "mine"


def test_results_of_another_run_are_left_out(tmp_path: Path) -> None:
    """Two of four patients predicted again with other models: results.csv has two rows, and so has the new table."""
    rng = np.random.default_rng(7)
    for name in "abcd":
        write_patient(tmp_path / "in" / name, rng)
    for number in (1, 2):
        write_onnx(tmp_path / f"m{number}" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -2.0 - number))
    predict(tmp_path / "in", tmp_path / "m1", tmp_path / "out", PredictConfig(compute={"device": "cpu"}))
    for name in "ab":
        shutil.rmtree(tmp_path / "in" / name)
    config = PredictConfig(overwrite=True, compute={"device": "cpu"})
    predict(tmp_path / "in", tmp_path / "m2", tmp_path / "out", config)
    done = decide(tmp_path / "out", DecisionConfig(cutoff_ml=1.0))
    assert [one.examination_id for one in done.after] == ["c", "d"]
    assert {path.parent.name for path in done.left_out} == {"a", "b"}
    assert "left out" in done.summary()
    # One of the cohort's own results replaced by a run of its own.
    shutil.copytree(tmp_path / "out" / "a", tmp_path / "out" / "c", dirs_exist_ok=True)
    (failure,) = decide(tmp_path / "out", DecisionConfig(cutoff_ml=2.0)).failures
    assert "made from other models" in failure.reason


def test_results_in_a_folder_below_are_counted_once(results: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(results, tmp_path / "out"))
    shutil.copytree(results, out / "copy")
    done = decide(out, DecisionConfig(cutoff_ml=5.0))
    assert len(done.after) == 4
    assert len(done.left_out) == 4


def test_results_of_a_run_that_has_not_ended_are_refused(results: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(results, tmp_path / "out"))
    (out / "run.json").unlink()
    with pytest.raises(InputError, match="the run has not ended"):
        decide(out, DecisionConfig())
    (out / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"run\.json"):
        decide(out, DecisionConfig())


@pytest.mark.parametrize("cutoff", ["nan", "-1", "0", "inf"])
def test_a_cutoff_that_is_no_volume(results: Path, capsys: pytest.CaptureFixture[str], cutoff: str) -> None:
    assert main(["decide", str(results), f"--cutoff={cutoff}"]) == 1
    assert "cut" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        decide(results, DecisionConfig.model_construct(cutoff_ml=float(cutoff), minimum_lesion_ml=0.0))


def test_no_probability_of_a_mismatch_where_no_lesion_is_left(tmp_path: Path) -> None:
    """The curve has seen none such."""
    write_patient(tmp_path / "in", np.random.default_rng(7))
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    predict(tmp_path / "in", tmp_path / "models", tmp_path / "out", PredictConfig(compute={"device": "cpu"}))
    (file,) = tmp_path.glob("out/*/results.json")
    content = json.loads(file.read_text())
    assert "mismatch_probability" in content
    write_sealed(file, {**content, "mismatch_probability": 0.6})
    (lesion,) = decide(tmp_path / "out", DecisionConfig(cutoff_ml=1.5)).after
    (none,) = decide(tmp_path / "out", DecisionConfig(cutoff_ml=0.5, minimum_lesion_ml=500.0)).after
    assert (lesion.mismatch_probability, none.mismatch_probability) == (0.6, None)


def test_another_cutoff_changes_the_answers_and_nothing_else(results: Path) -> None:
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file() and path.name[0] != "."}
    done = decide(results, DecisionConfig(cutoff_ml=1000.0))
    states = {one.examination_id: one.decision.state for one in done.after}
    likely, none, out = DecisionState.MISMATCH_LIKELY, DecisionState.NO_LESION_FOUND, DecisionState.NOT_ASSESSABLE
    assert states == {"a": likely, "b": likely, "none": none, "same": out}
    assert {one.examination_id: one.decision.state for one in done.before}["a"] is DecisionState.MISMATCH_UNLIKELY
    assert "2 of 4 answers changed" in done.summary()
    for path, content in before.items():
        assert path.read_bytes() == content
    rows = {row["Patient"]: row for row in read_table(done.output)}
    old = {row["Patient"]: row for row in read_table(results / "results.csv")}
    assert done.output.name == "decisions_1000_mL.csv"
    assert rows["a"]["cutoff_ml"] == "1000.0"
    assert rows["a"]["FlairVizVolume"] == old["a"]["FlairVizVolume"]
    assert rows["same"]["FlairVizVolume"] == ""
    # One model sees nothing visible: on its own it would have answered otherwise.
    assert old["a"]["agreement"] == "0.5"
    assert "models-disagree" in old["a"]["reasons"]
    assert rows["a"]["agreement"] == "1.0"
    assert "models-disagree" not in rows["a"]["reasons"]
    with pytest.raises(OutputExistsError):
        decide(results, DecisionConfig(cutoff_ml=1000.0))


def test_the_same_cutoff_gives_the_same_answers(results: Path) -> None:
    done = decide(results, DecisionConfig(), overwrite=True)
    assert [one.decision for one in done.after] == [one.decision for one in done.before]
    assert done.output.read_bytes() == (results / "results.csv").read_bytes()


def test_unreadable_results_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no results\.json"):
        decide(tmp_path, DecisionConfig())
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "results.json").write_text('{"Patient": "a"}')
    done = decide(tmp_path, DecisionConfig())
    assert done.after == ()
    assert "edited or damaged" in done.failures[0].reason


def test_deciding_again_needs_a_cutoff(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["decide", str(tmp_path)])
    assert "--cutoff" in capsys.readouterr().err
