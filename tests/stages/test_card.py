"""The model card: every number is the evaluation's, and a card never mixes bundles."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from builders import AFFINE, write_onnx
from cohorts import cohort, patient
from fvv.analysis.card import mean_dice
from fvv.config import PROFILES, CardConfig, EvaluateConfig, PostprocessConfig
from fvv.data import Channel
from fvv.errors import InputError, ModelError, OutputExistsError
from fvv.io.bundle import ModelBundle, write_manifest
from fvv.io.evaluation import EvaluationFolder, PatientFiles
from fvv.io.sealed import read_sealed, write_sealed
from fvv.recipes.publish import publish
from fvv.schemas.bundle import BundleManifest, Calibration, ModelEntry
from fvv.schemas.summary import EXTERNAL, OUT_OF_FOLD, Measured
from fvv.stages.card import card
from fvv.system.fingerprint import file_sha256
from simulations import write_simulation

pytestmark = pytest.mark.usefixtures("plain_evaluations")

SETTINGS = EvaluateConfig(bootstrap_samples=20, own_masks=True, postprocess=PostprocessConfig(minimum_lesion_mm3=2.0))
CONFIG = CardConfig(training_data="on drawn heads", limits=("children",), commands=("make model",))
PATIENTS = [one for one in cohort() if one.examination_id != "healthy"] + [
    patient("crumb", lesion=40, found=0),
    patient("refused", segmented=False),
]
"""Lesions of 2 mL, but for one of 0.8 mL that is missed; quality control refused the last patient."""
SEGMENTED = PATIENTS[:-1]


def write_evaluation(folder: Path, models: dict[str, str], config: EvaluateConfig) -> Path:
    """A finished evaluation of drawn patients."""
    files = EvaluationFolder(folder)
    for one in PATIENTS:
        files.write_patient("", one, PatientFiles(AFFINE, None))
    names = [one.examination_id for one in PATIENTS]
    counts = {"evaluated": len(PATIENTS), "not assessable": 1, "failed": 0}
    measured = Measured(
        evaluation=EXTERNAL,
        counts=counts,
        run={"software": "x"},
        models_sha256=models,
        sources=dict.fromkeys(names, ""),
        cohort="unknown",
        failures=(),
    )
    publish(files, measured, PATIENTS, config)
    return folder


def told(folder_of: Path, folder: Path, **content: object) -> Path:
    """A copy of an evaluation whose summary differs."""
    shutil.copytree(folder_of, folder)
    write_sealed(folder / "summary.json", {**read_sealed(folder / "summary.json"), **content})
    return folder


def write_truth(folder: Path) -> Path:
    """What the simulator would know: half of the lesions are faint."""
    for number, one in enumerate(PATIENTS):
        write_simulation(folder / one.examination_id, contrast_to_noise=2.0 if number % 2 else 5.0)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A bundle, its evaluation and the truth of the patients."""
    folder = tmp_path_factory.mktemp("card")
    file = write_onnx(folder / "models" / "model1.onnx")
    entry = ModelEntry(file=file.name, sha256=file_sha256(file), fold=0, epoch=4, score=0.5)
    manifest = BundleManifest(
        software="fvv test", run_name="drawn-v1", notice="trained on drawings only", profile=PROFILES["robust-v1"],
        models=(entry,), postprocess=PostprocessConfig(minimum_lesion_mm3=2.0),
        calibration=Calibration(intercept=-1.0, slope=-2.0, pseudo_volume_ml=0.1, lowest=0.05, highest=0.9),
    )  # fmt: skip
    write_manifest(folder / "models", manifest)
    evaluation = write_evaluation(folder / "external", {file.name: entry.sha256}, SETTINGS)
    return folder / "models", evaluation, write_truth(folder / "truth")


def row_of(text: str, name: str) -> list[str]:
    return next([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith(name))


def test_the_card_says_what_was_measured(bundle: tuple[Path, Path, Path], tmp_path: Path) -> None:
    models, evaluation, truth = bundle
    result = card(models, CONFIG, external=evaluation, cohort=truth, copy=tmp_path / "card.md")
    text = (models / "MODEL_CARD.md").read_text()
    assert (tmp_path / "card.md").read_text() == text
    assert str(tmp_path / "card.md") in result.summary()
    for said in (
        "# Model card: drawn-v1",
        "Trained on drawings only.",
        "On drawn heads.",
        "* Children.",
        "limited to 0.050 to 0.900",
        "`make model`",
    ):
        assert said in text
    summary = json.loads((evaluation / "summary.json").read_text())
    assert row_of(text, "| Stroke, Dice, mean")[1].startswith(f"{summary['stroke']['dice_mean']['value']:.3f}")
    assert row_of(text, "| FVV, Spearman")[1].startswith(f"{summary['flair_visible']['volume']['rank']['value']:.3f}")
    assert row_of(text, "| DWI-FLAIR mismatch, AUC")[1].startswith(f"{summary['marker']['auc']['value']:.3f}")
    assert row_of(text, "| Not assessable, failed")[1] == "1, 0"
    assert row_of(text, "| Brain mask used")[1] == "automatic"
    assert row_of(text, "| crumb")[1:3] == ["0.000", "0.80"]


def test_real_patients_are_not_named(bundle: tuple[Path, Path, Path]) -> None:
    models, evaluation, _ = bundle
    card(models, CONFIG, real=evaluation)
    text = (models / "MODEL_CARD.md").read_text()
    assert not [one.examination_id for one in PATIENTS if one.examination_id in text]
    assert row_of(text[text.index("the lowest stroke Dice") :], "| 1 |")[1:3] == ["0.000", "0.80"]


def test_real_examinations_have_a_row_each_and_names_where_that_is_wanted(
    bundle: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    models, evaluation, _ = bundle
    named = CONFIG.model_copy(update={"name_examinations": True})
    card(models, named, real=evaluation, copy=tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    table = text[text.index("Real patients: every examination") :]
    for one in PATIENTS:
        volume = one.stroke.predicted_volume_ml
        row = row_of(table, f"| {one.examination_id} ")
        assert row[2] == ("not measured" if math.isnan(volume) else f"{volume:.2f}")
        assert row[-1] == one.decision.value
    assert row_of(table, "| refused")[3] == "not measured"
    card(models, named, external=evaluation, copy=tmp_path / "card.md")
    assert "every examination" not in (tmp_path / "card.md").read_text()


def test_the_breakdown_counts_who_belongs(bundle: tuple[Path, Path, Path]) -> None:
    models, evaluation, truth = bundle
    card(models, CONFIG, external=evaluation, cohort=truth)
    text = (models / "MODEL_CARD.md").read_text()
    clear = [
        one for number, one in enumerate(PATIENTS) if not number % 2 and one.examination_id != "crumb" and one.segmented
    ]
    asked = row_of(text, "| lesion ≥ 1 mL and CNR ≥ 3")
    assert asked[1] == str(len(clear))
    assert asked[2].startswith(f"{np.mean([one.stroke.dice_coefficient for one in clear]):.3f}")
    assert row_of(text, "| all with a lesion")[1] == str(len(SEGMENTED))
    assert row_of(text, "| all with a lesion")[4] == "1"  # Missed; who was refused is not.
    showing = [one for one in SEGMENTED if one.flair_visible.reference_volume_ml > 0]
    assert 0 < len(showing) < len(SEGMENTED)
    assert row_of(text, "| something of it FLAIR-visible")[1] == str(len(showing))
    assert "| refused" not in text
    assert row_of(text, "| lesion under 1 mL")[1] == "1"
    assert "| 1.5 T" not in text
    assert "| lesion 5 to 20 mL" not in text


def test_the_mean_leaves_out_what_is_not_defined() -> None:
    patients = [patient("a", visible=10, found_visible=10), patient("b"), patient("c", visible=10, found_visible=0)]
    assert mean_dice(patients, Channel.FLAIR_VISIBLE).value == pytest.approx(0.5)
    assert np.isnan(mean_dice([patient("b")], Channel.FLAIR_VISIBLE).value)


def test_another_bundles_evaluation_is_refused(bundle: tuple[Path, Path, Path], tmp_path: Path) -> None:
    models, evaluation, _ = bundle
    other = told(evaluation, tmp_path / "other", models_sha256={"model1.onnx": "0" * 64})
    with pytest.raises(ModelError, match="other models"):
        card(models, CONFIG, external=other)


def changed(bundle: Path, folder: Path, **changes: object) -> Path:
    """A copy of the bundle with something else in its manifest."""
    shutil.copytree(bundle, folder)
    write_manifest(folder, ModelBundle.open(bundle).manifest.model_copy(update=changes))
    return folder


def test_each_kind_of_evaluation_has_its_place(bundle: tuple[Path, Path, Path], tmp_path: Path) -> None:
    models, evaluation, _ = bundle
    out_of_fold = told(evaluation, tmp_path / "fold", evaluation=OUT_OF_FOLD)
    for wrong in ({"out_of_fold": evaluation}, {"external": out_of_fold}, {"real": out_of_fold}):
        with pytest.raises(InputError, match="evaluation expected, this one is"):
            card(models, CONFIG, **wrong)
    card(models, CONFIG, out_of_fold=out_of_fold, external=evaluation)
    head = row_of((models / "MODEL_CARD.md").read_text(), "|  |")
    assert head[1:] == ["Out of fold", "New patients"]
    quality = row_of((models / "MODEL_CARD.md").read_text(), "| Not assessable, failed")
    assert quality[1:] == ["1, 0 (image quality not checked)", "1, 0"]


def test_only_patients_of_the_simulator_are_called_simulated(bundle: tuple[Path, Path, Path]) -> None:
    models, evaluation, truth = bundle
    card(models, CONFIG, external=evaluation, cohort=truth)
    assert "New simulated patients" in (models / "MODEL_CARD.md").read_text()
    card(models, CONFIG, external=evaluation)
    assert "simulated" not in (models / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("settled", [None, PostprocessConfig(), PostprocessConfig(minimum_lesion_mm3=80)])
def test_other_post_processing_than_the_bundle_states_is_refused(
    bundle: tuple[Path, Path, Path], tmp_path: Path, settled: PostprocessConfig | None
) -> None:
    models, evaluation, _ = bundle
    settings = SETTINGS.model_copy(update={"postprocess": settled}).model_dump(mode="json")
    other = told(evaluation, tmp_path / "other", settings=settings)
    with pytest.raises(ModelError, match="evaluated with post-processing"):
        card(models, CONFIG, external=other)


def test_the_card_says_on_whom_the_bundles_curve_was_fitted(bundle: tuple[Path, Path, Path], tmp_path: Path) -> None:
    models, evaluation, _ = bundle
    card(models, CONFIG, external=evaluation)
    assert "fitted on none of the patients below" in (models / "MODEL_CARD.md").read_text()
    asked = SETTINGS.model_copy(update={"calibrate": True}).model_dump(mode="json")
    out_of_fold = told(evaluation, tmp_path / "fold", evaluation=OUT_OF_FOLD, settings=asked)
    with pytest.raises(ModelError, match="the bundle has another curve"):
        card(models, CONFIG, out_of_fold=out_of_fold)
    with pytest.raises(ModelError, match="the bundle has no curve"):
        card(changed(models, tmp_path / "none", calibration=None), CONFIG, out_of_fold=out_of_fold)
    curve = json.loads((out_of_fold / "summary.json").read_text())["marker"]["calibration"]["curve"]
    fitted = changed(models, tmp_path / "fitted", calibration=Calibration(**curve))
    card(fitted, CONFIG, out_of_fold=out_of_fold)
    assert "fitted on the patients of: out of fold" in (fitted / "MODEL_CARD.md").read_text()
    card(fitted, CONFIG, external=told(evaluation, tmp_path / "new", settings=asked))
    assert "fitted on the patients of: new patients" in (fitted / "MODEL_CARD.md").read_text()


def test_a_card_replaces_only_cards(bundle: tuple[Path, Path, Path], tmp_path: Path) -> None:
    models, evaluation, _ = bundle
    file = tmp_path / "card.md"
    card(models, CONFIG, external=evaluation, copy=file)
    written = file.read_text()
    card(models, CONFIG, external=evaluation, copy=file)  # Its own work, unchanged.
    edited = written.replace("Children", "Infants")
    file.write_text(edited)
    with pytest.raises(OutputExistsError, match=r"was edited since it was written.*--overwrite"):
        card(models, CONFIG, external=evaluation, copy=file)
    assert file.read_text() == edited
    card(models, CONFIG, external=evaluation, copy=file, overwrite=True)
    assert file.read_text() == written
    file.write_text("# Model card: manual\n")
    with pytest.raises(OutputExistsError, match="an earlier version wrote it, or a person"):
        card(models, CONFIG, external=evaluation, copy=file)
    for theirs in (b"# My thesis\n", b"\xff\xfe", b""):
        file.write_bytes(theirs)
        for overwrite in (False, True):
            with pytest.raises(OutputExistsError, match="no model card"):
                card(models, CONFIG, external=evaluation, copy=file, overwrite=overwrite)
        assert file.read_bytes() == theirs


def test_the_card_leads_with_the_answers(bundle: tuple[Path, Path, Path]) -> None:
    models, evaluation, truth = bundle
    card(models, CONFIG, external=evaluation, cohort=truth)
    text = (models / "MODEL_CARD.md").read_text()
    rate = json.loads((evaluation / "summary.json").read_text())["answers"]["rates"]["sensitivity"]
    assert f"{rate['successes']} of {rate['trials']}" in row_of(text, "| Sensitivity of the answers")[1]
    assert text.index("Sensitivity of the answers") < text.index("FVV alone, sensitivity")
    assert "answers against the reference" in text


def test_nothing_measured_is_no_card(bundle: tuple[Path, Path, Path], tmp_path: Path) -> None:
    models, evaluation, _ = bundle
    with pytest.raises(InputError, match="no evaluation named"):
        card(models, CONFIG)
    with pytest.raises(InputError, match=r"no simulation\.json"):
        card(models, CONFIG, external=evaluation, cohort=tmp_path)
