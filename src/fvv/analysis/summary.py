"""From the results of single patients to the numbers of a cohort."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fvv.analysis import statistics
from fvv.analysis.metrics import LesionCounts, Overlap
from fvv.analysis.patient import PatientResult
from fvv.analysis.statistics import Estimate, OperatingPoint
from fvv.arrays import BoolArray, FloatArray, IntArray
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


@dataclass(frozen=True, slots=True)
class MarkerData:
    """The patients on whom the marker can be judged, and why the others are not among them.

    Attributes:
        label_source: where the mismatch label comes from, in words.
        labels: label of every patient in order, None where there is none.
        used: (n,) indices of the patients with a label and a measured FVV.
        fvv_ml: (n,) predicted FVV of these.
        mismatch: (n,) their labels.
        persons: (n,) the persons.
        excluded: reason to number of patients left out.
    """

    label_source: str
    labels: tuple[bool | None, ...]
    used: IntArray
    fvv_ml: FloatArray
    mismatch: BoolArray
    persons: np.ndarray
    excluded: dict[str, int]


def marker_data(patients: Sequence[PatientResult], visible_fraction: float) -> MarkerData:
    """Choose the label for the cohort and find the patients that have it.

    The readers' labels are used if there are any; otherwise a mismatch is a lesion of which less than
    `visible_fraction` is drawn as FLAIR-visible. Without a lesion there is nothing to be mismatched: no label.
    """
    by_readers = any(patient.reader_mismatch is not None for patient in patients)
    labels: list[bool | None] = []
    excluded: Counter[str] = Counter({"no lesion drawn": 0, "no label": 0, "could not be measured": 0})
    used: list[int] = []
    for index, patient in enumerate(patients):
        label = patient.reader_mismatch
        if math.isnan(patient.true_visible_fraction):
            label = None
            excluded["no lesion drawn"] += 1
        elif not by_readers:
            label = patient.true_visible_fraction < visible_fraction
        elif label is None:
            excluded["no label"] += 1
        labels.append(label)
        if label is not None and patient.fvv_ml is None:
            excluded["could not be measured"] += 1
        elif label is not None:
            used.append(index)
    source = f"mismatch where less than {100 * visible_fraction:g} % of the drawn lesion is FLAIR-visible"
    return MarkerData(
        label_source="the readers' label (dwi_flair_mismatch)" if by_readers else source,
        labels=tuple(labels),
        used=np.array(used, dtype=int),
        fvv_ml=np.array([patients[index].fvv_ml for index in used], dtype=float),
        mismatch=np.array([labels[index] for index in used], dtype=bool),
        persons=np.array([patients[index].person for index in used]),
        excluded=dict(excluded),
    )


def summarise_cohort(
    patients: Sequence[PatientResult], data: MarkerData, cutoff_ml: float, *, samples: int, seed: int
) -> dict[str, Any]:
    """Everything that is said of the cohort.

    Args:
        patients: at least one.
        data: of the same patients.
        cutoff_ml: FVV under which a mismatch is predicted.
        samples: bootstrap draws.
        seed: of the bootstrap.

    Returns:
        segmentation, marker, volumes, decisions, strata: nested dictionaries with `Estimate` and `Agreement` values.
    """
    segmentation_rng, marker_rng = np.random.default_rng(seed).spawn(2)
    return {
        "segmentation": summarise_segmentation(patients, samples=samples, rng=segmentation_rng),
        "marker": summarise_marker(data, cutoff_ml, samples=samples, rng=marker_rng),
        "volumes": summarise_volumes(patients),
        "decisions": dict(sorted(Counter(patient.decision for patient in patients).items())),
        "strata": summarise_strata(patients, data),
    }


def summarise_segmentation(
    patients: Sequence[PatientResult], *, samples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Per channel: pooled ratios, averages over patients, empty cases and lesions, Dice with bootstrap intervals."""

    def table(name: str) -> FloatArray:
        return np.array([[_of(patient, channel, name) for channel in Channel] for patient in patients])

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

    persons = np.array([patient.person for patient in patients])
    intervals = statistics.bootstrap_intervals(persons, dice_of, samples=samples, rng=rng)
    summary = {}
    for channel in Channel:
        overlaps = [_overlap(patient, channel) for patient in patients]
        lesions = sum((_lesions(patient, channel) for patient in patients), LesionCounts(0, 0, 0))
        summary[channel.label] = {
            "dice_pooled": intervals[f"{channel.label}_dice_pooled"],
            "dice_mean": intervals[f"{channel.label}_dice_mean"],
            "pooled": sum(overlaps, Overlap(0, 0, 0, 0)).ratios(),
            "per_patient": {
                name: _spread([_of(patient, channel, name) for patient in patients]) for name in SPREAD_METRICS
            },
            "empty_cases": dict(Counter(overlap.emptiness.value for overlap in overlaps)),
            "lesions": {**asdict(lesions), "f1": lesions.f1},
        }
    return summary


def summarise_marker(data: MarkerData, cutoff_ml: float, *, samples: int, rng: np.random.Generator) -> dict[str, Any]:
    """AUC, and what the cut-off and Youden's achieve; all empty where one class is missing."""
    fvv_ml, mismatch = data.fvv_ml, data.mismatch
    summary: dict[str, Any] = {
        "label": data.label_source,
        "cutoff_ml": cutoff_ml,
        "mismatch": int(mismatch.sum()),
        "no_mismatch": int((~mismatch).sum()),
        "excluded": data.excluded,
        "auc": statistics.delong_interval(fvv_ml, mismatch),
        "auc_bootstrap": statistics.NOT_DEFINED,
        "operating_points": {},
    }
    if not 0 < mismatch.sum() < mismatch.size:
        return summary
    cutoffs = {"cut-off": cutoff_ml, "Youden": statistics.youden_cutoff(fvv_ml, mismatch)}

    def numbers(drawn: IntArray) -> dict[str, float]:
        kappas = {
            name: statistics.operating_point(fvv_ml[drawn], mismatch[drawn], cutoff).kappa
            for name, cutoff in cutoffs.items()
        }
        return {"auc": statistics.auc(fvv_ml[drawn], mismatch[drawn]), **kappas}

    intervals = statistics.bootstrap_intervals(data.persons, numbers, samples=samples, rng=rng)
    summary["auc_bootstrap"] = intervals["auc"]
    for name, cutoff in cutoffs.items():
        point = statistics.operating_point(fvv_ml, mismatch, cutoff)
        summary["operating_points"][name] = {**_point(point), "kappa": intervals[name]}
    return summary


def summarise_volumes(patients: Sequence[PatientResult]) -> dict[str, Any]:
    """Agreement of predicted with drawn volume, of the patients that were measured."""
    return {channel.label: statistics.bland_altman(*measured_volumes(patients, channel)) for channel in Channel}


def measured_volumes(patients: Sequence[PatientResult], channel: Channel) -> tuple[FloatArray, FloatArray]:
    """Drawn and predicted volumes of a channel in mL, of the patients that were measured."""
    pairs = [(patient.true_ml[channel.label], patient.predicted_ml[channel.label]) for patient in patients]
    measured = [(drawn, predicted) for drawn, predicted in pairs if predicted is not None]
    return np.array([drawn for drawn, _ in measured]), np.array([predicted for _, predicted in measured])


def summarise_strata(patients: Sequence[PatientResult], data: MarkerData) -> list[dict[str, Any]]:
    """Size, Dice and AUC of every fold and every site."""
    rows = []
    values = {"fold": [str(patient.fold) for patient in patients], "site": [patient.site for patient in patients]}
    for kind, of_patient in values.items():
        if len(set(of_patient)) < 2:
            continue
        for value in sorted(set(of_patient), key=lambda text: (len(text), text)):
            chosen = [patient for patient, mine in zip(patients, of_patient, strict=True) if mine == value]
            inside = np.array([of_patient[index] == value for index in data.used], dtype=bool)
            pooled = {
                channel: sum((_overlap(patient, channel) for patient in chosen), Overlap(0, 0, 0, 0))
                for channel in Channel
            }
            rows.append(
                {
                    "stratum": kind,
                    "value": value or "unknown",
                    "patients": len(chosen),
                    **{f"{channel.label}_dice_pooled": pooled[channel].dice_coefficient for channel in Channel},
                    "mismatch": int(data.mismatch[inside].sum()),
                    "no_mismatch": int((~data.mismatch[inside]).sum()),
                    "auc": statistics.auc(data.fvv_ml[inside], data.mismatch[inside]),
                }
            )
    return rows


def headline(summary: Mapping[str, Any]) -> dict[str, float]:
    """The few numbers that people ask for first; NaN where undefined."""
    numbers: dict[str, float] = {}
    for channel in Channel:
        of_channel = summary["segmentation"][channel.label]
        numbers[f"{channel.label}_dice_pooled"] = of_channel["dice_pooled"].value
        numbers[f"{channel.label}_dice_mean"] = of_channel["dice_mean"].value
    marker = summary["marker"]
    area: Estimate = marker["auc"]
    numbers |= {"auc": area.value, "auc_low": area.low, "auc_high": area.high}
    point = marker["operating_points"].get("cut-off", {})
    for name in ("kappa", "sensitivity", "specificity"):
        numbers[name] = point[name].value if point else math.nan
    return numbers


def _point(point: OperatingPoint) -> dict[str, Any]:
    shares = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value", "accuracy")
    return {**asdict(point), **{name: getattr(point, name) for name in shares}}


def _of(patient: PatientResult, channel: Channel, name: str) -> float:
    return patient.metrics[channel.label][name]


def _overlap(patient: PatientResult, channel: Channel) -> Overlap:
    parts = ("true_positive_ml", "false_positive_ml", "false_negative_ml", "true_negative_ml")
    return Overlap(*(_of(patient, channel, part) for part in parts))


def _lesions(patient: PatientResult, channel: Channel) -> LesionCounts:
    return LesionCounts(
        *(int(_of(patient, channel, part)) for part in ("lesions_detected", "lesions_missed", "lesion_false_alarms"))
    )


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
