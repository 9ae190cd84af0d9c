"""Cohorts in which some masks are missing: unknown is stored, learned and measured as unknown, never as empty."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import save, write_cohort, write_patient
from bundles import write_bundle
from fvv.cohort.folds import SplitInput, extend_plan, plan_folds
from fvv.config import EvaluateConfig, PrepareConfig, PreprocessConfig
from fvv.data import Channel, FoldPlan, Participant, Role
from fvv.errors import TrainingError
from fvv.io.sealed import sealed
from fvv.io.store import CaseStore
from fvv.schemas.store import CaseRecord
from fvv.stages.evaluate import evaluate
from fvv.stages.prepare import prepare
from fvv.stages.verify import verify
from store_builders import TINY, phantom, write_store

pytestmark = pytest.mark.usefixtures("plain_evaluations")

STRICT = PrepareConfig(kfolds=2, compute={"workers": 1})
PARTIAL = STRICT.model_copy(update={"preprocess": PreprocessConfig(partial_labels=True)})
STROKE_ALONE = {Channel.BRAIN, Channel.STROKE}


def without(folder: Path, *stems: str) -> None:
    for stem in stems:
        (folder / f"{stem}.nii.gz").unlink()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients: p0 whole, p1 and p2 without FLAIR, p3 a reader's label alone, p4 FLAIR alone, p5 without lesion."""
    folder = tmp_path_factory.mktemp("partial") / "in"
    rng = np.random.default_rng(0)
    write_cohort(folder, rng, 5)
    write_patient(folder / "p5", rng, lesion=False, visible=False)
    for name, stems in {
        "p1": ["flairviz_roi"],
        "p2": ["flairviz_roi"],
        "p3": ["stroke_roi", "flairviz_roi"],
        "p4": ["stroke_roi"],
        "p5": ["flairviz_roi"],
    }.items():
        without(folder / name, *stems)
    rows = ["participant_id\tdwi_flair_mismatch", "p0\t0", "p1\t1", "p2\tn/a", "p3\t1", "p4\t0", "p5\tn/a"]
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def store(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> CaseStore:
    path = tmp_path_factory.mktemp("partial") / "store"
    result = prepare(cohort, path, PARTIAL)
    assert not result.failures
    assert "Stroke unknown, no stroke_roi: 2 of 6 examinations: p3, p4" in result.summary()
    assert "FLAIR-visible unknown, no flairviz_roi: 3 of 6 examinations: p1, p2, p3" in result.summary()
    return CaseStore.open(path)


def test_what_is_known_is_stored_and_the_rest_is_not_zero(store: CaseStore) -> None:
    known = {name: store.record(name).known for name in store.participants}
    assert known == {
        "p0": set(Channel),
        "p1": STROKE_ALONE,
        "p2": STROKE_ALONE,
        "p3": {Channel.BRAIN},
        "p4": {Channel.BRAIN, Channel.FLAIR_VISIBLE},
        "p5": set(Channel),  # without a stroke, nothing of it is visible
    }
    for name, channels in known.items():
        record, case = store.record(name), store.read(name)
        assert set(case.masks) == channels
        assert (record.stroke_ml is None) == (Channel.STROKE not in channels)
        assert (record.flair_visible_ml is None) == (Channel.FLAIR_VISIBLE not in channels)
    assert store.record("p4").flair_visible_ml > 1.0
    assert store.record("p5").stroke_ml == 0.0


def test_without_the_setting_a_missing_mask_is_refused_and_the_message_names_it(cohort: Path) -> None:
    result = verify(cohort, STRICT)
    assert [failure.examination_id for failure in result.failures] == ["p1", "p2", "p3", "p4", "p5"]
    assert all("--partial-labels" in failure.reason for failure in result.failures)


def test_verify_lists_who_lacks_a_mask(cohort: Path) -> None:
    result = verify(cohort, PARTIAL)
    assert not result.failures
    assert "FLAIR-visible unknown, no flairviz_roi: 3 of 6 examinations: p1, p2, p3" in result.notes
    assert "3 with a lesion, 1 without, 2 without a stroke mask" in result.notes


def test_a_typing_error_in_a_name_does_not_become_unknown(tmp_path: Path, rng: np.random.Generator) -> None:
    for name, wrong in (("a", "flairvis_roi"), ("b", "FlairViz_ROI")):
        write_patient(tmp_path / name, rng)
        (tmp_path / name / "flairviz_roi.nii.gz").rename(tmp_path / name / f"{wrong}.nii.gz")
    failures = verify(tmp_path, PARTIAL).failures
    assert ["there is no flairviz_roi, and this resembles it" in failure.reason for failure in failures] == [True, True]


def test_an_examination_of_which_nothing_is_known_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "a", rng)
    without(tmp_path / "a", "stroke_roi", "flairviz_roi")
    (failure,) = verify(tmp_path, PARTIAL).failures
    assert "nothing is known of its lesion" in failure.reason


def test_a_stroke_free_examination_needs_no_masks_and_knows_all(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "a", rng, lesion=False, visible=False)
    without(tmp_path / "a", "stroke_roi", "flairviz_roi")
    (tmp_path / "participants.tsv").write_text("participant_id\tstroke_free\na\t1\n")
    result = verify(tmp_path, STRICT)
    assert not result.failures
    assert result.notes[-1] == "0 with a lesion, 1 without"


def test_a_flair_image_beside_is_no_typing_error(tmp_path: Path, rng: np.random.Generator) -> None:
    write_patient(tmp_path / "a", rng)
    without(tmp_path / "a", "flairviz_roi")
    save(tmp_path / "a" / "flair.nii.gz", np.ones((4, 4, 4)))
    assert not verify(tmp_path, PARTIAL).failures


def test_a_store_of_the_first_version_knows_all_channels(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    file = tmp_path / "store" / "cases" / "secret_0.zarr" / "zarr.json"
    described = json.loads(file.read_text())
    attributes = {name: value for name, value in described["attributes"].items() if name not in {"known", "sha256"}}
    described["attributes"] = sealed(attributes | {"schema_version": 1})
    file.write_text(json.dumps(described))
    assert store.record("secret_0").known == set(Channel)
    assert CaseRecord.model_fields["schema_version"].default == 2


def split_inputs(n: int = 40) -> list[SplitInput]:
    """Half without a FLAIR mask, a tenth with neither mask."""
    people = [Participant(f"p{number}", f"p{number}") for number in range(n)]
    return [
        SplitInput(one, None if place % 10 == 9 else 5.0, None if place % 2 else 1.0)
        for place, one in enumerate(people)
    ]


def flair_known(plan: FoldPlan, cases: list[SplitInput], role: Role) -> list[int]:
    known = {case.participant.examination_id for case in cases if case.flair_visible_ml is not None}
    return [len(known.intersection(plan.participants(fold, role))) for fold in range(plan.n_folds)]


def test_folds_share_the_examinations_with_each_mask() -> None:
    cases = split_inputs()
    plan = plan_folds(cases, kfolds=5, valid_proportion=0.25, seed=3)
    assert flair_known(plan, cases, Role.TEST) == [4] * 5
    assert all(3 <= known <= 5 for known in flair_known(plan, cases, Role.VALID))
    unknown = {case.participant.examination_id for case in cases if case.stroke_ml is None}
    tested = [len(unknown.intersection(plan.participants(fold, Role.TEST))) for fold in range(5)]
    assert sorted(tested) == [0, 1, 1, 1, 1]
    joined = extend_plan(plan.rows[:20], cases, valid_proportion=0.25, seed=3)
    assert sum(flair_known(joined, cases, Role.TEST)) == 20


def partial_store(path: Path, flair: float = 0.5) -> CaseStore:
    """The phantoms of `write_store`, from this share of them on without a FLAIR mask; one has only a label."""
    store = write_store(path, patients=8)
    rng = np.random.default_rng(1)
    for number in range(round(8 * flair), 8):
        name = f"secret_{number}"
        case = replace(phantom(rng, name, visible=number % 2 == 0), flair_visible=None)
        case = replace(case, stroke=None) if number == 7 else case
        who = Participant(name, f"person-{number}", "site", number % 2 == 1)
        store.write(case, who, image_sha256=f"image-{number}", source_sha256=f"source-{number}")
    return CaseStore.open(path)


def test_half_of_the_flair_masks_are_enough_to_train(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from fvv.stages.train import train_fold  # noqa: PLC0415
    from fvv.training.dataset import FoldPatients  # noqa: PLC0415

    store = partial_store(tmp_path / "store")
    people = FoldPatients.from_store(store, store.folds, 0)
    assert "secret_7" in store.folds.participants(0, Role.TRAIN)
    assert "secret_7" not in people.training
    result = train_fold(store.path, tmp_path / "models", 0, TINY)
    assert result.complete
    assert all(math.isfinite(result.scores[name]) for name in ("valid/score", "valid/loss", "valid/dice_stroke"))


def test_a_fold_without_a_lesion_mask_to_validate_on_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from fvv.training.dataset import FoldPatients  # noqa: PLC0415

    store = write_store(tmp_path / "store")
    name = store.folds.participants(0, Role.VALID)[0]
    case = replace(store.read(name), stroke=None, flair_visible=None)
    store.write(case, store.record(name).participant, image_sha256="i", source_sha256="s")
    with pytest.raises(TrainingError, match="no validation patient with a lesion mask"):
        FoldPatients.from_store(store, store.folds, 0)


def test_every_metric_is_reported_with_its_own_n(store: CaseStore, tmp_path: Path) -> None:
    models = write_bundle(tmp_path / "models", store.path)
    config = EvaluateConfig(bootstrap_samples=20, compute={"threads": 1, "workers": 1})
    result = evaluate(store.path, models, tmp_path / "out", config)
    assert not result.failures
    found = result.found
    assert (found.brain.volume.n, found.stroke.volume.n, found.flair_visible.volume.n) == (6, 4, 3)
    compared = {channel: found.of(channel).per_patient["specificity"].defined for channel in Channel}
    assert compared == {Channel.BRAIN: 6, Channel.STROKE: 4, Channel.FLAIR_VISIBLE: 3}
    n_dice = {channel: found.of(channel).per_patient["dice_coefficient"].defined for channel in Channel}
    assert n_dice[Channel.BRAIN] == 6
    assert n_dice[Channel.STROKE] <= 4
    assert n_dice[Channel.FLAIR_VISIBLE] <= 3
    assert all(f"n = {n}" in result.summary() for n in n_dice.values())
    by_name = {patient.examination_id: patient for patient in result.patients}
    for name, channel in (("p1", Channel.FLAIR_VISIBLE), ("p3", Channel.STROKE), ("p4", Channel.STROKE)):
        one = by_name[name].of(channel)
        assert math.isnan(one.reference_volume_ml)
        assert math.isnan(one.dice_coefficient)
        assert math.isnan(one.volume_error_ml)
        assert one.predicted_volume_ml >= 0.0
    assert by_name["p3"].visible_fraction is by_name["p4"].visible_fraction is None
    assert not by_name["p3"].stroke_free
    # The reader's label counts wherever it stands.
    assert (found.marker.mismatch, found.marker.no_mismatch) == (2, 2)
    assert found.answers.rates.sensitivity.trials == 2
    assert found.answers.rates.sensitivity_right_lesion.trials == 1
    volumes = {row.value: row.patients for row in found.strata if row.stratum == "lesion volume"}
    assert volumes["not outlined"] == 2
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "reference not outlined; stroke Dice" in page  # of p3 and p4
    assert "reference not measured" not in page
    assert found.stroke_free.examinations == 1
