"""From the results of single examinations to the numbers of a cohort."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from fvv.analysis.agreement import bland_altman, ratio_agreement, reference_range_ml
from fvv.analysis.baselines import summarise_baselines
from fvv.analysis.marker import MarkerData, summarise_marker
from fvv.analysis.metrics import lesion_f1
from fvv.analysis.statistics import Bootstrap
from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.cohort.labels import VISIBLE_EDGES
from fvv.config import EvaluateConfig
from fvv.data import Channel, DecisionState
from fvv.imaging.overlap import Emptiness, Overlap
from fvv.schemas.patient import ChannelResult, PatientResult
from fvv.schemas.summary import (
    Answers,
    ChannelSummary,
    CohortKind,
    Estimate,
    Findings,
    LesionsOfSize,
    Rates,
    Share,
    Spread,
    Stratum,
    StrokeFree,
)
from fvv.schemas.values import ByChannel, Number

SPREAD_METRICS = {
    "dice_coefficient": "Dice",
    "intersection_over_union": "IoU",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "volume_error_ml": "volume error (mL)",
    "volume_error_percent": "volume error (%)",
    "hausdorff_distance_95_mm": "Hausdorff distance, 95th percentile (mm)",
    "average_surface_distance_mm": "average surface distance (mm)",
    "lesion_f1": "lesion-wise F1",
}
"""Metrics of one examination that are averaged over examinations, with their names for people."""
VOLUME_EDGES_ML = (1.0, 5.0, 20.0, 70.0)
"""Bounds of the groups of lesion volume; 70 mL is the usual bound of a large core."""
FALSE_LIMIT_ML = 0.5
"""Stroke (mL) in a stroke-free head above which a false positive is large: the published cut-off of the FVV."""
REFERENCES = ("mismatch", "no mismatch", "lesion without label", "no lesion")
"""Kinds of examination, by the reference."""
NOT_OUTLINED = "not outlined"
"""Volume or FLAIR-visible share of a lesion where nobody outlined it."""
_LESION_CHANNELS = (Channel.STROKE, Channel.FLAIR_VISIBLE)


def _group_names(edges: Iterable[float], unit: str) -> list[str]:
    texts = [f"{edge:g}" for edge in edges]
    between = [f"{low} to {high}{unit}" for low, high in pairwise(texts)]
    return [f"under {texts[0]}{unit}", *between, f"{texts[-1]}{unit} or more"]


VOLUME_NAMES = _group_names(VOLUME_EDGES_ML, " mL")
_VISIBLE_NAMES = _group_names((100 * edge for edge in VISIBLE_EDGES), " %")


def summarise_cohort(
    patients: Sequence[PatientResult], data: MarkerData, config: EvaluateConfig, cohort: CohortKind = "unknown"
) -> Findings:
    """Everything that is computed of the cohort.

    Args:
        patients: at least one.
    """
    bootstrap = Bootstrap(config.bootstrap_samples, np.random.default_rng(config.seed))
    on_dice, on_marker, on_answers, on_lesions, on_volumes, on_strata, on_stroke_free, on_baselines = bootstrap.spawn(8)
    persons = {channel: np.array([one.person_id for one in measured(patients, channel)]) for channel in Channel}
    volumes = {channel: volumes_of(patients, channel) for channel in Channel}
    agreements = {channel: bland_altman(*volumes[channel], persons[channel], on_volumes) for channel in Channel}
    ratios = {
        channel: ratio_agreement(*volumes[channel], config.pseudo_volume_ml, persons[channel], on_volumes)
        for channel in _LESION_CHANNELS
    }
    dice = _dice_intervals(patients, on_dice)
    channels = {}
    for channel in Channel:
        compared = [patient.of(channel) for patient in patients if patient.of(channel).compared]
        overlap = pooled_overlap(patients, channel)
        empty = Counter(pooled_overlap([one], channel).emptiness.value for one in patients if one.of(channel).compared)
        unknown = [patient for patient in patients if not patient.of(channel).compared]
        # Unary plus: kinds without an examination are left out.
        empty[Emptiness.UNKNOWN.value] = sum(not patient.segmented for patient in unknown)
        empty[Emptiness.NO_REFERENCE.value] = sum(patient.segmented for patient in unknown)
        detected, missed, false_positive = _lesion_counts(compared)
        channels[channel.label] = ChannelSummary(
            dice_pooled=dice[f"{channel.label}_pooled"],
            dice_mean=dice[f"{channel.label}_mean"],
            pooled=overlap.ratios(),
            per_patient={name: _spread([getattr(one, name) for one in compared]) for name in SPREAD_METRICS},
            empty_cases=dict(+empty),
            lesions_detected=detected,
            lesions_missed=missed,
            lesions_false_positive=false_positive,
            lesion_f1=lesion_f1(detected, missed, false_positive),
            lesions_by_size=lesions_by_size(patients, channel, on_lesions),
            volume=agreements[channel],
            volume_ratio=ratios.get(channel),
        )
    return Findings(
        **channels,
        answers=summarise_answers(patients, data, on_answers),
        marker=summarise_marker(data, config, on_marker, cohort),
        baselines=summarise_baselines(patients, data, size_groups(patients), VOLUME_NAMES, on_baselines),
        reference_at_cutoff_ml=reference_range_ml(ratios[Channel.FLAIR_VISIBLE], config.decision.cutoff_ml),
        strata=summarise_strata(patients, data, on_strata),
        stroke_free=summarise_stroke_free(patients, on_stroke_free),
        own_metrics={name: _spread([one.own_metrics[name] for one in patients]) for name in patients[0].own_metrics},
    )


def summarise_stroke_free(patients: Iterable[PatientResult], bootstrap: Bootstrap) -> StrokeFree:
    """What is found in examinations without a stroke, where all of it is false."""
    chosen = [patient for patient in patients if patient.stroke_free]
    assessed = [patient for patient in chosen if patient.decision is not DecisionState.NOT_ASSESSABLE]
    clean = np.array([patient.decision is DecisionState.NO_LESION_FOUND for patient in assessed], dtype=bool)
    false_ml = [patient.stroke.predicted_volume_ml for patient in assessed]
    return StrokeFree(
        examinations=len(chosen),
        persons=len({patient.person_id for patient in chosen}),
        no_lesion_found=bootstrap.share(clean, np.array([patient.person_id for patient in assessed])),
        false_ml=_spread(false_ml),
        largest_false_ml=max(false_ml, default=math.nan),
        over_false_limit=sum(volume > FALSE_LIMIT_ML for volume in false_ml),
    )


def measured(patients: Iterable[PatientResult], channel: Channel) -> list[PatientResult]:
    """Examinations with both a reference and a predicted volume of a channel."""
    return [patient for patient in patients if not math.isnan(patient.of(channel).volume_error_ml)]


def volumes_of(patients: Iterable[PatientResult], channel: Channel) -> tuple[FloatArray, FloatArray]:
    """Reference and predicted volumes of a channel in mL, of the examinations that have both."""
    results = [patient.of(channel) for patient in measured(patients, channel)]
    reference = np.array([one.reference_volume_ml for one in results], dtype=float)
    return reference, np.array([one.predicted_volume_ml for one in results], dtype=float)


def pooled_overlap(patients: Iterable[PatientResult], channel: Channel) -> Overlap:
    """Overlap of all examinations together, mL; of those with a predicted and a reference mask."""
    parts = ("true_positive_ml", "false_positive_ml", "false_negative_ml", "true_negative_ml")
    compared = [one for patient in patients if (one := patient.of(channel)).compared]
    return Overlap(*(sum(getattr(one, part) for one in compared) for part in parts))


def _lesion_counts(compared: Sequence[ChannelResult]) -> tuple[int, int, int]:
    names = ("lesions_detected", "lesions_missed", "lesions_false_positive")
    detected, missed, false_positive = (int(sum(getattr(one, name) for one in compared)) for name in names)
    return detected, missed, false_positive


def _dice_intervals(patients: Sequence[PatientResult], bootstrap: Bootstrap) -> dict[str, Estimate]:
    segmented = [patient for patient in patients if patient.segmented]

    def table(name: str) -> FloatArray:
        rows = [[getattr(patient.of(channel), name) for channel in Channel] for patient in segmented]
        return np.array(rows, dtype=float).reshape(-1, len(Channel))

    dice, common = table("dice_coefficient"), table("true_positive_ml")
    errors = table("false_positive_ml") + table("false_negative_ml")

    def numbers(drawn: IntArray) -> dict[str, float]:
        # NaN: nobody outlined that channel.
        overlap, wrong = 2 * np.nansum(common[drawn], axis=0), np.nansum(errors[drawn], axis=0)
        found = {}
        for place, channel in enumerate(Channel):
            total, values = overlap[place] + wrong[place], dice[drawn, place]
            defined = values[~np.isnan(values)]
            found[f"{channel.label}_pooled"] = float(overlap[place] / total) if total else math.nan
            found[f"{channel.label}_mean"] = float(defined.mean()) if defined.size else math.nan
        return found

    persons = np.array([patient.person_id for patient in segmented])
    return bootstrap.intervals(persons, numbers)


def _spread(values: Sequence[float]) -> Spread:
    """Over the examinations for which the metric is defined."""
    defined = np.array([value for value in values if not math.isnan(value)])
    low, median, high = np.percentile(defined, [25, 50, 75]) if defined.size else [math.nan] * 3
    return Spread(
        defined=defined.size,
        mean=float(defined.mean()) if defined.size else math.nan,
        sd=float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        median=median,
        lower_quartile=low,
        upper_quartile=high,
    )


def summarise_answers(patients: Sequence[PatientResult], data: MarkerData, bootstrap: Bootstrap) -> Answers:
    """The four answers, as `predict` gives them, for every kind of examination, and their rates.

    The FVV of a missed stroke is 0 mL, which is under any cut-off; its answer is "no lesion found", which is no
    mismatch found. Rates of the volume (`fvv.analysis.marker`) and rates of the answers are therefore two things.
    """
    kind_of = {True: "mismatch", False: "no mismatch", None: "lesion without label"}
    kinds = np.array(
        [
            "no lesion" if patient.stroke_free else kind_of[label]
            for patient, label in zip(patients, data.labels, strict=True)
        ]
    )
    states = np.array([patient.decision.value for patient in patients])
    counts = Counter(zip(kinds.tolist(), states.tolist(), strict=True))
    table = {kind: {state.value: counts[kind, state.value] for state in DecisionState} for kind in REFERENCES}
    if not any(table["lesion without label"].values()):
        del table["lesion without label"]

    assessed = states != DecisionState.NOT_ASSESSABLE.value
    likely = states == DecisionState.MISMATCH_LIKELY.value
    called = likely | (states == DecisionState.MISMATCH_UNLIKELY.value)
    touches = np.array([patient.stroke.lesions_detected > 0 for patient in patients], dtype=bool)
    outlined = np.array([not math.isnan(patient.stroke.reference_volume_ml) for patient in patients], dtype=bool)
    mismatch, other, unlabelled, none = (kinds == kind for kind in REFERENCES)
    rates: dict[str, tuple[BoolArray, BoolArray]] = {
        "sensitivity": (likely, mismatch & assessed),
        "sensitivity_right_lesion": (likely & touches, mismatch & assessed & outlined),
        "specificity": (~likely, other & assessed),
        "positive_predictive_value": (mismatch, likely & ~unlabelled),
        "stroke_missed": (~called, ~none & assessed),
        "stroke_free_called_stroke": (called, none & assessed),
        "stroke_free_called_mismatch": (likely, none & assessed),
        "not_assessable": (~assessed, np.ones_like(assessed)),
    }
    persons = np.array([patient.person_id for patient in patients])
    shares: dict[str, Share] = {
        name: bootstrap.share(success[among], persons[among]) for name, (success, among) in rates.items()
    }
    return Answers(table=table, rates=Rates(**shares))


def lesions_by_size(
    patients: Sequence[PatientResult], channel: Channel, bootstrap: Bootstrap
) -> tuple[LesionsOfSize, ...]:
    """Reference lesions found, by their volume; none of the brain.

    Lesions of one person are not independent of each other: where a person has two, the interval is over persons.
    """
    if channel not in _LESION_CHANNELS:
        return ()
    lesions = [
        (bisect_right(VOLUME_EDGES_ML, volume), touched, patient.person_id)
        for patient in patients
        for volume, touched in patient.of(channel).lesions
    ]
    # Without interval where all are one person's, however often examined: they say nothing of other people.
    one_person = {"low": math.nan, "high": math.nan} if len({patient.person_id for patient in patients}) < 2 else {}
    rows = []
    for place, name in enumerate(VOLUME_NAMES):
        inside = [(touched, person) for where, touched, person in lesions if where == place]
        found = np.array([touched for touched, _ in inside], dtype=bool)
        share = bootstrap.share(found, np.array([person for _, person in inside]))
        rows.append(LesionsOfSize(size=name, found=share.model_copy(update=one_person)))
    return tuple(rows)


def size_groups(patients: Iterable[PatientResult]) -> list[str]:
    """The group of lesion volume of each examination, by the reference."""
    strokes_ml = [patient.stroke.reference_volume_ml for patient in patients]
    return [
        NOT_OUTLINED
        if math.isnan(volume)
        else VOLUME_NAMES[bisect_right(VOLUME_EDGES_ML, volume)]
        if volume
        else "no lesion"
        for volume in strokes_ml
    ]


def summarise_strata(patients: Sequence[PatientResult], data: MarkerData, bootstrap: Bootstrap) -> tuple[Stratum, ...]:
    """Numbers of parts of the cohort; a kind of stratum with one value is left out."""
    shares = [patient.visible_fraction for patient in patients]
    values_of = {
        "lesion volume": size_groups(patients),
        "FLAIR-visible share": [
            NOT_OUTLINED
            if share is None
            else "no lesion"
            if math.isnan(share)
            else _VISIBLE_NAMES[bisect_right(VISIBLE_EDGES, share)]
            for share in shares
        ],
        "site": [patient.site or "unknown" for patient in patients],
        "fold": ["ensemble" if patient.fold is None else str(patient.fold) for patient in patients],
    }
    orders = {
        "lesion volume": [NOT_OUTLINED, "no lesion", *VOLUME_NAMES],
        "FLAIR-visible share": [NOT_OUTLINED, "no lesion", *_VISIBLE_NAMES],
    }
    rows = []
    for kind, values in values_of.items():
        present = set(values)
        if len(present) < 2:
            continue
        for value in orders.get(kind) or sorted(present, key=lambda text: (len(text), text)):
            if value not in present:
                continue
            inside = np.array([one == value for one in values])
            chosen = [patient for patient, mine in zip(patients, inside, strict=True) if mine]
            part = data.of(inside)
            rates = summarise_answers(chosen, part, bootstrap).rates
            rows.append(
                Stratum(
                    stratum=kind,
                    value=value,
                    patients=len(chosen),
                    dice_pooled=ByChannel[Number](
                        **{channel.label: pooled_overlap(chosen, channel).dice_coefficient for channel in Channel}
                    ),
                    stroke_lesion_f1=lesion_f1(
                        *_lesion_counts([patient.stroke for patient in chosen if patient.stroke.compared])
                    ),
                    mismatch=int(part.mismatch.sum()),
                    no_mismatch=int((~part.mismatch).sum()),
                    auc=bootstrap.auc(part.fvv_ml, part.mismatch, part.persons),
                    sensitivity=rates.sensitivity,
                    specificity=rates.specificity,
                )
            )
    return tuple(rows)


def extremes(patients: Sequence[PatientResult], most: int = 3) -> dict[str, list[str]]:
    """Examinations with the lowest and the highest stroke Dice, none in both; undefined ones are in neither."""
    dice = {patient.examination_id: patient.stroke.dice_coefficient for patient in patients}
    ranked = sorted((name for name in dice if not math.isnan(dice[name])), key=lambda name: (dice[name], name))
    each = min(most, len(ranked) // 2) if len(ranked) > 1 else len(ranked)
    return {"Lowest stroke Dice": ranked[:each], "Highest stroke Dice": ranked[each:][-each:][::-1] if each else []}
