"""Side by side: the settings of each peer, the measures of another program's label maps, the table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")

from builders import AFFINE, write_cohort
from cohorts import cohort
from fvv.config import EvaluateConfig, PrepareConfig
from fvv.data import Channel, Role
from fvv.errors import InputError
from fvv.imaging.lesion_signal import relative_dwi_iqr
from fvv.io.evaluation import EvaluationFolder, PatientFiles
from fvv.io.store import CaseStore
from fvv.recipes.publish import publish
from fvv.schemas.summary import OUT_OF_FOLD, Measured
from fvv.stages.prepare import prepare

pytestmark = pytest.mark.usefixtures("plain_evaluations")

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "peers"
CONFIG = EvaluateConfig(heatmaps=False, bootstrap_samples=20)


@pytest.fixture(scope="module")
def peers() -> Iterator[ModuleType]:
    """run.py of the folder, which finds the modules beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import run as module  # noqa: PLC0415

        yield module
    for name in ("run", "nnunet", "peers", "steps", "table"):
        sys.modules.pop(name, None)


def test_each_peer_has_its_recipe_and_all_share_the_budget(peers: ModuleType) -> None:
    configs = {name: peers.settings_of(name, 2, 5, 640).train for name, peer in peers.PEERS.items() if not peer.nnunet}
    for name, config in configs.items():
        assert (config.epochs, config.slices_per_epoch, config.seed, config.precision) == (5, 640, 2, "32"), name
    assert configs["ours"].network.resolution == "half"
    assert configs["ours-full"].network.resolution == "full"
    reference = configs["reference"]
    assert (reference.loss.normalisation, reference.loss.dice_weight, reference.schedule) == ("brain", 0.0, "plateau")
    assert (reference.batch_slabs, reference.slab_slices) == (8, 1)
    assert configs["segresnet"].loss == configs["ours"].loss


def test_a_folder_has_one_budget(peers: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "budget.json"
    assert peers.budget_of(file, peers.Budget(60.0, 30)).of_an_epoch == 2.0
    with pytest.raises(SystemExit, match="take another folder"):
        peers.budget_of(file, peers.Budget(61.0, 30))


def test_label_maps_are_measured_as_fvv_measures(peers: ModuleType, tmp_path: Path, rng: np.random.Generator) -> None:
    """The reference masks as label maps are perfect, but for what preparation cuts; a shifted stroke is not."""
    write_cohort(tmp_path / "in", rng, 4)
    prepare(tmp_path / "in", tmp_path / "store", PrepareConfig(kfolds=2, compute={"workers": 1}))
    store = CaseStore.open(tmp_path / "store")
    names = sorted(store.folds.participants(0, Role.TEST))
    (tmp_path / "labels").mkdir()
    for name in names:
        stroke, visible = (
            nib.load(tmp_path / "in" / name / f"{stem}.nii.gz").get_fdata() > 0
            for stem in ("stroke_roi", "flairviz_roi")
        )
        labels = stroke.astype(np.uint8) + (stroke & visible)
        shifted = np.roll(labels, 2, axis=0) if name == names[1] else labels
        nib.save(nib.Nifti1Image(shifted.astype(np.uint8), AFFINE), tmp_path / "labels" / f"{name}.nii.gz")
    found = peers.nnunet.score(tmp_path / "store", tmp_path / "labels", tmp_path / "out", "nnU-Net", CONFIG)
    first, second = found.patients
    assert first.stroke.dice_coefficient == pytest.approx(1.0)
    assert first.stroke.predicted_volume_ml == pytest.approx(first.stroke.reference_volume_ml, rel=0.05)
    assert second.stroke.dice_coefficient < 0.9
    prepared = store.read(names[0])
    ours = relative_dwi_iqr(prepared, prepared.masks[Channel.STROKE], prepared.brain)
    assert first.relative_dwi_iqr == pytest.approx(ours, rel=0.02)
    assert first.relative_adc > 0
    assert (tmp_path / "out" / "report.html").exists()
    (tmp_path / "labels" / f"{names[0]}.nii.gz").unlink()
    with pytest.raises(InputError, match="no label map"):
        peers.nnunet.score(tmp_path / "store", tmp_path / "labels", tmp_path / "again", "nnU-Net", CONFIG)


def finished(folder: Path, found: float) -> None:
    """An evaluation and costs of one run, with FVVs times a number."""
    patients = [
        one
        if one.fvv_ml is None
        else one.model_copy(
            update={
                "flair_visible": one.flair_visible.model_copy(
                    update={"predicted_volume_ml": found * one.flair_visible.predicted_volume_ml}
                )
            }
        )
        for one in cohort()
    ]
    files = EvaluationFolder(folder / "tested")
    for one in patients:
        files.write_patient("", one, PatientFiles(AFFINE, None))
    about = Measured(
        evaluation=OUT_OF_FOLD,
        counts={"evaluated": len(patients), "not assessable": 1, "failed": 0},
        run={},
        models_sha256={},
        sources={one.examination_id: "" for one in patients},
        cohort="unknown",
        failures=(),
    )
    publish(files, about, patients, CONFIG)
    costs = {
        "training": "2 x 3 slices",
        "train, processor s": 10.0,
        "train, peak MB": 900.0,
        "predict, processor s an examination": 0.5,
        "predict, peak MB": 300.0,
    }
    (folder / "costs.json").write_text(json.dumps(costs))


def test_the_table_has_a_column_for_each_peer(peers: ModuleType, tmp_path: Path) -> None:
    finished(tmp_path / "runs" / "ours-seed0", 1.0)
    finished(tmp_path / "runs" / "ours-seed1", 1.0)
    finished(tmp_path / "runs" / "nnunet-2d-seed0", 0.5)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in peers.table(tmp_path).splitlines()]
    rows = {name: values for name, *values in cells}
    assert rows[""] == ["ours", "nnunet-2d"]
    assert rows["seeds"] == ["2", "1"]
    assert rows[f"{Channel.BRAIN.title} Dice"][1] == "not defined"
    # Half of every volume is the same order.
    assert rows["AUC minus that of ours, 95 %"][1].startswith("0.000")
    assert rows["train, processor s"] == ["10.0 (10.0 to 10.0)", "10.0"]


def test_a_model_that_is_refused_does_not_end_the_others(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_ours(folder: Path, place: Path, peer: str, seed: int, budget: Any) -> dict[str, Any]:
        if peer == "reference":
            raise InputError("predicts nothing")
        finished(place, 1.0)
        costs: dict[str, Any] = json.loads((place / "costs.json").read_text())
        return costs

    monkeypatch.setattr(peers, "run_ours", run_ours)
    monkeypatch.setattr(peers, "open_cohort", lambda *_: tmp_path)
    options = argparse.Namespace(
        output=tmp_path, budget=60.0, epochs=3, input=None, cases=4, cohort_seed=0, seeds=1, peers=["reference", "ours"]
    )
    lines = peers.run(options).splitlines()
    assert lines[0] == "|  | ours |"
    assert lines[-1] == "* reference-seed0: predicts nothing"


def test_a_run_that_was_cut_off_resumes_and_its_training_is_not_timed(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def apart(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
        done.append(function.__name__)
        if done == ["seconds_a_slice_here", "train_here"]:
            (tmp_path / "run" / "saved_models").mkdir(parents=True)
            raise KeyboardInterrupt
        return {"seconds_a_slice_here": 0.5, "predict_here": 4}.get(function.__name__), 10.0, 100.0

    monkeypatch.setattr(peers, "measured_apart", apart)
    arguments = (tmp_path, tmp_path / "run", "ours", 0, peers.Budget(60.0, 3))
    with pytest.raises(KeyboardInterrupt):
        peers.run_ours(*arguments)
    costs = peers.run_ours(*arguments)
    assert done[2:] == ["train_here", "convert_here", "predict_here", "evaluate_here"]
    assert costs["training"] == "3 x 40 slices"
    assert costs["train, processor s"] is None
    assert costs["predict, processor s an examination"] == 2.5
