"""An evaluation in shards and in several processes is the evaluation in one piece."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from builders import write_cohort
from bundles import write_bundle
from chaos.stages import contents
from fvv.config import ComputeConfig, EvaluateConfig, PrepareConfig
from fvv.errors import ConfigError, InputError, OutputExistsError
from fvv.io.lock import only_writer
from fvv.io.shards import shard_place
from fvv.recipes.examine import examine
from fvv.recipes.publish import EvaluateResult
from fvv.stages.evaluate import evaluate, evaluate_shard, gather_evaluation
from fvv.stages.prepare import prepare
from fvv.stages.report import report
from fvv.system.shard import Shard

pytestmark = pytest.mark.usefixtures("plain_evaluations")

CONFIG = EvaluateConfig(bootstrap_samples=5, heatmaps=False, compute={"threads": 1, "workers": 1})


@dataclass(frozen=True)
class Place:
    """A store and models; its evaluation in one piece, and in shards that are not gathered."""

    store: Path
    models: Path
    whole: EvaluateResult
    shards: Path

    def run(self, index: int, output: Path, config: EvaluateConfig = CONFIG, **options: bool) -> None:
        part = evaluate_shard(self.store, self.models, output, config, Shard(index, 6), external=False, **options)
        assert "fvv gather" in part.summary()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("evaluation")
    write_cohort(root / "in", np.random.default_rng(7), 5)
    prepare(root / "in", root / "store", PrepareConfig(kfolds=2, profile="robust-v1", compute={"workers": 1}))
    models = write_bundle(root / "models", root / "store")
    whole = evaluate(root / "store", models, root / "whole", CONFIG)
    made = Place(root / "store", models, whole, root / "shards")
    for index in (4, 6, 2, 3, 1, 5):  # One has no patient.
        made.run(index, made.shards)
    return made


def promised(folder: Path) -> dict[str, str]:
    """What each file holds, without hidden ones."""
    return {name: digest for name, digest in contents(folder).items() if ".fvv" not in name}


def test_gathered_shards_are_the_evaluation_in_one_piece_to_the_byte(place: Place, tmp_path: Path) -> None:
    output = Path(shutil.copytree(place.shards, tmp_path / "output"))
    with pytest.raises(InputError, match="shards of `fvv evaluate` are not gathered"):
        report(output)
    for _ in range(2):  # Again, with the same result.
        gather_evaluation(output)
        assert promised(output) == promised(place.whole.output)


def test_a_shard_resumes(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Path(shutil.copytree(place.shards, tmp_path / "output"))
    gone = sorted((output / "masks").iterdir())[0]
    gone.unlink()
    with pytest.raises(InputError, match="its result is missing, damaged, or of another run") as caught:
        gather_evaluation(output)
    assert caught.value.examination_id == gone.name.partition(".")[0]
    measured = []
    monkeypatch.setattr("fvv.recipes.evaluation.examine", lambda *args: measured.append(1) or examine(*args))
    for index in range(1, 7):
        place.run(index, output)
    assert len(measured) == 1
    assert gone.exists()
    assert not (output / "summary.json").exists()


def test_shards_of_other_settings_are_refused(place: Place, tmp_path: Path) -> None:
    output = Path(shutil.copytree(place.whole.output, tmp_path / "output"))
    other = CONFIG.model_copy(update={"bootstrap_samples": 6})
    with pytest.raises(OutputExistsError, match=r"other settings \(bootstrap_samples\)"):
        place.run(1, output, other)
    place.run(1, output, other, overwrite=True)
    place.run(2, output, overwrite=True)
    with pytest.raises(InputError, match="shards 1/6 and 2/6 are of different runs: other settings"):
        gather_evaluation(output)
    with pytest.raises(ConfigError, match="cannot be calibrated on a shard"):
        place.run(1, output, CONFIG.model_copy(update={"calibrate": True}))


def test_shards_of_another_number_are_forgotten(place: Place, tmp_path: Path) -> None:
    output = Path(shutil.copytree(place.shards, tmp_path / "output"))
    evaluate_shard(place.store, place.models, output, CONFIG, Shard(1, 2), external=False)
    with pytest.raises(InputError, match="1 of 2 shards are missing or have not ended: 2/2"):
        gather_evaluation(output)
    with only_writer(shard_place(output, Shard(1, 2))), pytest.raises(InputError, match="shard 1/2 is running here"):
        place.run(1, output)
    evaluate_shard(place.store, place.models, output, CONFIG, Shard(2, 2), external=False)
    gather_evaluation(output)
    assert promised(output) == promised(place.whole.output)


def test_what_shards_did_is_not_gathered_after_the_whole_evaluation(place: Place, tmp_path: Path) -> None:
    output = Path(shutil.copytree(place.shards, tmp_path / "output"))
    evaluate(place.store, place.models, output, CONFIG)
    with pytest.raises(InputError, match="no shard of a run"):
        gather_evaluation(output)


def test_several_processes_give_the_bytes_of_one(place: Place, tmp_path: Path) -> None:
    evaluate(place.store, place.models, tmp_path, CONFIG.model_copy(update={"compute": ComputeConfig(workers=2)}))
    one, two = promised(place.whole.output), promised(tmp_path)
    assert {name for name in one | two if one.get(name) != two.get(name)} <= {"report.html"}  # It shows the settings.
