"""The marker of a cohort: who counts, under which label, and what the FVV says of the mismatch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fvv.analysis import calibration, statistics
from fvv.analysis.optimism import DRAWS, optimism_corrected
from fvv.analysis.patient import PatientResult
from fvv.analysis.shares import Share, share_of
from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.config import EvaluateConfig

POINT_SHARES = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value", "accuracy")
"""What is said of a cut-off, each a `Share`."""


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
        folds: (n,) the folds that tested them; None throughout where a whole ensemble did.
        excluded: reason to number of patients left out.
    """

    label_source: str
    labels: tuple[bool | None, ...]
    used: IntArray
    fvv_ml: FloatArray
    mismatch: BoolArray
    persons: np.ndarray
    folds: tuple[int | None, ...]
    excluded: dict[str, int]

    def of(self, inside: BoolArray) -> MarkerData:
        """The part of them that a mask over the (n,) used patients names; `labels` and `excluded` stay."""
        return replace(
            self,
            used=self.used[inside],
            fvv_ml=self.fvv_ml[inside],
            mismatch=self.mismatch[inside],
            persons=self.persons[inside],
            folds=tuple(fold for fold, mine in zip(self.folds, inside, strict=True) if mine),
        )


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
        folds=tuple(patients[index].fold for index in used),
        excluded=dict(excluded),
    )


def summarise_marker(data: MarkerData, config: EvaluateConfig, rng: np.random.Generator) -> dict[str, Any]:
    """AUC, precision-recall, operating points, calibration, decision curve; empty where one class is missing.

    Where a person was examined more than once, the headline intervals are those of a bootstrap over persons; DeLong's
    and Wilson's are kept beside them.

    Args:
        data: the patients on whom the marker is judged.
        config: cut-off, bootstrap draws, pseudo-volume.
        rng: of the bootstrap.
    """
    shares_rng, optimism_rng = rng.spawn(2)
    fvv_ml, mismatch, cutoff_ml = data.fvv_ml, data.mismatch, config.decision.cutoff_ml
    summary: dict[str, Any] = {
        "label": data.label_source,
        "cutoff_ml": cutoff_ml,
        "mismatch": int(mismatch.sum()),
        "no_mismatch": int((~mismatch).sum()),
        "excluded": data.excluded,
        "persons_repeat": statistics.repeated(data.persons),
        "auc": statistics.delong_interval(fvv_ml, mismatch),
        "auc_delong": statistics.delong_interval(fvv_ml, mismatch),
        "auc_bootstrap": statistics.NOT_DEFINED,
        "average_precision": statistics.NOT_DEFINED,
        "operating_points": {},
        "calibration": None,
        "decision_curve": None,
    }
    if not 0 < mismatch.sum() < mismatch.size:
        return summary
    wanted = config.operating_specificity
    chosen: dict[str, Callable[[FloatArray, BoolArray], float]] = {
        "Youden": statistics.youden_cutoff,
        f"specificity {100 * wanted:g} %": partial(statistics.cutoff_at_specificity, specificity=wanted),
    }
    cutoffs = {"cut-off": cutoff_ml, **{name: choose(fvv_ml, mismatch) for name, choose in chosen.items()}}
    probabilities = held_out(data, config.pseudo_volume_ml)

    def numbers(drawn: IntArray) -> dict[str, float]:
        volumes, labels, predicted = fvv_ml[drawn], mismatch[drawn], probabilities[drawn]
        known = ~np.isnan(predicted)
        kappas = {name: statistics.operating_point(volumes, labels, cutoff).kappa for name, cutoff in cutoffs.items()}
        return {
            "auc": statistics.auc(volumes, labels),
            "average_precision": statistics.average_precision(volumes, labels),
            "brier": calibration.brier_score(predicted[known], labels[known]),
            **kappas,
        }

    intervals = statistics.bootstrap_intervals(data.persons, numbers, samples=config.bootstrap_samples, rng=rng)
    summary["auc_bootstrap"], summary["average_precision"] = intervals["auc"], intervals["average_precision"]
    # Classes that are separated without error show nothing of the variance: no draw differs, which is no certainty.
    if summary["persons_repeat"] and 0 < intervals["auc"].value < 1:
        summary["auc"] = intervals["auc"]
    draws = min(DRAWS, config.bootstrap_samples)
    for name, cutoff in cutoffs.items():
        shares = shares_of_cutoff(data, cutoff, samples=config.bootstrap_samples, rng=shares_rng)
        choose = chosen.get(name)
        summary["operating_points"][name] = {
            **asdict(statistics.operating_point(fvv_ml, mismatch, cutoff)),
            **shares,
            "kappa": intervals[name],
            "optimism": None
            if choose is None
            else optimism_corrected(fvv_ml, mismatch, data.persons, choose, rng=optimism_rng, draws=draws),
        }
    known = ~np.isnan(probabilities)
    if known.any():
        share = float(mismatch[known].mean())
        summary["calibration"] = {
            "curve": calibration.fit_calibration(fvv_ml, mismatch, config.pseudo_volume_ml).model_dump(),
            "held_out_by": "fold" if _by_fold(data) else "person",
            "patients": int(known.sum()),
            "prevalence": float(mismatch.mean()),
            "brier": intervals["brier"],
            "brier_of_prevalence": share * (1 - share),
            "reliability": calibration.reliability(probabilities[known], mismatch[known]),
        }
        summary["decision_curve"] = calibration.decision_curve(
            probabilities[known], fvv_ml[known], mismatch[known], cutoff_ml
        )
    return summary


def shares_of_cutoff(data: MarkerData, cutoff_ml: float, *, samples: int, rng: np.random.Generator) -> dict[str, Share]:
    """What a cut-off achieves on the volumes alone: `POINT_SHARES` by name."""
    under, mismatch = data.fvv_ml < cutoff_ml, data.mismatch
    everybody = np.ones_like(mismatch)
    among = {
        "sensitivity": (under, mismatch),
        "specificity": (~under, ~mismatch),
        "positive_predictive_value": (mismatch, under),
        "negative_predictive_value": (~mismatch, ~under),
        "accuracy": (under == mismatch, everybody),
    }
    return {
        name: share_of(success[chosen], data.persons[chosen], samples=samples, rng=rng)
        for name, (success, chosen) in among.items()
    }


def held_out(data: MarkerData, pseudo_volume_ml: float) -> FloatArray:
    """(n,) P(mismatch), each from a curve fitted without that patient's fold, or, of an ensemble, person."""
    groups = np.array(data.folds) if _by_fold(data) else data.persons
    return calibration.held_out_probabilities(data.fvv_ml, data.mismatch, groups, pseudo_volume_ml)


def summarise_single_models(
    patients: Sequence[PatientResult], data: MarkerData, config: EvaluateConfig, rng: np.random.Generator
) -> dict[str, Any] | None:
    """What an ensemble gains over its models alone, on the same patients; None where one model was tested.

    Args:
        patients: tested with the whole ensemble.
        data: of the same patients.
        config: cut-off, bootstrap draws.
        rng: of the bootstrap.

    Returns:
        For AUC, kappa at the cut-off, and mean Dice: `ensemble`, `single` (mean over the models), `lowest`,
        `highest`, `difference` (ensemble minus single, interval over persons); and Youden's cut-off of both.
    """
    used = [patients[index] for index in data.used]
    # Of those that are used: who is not assessable was shown to no model.
    n_models = len(used[0].single_models) if used else 0
    if not n_models:
        return None
    mismatch, cutoff_ml = data.mismatch, config.decision.cutoff_ml
    volumes = np.array([[patient.fvv_ml, *(one.fvv_ml for one in patient.single_models)] for patient in used])
    channels = list(used[0].metrics)
    dice = np.array(
        [
            [
                [patient.metrics[channel]["dice_coefficient"], *(one.dice[channel] for one in patient.single_models)]
                for channel in channels
            ]
            for patient in used
        ]
    )  # (patients, channels, ensemble and models)
    # Nothing drawn and nothing marked is no Dice; what one has, the others may not: only shared ones are compared.
    shared = ~np.isnan(dice).any(axis=2)

    def of_model(drawn: IntArray, place: int) -> dict[str, float]:
        point = statistics.operating_point(volumes[drawn, place], mismatch[drawn], cutoff_ml)
        means = {}
        for row, channel in enumerate(channels):
            defined = dice[drawn, row, place][shared[drawn, row]]
            means[f"{channel}_dice_mean"] = float(defined.mean()) if defined.size else math.nan
        return {"auc": statistics.auc(volumes[drawn, place], mismatch[drawn]), "kappa": point.kappa, **means}

    def gain(drawn: IntArray) -> dict[str, float]:
        together = of_model(drawn, 0)
        alone = [of_model(drawn, place) for place in range(1, n_models + 1)]
        return {name: value - float(np.mean([one[name] for one in alone])) for name, value in together.items()}

    everybody = np.arange(len(used))
    alone = [of_model(everybody, place) for place in range(1, n_models + 1)]
    differences = statistics.bootstrap_intervals(data.persons, gain, samples=config.bootstrap_samples, rng=rng)
    both_classes = 0 < mismatch.sum() < mismatch.size
    youden = [statistics.youden_cutoff(volumes[:, place], mismatch) for place in range(n_models + 1) if both_classes]
    return {
        "models": n_models,
        "numbers": {
            name: {
                "ensemble": value,
                "single": float(np.mean([one[name] for one in alone])),
                "lowest": min(one[name] for one in alone),
                "highest": max(one[name] for one in alone),
                "difference": differences[name],
            }
            for name, value in of_model(everybody, 0).items()
        },
        "youden_cutoff_ml": youden[0] if youden else math.nan,
        "youden_cutoff_single_ml": float(np.mean(youden[1:])) if youden else math.nan,
        "fvv_sd_over_models_ml": float(np.median(volumes[:, 1:].std(axis=1, ddof=1))) if n_models > 1 else math.nan,
    }


def _by_fold(data: MarkerData) -> bool:
    return None not in data.folds and len(set(data.folds)) > 1
