"""The model card: what a bundle is, what it was trained on, and what was measured on whom, in Markdown.

Every number comes from the bundle, from finished evaluations, or from the simulator's own record of its patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from fvv.analysis.baselines import baselines_in_words
from fvv.analysis.calibration import calibration_in_words
from fvv.analysis.statistics import NOT_DEFINED, Bootstrap
from fvv.analysis.summary import VOLUME_EDGES_ML, VOLUME_NAMES
from fvv.analysis.tables import Table, answers_table, baselines_table, counted, number, with_interval
from fvv.config import CardConfig
from fvv.data import ALL_FOLDS, Channel
from fvv.imaging.postprocess import in_words
from fvv.schemas.bundle import BundleManifest, Calibration
from fvv.schemas.checkpoint import Parent
from fvv.schemas.patient import PatientResult
from fvv.schemas.simulation import CaseRecord
from fvv.schemas.summary import CUT_OFF, EXTERNAL, OUT_OF_FOLD, Estimate, Rates, Summary

CARD_TITLE = "# Model card: "
LEAST_VOLUME_ML, LEAST_CONTRAST = 1.0, 3.0
"""Lesions that a reader would be expected to outline: mL, and contrast-to-noise on b1000."""
WORST = 5
"""Examinations listed as failures."""
_SAMPLES = 2000
NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One finished evaluation.

    Attributes:
        title: what was tested on whom.
        summary: its numbers.
        patients: its results.
        simulated: of simulated patients by name, what the simulator records; empty where there is none.
        one_by_one: the card has a row for each examination.
    """

    title: str
    summary: Summary
    patients: tuple[PatientResult, ...]
    simulated: Mapping[str, CaseRecord]
    one_by_one: bool = False

    @property
    def curve(self) -> Calibration | None:
        """The curve of P(mismatch) fitted on these patients, where there is one."""
        fitted = self.summary.marker.calibration
        return None if fitted is None else fitted.curve


def model_card(
    manifest: BundleManifest, sizes: Mapping[str, int], evidence: Sequence[Evidence], config: CardConfig
) -> str:
    """The card.

    Args:
        sizes: bytes of each of its model files by name.
        evidence: what was measured, in the order it is shown.
        config: what no file says.
    """
    parts = [
        f"{CARD_TITLE}{manifest.run_name}",
        f"> **{_sentence(manifest.notice or 'For research use only')}** It is not a medical device. Do not base "
        "treatment on its output.",
        "## What it is",
        *_about(manifest, sizes, evidence),
        "## What it was trained on",
        _sentence(config.training_data or "Not stated"),
        _trained(manifest).markdown(),
        "## What was measured",
        f"{_who_predicted(evidence)} CNR is the mean excess of the stroke on b1000 over its own normal tissue, in "
        "standard deviations of the noise.",
        _overview(evidence).markdown(),
        *(table.markdown() for one in evidence for table in _details(one)),
        *(text for one in evidence for text in _beside_baselines(one)),
        *(_one_by_one(one, named=config.name_examinations).markdown() for one in evidence if one.one_by_one),
        "## Where it fails",
        *(_failures(one).markdown() for one in evidence if sum(map(_searched, one.patients)) > 1),
        "\n".join(f"* {_sentence(limit)}" for limit in config.limits),
        "## How to reproduce these numbers",
        "\n".join(f"* `{command}`" for command in config.commands) or "Not stated.",
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _about(manifest: BundleManifest, sizes: Mapping[str, int], evidence: Sequence[Evidence]) -> list[str]:
    curve, post = manifest.calibration, manifest.postprocess
    probability = "not calibrated"
    if curve is not None:
        fitted_on = next((f"the patients of: {one.title.lower()}" for one in evidence if one.curve == curve), None)
        probability = (
            f"1 / (1 + exp(-({curve.intercept:.3f} + {curve.slope:.3f} ln(FVV + {curve.pseudo_volume_ml:g} mL)))), "
            f"limited to {curve.lowest:.3f} to {curve.highest:.3f}, fitted on "
            f"{fitted_on or 'none of the patients below'}; {calibration_in_words(curve)}"
        )
    smallest = f"{post.minimum_lesion_mm3:g} mm³" if post.minimum_lesion_mm3 else "off"
    visible = "off"
    if post.minimum_visible_share:
        visible = f"{100 * post.minimum_visible_share:g} % of a lesion; a smaller one counts as not visible"
        if post.maximum_relative_adc is not None:
            visible += f", unless the lesion's ADC is at least {post.maximum_relative_adc:g} of the brain's median"
    files = ", ".join(f"`{name}` {size / 1e6:.2f} MB" for name, size in sorted(sizes.items()))
    return [
        "An ensemble of networks that segment the brain, the acute stroke and its FLAIR-visible part on the b0 and "
        "b1000 images of diffusion MRI. Input: z-scores on a grid of 256 x 256, 7 neighbouring slices for each slice. "
        "It is meant for research on the method, and as a start for training on patients.",
        f"* Models: {_how_many(manifest)}; {files}\n"
        f"* Preprocessing: profile `{manifest.profile.name}`, brain mask `{manifest.profile.mask_method}` if none "
        "is given\n"
        f"* Smallest lesion: {smallest}\n"
        f"* Evidence required of each lesion: {in_words(post) or 'none'}\n"
        f"* A voxel is FLAIR-visible to a model: logit over {post.visible_logit:g}\n"
        f"* Smallest FLAIR-visible part: {visible}\n"
        f"* P(mismatch): {probability}\n"
        f"* Made with: {manifest.software}",
    ]


def _who_predicted(evidence: Sequence[Evidence]) -> str:
    if not any(one.summary.evaluation == OUT_OF_FOLD for one in evidence):
        return "Each examination is predicted by the whole ensemble."
    return (
        "Out of fold, each examination is predicted by the one model that was not trained or selected on that person; "
        "elsewhere by the whole ensemble."
    )


def _how_many(manifest: BundleManifest) -> str:
    if any(model.fold == ALL_FOLDS for model in manifest.models):
        return "1, trained on everybody in the split: nobody of it is left to test it"
    return f"{len(manifest.models)}, one for each fold, fused by majority"


def _trained(manifest: BundleManifest) -> Table:
    begun = any(model.parent is not None for model in manifest.models)
    rows = tuple(
        (
            model.file,
            {None: "", ALL_FOLDS: "all"}.get(model.fold, str(model.fold)),
            "" if model.epoch is None else str(model.epoch + 1),
            "" if model.score is None else f"{model.score:.3f}",
            f"{model.parity.largest_logit_difference:.1e}" if model.parity else NOT_KNOWN,
            *([_in_words(model.parent)] if begun else []),
            model.sha256[:12],
        )
        for model in manifest.models
    )
    start = ("Weights at the start",) if begun else ()
    head = ("File", "Fold", "Epoch", "Score", "PyTorch to ONNX, logit", *start, "SHA-256")
    title = "The models: the converted epoch, its score on the fold's validation patients, and what conversion changed"
    return Table(title, head, rows)


def _in_words(parent: Parent | None) -> str:
    return "random" if parent is None else f"{parent.name} (SHA-256 {parent.sha256[:12]})"


def _overview(evidence: Sequence[Evidence]) -> Table:
    def row(name: str, cell: Callable[[Summary], str]) -> tuple[str, ...]:
        return name, *(cell(one.summary) for one in evidence)

    rows = [
        ("Examinations", *(str(len(one.patients)) for one in evidence)),
        row("Not assessable, failed", _left_out),
    ]
    for name, field in Rates.model_fields.items():
        shares = (counted(getattr(one.summary.answers.rates, name)) for one in evidence)
        rows.append((_sentence(str(field.description)).rstrip("."), *shares))
    rows += [
        row("Stroke-free heads answered 'no lesion found'", lambda one: _of_stroke_free(one)[0]),
        row("Largest false-positive stroke in a stroke-free head, mL", lambda one: _of_stroke_free(one)[1]),
    ]
    for channel in Channel:
        found = [one.summary.of(channel) for one in evidence]
        rows += [
            (f"{channel.title}, Dice, pooled", *(with_interval(one.dice_pooled) for one in found)),
            (f"{channel.title}, Dice, mean", *(with_interval(one.dice_mean) for one in found)),
        ]
    rows += [
        row("FVV, Spearman", lambda one: with_interval(one.flair_visible.volume.rank)),
        row("DWI-FLAIR mismatch, AUC", lambda one: with_interval(one.marker.auc)),
        row("FVV alone, sensitivity at the cut-off", lambda one: _at_cutoff(one, "sensitivity")),
        row("FVV alone, specificity at the cut-off", lambda one: _at_cutoff(one, "specificity")),
        row("Brain mask used by the models", _masks),
    ]
    title = (
        "Answers, overlap with the reference, and the FVV alone, in which a missed stroke counts as a mismatch found; "
        "intervals at 95 %"
    )
    return Table(title, ("", *(one.title for one in evidence)), tuple(rows))


def _masks(summary: Summary) -> str:
    own = summary.evaluation == EXTERNAL and summary.settings.own_masks
    return "automatic" if own else "the given one, otherwise automatic"


def _of_stroke_free(summary: Summary) -> tuple[str, str]:
    found = summary.stroke_free
    if found is None or not found.examinations:
        return "not defined", "not defined"
    return counted(found.no_lesion_found), number(found.largest_false_ml)


def _left_out(summary: Summary) -> str:
    # Prepared patients are no longer there as they came from the scanner: a 0 would read as "all passed".
    unchecked = "" if summary.evaluation == EXTERNAL else " (image quality not checked)"
    return f"{summary.counts['not assessable']}, {summary.counts['failed']}{unchecked}"


def _at_cutoff(summary: Summary, share: Literal["sensitivity", "specificity"]) -> str:
    point = summary.marker.operating_points.get(CUT_OFF)
    return "not defined" if point is None else f"{counted(getattr(point, share))}, at {point.cutoff_ml:g} mL"


def _details(one: Evidence) -> list[Table]:
    """Answers, lesions found by size; and by what the simulator records, where it does."""
    lesions = tuple((row.size, counted(row.found)) for row in one.summary.stroke.lesions_by_size)
    tables = [
        replace(answers_table(one.summary.answers), title=f"{one.title}: answers against the reference"),
        Table(f"{one.title}: lesions found", ("Lesion", "Share found"), lesions),
    ]
    if one.simulated:
        strokes = [(patient, one.simulated[patient.examination_id]) for patient in one.patients if _searched(patient)]
        rows = [
            _group_row(
                name, [patient for patient, about in strokes if belongs(patient.stroke.reference_volume_ml, about)]
            )
            for name, belongs in _groups().items()
        ]
        showing = [patient for patient, _ in strokes if patient.flair_visible.reference_volume_ml > 0]
        rows.insert(2, _group_row("something of it FLAIR-visible", showing))
        head = ("Examinations", "Number", "Stroke Dice, mean", "FLAIR-visible Dice, mean", "Stroke missed")
        tables.append(Table(f"{one.title}: by lesion and scan", head, tuple(row for row in rows if row[1] != "0")))
    return tables


def _beside_baselines(one: Evidence) -> list[str]:
    """Whether the FVV is worth more than plain numbers of the stroke; nothing where there was nothing to compare."""
    if not one.summary.baselines or not one.summary.marker.operating_points:
        return []
    table = baselines_table(one.summary.baselines)
    return [
        f"{one.title}: {baselines_in_words(one.summary.baselines)}",
        replace(table, title=f"{one.title}: {table.title[0].lower()}{table.title[1:]}").markdown(),
    ]


def _one_by_one(one: Evidence, *, named: bool) -> Table:
    """Every examination: what is there, what was found, what of it is false, and the answer."""
    rows = []
    for place, patient in enumerate(one.patients):
        stroke = patient.stroke
        answered = not math.isnan(stroke.predicted_volume_ml)
        # Of a stroke-free head all that is reported is false; elsewhere the overlap says it, on the grid of the files.
        false_ml = stroke.predicted_volume_ml if patient.stroke_free else stroke.false_positive_ml
        rows.append(
            (
                patient.examination_id if named else str(place + 1),
                "none" if patient.stroke_free else number(stroke.reference_volume_ml),
                _measured(stroke.predicted_volume_ml),
                _measured(false_ml if answered else math.nan),
                "-" if patient.stroke_free else number(stroke.dice_coefficient, 3),
                _measured(patient.flair_visible.predicted_volume_ml),
                patient.decision.value,
            )
        )
    head = ("", "Lesion, mL", "Predicted, mL", "False positive, mL", "Stroke Dice", "FVV, mL", "Answer")
    return Table(f"{one.title}: every examination", head, tuple(rows))


def _groups() -> dict[str, Callable[[float, CaseRecord], bool]]:
    """Parts of a simulated cohort by name: whether an examination with this lesion volume, mL, belongs."""

    def volume(low: float, high: float) -> Callable[[float, CaseRecord], bool]:
        return lambda volume_ml, _: low <= volume_ml < high

    groups: dict[str, Callable[[float, CaseRecord], bool]] = {
        f"lesion ≥ {LEAST_VOLUME_ML:g} mL and CNR ≥ {LEAST_CONTRAST:g}": lambda volume_ml, about: (
            volume_ml >= LEAST_VOLUME_ML and _contrast(about) >= LEAST_CONTRAST
        ),
        "all with a lesion": lambda *_: True,
    }
    bounds = pairwise((0.0, *VOLUME_EDGES_ML, math.inf))
    groups |= {f"lesion {name}": volume(*edges) for name, edges in zip(VOLUME_NAMES, bounds, strict=True)}
    return groups | {
        "CNR under 3": lambda _, about: _contrast(about) < 3,
        "CNR 3 to 6": lambda _, about: 3 <= _contrast(about) < 6,
        "CNR 6 or more": lambda _, about: _contrast(about) >= 6,
        "1.5 T": lambda _, about: about.field_strength_t == 1.5,
        "3 T": lambda _, about: about.field_strength_t == 3.0,
        "skull-stripped": lambda _, about: about.skull_stripped is True,
        "mismatch": lambda _, about: about.dwi_flair_mismatch is True,
        "no mismatch": lambda _, about: about.dwi_flair_mismatch is False,
    }


def _contrast(about: CaseRecord) -> float:
    return about.contrast_to_noise or 0.0


def _group_row(name: str, patients: Sequence[PatientResult]) -> tuple[str, ...]:
    missed = sum(patient.stroke.dice_coefficient == 0 for patient in patients)
    dice = (with_interval(mean_dice(patients, channel)) for channel in (Channel.STROKE, Channel.FLAIR_VISIBLE))
    return name, str(len(patients)), *dice, str(missed)


def mean_dice(patients: Sequence[PatientResult], channel: Channel) -> Estimate:
    """Mean over the examinations whose Dice is defined, with a bootstrap interval over persons."""
    known = [patient for patient in patients if not math.isnan(patient.of(channel).dice_coefficient)]
    if not known:
        return NOT_DEFINED
    values = np.array([patient.of(channel).dice_coefficient for patient in known])
    persons = np.array([patient.person_id for patient in known])
    bootstrap = Bootstrap(_SAMPLES, np.random.default_rng(0))
    return bootstrap.interval(persons, lambda drawn: float(values[drawn].mean()))


def _failures(one: Evidence) -> Table:
    searched = [patient for patient in one.patients if _searched(patient)]
    rows = []
    for place, patient in enumerate(sorted(searched, key=lambda patient: patient.stroke.dice_coefficient)[:WORST]):
        about = one.simulated.get(patient.examination_id)
        rows.append(
            (
                # A card goes to others: folders are named only where they are the simulator's.
                str(place + 1) if about is None else patient.examination_id,
                number(patient.stroke.dice_coefficient, 3),
                number(patient.stroke.reference_volume_ml),
                _measured(patient.stroke.predicted_volume_ml),
                NOT_KNOWN if about is None else number(_contrast(about), 1),
                number(patient.flair_visible.reference_volume_ml),
                _measured(patient.flair_visible.predicted_volume_ml),
            )
        )
    head = ("", "Stroke Dice", "Lesion, mL", "Predicted, mL", "CNR", "Reference FVV, mL", "FVV, mL")
    return Table(f"{one.title}: the lowest stroke Dice", head, tuple(rows))


def _measured(volume_ml: float) -> str:
    return "not measured" if math.isnan(volume_ml) else number(volume_ml)


def _searched(patient: PatientResult) -> bool:
    """Whether there was a stroke to find, and the models were run."""
    return patient.segmented and patient.stroke.reference_volume_ml > 0


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
