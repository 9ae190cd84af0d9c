"""The model card of a bundle, from the bundle and its finished evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fvv.analysis.card import Evidence, model_card
from fvv.analysis.patient import PatientResult
from fvv.config import CardConfig
from fvv.data import Failure
from fvv.errors import InputError, ModelError
from fvv.io.atomic import write_text
from fvv.io.bundle import ModelBundle
from fvv.io.evaluation import EvaluationFolder
from fvv.io.simulation import read_simulation

CARD_FILE = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class CardResult:
    """What was written.

    Attributes:
        files: the card, in the bundle and elsewhere.
        failures: none; a card is whole or not at all.
    """

    files: tuple[Path, ...]
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """Where the card is."""
        return "model card: " + ", ".join(map(str, self.files))


def card(
    models: Path,
    config: CardConfig,
    *,
    out_of_fold: Path | None = None,
    external: Path | None = None,
    real: Path | None = None,
    cohort: Path | None = None,
    copy: Path | None = None,
) -> CardResult:
    """Write MODEL_CARD.md into a bundle.

    Args:
        models: the bundle.
        config: what no file says.
        out_of_fold: the bundle's evaluation out of fold.
        external: its evaluation on new simulated patients.
        real: its evaluation on real ones.
        cohort: folder of the patients of `external`, for what the simulator knows of them.
        copy: write the card there too.

    Raises:
        InputError: no evaluation named, or a patient's truth is missing.
        ModelError: an evaluation tested other models, or was to calibrate them and did not.
    """
    bundle = ModelBundle.open(models)
    evidence = []
    for title, folder, patients in (
        ("Out of fold", out_of_fold, None),
        ("New simulated patients", external, cohort),
        ("Real patients", real, None),
    ):
        if folder is not None:
            evidence.append(_evidence(title, folder, patients, bundle))
    if not evidence:
        raise InputError(
            "no evaluation named", hint="--out-of-fold, --external or --real with a folder of `fvv evaluate`"
        )
    named = [bundle.file(model, precision) for model in bundle.models for precision in bundle.precisions]
    sizes = {file.name: file.stat().st_size for file in named}
    text = model_card(bundle.manifest, sizes, evidence, config)
    files = (models / CARD_FILE, *([copy] if copy is not None else []))
    for file in files:
        write_text(file, text)
    return CardResult(files)


def _evidence(title: str, folder: Path, cohort: Path | None, bundle: ModelBundle) -> Evidence:
    summary, results, _ = EvaluationFolder(folder).read_finished()
    if summary["models_sha256"] != {model.file: model.sha256 for model in bundle.models}:
        raise ModelError("this evaluation tested other models", file=folder, hint="evaluate this bundle again")
    if "own_masks" not in summary["settings"]:
        hint = f"bring it up to date with `fvv report -i {folder}`"
        raise InputError("this evaluation was reported by an earlier version", file=folder, hint=hint)
    if summary["settings"]["calibrate"] and bundle.manifest.calibration is None:
        raise ModelError("evaluated with calibration, and the bundle has none", file=bundle.path, hint="evaluate again")
    patients = tuple(PatientResult.from_json(result) for result in results)
    truth = {} if cohort is None else {patient.participant: _truth(cohort, patient.participant) for patient in patients}
    return Evidence(title, summary, patients, truth)


def _truth(cohort: Path, participant: str) -> dict[str, object]:
    content = read_simulation(cohort / participant)
    if content is None:
        raise InputError("no simulation.json", file=cohort / participant, hint="name the cohort that was evaluated")
    return dict(content["case"])
