"""One examination, every caller of `examine`: one answer to the bit; and few files on the way through `predict`."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import fvv
from builders import case_of, head, write_cohort
from bundles import write_bundle
from fvv.config import PROFILES, DecisionConfig, EvaluateConfig, PredictConfig, PrepareConfig, PreprocessConfig
from fvv.data import Case, Channel, DecisionState, Prediction, PreparedCase, Volume
from fvv.errors import ModelError
from fvv.imaging.fusion import channel_masks
from fvv.imaging.preprocess import working_grid
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle, write_manifest
from fvv.io.case import read_case
from fvv.io.store import CaseStore
from fvv.recipes.examine import Examined, Settings, examine, prepare_and_check
from fvv.recipes.parity import compare_forms
from fvv.recipes.publish import EvaluateResult
from fvv.stages.evaluate import evaluate, evaluate_external
from fvv.stages.predict import predict
from fvv.stages.prepare import prepare

pytestmark = pytest.mark.usefixtures("plain_evaluations")

ROOT = Path(__file__).resolve().parents[2]
QUICK = EvaluateConfig(bootstrap_samples=20, heatmaps=False, compute={"threads": 1, "workers": 1})
NAME = "p0"
"""An examination with a FLAIR-visible lesion."""


@dataclass(frozen=True)
class Place:
    """One labelled cohort, its store, and one model that has seen none of the persons of its fold."""

    images: Path
    store: Path
    models: Path
    alone: Path
    work: Path

    def masks(self, evaluation: str) -> np.ndarray:
        return np.asarray(nib.load(self.work / evaluation / "masks" / f"{NAME}.nii.gz").dataobj)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    work = tmp_path_factory.mktemp("examine")
    write_cohort(work / "input", np.random.default_rng(7), 4)
    prepare(work / "input", work / "store", PrepareConfig(kfolds=2, compute={"workers": 1}))
    models = write_bundle(work / "models", work / "store")
    plan = CaseStore.open(work / "store").folds
    fold = next(fold for fold in range(2) if NAME in plan.participants(fold, fvv.data.Role.TEST))
    entry = ModelBundle.open(models).model_of_fold(fold)
    alone = work / "alone"
    alone.mkdir()
    (alone / entry.file).write_bytes((models / entry.file).read_bytes())
    write_manifest(alone, ModelBundle.open(models).manifest.model_copy(update={"models": (entry,)}))
    (work / "one" / NAME).mkdir(parents=True)
    for file in (work / "input" / NAME).iterdir():
        (work / "one" / NAME / file.name).write_bytes(file.read_bytes())
    return Place(work / "one", work / "store", models, alone, work)


def test_every_caller_gives_one_answer(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (stage,) = predict(
        place.images, place.alone, place.work / "predicted", PredictConfig(compute={"threads": 1})
    ).predictions
    case = read_case(place.images / NAME, PreprocessConfig(), labelled=False)
    api = fvv.predict(case.b0, case.b1000, place.alone, mask=case.mask, config=PredictConfig(compute={"threads": 1}))
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "inference.py"))["answer_of"]
    bundle = ModelBundle.open(place.alone)
    ensemble = OnnxEnsemble.from_bundle(bundle, device="cpu", threads=1)
    timed: Prediction = benchmark(case, ensemble, PredictConfig(compute={"threads": 1}), bundle)
    assert api.fvv_ml
    written = np.asarray(nib.load(place.work / "predicted" / NAME / "predictions.nii.gz").dataobj)
    for prediction in (stage, timed):
        assert numbers(prediction) == numbers(api)
        assert [reason.code for reason in prediction.decision.reasons] == [one.code for one in api.decision.reasons]
    for name in ("brain", "stroke", "flair_visible_votes", "adc"):
        np.testing.assert_array_equal(getattr(timed, name), getattr(api, name))
    np.testing.assert_array_equal(written, np.stack([api.brain, api.stroke, api.flair_visible_votes], axis=3))

    external = evaluate_external(place.images, place.alone, place.work / "external", QUICK)
    out_of_fold = evaluate(place.store, place.models, place.work / "out_of_fold", QUICK)
    masks = channel_masks(api.brain, api.stroke, api.flair_visible_votes, api.n_models)
    for result, folder in ((external, "external"), (out_of_fold, "out_of_fold")):
        assert evaluated(result) == (
            {channel.label: api.volume_ml(channel) for channel in Channel},
            api.decision.state.value,
        )
        np.testing.assert_array_equal(place.masks(folder), np.stack([masks[one] for one in Channel], axis=3))

    examined: list[Examined] = []
    inner = compare_forms.__globals__["examine"]
    monkeypatch.setitem(
        compare_forms.__globals__, "examine", lambda *args: examined.append(inner(*args)) or examined[-1]
    )
    prepared = CaseStore.open(place.store).read(NAME)
    logits = [lambda padded: ensemble.logits(padded)[0]] * 2
    parity, decisions = compare_forms(*logits, [prepared], profile=bundle.profile, decision=DecisionConfig())
    assert (parity.patients, parity.sign_flips, tuple(decisions)) == (1, 0, ())
    assert len(examined) == 2
    for one in examined:
        assert numbers(one.prediction) == numbers(api)
        np.testing.assert_array_equal(one.prediction.flair_visible_votes, api.flair_visible_votes)


class Failing:
    """Models that cannot run."""

    profile, provider = PROFILES["robust-v3"], "none"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def each_output(
        self, padded: np.ndarray, *, stroke_logits: bool, visible_logit: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        raise self.error


@pytest.mark.parametrize("error", [ModelError("it cannot run"), RuntimeError("it cannot run")])
def test_what_quality_control_refuses_is_not_assessable_whatever_the_models_do(error: Exception) -> None:
    """Checks and models run side by side."""
    models, settings = Failing(error), Settings(PROFILES["robust-v3"])
    case = case_of(head(np.random.default_rng(7)))
    with pytest.raises(type(error), match="cannot run"):
        examine(case, models, settings)
    refused = examine(replace(case, b0=case.b1000, b1000=case.b0), models, settings)
    assert refused.prediction.decision.state is DecisionState.NOT_ASSESSABLE
    assert (refused.prediction.fvv_ml, refused.segmentation) == (None, None)


def at_b_value(b_value: float) -> Case:
    """One head as it would look at a b-value, which is stated."""
    case = case_of(head(np.random.default_rng(7)))
    b0 = np.maximum(case.b0.array, 1.0)
    image = b0 * (np.maximum(case.b1000.array, 1.0) / b0) ** (b_value / 1000)
    return replace(case, b0=Volume(b0, case.b0.affine), b1000=Volume(image, case.b0.affine), b_value=b_value)


def prepared_at(case: Case) -> tuple[Case, PreparedCase, set[str]]:
    settings = Settings(PROFILES["robust-v3"])
    read, prepared, findings = prepare_and_check(case, settings, working_grid(case, settings.profile))
    return read, prepared, {finding.code for finding in findings}


@pytest.mark.parametrize("b_value", [500, 800, 1500, 2500])
def test_any_b_value_is_seen_as_1000(b_value: float) -> None:
    """By training, evaluation and prediction alike: they all prepare here. What is returned is as acquired."""
    _, usual, said = prepared_at(at_b_value(1000))
    acquired = at_b_value(b_value)
    read, prepared, found = prepared_at(acquired)
    assert (said, found) == (set(), {"b-value"})
    assert read.b1000 is acquired.b1000
    tissue = usual.brain & (usual.b1000 > -1)  # Not fluid.
    np.testing.assert_array_equal(prepared.brain, usual.brain)
    assert np.median(np.abs(prepared.b1000 - usual.b1000)[tissue]) < 0.1
    assert usual.stroke is not None
    bright = usual.stroke & (usual.b1000 > 3)
    np.testing.assert_allclose(np.median(prepared.b1000[bright]), np.median(usual.b1000[bright]), rtol=0.1)


@pytest.mark.parametrize("b_value", [None, 850.0, 1150.0])
def test_within_the_tolerance_nothing_changes(b_value: float | None) -> None:
    case = at_b_value(1000)
    _, usual, _ = prepared_at(case)
    _, prepared, found = prepared_at(replace(case, b_value=b_value))
    np.testing.assert_array_equal(prepared.b1000, usual.b1000)
    assert "b-value" not in found


def numbers(prediction: Prediction) -> tuple[Any, ...]:
    volumes = tuple(prediction.volume_ml(channel) for channel in Channel)
    return prediction.decision.state, *volumes, prediction.fvv_per_model_ml, prediction.voxel_volume_ml


def evaluated(result: EvaluateResult) -> tuple[dict[str, float], str]:
    (patient,) = [one for one in result.patients if one.examination_id == NAME]
    return {channel.label: patient.of(channel).predicted_volume_ml for channel in Channel}, patient.decision.value


def test_an_examination_passes_few_files_on_the_way_through_predict(place: Place) -> None:
    """What a reader of `predict` follows: the files between the stage and the image operations, until the answer.

    An image operation is a function of `fvv.imaging` that is called from outside it. On the way to the first and to the
    last of them lie at most eight files, and none is entered twice.
    """
    entries: dict[str, list[FrameType]] = {}  # Frames are kept, so that no later one has another's identity.

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not file_of(frame).startswith("imaging/"):
            return
        chain = chain_of(frame)
        files = [file_of(one) for one in chain]
        if "recipes/examine.py" not in files or files[-2].startswith("imaging/"):
            return
        for caller, file, one in zip(["", *files], files, chain, strict=False):
            known = entries.setdefault(file, [])
            if file != caller and not any(one is other for other in known):
                known.append(one)

    sys.setprofile(watch)
    try:
        predict(place.images, place.alone, place.work / "watched", PredictConfig(compute={"threads": 1}))
    finally:
        sys.setprofile(None)
    path = {file: len(frames) for file, frames in entries.items() if not file.startswith("imaging/")}
    assert len(path) <= 8, path
    assert set(path.values()) == {1}, path


@cache
def _file(path: str) -> str:
    source = ROOT / "src" / "fvv"
    return Path(path).relative_to(source).as_posix() if Path(path).is_relative_to(source) else ""


def file_of(frame: FrameType) -> str:
    """The file of the package that a frame is in; "" elsewhere."""
    return _file(frame.f_code.co_filename)


def chain_of(frame: FrameType | None) -> list[FrameType]:
    """The package's frames from the stage's function of one patient, the last one of the stage, to this one."""
    chain: list[FrameType] = []
    while frame is not None and (not chain or file_of(chain[0]) != "stages/predict.py"):
        if file_of(frame):
            chain.insert(0, frame)
        frame = frame.f_back
    return chain
