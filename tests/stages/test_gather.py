"""Shards of a cohort, each run on its own, and joined."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from builders import write_onnx, write_patient
from chaos.stages import contents
from fvv.cli import main
from fvv.cohort.examinations import read_cohort
from fvv.cohort.participants import read_participants
from fvv.config import PredictConfig, SimulateConfig
from fvv.errors import FvvError, InputError, OutputExistsError
from fvv.io.lock import only_writer
from fvv.io.sealed import read_sealed, write_sealed
from fvv.io.shards import hold_for_a_moment, read_shards, write_run
from fvv.io.tables import read_table
from fvv.stages.decide import decide
from fvv.stages.gather import gather
from fvv.stages.predict import predict
from fvv.system.shard import Shard

CONFIG = PredictConfig(compute={"device": "cpu"})
TABLES = ("results.csv", "failures.csv", "report.html", "run.json")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five patients, of whom one has no b0, and models."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(7)
    for name in "abcde":
        write_patient(folder / "in" / name, rng)
    (folder / "in" / "c" / "b0.nii.gz").unlink()
    for number in (1, 2):
        write_onnx(folder / f"models{number}" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -2.0 - number))
    return folder


def promised(folder: Path) -> dict[str, str]:
    """What each file holds, without hidden ones, times and numbers of processes."""
    return {name: digest for name, digest in contents(folder).items() if ".fvv" not in name}


@pytest.mark.parametrize("layout", ["folders", "bids"])
def test_shards_give_what_one_run_gives(cohort: Path, tmp_path: Path, layout: str) -> None:
    config = CONFIG.model_copy(update={"layout": layout})
    predict(cohort / "in", cohort / "models1", tmp_path / "whole", config)
    for index in (2, 1):
        part = predict(cohort / "in", cohort / "models1", tmp_path / "parts", config, shard=Shard(index, 2))
        assert "fvv gather" in part.summary()
        assert not any((tmp_path / "parts" / name).exists() for name in TABLES)
    with pytest.raises(InputError, match="shards of `fvv predict` are not gathered"):
        decide(tmp_path / "parts", CONFIG.decision)
    for _ in range(2):  # Again, with the same result.
        result = gather(tmp_path / "parts")
        assert (result.finished, result.examinations) == (4, 5)
        assert [failure.examination_id for failure in result.failures] == ["c"]
        assert promised(tmp_path / "parts") == promised(tmp_path / "whole")
    assert len(decide(tmp_path / "parts", CONFIG.decision).after) == 4
    # The whole cohort in one piece keeps what the shards did.
    assert predict(cohort / "in", cohort / "models1", tmp_path / "parts", config).kept == 4


def _shard(words: tuple[Path, Path, Path, int, int]) -> int:
    images, models, output, index, count = words
    return len(predict(images, models, output, CONFIG, shard=Shard(index, count)).failures)


@pytest.mark.parametrize(
    ("patients", "count", "fresh"), [(3, 4, False), pytest.param(20, 20, True, marks=pytest.mark.slow)]
)
def test_processes_that_write_into_one_folder_at_once_give_what_one_run_gives(
    cohort: Path, tmp_path: Path, patients: int, count: int, fresh: bool
) -> None:
    """Two at a time; `fresh`: each shard in a process of its own."""
    rng = np.random.default_rng(1)
    for number in range(patients):
        write_patient(tmp_path / "in" / f"p{number:02d}", rng)
    method = "fork" if fresh and "fork" in multiprocessing.get_all_start_methods() else "spawn"
    words = [(tmp_path / "in", cohort / "models1", tmp_path / "parts", index + 1, count) for index in range(count)]
    with multiprocessing.get_context(method).Pool(2, maxtasksperchild=1 if fresh else None) as pool:
        assert sum(pool.map(_shard, words, chunksize=1)) == 0
    assert gather(tmp_path / "parts").finished == patients
    predict(tmp_path / "in", cohort / "models1", tmp_path / "whole", CONFIG)
    assert promised(tmp_path / "parts") == promised(tmp_path / "whole")


def test_missing_shards_are_named_and_nothing_is_written(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["predict", str(cohort / "in"), "-m", str(cohort / "models1"), "-o", str(out), "--device", "cpu"]
    assert main([*words, "--shard", "1/3"]) == 0  # a, d
    assert main(["gather", str(out)]) == 1
    said = capsys.readouterr().err
    assert "2 of 3 shards are missing or have not ended: 2/3, 3/3; 3 of 5 examinations are not done" in said
    assert not any((out / name).exists() for name in TABLES)
    assert main([*words, "--shard", "2/3"]) == 0  # b, e
    assert main([*words, "--shard", "3/3"]) == 1  # c
    assert main(["decide", str(out), "--cutoff", "1"]) == 1
    assert "run `fvv gather` on this folder" in capsys.readouterr().err
    assert main(["gather", "-o", str(out)]) == 1
    assert [row["Patient"] for row in read_table(out / "results.csv")] == ["a", "b", "d", "e"]
    (failure,) = read_table(out / "failures.csv")
    assert "b0.nii.gz: missing" in failure["reason"]
    with pytest.raises(SystemExit):
        main([*words, "--shard", "4/3"])


def test_shards_of_different_runs_are_not_mixed(cohort: Path, tmp_path: Path) -> None:
    predict(cohort / "in", cohort / "models1", tmp_path / "out", CONFIG, shard=Shard(1, 2))
    predict(cohort / "in", cohort / "models2", tmp_path / "out", CONFIG, shard=Shard(2, 2))
    with pytest.raises(InputError, match="shards 1/2 and 2/2 are of different runs: other models"):
        gather(tmp_path / "out")
    with pytest.raises(OutputExistsError, match="results of other models: a, e"):
        predict(cohort / "in", cohort / "models2", tmp_path / "out", CONFIG, shard=Shard(1, 2))
    with pytest.raises(InputError, match="no shard of a run"):
        gather(cohort / "in")


def test_a_shard_that_was_stopped_and_a_damaged_result_are_missing(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for index in (1, 2):
        predict(cohort / "in", cohort / "models1", out, CONFIG, shard=Shard(index, 2))
    (out / "a" / "predictions.nii.gz").write_bytes(b"")
    reasons = {failure.examination_id: failure.reason for failure in gather(out).failures}
    assert "differs from the file that was written" in reasons["a"]
    shutil.rmtree(out / ".fvv.shards" / "2-of-2")
    with pytest.raises(InputError, match="1 of 2 shards are missing or have not ended: 2/2"):
        gather(out)
    predict(cohort / "in", cohort / "models1", out, CONFIG, shard=Shard(1, 2))
    result = predict(cohort / "in", cohort / "models1", out, CONFIG, shard=Shard(2, 2))
    assert result.kept == 2
    assert gather(out).finished == 4
    file = out / ".fvv.shards" / "2-of-2" / "run.json"
    write_sealed(file, {**read_sealed(file), "ended": False, "results": {}})  # As a killed run leaves it.
    with pytest.raises(InputError, match="have not ended: 2/2"):
        gather(out)
    file.write_text(json.dumps({**json.loads(file.read_text()), "seconds": 1.0}))
    with pytest.raises(InputError, match="edited or damaged"):
        gather(out)


def test_shards_of_another_number_are_forgotten_or_refused(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(cohort / "in", cohort / "models1", out, CONFIG, shard=Shard(1, 2))
    old = out / ".fvv.shards" / "1-of-2"
    record = (old / "run.json").read_bytes()
    running = only_writer(old.with_name("2-of-2"))
    with running, pytest.raises(InputError, match=r"shard 2/2 is running here.*--shard 2/2"):
        predict(cohort / "in", cohort / "models1", out, CONFIG, shard=Shard(1, 3))
    assert (old / "run.json").read_bytes() == record, "a command that is refused loses no finished shard"
    kept = shutil.copytree(old, tmp_path / "old")
    for index in (1, 2):
        predict(cohort / "in", cohort / "models1", out, CONFIG, shard=Shard(index, 3))
    with pytest.raises(InputError, match="1 of 3 shards are missing or have not ended: 3/3"):
        gather(out)  # With what 1/2 did, nothing would be missing.
    predict(cohort / "in", cohort / "models1", out, CONFIG, shard=Shard(3, 3))
    assert gather(out).finished == 4
    shutil.copytree(kept, old, dirs_exist_ok=True)  # As a program that does not forget it leaves it.
    with pytest.raises(InputError, match="shards 1/2 and 1/3 are of different runs: parts of 2 and of 3"):
        gather(out)


def test_shards_that_start_at_once_look_at_the_places_of_others_in_turns(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    predict(cohort / "in", cohort / "models1", out, CONFIG, shard=Shard(1, 2))
    record = read_shards(out)[0].model_copy(update={"shard": Shard(1, 3), "ended": False})
    monkeypatch.setattr("fvv.io.shards.PATIENCE_S", 0.1)
    with only_writer(out, clear=False), pytest.raises(FvvError, match="another fvv process"):
        write_run(out, record)
    write_run(out, record)
    assert not (out / ".fvv.shards" / "1-of-2" / "run.json").exists()


def test_what_shards_did_is_not_gathered_after_a_run_of_the_whole_cohort(cohort: Path, tmp_path: Path) -> None:
    predict(cohort / "in" / "a", cohort / "models1", tmp_path, CONFIG, shard=Shard(1, 1))
    gather(tmp_path)
    predict(cohort / "in", cohort / "models1", tmp_path, CONFIG)
    with pytest.raises(InputError, match="no shard of a run"):
        gather(tmp_path)
    assert len(read_table(tmp_path / "results.csv")) == 4


def test_a_whole_run_killed_among_its_tables_leaves_no_older_shards_to_gather(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = shutil.copytree(cohort / "in", tmp_path / "in")
    for index in (1, 2):
        predict(images, cohort / "models1", tmp_path / "out", CONFIG, shard=Shard(index, 2))
    shutil.copy(images / "a" / "b0.nii.gz", images / "c" / "b0.nii.gz")  # What one shard lacked is there now.

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fvv.recipes.cohort_tables.write_run", killed)
        with pytest.raises(KeyboardInterrupt):
            predict(images, cohort / "models1", tmp_path / "out", CONFIG)
    with pytest.raises(InputError, match="no shard of a run"):
        gather(tmp_path / "out")
    with pytest.raises(InputError, match="or the command of the whole cohort again"):
        decide(tmp_path / "out", CONFIG.decision)
    again = predict(images, cohort / "models1", tmp_path / "out", CONFIG)
    assert (again.kept, again.failures) == (5, ())
    assert len(decide(tmp_path / "out", CONFIG.decision).after) == 5


def test_one_shard_twice_at_once_is_refused_and_others_wait_their_turn(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with only_writer(out / ".fvv.shards" / "1-of-2"):
        for shard in (Shard(1, 2), None):  # The whole cohort would do its work a second time.
            with pytest.raises(FvvError, match="another fvv process"):
                predict(cohort / "in", cohort / "models1", out, CONFIG, shard=shard)
    with only_writer(out):
        done = threading.Event()

        def wait_for_it() -> None:
            with hold_for_a_moment(out, Shard(1, 2)):
                done.set()

        thread = threading.Thread(target=wait_for_it)
        thread.start()
        assert not done.wait(0.3)
    thread.join()
    assert done.is_set()


def test_shards_of_a_simulated_cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nilearn")
    from fvv.stages.simulate import simulate  # noqa: PLC0415

    monkeypatch.setattr("fvv.simulator.patient.FINE_VOXEL_MM", 2.5)
    monkeypatch.setattr("fvv.simulator.patient.SUBSLICES", 1)
    config = SimulateConfig(cases=2, seed=21, compute={"workers": 1})
    simulate(tmp_path, config, shard=Shard(2, 3))
    for index in (1, 2):
        simulate(tmp_path, config, shard=Shard(index, 2))
        assert not (tmp_path / ".fvv.shards" / "2-of-3" / "run.json").exists()
        assert not (tmp_path / "participants.tsv").exists()
        with pytest.raises(InputError, match="shards of `fvv simulate` are not gathered"):
            read_cohort(tmp_path)
    result = gather(tmp_path)
    assert (result.finished, result.failures) == (2, ())
    assert list(read_participants(tmp_path)) == ["sim_0001", "sim_0002"]
    assert simulate(tmp_path, config).kept == 2
    with pytest.raises(InputError, match="no shard of a run"):
        gather(tmp_path)
