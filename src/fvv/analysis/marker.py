"""The FVV alone as a marker of mismatch: who counts, under which label, and what the volume says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fvv.analysis import calibration, statistics
from fvv.analysis.statistics import Bootstrap
from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.cohort.labels import mismatch_labels
from fvv.config import EvaluateConfig
from fvv.data import DecisionState
from fvv.errors import StatisticsError
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import (
    CUT_OFF,
    CohortKind,
    Marker,
    MarkerCalibration,
    OperatingPoint,
    Performance,
    Share,
)

OPTIMISM_DRAWS = 400
"""Bootstrap draws behind a mean, which needs fewer than the ends of an interval do."""
Chooser = Callable[[FloatArray, BoolArray], float]
"""From volumes and labels, both classes present, to a cut-off."""


@dataclass(frozen=True, slots=True)
class MarkerData:
    """The examinations on which the marker can be judged.

    Attributes:
        label_source: where the mismatch label comes from.
        labels: label of every examination of the cohort in order, None where there is none.
        used: (n,) indices of those with a label and a measured FVV.
        fvv_ml: (n,) predicted FVV of these, mL.
        mismatch: (n,) bool, their labels.
        persons: (n,) who was examined.
        folds: (n,) the folds that tested them; None throughout where a whole ensemble did.
        found: (n,) bool, whether a lesion was found: P(mismatch) is given to these alone.
        excluded: number of examinations left out, by reason.
    """

    label_source: str
    labels: tuple[bool | None, ...]
    used: IntArray
    fvv_ml: FloatArray
    mismatch: BoolArray
    persons: np.ndarray
    folds: tuple[int | None, ...]
    found: BoolArray
    excluded: dict[str, int]

    def __post_init__(self) -> None:
        lengths = {len(one) for one in (self.used, self.fvv_ml, self.mismatch, self.persons, self.folds, self.found)}
        if len(lengths) > 1 or self.mismatch.dtype != bool:
            raise StatisticsError("expected a volume, a label, a person and a fold of each examination")
        if not np.isfinite(self.fvv_ml).all() or (self.fvv_ml < 0).any():
            raise StatisticsError("expected finite volumes of 0 mL or more")

    def of(self, inside: BoolArray) -> MarkerData:
        """The part that a mask over all examinations of the cohort names."""
        here = inside[self.used]
        return replace(
            self,
            labels=tuple(label for label, mine in zip(self.labels, inside, strict=True) if mine),
            used=self.used[here],
            fvv_ml=self.fvv_ml[here],
            mismatch=self.mismatch[here],
            persons=self.persons[here],
            folds=tuple(fold for fold, mine in zip(self.folds, here, strict=True) if mine),
            found=self.found[here],
        )

    @property
    def by_fold(self) -> bool:
        """Whether more than one fold tested them."""
        return None not in self.folds and len(set(self.folds)) > 1


def marker_data(patients: Sequence[PatientResult], visible_fraction: float) -> MarkerData:
    """Label the cohort (`fvv.cohort.labels`) and find who has a label and a measured FVV."""
    labels = mismatch_labels(
        [patient.reader_mismatch for patient in patients],
        [patient.visible_fraction for patient in patients],
        visible_fraction,
    )
    excluded = {"no lesion in the reference": 0, "no label": 0, "could not be measured": 0}
    used: list[int] = []
    for index, (patient, label) in enumerate(zip(patients, labels.values, strict=True)):
        if patient.stroke_free:
            excluded["no lesion in the reference"] += 1
        elif label is None:
            excluded["no label"] += 1
        elif patient.fvv_ml is None:
            excluded["could not be measured"] += 1
        else:
            used.append(index)
    return MarkerData(
        label_source=labels.source,
        labels=labels.values,
        used=np.array(used, dtype=int),
        fvv_ml=np.array([patients[index].fvv_ml for index in used], dtype=float),
        mismatch=np.array([labels.values[index] for index in used], dtype=bool),
        persons=np.array([patients[index].person_id for index in used]),
        folds=tuple(patients[index].fold for index in used),
        found=np.array([patients[index].decision is not DecisionState.NO_LESION_FOUND for index in used], dtype=bool),
        excluded=excluded,
    )


def summarise_marker(
    data: MarkerData, config: EvaluateConfig, bootstrap: Bootstrap, cohort: CohortKind = "unknown"
) -> Marker:
    """AUC, precision-recall, operating points, calibration."""
    on_auc, on_shares, on_optimism = bootstrap.spawn(3)
    fvv_ml, mismatch = data.fvv_ml, data.mismatch
    cutoff_ml = config.decision.cutoff_ml
    marker = Marker(
        label=data.label_source,
        cutoff_ml=cutoff_ml,
        mismatch=int(mismatch.sum()),
        no_mismatch=int((~mismatch).sum()),
        excluded=data.excluded,
        persons_repeat=statistics.repeated(data.persons),
        auc=on_auc.auc(fvv_ml, mismatch, data.persons),
        average_precision=statistics.NOT_DEFINED,
        operating_points={},
        calibration=None,
    )
    if not statistics.both_classes(mismatch):
        return marker
    wanted = config.operating_specificity
    chosen: dict[str, Chooser] = {
        "Youden": statistics.youden_cutoff,
        f"specificity {100 * wanted:g} %": partial(statistics.cutoff_at_specificity, specificity=wanted),
    }
    cutoffs = {CUT_OFF: cutoff_ml, **{name: choose(fvv_ml, mismatch) for name, choose in chosen.items()}}
    groups = np.array(data.folds) if data.by_fold else data.persons
    found, pseudo_ml = data.found, config.pseudo_volume_ml
    probabilities = np.full(fvv_ml.size, np.nan)
    probabilities[found] = calibration.held_out_probabilities(fvv_ml[found], mismatch[found], groups[found], pseudo_ml)
    known = ~np.isnan(probabilities)

    def numbers(drawn: IntArray) -> dict[str, float]:
        volumes, labels = fvv_ml[drawn], mismatch[drawn]
        judged = drawn[known[drawn]]
        return {
            "average_precision": statistics.average_precision(volumes, labels),
            "brier": calibration.brier_score(probabilities[judged], mismatch[judged]),
            **{
                name: statistics.cohen_kappa(statistics.confusion(volumes, labels, cutoff))
                for name, cutoff in cutoffs.items()
            },
        }

    intervals = bootstrap.intervals(data.persons, numbers)
    points = {}
    for name, cutoff in cutoffs.items():
        (right, missed), (wrong, rest) = statistics.confusion(fvv_ml, mismatch, cutoff).tolist()
        choose = chosen.get(name)
        points[name] = OperatingPoint(
            cutoff_ml=cutoff,
            true_positive=right,
            false_positive=wrong,
            false_negative=missed,
            true_negative=rest,
            **_shares(data, cutoff, on_shares),
            kappa=intervals[name],
            corrected=None if choose is None else optimism_corrected(data, choose, on_optimism),
        )
    fitted = None
    if known.any():
        held_out, labels = probabilities[known], mismatch[known]
        share = float(labels.mean())
        fitted = MarkerCalibration(
            curve=calibration.fit_calibration(fvv_ml[found], mismatch[found], pseudo_ml, cohort),
            held_out_by="fold" if data.by_fold else "person",
            patients=int(known.sum()),
            prevalence=float(mismatch[found].mean()),
            brier=intervals["brier"],
            brier_of_prevalence=share * (1 - share),
            reliability=calibration.reliability(held_out, labels),
        )
    return marker.model_copy(
        update={
            "average_precision": intervals["average_precision"],
            "operating_points": points,
            "calibration": fitted,
        }
    )


def _shares(data: MarkerData, cutoff_ml: float, bootstrap: Bootstrap) -> dict[str, Share]:
    under, mismatch = data.fvv_ml < cutoff_ml, data.mismatch
    among = {
        "sensitivity": (under, mismatch),
        "specificity": (~under, ~mismatch),
        "positive_predictive_value": (mismatch, under),
        "negative_predictive_value": (~mismatch, ~under),
        "accuracy": (under == mismatch, np.ones_like(mismatch)),
    }
    return {name: bootstrap.share(success[chosen], data.persons[chosen]) for name, (success, chosen) in among.items()}


def optimism_corrected(data: MarkerData, choose: Chooser, bootstrap: Bootstrap) -> Performance:
    """What a cut-off chosen on these data achieves, less its optimism (Harrell et al. 1996).

    In each draw of persons a cut-off is chosen; how much better it does on the draw than on all examinations is
    optimism, whose mean is subtracted from the apparent value (doi 10.1002/(SICI)1097-0258(19960229)15:4<361). Both
    classes are present; at most `OPTIMISM_DRAWS` draws are made.

    Returns:
        NaN where under half of the draws hold both classes.
    """
    fvv_ml, mismatch = data.fvv_ml, data.mismatch
    draws = min(bootstrap.samples, OPTIMISM_DRAWS)
    gains = []
    for drawn in Bootstrap(draws, bootstrap.rng).draws(data.persons):
        volumes, labels = fvv_ml[drawn], mismatch[drawn]
        if statistics.both_classes(labels):
            cutoff_ml = choose(volumes, labels)
            gains.append(_performance(volumes, labels, cutoff_ml) - _performance(fvv_ml, mismatch, cutoff_ml))
    if 2 * len(gains) < draws:
        return Performance(sensitivity=math.nan, specificity=math.nan, kappa=math.nan)
    apparent = _performance(fvv_ml, mismatch, choose(fvv_ml, mismatch))
    sensitivity, specificity, kappa = np.clip(apparent - np.nanmean(gains, axis=0), (0, 0, -1), 1).tolist()
    return Performance(sensitivity=sensitivity, specificity=specificity, kappa=kappa)


def _performance(fvv_ml: FloatArray, mismatch: BoolArray, cutoff_ml: float) -> FloatArray:
    """Sensitivity, specificity and kappa."""
    table = statistics.confusion(fvv_ml, mismatch, cutoff_ml)
    return np.array([table[0, 0] / table[0].sum(), table[1, 1] / table[1].sum(), statistics.cohen_kappa(table)])
