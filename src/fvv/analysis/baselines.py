"""Plain numbers of the predicted stroke as markers of mismatch: is the FVV worth more than they are?

Their directions are fixed here and never chosen on the patients: young strokes, in which FLAIR shows nothing yet, are
smaller, more even on DWI (Wouters et al. 2018, doi 10.1212/WNL.0000000000005413), and their ADC is still falling
(Lansberg et al., AJNR 2001; 22: 637-644).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fvv.analysis.marker import MarkerData
from fvv.analysis.statistics import NOT_DEFINED, Bootstrap
from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import ALL_SIZES, Baseline, Estimate, PairedAuc

LEAST_OF_A_CLASS = 5
"""Examinations with, and without, a mismatch that a comparison needs: the variance of fewer is no estimate (chosen
here)."""


@dataclass(frozen=True, slots=True)
class _Measure:
    name: str
    of: Callable[[PatientResult], float]
    low_is_mismatch: bool = True


_MEASURES = (
    _Measure("stroke volume", lambda patient: patient.stroke.predicted_volume_ml),
    _Measure("IQR of the relative DWI signal", lambda patient: patient.relative_dwi_iqr),
    _Measure("relative ADC", lambda patient: patient.relative_adc, low_is_mismatch=False),
)


def summarise_baselines(
    patients: Sequence[PatientResult],
    data: MarkerData,
    groups: Sequence[str],
    sizes: Sequence[str],
    bootstrap: Bootstrap,
) -> tuple[Baseline, ...]:
    """Compare the FVV with each baseline, on the examinations with a predicted stroke of which both were measured.

    Args:
        patients: the cohort.
        data: of the same examinations.
        groups: the group of lesion volume of each.
        sizes: the groups that are ranges of volume, in order.
    """
    found = []
    for measure in _MEASURES:
        values = np.array([measure.of(patients[index]) for index in data.used], dtype=float)
        stroke = np.array([patients[index].stroke.predicted_volume_ml > 0 for index in data.used], dtype=bool)
        chosen = stroke & ~np.isnan(values)
        pairs = _Pairs(
            data.fvv_ml[chosen],
            values[chosen] if measure.low_is_mismatch else -values[chosen],
            data.mismatch[chosen],
            data.persons[chosen],
            np.array([groups[index] for index in data.used], dtype=str)[chosen],
        )
        found.append(
            Baseline(
                name=measure.name,
                low_is_mismatch=measure.low_is_mismatch,
                overall=pairs.compared(ALL_SIZES, bootstrap),
                by_size=tuple(pairs.of_size(size).compared(size, bootstrap) for size in sizes),
                within_sizes=pairs.within(sizes, bootstrap),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """(n,) arrays: both markers, low in a mismatch, labels, persons, sizes."""

    fvv_ml: FloatArray
    baseline: FloatArray
    mismatch: BoolArray
    persons: np.ndarray
    sizes: np.ndarray

    def part(self, inside: BoolArray) -> _Pairs:
        return _Pairs(
            self.fvv_ml[inside],
            self.baseline[inside],
            self.mismatch[inside],
            self.persons[inside],
            self.sizes[inside],
        )

    @property
    def enough(self) -> bool:
        positive = int(self.mismatch.sum())
        return min(positive, self.mismatch.size - positive) >= LEAST_OF_A_CLASS

    def compared(self, size: str, bootstrap: Bootstrap) -> PairedAuc:
        one_stratum = np.zeros(self.mismatch.size, dtype=int)
        return PairedAuc(
            size=size,
            mismatch=int(self.mismatch.sum()),
            no_mismatch=int((~self.mismatch).sum()),
            fvv=bootstrap.auc(self.fvv_ml, self.mismatch, self.persons),
            baseline=bootstrap.auc(self.baseline, self.mismatch, self.persons),
            difference=self._difference(one_stratum, bootstrap) if self.enough else NOT_DEFINED,
        )

    def of_size(self, size: str) -> _Pairs:
        return self.part(self.sizes == size)

    def within(self, sizes: Sequence[str], bootstrap: Bootstrap) -> Estimate:
        compared = [size for size in sizes if self.of_size(size).enough]
        inside = np.isin(self.sizes, compared)
        codes = np.unique(self.sizes[inside], return_inverse=True)[1]
        return self.part(inside)._difference(codes, bootstrap)

    def _difference(self, strata: IntArray, bootstrap: Bootstrap) -> Estimate:
        return bootstrap.auc_difference(self.fvv_ml, self.baseline, self.mismatch, self.persons, strata)


def baselines_in_words(baselines: Sequence[Baseline]) -> str:
    """What the comparison within sizes shows, as sentences; "" where there was nothing to compare."""
    sentences = []
    for verdict, sentence in _SENTENCES.items():
        named = [_named(baseline) for baseline in baselines if _verdict(baseline.within_sizes) == verdict]
        if named:
            sentences.append(sentence.format("; ".join(named)))
    return " ".join(sentences)


_BETTER, _WORSE, _OPEN, _TOO_FEW = "better", "worse", "open", "too few"
_SENTENCES = {
    _BETTER: "Among strokes of similar size, the AUC of the FVV is higher than that of: {}.",
    _OPEN: "Among strokes of similar size, the FVV is not shown to be better than: {}.",
    _WORSE: "Among strokes of similar size, the AUC of the FVV is lower than that of: {}.",
    _TOO_FEW: f"Too few examinations for a comparison among strokes of similar size ({LEAST_OF_A_CLASS} of each class "
    "are needed): {}.",
}


def _verdict(difference: Estimate) -> str:
    if np.isnan(difference.value):
        return _TOO_FEW
    if difference.low > 0:
        return _BETTER
    return _WORSE if difference.high < 0 else _OPEN


def _named(baseline: Baseline) -> str:
    difference = baseline.within_sizes
    if np.isnan(difference.value):
        return baseline.name
    interval = "" if np.isnan(difference.low) else f" [{difference.low:+.3f} to {difference.high:+.3f}]"
    return f"{baseline.name} ({difference.value:+.3f}{interval})"
