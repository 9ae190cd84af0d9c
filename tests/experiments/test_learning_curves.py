"""Learning curves: persons stay on one side, cohorts nest, half of the masks are lost, and a finished run stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from fvv.config import load_config
from fvv.data import Channel, Participant, Role, hashed_ids
from fvv.io.bundle import ModelBundle
from fvv.io.shipped import shipped_bundle
from fvv.io.store import CaseStore
from store_builders import PROFILE, phantom


@pytest.fixture(scope="module")
def curves(experiment: Callable[[str], ModuleType]) -> ModuleType:
    return experiment("learning_curves")


@pytest.fixture(scope="module")
def hospital(curves: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """14 examinations of 13 persons: the last is the first one's second scan; every fifth has no stroke."""
    path, rng = tmp_path_factory.mktemp("hospital") / "store", np.random.default_rng(0)
    store = CaseStore.create(path, PROFILE)
    for number in range(14):
        name, person = f"scan_{number:02}", f"person_{number % 13:02}"
        case = phantom(rng, name, slices=2, lesion=number % 5 != 4, visible=number % 2 == 0)
        person_of = Participant(name, person, "site", number % 2 == 1)
        store.write(case, person_of, image_sha256=f"image {number}", source_sha256=f"source {number}")
    return curves.Hospital.open(path, test=3)


def test_each_person_is_on_one_side_and_cohorts_nest(hospital: Any) -> None:
    assert len(hospital.test) == 3
    assert len(hospital.rest) == 10
    assert "scan_13" not in {*hospital.test, *hospital.rest}
    small, large = hospital.cohort(5, seed=1), hospital.cohort(9, seed=1)
    assert not {*large} & {*hospital.test}
    assert {*small} < {*large}
    assert hospital.cohort(5, seed=1) == small
    assert any({*hospital.cohort(5, seed)} != {*small} for seed in (2, 3, 4))
    selecting = {name for name, role in large.items() if role is Role.VALID}
    assert len(selecting) == 2
    assert selecting <= hospital.stroke


def test_a_cohort_larger_than_the_store_is_refused(hospital: Any) -> None:
    with pytest.raises(SystemExit, match="11 persons asked for, 10 are not held out"):
        hospital.cohort(11, seed=0)


def test_half_of_those_with_a_stroke_lose_the_flair_mask_alone(
    curves: ModuleType, hospital: Any, tmp_path: Path
) -> None:
    whole = CaseStore.open(curves.store_of(hospital, tmp_path, 10, curves.ALL, 0))
    half = CaseStore.open(curves.store_of(hospital, tmp_path, 10, curves.HALF, 0))
    assert whole.participants == half.participants
    assert whole.folds == half.folds
    assert {*whole.folds.participants(0, Role.TEST)} == {*hospital.test}
    assert all(whole.record(name).known == frozenset(Channel) for name in whole.participants)
    lost = {name for name in half.participants if Channel.FLAIR_VISIBLE not in half.record(name).known}
    assert lost <= hospital.stroke - {*hospital.test}
    for role in (Role.TRAIN, Role.VALID):
        strokes = hospital.stroke & {*half.folds.participants(0, role)}
        assert len(lost & strokes) == len(strokes) // 2
    for name in lost:
        assert Channel.STROKE in half.record(name).known
        assert half.record(name).stroke_voxels == whole.record(name).stroke_voxels
    assert curves.store_of(hospital, tmp_path, 10, curves.HALF, 0) == half.path


class Told(torch.nn.Module):
    """Knows the reference: b0 and b1000 of a phantom show both lesions without noise."""

    def forward(self, images: Any) -> Any:
        b1000, b0 = images[:, :, 3:-3].unbind(1)
        brain, stroke = b0 > -1.9, b1000 > 2.5
        return torch.stack([brain, stroke, stroke & (b0 > 1)], dim=1).float() - 0.5


def test_scores_of_known_masks_are_known(curves: ModuleType, hospital: Any) -> None:
    patients = curves.held_out(hospital)
    scores = curves.test(Told(), patients)
    strokes = [patient.reference[1].any() for patient in patients]
    assert scores["stroke Dice"] > 0.99
    assert scores["n of stroke Dice"] == sum(strokes)
    assert scores["n of FLAIR-visible Dice"] == sum(patient.reference[2].any() for patient in patients)
    assert scores["strokes missed"] == 0
    assert scores["n of strokes missed"] == sum(strokes)
    assert scores["n of AUC"] == sum(strokes)


def test_starts_differ_in_weights_learning_rate_and_resolution_alone(curves: ModuleType) -> None:
    scratch, box = (
        curves.settings(curves.Run(start, curves.ALL, 10, 1, 4096)) for start in (curves.SCRATCH, curves.BOX)
    )
    assert box.init == "shipped#2"
    assert (scratch.network.resolution, box.network.resolution) == ("half", "full")
    assert box.model_copy(update={"init": "", "name": scratch.name, "network": scratch.network}) == scratch
    assert scratch.epochs * scratch.slices_per_epoch == 4096


def test_no_model_in_the_package_was_trained_on_persons_of_the_hospital(curves: ModuleType) -> None:
    hospital = load_config(Path(str(curves.__file__)).with_suffix(".yaml"))
    shipped = shipped_bundle()
    assert shipped is not None
    bundle = ModelBundle.open(shipped)
    numbers = range(1, hospital.simulate.cases + 1)
    persons = {*hashed_ids(f"seed{hospital.simulate.seed}_person_{number:04}" for number in numbers)}
    assert all(model.trained_on for model in bundle.models)
    assert not any(persons & {*model.trained_on} for model in bundle.models)
    assert hospital.prepare.profile == bundle.profile.name


def test_finished_runs_stay_and_the_table_and_figure_show_them(
    curves: ModuleType,
    hospital: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[Any] = []
    stops_after = [3]

    def network(run: Any, _hospital: Any, _folder: Path) -> Any:
        if len(made) in stops_after:
            raise KeyboardInterrupt
        made.append(run)
        return Told()

    monkeypatch.setattr(curves, "network_of", network)
    drawing = tmp_path / "curves.svg"
    words = [str(hospital.store.path), "-o", str(tmp_path / "out"), "--sizes", "5", "9", "--seeds", "1", "--test", "3"]
    words += ["--half-sizes", "5", "--slices", "64", "32"]
    monkeypatch.setattr("sys.argv", ["learning_curves.py", *words, "--figure", str(drawing)])
    with pytest.raises(KeyboardInterrupt):
        curves.main()
    stops_after.clear()
    curves.main()
    assert made == curves.all_runs([5, 9], [5], 1, {curves.SCRATCH: 64, curves.BOX: 32})
    shown = capsys.readouterr().out
    assert shown.count("\n| 5 | ") == 3
    assert shown.strip() == (tmp_path / "out" / "table.md").read_text().strip()
    assert drawing.read_text().startswith("<?xml")
    words[words.index("9")] = "5"
    monkeypatch.setattr("sys.argv", ["learning_curves.py", *words])
    curves.main()
    assert capsys.readouterr().out == shown  # What another command made stays.
