"""The model card: what a bundle is, what it was trained on, and what was measured on whom, in Markdown.

Every number comes from the bundle, from finished evaluations, or from the truth beside simulated patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fvv.analysis.answers import RATES
from fvv.analysis.calibration import calibration_in_words
from fvv.analysis.paper import CHANNEL_NAMES, EXTERNAL, NOT_GIVEN, Table, answers_table, with_interval
from fvv.analysis.patient import PatientResult
from fvv.analysis.statistics import Estimate, bootstrap_intervals
from fvv.arrays import IntArray
from fvv.config import CardConfig
from fvv.data import Channel
from fvv.schemas.bundle import BundleManifest, Calibration

CARD_TITLE = "# Model card: "
LEAST_VOLUME_ML, LEAST_CONTRAST = 1.0, 3.0
"""Lesions that a reader would be expected to outline: mL, and contrast-to-noise on b1000."""
WORST = 5
"""Patients named as failures."""
_SAMPLES = 2000
NOT_KNOWN = "not known"
_MARKER = {
    "sensitivity": "FVV alone, sensitivity at the cut-off",
    "specificity": "FVV alone, specificity at the cut-off",
}
Truth = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One finished evaluation.

    Attributes:
        title: what was tested on whom.
        summary: its summary.json.
        patients: its results.
        truth: of simulated patients by name, what the simulator knows of them; empty where there is none.
    """

    title: str
    summary: Mapping[str, Any]
    patients: tuple[PatientResult, ...]
    truth: Mapping[str, Truth]

    @property
    def curve(self) -> Calibration | None:
        """The curve of P(mismatch) fitted on these patients, where there is one."""
        fitted = self.summary["marker"]["calibration"]
        return None if fitted is None else Calibration(**fitted["curve"])


def model_card(
    manifest: BundleManifest, sizes: Mapping[str, int], evidence: Sequence[Evidence], config: CardConfig
) -> str:
    """The card.

    Args:
        manifest: of the bundle.
        sizes: bytes of each of its model files by name.
        evidence: what was measured, in the order it is shown.
        config: what no file says.
    """
    parts = [
        f"{CARD_TITLE}{manifest.run_name}",
        f"> **{_sentence(manifest.notice or 'For research use only')}** It is no medical device, and no treatment may "
        "be decided on what it says.",
        "## What it is",
        *_about(manifest, sizes, evidence),
        "## What it was trained on",
        _sentence(config.training_data or "Not stated"),
        _trained(manifest).markdown(),
        "## What was measured",
        "Out of fold, each examination is marked by the one model that never saw that person; elsewhere by the whole "
        "ensemble, as in a prediction. CNR is the mean excess of the stroke on b1000 over its own normal tissue, in "
        "standard deviations of the noise.",
        _overview(evidence).markdown(),
        *(table.markdown() for one in evidence for table in _details(one)),
        "## Where it fails",
        *_failures(evidence),
        "\n".join(f"* {_sentence(limit)}" for limit in config.limits),
        "## Making these numbers again",
        "\n".join(f"* `{command}`" for command in config.commands) or "Not stated.",
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _about(manifest: BundleManifest, sizes: Mapping[str, int], evidence: Sequence[Evidence]) -> list[str]:
    calibration, post = manifest.calibration, manifest.postprocess
    probability = "not calibrated"
    if calibration is not None:
        probability = (
            f"1 / (1 + exp(-({calibration.intercept:.3f} + {calibration.slope:.3f} ln(FVV + "
            f"{calibration.pseudo_volume_ml:g} mL)))), kept within {calibration.lowest:.3f} to "
            f"{calibration.highest:.3f}, {_fitted_on(calibration, evidence)}; {calibration_in_words(calibration)}"
        )
    smallest = f"{post.minimum_lesion_mm3:g} mm³" if post.minimum_lesion_mm3 else "off"
    files = ", ".join(f"`{name}` {size / 1e6:.2f} MB" for name, size in sorted(sizes.items()))
    return [
        "An ensemble of networks that mark the brain, the acute stroke and its FLAIR-visible part on the b0 and b1000 "
        "images of diffusion MRI. Input: z-scores on a grid of 256 x 256, 7 neighbouring slices for each slice. It is "
        "meant for research on the method, and as a start for training on patients.",
        "\n".join(
            [
                f"* Models: {len(manifest.models)}, one for each fold, fused by majority; {files}",
                f"* Preprocessing: profile `{manifest.profile.name}`, brain mask "
                f"`{manifest.profile.mask_method}` where none is given",
                f"* Smallest lesion: {smallest}",
                f"* P(mismatch): {probability}",
                f"* Made with: {manifest.software}",
            ]
        ),
    ]


def _fitted_on(calibration: Calibration, evidence: Sequence[Evidence]) -> str:
    for one in evidence:
        if one.curve == calibration:
            return f"fitted on the patients of: {one.title.lower()}"
    return "fitted on none of the patients below"


def _trained(manifest: BundleManifest) -> Table:
    rows = [
        (
            model.file,
            "" if model.fold is None else str(model.fold),
            "" if model.epoch is None else str(model.epoch + 1),
            "" if model.score is None else f"{model.score:.3f}",
            f"{model.parity.largest_logit_difference:.1e}" if model.parity else NOT_KNOWN,
            model.sha256[:12],
        )
        for model in manifest.models
    ]
    head = ("File", "Fold", "Epoch", "Score", "PyTorch to ONNX, logit", "SHA-256")
    title = "The models: best epoch by the score on the fold's validation patients, and what conversion changed"
    return Table(title, head, tuple(rows))


def _overview(evidence: Sequence[Evidence]) -> Table:
    """The same numbers of every evaluation, side by side."""
    rows: list[tuple[str, ...]] = [
        ("Examinations", *(str(len(one.patients)) for one in evidence)),
        ("Not assessable, failed", *(_left_out(one) for one in evidence)),
    ]
    for key, name in RATES.items():
        rows.append((_sentence(name).rstrip("."), *(_rate(one.summary["answers"]["rates"][key]) for one in evidence)))
    for channel in Channel:
        name = CHANNEL_NAMES[channel.label]
        for key, kind in (("dice_pooled", "pooled"), ("dice_mean", "mean")):
            cells = (_estimate(one.summary["segmentation"][channel.label][key]) for one in evidence)
            rows.append((f"{name}, Dice, {kind}", *cells))
    rows.append(
        ("FVV, Spearman", *(_estimate(one.summary["volumes"][Channel.FLAIR_VISIBLE.label]["rank"]) for one in evidence))
    )
    rows.append(("DWI-FLAIR mismatch, AUC", *(_estimate(one.summary["marker"]["auc"]) for one in evidence)))
    for key, name in _MARKER.items():
        rows.append((name, *(_at_cutoff(one.summary, key) for one in evidence)))
    rows.append(("Brain mask shown to the models", *(_masks(one) for one in evidence)))
    title = (
        "Answers, overlap with what was drawn, and the FVV alone, in which a missed stroke counts as a mismatch found; "
        "intervals at 95 %"
    )
    return Table(title, ("", *(one.title for one in evidence)), tuple(rows))


def _masks(one: Evidence) -> str:
    own = one.summary["kind"] == EXTERNAL and one.summary["settings"]["own_masks"]
    return "our own" if own else "the one given, else our own"


def _left_out(one: Evidence) -> str:
    counts = one.summary["counts"]
    # Prepared patients are no longer there as they came from the scanner: a 0 would read as "all passed".
    unchecked = "" if one.summary["kind"] == EXTERNAL else " (image quality not checked)"
    return f"{counts['not assessable']}, {counts['failed']}{unchecked}"


def _at_cutoff(summary: Mapping[str, Any], key: str) -> str:
    point = summary["marker"]["operating_points"].get("cut-off")
    return NOT_GIVEN if point is None else f"{_estimate(point[key])} at {point['cutoff_ml']:g} mL"


def _details(one: Evidence) -> list[Table]:
    """Lesions found by size; and by what the simulator knows, where it does."""
    lesions = tuple(
        (row["size"], str(row["drawn"]), str(row["found"]), _estimate(row["share_found"]))
        for row in one.summary["lesions_by_size"][Channel.STROKE.label]
    )
    answers = replace(answers_table(one.summary["answers"]), title=f"{one.title}: answers against the reference")
    tables = [answers, Table(f"{one.title}: lesions found", ("Lesion", "Drawn", "Found", "Share found"), lesions)]
    if one.truth:
        head = ("Examinations", "Number", "Stroke Dice, mean", "FLAIR-visible Dice, mean", "Stroke missed")
        rows = tuple(_group_row(name, one.patients, one.truth, belongs) for name, belongs in _groups().items())
        tables.append(Table(f"{one.title}: by lesion and scan", head, tuple(row for row in rows if row[1] != "0")))
    return tables


def _groups() -> dict[str, Callable[[PatientResult, Truth], bool]]:
    """Parts of a simulated cohort with a lesion, by name."""

    def volume(low: float, high: float) -> Callable[[PatientResult, Truth], bool]:
        return lambda patient, _: low <= patient.true_ml[Channel.STROKE.label] < high

    def contrast(low: float, high: float) -> Callable[[PatientResult, Truth], bool]:
        return lambda _, truth: low <= _contrast(truth) < high

    def is_value(key: str, value: object) -> Callable[[PatientResult, Truth], bool]:
        return lambda _, truth: truth.get(key) == value

    return {
        f"lesion ≥ {LEAST_VOLUME_ML:g} mL and CNR ≥ {LEAST_CONTRAST:g}": lambda patient, truth: (
            volume(LEAST_VOLUME_ML, math.inf)(patient, truth) and contrast(LEAST_CONTRAST, math.inf)(patient, truth)
        ),
        "all with a lesion": lambda *_: True,
        "something of it FLAIR-visible": lambda patient, _: patient.true_ml[Channel.FLAIR_VISIBLE.label] > 0,
        "lesion under 1 mL": volume(0, 1),
        "lesion 1 to 5 mL": volume(1, 5),
        "lesion 5 to 20 mL": volume(5, 20),
        "lesion 20 to 70 mL": volume(20, 70),
        "lesion 70 mL or more": volume(70, math.inf),
        "CNR under 3": contrast(0, 3),
        "CNR 3 to 6": contrast(3, 6),
        "CNR 6 or more": contrast(6, math.inf),
        "1.5 T": is_value("field_strength_t", 1.5),
        "3 T": is_value("field_strength_t", 3.0),
        "skull-stripped": is_value("skull_stripped", value=True),
        "mismatch": is_value("dwi_flair_mismatch", value=True),
        "no mismatch": is_value("dwi_flair_mismatch", value=False),
    }


def _group_row(
    name: str,
    patients: Sequence[PatientResult],
    truths: Mapping[str, Truth],
    belongs: Callable[[PatientResult, Truth], bool],
) -> tuple[str, ...]:
    chosen = [patient for patient in patients if _searched(patient) and belongs(patient, truths[patient.participant])]
    missed = sum(_dice(patient, Channel.STROKE) == 0 for patient in chosen)
    dice = (mean_dice(chosen, channel) for channel in (Channel.STROKE, Channel.FLAIR_VISIBLE))
    return name, str(len(chosen)), *(with_interval(mean, 3) for mean in dice), str(missed)


def mean_dice(patients: Sequence[PatientResult], channel: Channel) -> Estimate:
    """Mean over the patients whose Dice is defined, with a bootstrap interval over persons."""
    known = [patient for patient in patients if not math.isnan(_dice(patient, channel))]
    if not known:
        return Estimate(math.nan, math.nan, math.nan)
    values = np.array([_dice(patient, channel) for patient in known])

    def mean(drawn: IntArray) -> dict[str, float]:
        return {"mean": float(values[drawn].mean())}

    persons = np.array([patient.person for patient in known])
    return bootstrap_intervals(persons, mean, samples=_SAMPLES, rng=np.random.default_rng(0))["mean"]


def _failures(evidence: Sequence[Evidence]) -> list[str]:
    """The worst strokes of every evaluation of more than one patient."""
    texts = []
    for one in evidence:
        drawn = [patient for patient in one.patients if _searched(patient)]
        worst = sorted(drawn, key=lambda patient: _dice(patient, Channel.STROKE))[:WORST]
        if len(drawn) > 1:
            # A card goes to others: folders are named only where they are the simulator's.
            names = [patient.participant if one.truth else str(place) for place, patient in enumerate(worst, start=1)]
            rows = tuple(
                (name, *_failure_row(patient, one.truth.get(patient.participant, {})))
                for name, patient in zip(names, worst, strict=True)
            )
            head = ("", "Stroke Dice", "Lesion, mL", "Marked, mL", "CNR", "FVV drawn, mL", "FVV, mL")
            texts.append(Table(f"{one.title}: the lowest stroke Dice", head, rows).markdown())
    return texts


def _failure_row(patient: PatientResult, truth: Truth) -> tuple[str, ...]:
    stroke, visible = Channel.STROKE.label, Channel.FLAIR_VISIBLE.label
    return (
        f"{_dice(patient, Channel.STROKE):.3f}",
        _ml(patient.true_ml[stroke]),
        _ml(patient.predicted_ml[stroke]),
        f"{_contrast(truth):.1f}" if truth else NOT_KNOWN,
        _ml(patient.true_ml[visible]),
        _ml(patient.fvv_ml),
    )


def _searched(patient: PatientResult) -> bool:
    """Whether there was a stroke to find, and the models were run."""
    return patient.segmented and patient.true_ml[Channel.STROKE.label] > 0


def _dice(patient: PatientResult, channel: Channel) -> float:
    return patient.metrics[channel.label]["dice_coefficient"]


def _contrast(truth: Truth) -> float:
    return float(truth.get("contrast_to_noise") or 0.0)


def _ml(volume: float | None) -> str:
    return "not measured" if volume is None else f"{volume:.2f}"


def _estimate(content: Mapping[str, float | None]) -> str:
    """An estimate as JSON holds it, null for what is not defined."""
    value, low, high = (math.nan if content[key] is None else content[key] for key in ("value", "low", "high"))
    return with_interval(Estimate(value, low, high), 3)  # type: ignore[arg-type]


def _rate(content: Mapping[str, Any]) -> str:
    return f"{_estimate(content)}, {content['successes']} of {content['trials']}"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
