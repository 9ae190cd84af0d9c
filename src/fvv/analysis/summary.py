"""From the results of single patients to the numbers of a cohort."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fvv.analysis import statistics
from fvv.analysis.agreement import Agreement, agreement_over_persons, ratio_agreement
from fvv.analysis.answers import summarise_answers
from fvv.analysis.marker import MarkerData, summarise_marker, summarise_single_models
from fvv.analysis.metrics import Emptiness, Overlap
from fvv.analysis.patient import PatientResult
from fvv.analysis.shares import Share
from fvv.analysis.statistics import Estimate
from fvv.analysis.strata import lesions_by_size, pooled_lesions, pooled_overlap, summarise_strata
from fvv.arrays import FloatArray, IntArray
from fvv.config import EvaluateConfig
from fvv.data import Channel

SPREAD_METRICS = (
    "dice_coefficient",
    "intersection_over_union",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "volume_error_ml",
    "volume_error_percent",
    "hausdorff_distance_95_mm",
    "average_surface_distance_mm",
    "lesion_f1",
)
"""Metrics of one patient that are averaged over patients."""
HEADLINE_RATES = ("sensitivity", "specificity", "stroke_free_called_stroke")
"""Rates of the answers that people ask for first."""


def summarise_cohort(patients: Sequence[PatientResult], data: MarkerData, config: EvaluateConfig) -> dict[str, Any]:
    """Everything that is said of the cohort.

    Args:
        patients: at least one.
        data: of the same patients.
        config: cut-off, bootstrap.

    Returns:
        answers, segmentation, lesions_by_size, marker, volumes, volume_ratios, single_models, decisions, strata: nested
        dictionaries with `Estimate`, `Share` and `Agreement` values.
    """
    # One generator for each, so that no number depends on which others are computed.
    generators = np.random.default_rng(config.seed).spawn(7)
    segmentation_rng, marker_rng, single_rng, answers_rng, lesions_rng, volumes_rng, strata_rng = generators
    samples, cutoff_ml = config.bootstrap_samples, config.decision.cutoff_ml
    return {
        "answers": summarise_answers(patients, data, samples=samples, rng=answers_rng),
        "segmentation": summarise_segmentation(patients, samples=samples, rng=segmentation_rng),
        "lesions_by_size": {
            channel.label: lesions_by_size(patients, channel, samples=samples, rng=lesions_rng)
            for channel in (Channel.STROKE, Channel.FLAIR_VISIBLE)
        },
        "marker": summarise_marker(data, config, marker_rng),
        "volumes": summarise_volumes(patients, samples=samples, rng=volumes_rng),
        "volume_ratios": summarise_ratios(
            patients, config.pseudo_volume_ml, cutoff_ml, samples=samples, rng=volumes_rng
        ),
        "single_models": summarise_single_models(patients, data, config, single_rng),
        "decisions": dict(sorted(Counter(patient.decision for patient in patients).items())),
        "strata": summarise_strata(patients, data, samples=samples, rng=strata_rng),
    }


def summarise_segmentation(
    patients: Sequence[PatientResult], *, samples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Per channel: pooled ratios, averages over patients, empty cases and lesions, Dice with bootstrap intervals.

    Patients on whom the models were not run are counted among the empty cases, and in nothing else.
    """
    segmented = [patient for patient in patients if patient.segmented]

    def table(name: str) -> FloatArray:
        rows = [[_of(patient, channel, name) for channel in Channel] for patient in segmented]
        return np.array(rows, dtype=float).reshape(-1, len(Channel))

    dice, common = table("dice_coefficient"), table("true_positive_ml")
    errors = table("false_positive_ml") + table("false_negative_ml")

    def dice_of(drawn: IntArray) -> dict[str, float]:
        overlap, wrong = 2 * common[drawn].sum(axis=0), errors[drawn].sum(axis=0)
        numbers = {}
        for place, channel in enumerate(Channel):
            total = overlap[place] + wrong[place]
            numbers[f"{channel.label}_dice_pooled"] = float(overlap[place] / total) if total else math.nan
            numbers[f"{channel.label}_dice_mean"] = _mean(dice[drawn, place])
        return numbers

    persons = np.array([patient.person for patient in segmented])
    intervals = statistics.bootstrap_intervals(persons, dice_of, samples=samples, rng=rng)
    summary = {}
    for channel in Channel:
        overlaps = [pooled_overlap([patient], channel) for patient in segmented]
        lesions = pooled_lesions(segmented, channel)
        emptiness = Counter(overlap.emptiness.value for overlap in overlaps)
        if len(segmented) < len(patients):
            emptiness[Emptiness.UNKNOWN.value] = len(patients) - len(segmented)
        summary[channel.label] = {
            "dice_pooled": intervals[f"{channel.label}_dice_pooled"],
            "dice_mean": intervals[f"{channel.label}_dice_mean"],
            "pooled": sum(overlaps, Overlap(0, 0, 0, 0)).ratios(),
            "per_patient": {
                name: _spread([_of(patient, channel, name) for patient in segmented]) for name in SPREAD_METRICS
            },
            "empty_cases": dict(emptiness),
            "lesions": {**asdict(lesions), "f1": lesions.f1},
        }
    return summary


def summarise_volumes(
    patients: Sequence[PatientResult], *, samples: int, rng: np.random.Generator
) -> dict[str, Agreement]:
    """Agreement of predicted with drawn volume, of the patients that were measured."""
    return {
        channel.label: agreement_over_persons(
            *measured_volumes(patients, channel), _measured_persons(patients), samples=samples, rng=rng
        )
        for channel in Channel
    }


def summarise_ratios(
    patients: Sequence[PatientResult],
    pseudo_volume_ml: float,
    cutoff_ml: float,
    *,
    samples: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The same on the log scale, of stroke and FLAIR-visible; `at_cutoff_ml`: drawn FVVs that go with the cut-off."""
    ratios = {
        channel.label: ratio_agreement(
            *measured_volumes(patients, channel),
            pseudo_volume_ml,
            _measured_persons(patients),
            samples=samples,
            rng=rng,
        )
        for channel in (Channel.STROKE, Channel.FLAIR_VISIBLE)
    }
    return {**ratios, "at_cutoff_ml": ratios[Channel.FLAIR_VISIBLE.label].reference_range_ml(cutoff_ml)}


def measured_volumes(patients: Sequence[PatientResult], channel: Channel) -> tuple[FloatArray, FloatArray]:
    """Drawn and predicted volumes of a channel in mL, of the patients that were measured."""
    measured = [patient for patient in patients if patient.fvv_ml is not None]
    drawn = np.array([patient.true_ml[channel.label] for patient in measured], dtype=float)
    return drawn, np.array([patient.predicted_ml[channel.label] for patient in measured], dtype=float)


def _measured_persons(patients: Sequence[PatientResult]) -> np.ndarray:
    return np.array([patient.person for patient in patients if patient.fvv_ml is not None])


def headline(summary: Mapping[str, Any]) -> dict[str, float]:
    """The few numbers that people ask for first; NaN where undefined."""
    numbers: dict[str, float] = {}
    for name in HEADLINE_RATES:
        rate: Share = summary["answers"]["rates"][name]
        numbers |= {f"answers_{name}": rate.value, f"answers_{name}_low": rate.low, f"answers_{name}_high": rate.high}
    for channel in Channel:
        of_channel = summary["segmentation"][channel.label]
        numbers[f"{channel.label}_dice_pooled"] = of_channel["dice_pooled"].value
        numbers[f"{channel.label}_dice_mean"] = of_channel["dice_mean"].value
    numbers["fvv_spearman"] = summary["volumes"][Channel.FLAIR_VISIBLE.label].rank.value
    marker = summary["marker"]
    area: Estimate = marker["auc"]
    numbers |= {"auc": area.value, "auc_low": area.low, "auc_high": area.high}
    point = marker["operating_points"].get("cut-off", {})
    for name in ("kappa", "sensitivity", "specificity"):
        numbers[name] = point[name].value if point else math.nan
    return numbers


def _of(patient: PatientResult, channel: Channel, name: str) -> float:
    return patient.metrics[channel.label][name]


def _mean(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation, median and quartiles of the patients for whom the metric is defined, and how many."""
    defined = np.array([value for value in values if not math.isnan(value)])
    if not defined.size:
        return {"defined": 0, **dict.fromkeys(("mean", "sd", "median", "lower_quartile", "upper_quartile"), math.nan)}
    low, median, high = (float(value) for value in np.percentile(defined, [25, 50, 75]))
    return {
        "defined": defined.size,
        "mean": float(defined.mean()),
        "sd": float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        "median": median,
        "lower_quartile": low,
        "upper_quartile": high,
    }
