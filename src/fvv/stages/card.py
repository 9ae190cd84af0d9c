"""The model card of a bundle, from the bundle and its finished evaluations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fvv.analysis.card import CARD_TITLE, Evidence, model_card
from fvv.config import CardConfig
from fvv.data import Failure
from fvv.errors import InputError, ModelError, OutputExistsError
from fvv.io.atomic import write_text
from fvv.io.bundle import ModelBundle
from fvv.io.bundle_folder import CARD_FILE
from fvv.io.evaluation import EvaluationFolder
from fvv.schemas.simulation import CaseRecord
from fvv.schemas.summary import EXTERNAL, OUT_OF_FOLD
from fvv.simulator.files import SIMULATION_FILE, read_simulation
from fvv.system.regular import read_regular_text

_SIGNED_BY = "<!-- written by fvv card; sha256 of the text above: "


@dataclass(frozen=True, slots=True)
class CardResult:
    """What was written."""

    files: tuple[Path, ...]
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """Where the card is."""
        return "model card: " + ", ".join(map(str, self.files))


def card(
    models: str | Path,
    config: CardConfig,
    *,
    out_of_fold: str | Path | None = None,
    external: str | Path | None = None,
    real: str | Path | None = None,
    cohort: str | Path | None = None,
    copy: str | Path | None = None,
    overwrite: bool = False,
) -> CardResult:
    """Write MODEL_CARD.md into a bundle.

    A card that this program wrote is replaced; one that was edited since, or that an earlier version wrote, only with
    `overwrite`; any other file never.

    Args:
        out_of_fold: the bundle's evaluation out of fold.
        external: its evaluation on new patients; simulated ones where `cohort` is given.
        real: its evaluation on real ones, of which the card has a row each.
        cohort: folder of the simulated patients of `external`, for what the simulator knows of them.
        copy: write the card there too.
        overwrite: replace a card that was edited.

    Raises:
        OutputExistsError: a file is in the way.
        InputError: no evaluation named, one is of another kind, or the simulator's record of a patient is missing.
        ModelError: an evaluation tested other models or other post-processing, or was to calibrate them and the
            bundle's curve is not its own.
    """
    models = Path(models)
    out_of_fold = None if out_of_fold is None else Path(out_of_fold)
    external = None if external is None else Path(external)
    real = None if real is None else Path(real)
    cohort = None if cohort is None else Path(cohort)
    copy = None if copy is None else Path(copy)
    bundle = ModelBundle.open(models)
    evidence = []
    for title, kind, folder, patients in (
        ("Out of fold", OUT_OF_FOLD, out_of_fold, None),
        ("New patients" if cohort is None else "New simulated patients", EXTERNAL, external, cohort),
        ("Real patients", EXTERNAL, real, None),
    ):
        if folder is not None:
            one = _evidence(title, kind, folder, patients, bundle)
            evidence.append(replace(one, one_by_one=folder is real))
    if not evidence:
        raise InputError(
            "no evaluation named", hint="--out-of-fold, --external or --real with a folder of `fvv evaluate`"
        )
    _check_calibration(evidence, bundle)
    sizes = {model.file: (models / model.file).stat().st_size for model in bundle.models}
    text = model_card(bundle.manifest, sizes, evidence, config)
    files = (models / CARD_FILE, *([copy] if copy is not None else []))
    for file in files:
        _refuse_to_replace(file, overwrite=overwrite)
    for file in files:
        write_text(file, text + _signature(text))
    return CardResult(files)


def _signature(text: str) -> str:
    """Last line of a card, by which it is known again: not shown where Markdown is."""
    return f"\n{_SIGNED_BY}{hashlib.sha256(text.encode()).hexdigest()} -->\n"


def _refuse_to_replace(file: Path, *, overwrite: bool) -> None:
    if not file.exists() and not file.is_symlink():
        return
    hint = "name another file"
    try:
        content = read_regular_text(file)
    except InputError as error:
        raise OutputExistsError(f"is there, and no model card: {error.message}", file=file, hint=hint) from error
    text, signed, _ = content.partition(f"\n{_SIGNED_BY}")
    if signed and text + _signature(text) == content:
        return
    if not content.startswith(CARD_TITLE):
        raise OutputExistsError("is there, and no model card of this program", file=file, hint=hint)
    if not overwrite:
        what = "was edited since it was written" if signed else "an earlier version wrote it, or a person"
        raise OutputExistsError(f"a model card is there; {what}", file=file, hint="--overwrite replaces it")


def _evidence(title: str, kind: str, folder: Path, cohort: Path | None, bundle: ModelBundle) -> Evidence:
    summary, patients = EvaluationFolder(folder).read_finished()
    settings = summary.settings
    if summary.evaluation != kind:
        hint = "--out-of-fold takes one kind, --external and --real take the other"
        raise InputError(f"{kind} evaluation expected, this one is {summary.evaluation}", file=folder, hint=hint)
    if summary.models_sha256 != bundle.manifest.models_sha256:
        raise ModelError("this evaluation tested other models", file=folder, hint="evaluate this bundle again")
    stated = bundle.manifest.postprocess
    if settings.postprocess != stated:
        raise ModelError(
            f"evaluated with post-processing {settings.postprocess!r}, the bundle states {stated!r}",
            file=folder,
            hint="evaluate again, without settings of evaluate.postprocess",
        )
    simulated = {one.examination_id: _simulated(cohort / one.examination_id) for one in patients} if cohort else {}
    return Evidence(title, summary, patients, simulated)


def _check_calibration(evidence: Sequence[Evidence], bundle: ModelBundle) -> None:
    """Where an evaluation was to calibrate the bundle, the bundle's curve is one of theirs."""
    asked = [one for one in evidence if one.summary.settings.calibrate]
    if asked and bundle.manifest.calibration not in [one.curve for one in asked]:
        what = "no curve of P(mismatch)" if bundle.manifest.calibration is None else "another curve of P(mismatch)"
        hint = "evaluate again with --calibrate"
        raise ModelError(f"evaluated with calibration, and the bundle has {what}", file=bundle.path, hint=hint)


def _simulated(folder: Path) -> CaseRecord:
    if not (folder / SIMULATION_FILE).exists():
        raise InputError("no simulation.json", file=folder, hint="name the cohort that was evaluated")
    return read_simulation(folder).case
