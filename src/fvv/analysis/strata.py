"""Numbers of parts of the cohort: by lesion volume, FLAIR-visible share, site and fold."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from fvv.analysis import statistics
from fvv.analysis.answers import summarise_answers
from fvv.analysis.marker import MarkerData
from fvv.analysis.metrics import LesionCounts, Overlap
from fvv.analysis.patient import PatientResult
from fvv.analysis.shares import share_of
from fvv.data import Channel

VOLUME_EDGES_ML = (1.0, 5.0, 20.0, 70.0)
"""Bounds of the groups of lesion volume; 70 mL is the usual bound of a large core."""
VISIBLE_EDGES = (0.2, 0.8)
"""Bounds of the groups of visible share, as of the slice classes in training."""


def summarise_strata(
    patients: Sequence[PatientResult],
    data: MarkerData,
    *,
    samples: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Size, Dice, lesions found, AUC and rates of the answers of every stratum; a kind with one is left out.

    Args:
        patients: all of them.
        data: of the same patients.
        samples: bootstrap draws of persons, where someone was examined twice.
        rng: of the bootstrap.
    """
    volume_names = _names(VOLUME_EDGES_ML, "{:g}", " mL")
    visible_names = _names([100 * edge for edge in VISIBLE_EDGES], "{:g}", " %")
    of_patient = {
        "lesion volume": [
            "no lesion" if volume == 0 else volume_names[bisect_right(VOLUME_EDGES_ML, volume)]
            for volume in (patient.true_ml[Channel.STROKE.label] for patient in patients)
        ],
        "FLAIR-visible share": [
            "no lesion" if math.isnan(share) else visible_names[bisect_right(VISIBLE_EDGES, share)]
            for share in (patient.true_visible_fraction for patient in patients)
        ],
        "site": [patient.site or "unknown" for patient in patients],
        "fold": ["ensemble" if patient.fold is None else str(patient.fold) for patient in patients],
    }
    orders = {"lesion volume": ["no lesion", *volume_names], "FLAIR-visible share": ["no lesion", *visible_names]}
    rows = []
    for kind, values in of_patient.items():
        present = set(values)
        if len(present) < 2:
            continue
        ordered = orders.get(kind) or sorted(present, key=lambda text: (len(text), text))
        for value in (name for name in ordered if name in present):
            chosen = [patient for patient, mine in zip(patients, values, strict=True) if mine == value]
            inside = np.array([values[index] == value for index in data.used], dtype=bool)
            labels = tuple(label for label, mine in zip(data.labels, values, strict=True) if mine == value)
            part = replace(data.of(inside), labels=labels)
            rows.append({"stratum": kind, "value": value, **_numbers(chosen, part, samples=samples, rng=rng)})
    return rows


def _numbers(
    chosen: Sequence[PatientResult], data: MarkerData, *, samples: int, rng: np.random.Generator
) -> dict[str, Any]:
    rates = summarise_answers(chosen, data, samples=samples, rng=rng)["rates"]
    pooled = {channel: pooled_overlap(chosen, channel) for channel in Channel}
    return {
        "patients": len(chosen),
        **{f"{channel.label}_dice_pooled": pooled[channel].dice_coefficient for channel in Channel},
        "stroke_lesion_f1": pooled_lesions(chosen, Channel.STROKE).f1,
        "mismatch": int(data.mismatch.sum()),
        "no_mismatch": int((~data.mismatch).sum()),
        "auc": statistics.auc_interval(data.fvv_ml, data.mismatch, data.persons, samples=samples, rng=rng),
        "sensitivity": rates["sensitivity"],
        "specificity": rates["specificity"],
    }


def lesions_by_size(
    patients: Sequence[PatientResult], channel: Channel, *, samples: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Drawn lesions found and missed, by their volume, and the share that was found.

    Lesions of one person are not independent of each other: where a person has two, the interval is over persons.

    Args:
        patients: all of them.
        channel: stroke or FLAIR-visible.
        samples: bootstrap draws of persons.
        rng: of the bootstrap.
    """
    names = _names(VOLUME_EDGES_ML, "{:g}", " mL")
    lesions = [
        (bisect_right(VOLUME_EDGES_ML, volume), touched, patient.person)
        for patient in patients
        for volume, touched in patient.lesions[channel.label]
    ]
    # Without interval where all are one person's, however often examined: they say nothing of other people.
    one_person = len({patient.person for patient in patients}) < 2
    rows = []
    for place, name in enumerate(names):
        inside = [(touched, person) for where, touched, person in lesions if where == place]
        found = np.array([touched for touched, _ in inside], dtype=bool)
        share = share_of(found, np.array([person for _, person in inside]), samples=samples, rng=rng)
        rows.append(
            {
                "size": name,
                "drawn": share.trials,
                "found": share.successes,
                "missed": share.trials - share.successes,
                "share_found": replace(share, low=math.nan, high=math.nan) if one_person else share,
            }
        )
    return rows


def pooled_overlap(patients: Iterable[PatientResult], channel: Channel) -> Overlap:
    """Overlap of all patients together, mL; of those on whom the models were run."""
    parts = ("true_positive_ml", "false_positive_ml", "false_negative_ml", "true_negative_ml")
    overlaps = (
        Overlap(*(patient.metrics[channel.label][part] for part in parts)) for patient in patients if patient.segmented
    )
    return sum(overlaps, Overlap(0, 0, 0, 0))


def pooled_lesions(patients: Iterable[PatientResult], channel: Channel) -> LesionCounts:
    """Lesions of all patients together; of those on whom the models were run."""
    parts = ("lesions_detected", "lesions_missed", "lesion_false_alarms")
    counts = (
        LesionCounts(*(int(patient.metrics[channel.label][part]) for part in parts))
        for patient in patients
        if patient.segmented
    )
    return sum(counts, LesionCounts(0, 0, 0))


def _names(edges: Sequence[float], number: str, unit: str) -> list[str]:
    texts = [number.format(edge) for edge in edges]
    between = [f"{low} to {high}{unit}" for low, high in pairwise(texts)]
    return [f"under {texts[0]}{unit}", *between, f"{texts[-1]}{unit} or more"]
