"""`summary.json` of an evaluation: every number of its report, and what it was made from."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fvv.config import EvaluateConfig
from fvv.data import Failure
from fvv.schemas.base import FileModel
from fvv.schemas.bundle import Calibration
from fvv.schemas.migrations import CURRENT
from fvv.schemas.values import ByChannel, Number, Stored

OUT_OF_FOLD: Final = "out-of-fold"
EXTERNAL: Final = "external"
CUT_OFF: Final = "cut-off"
"""Name of the operating point at the prespecified cut-off."""
ALL_SIZES: Final = "all"
"""Strokes of every size."""
CohortKind = Literal["simulated", "people", "unknown"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Estimate:
    """A number with its interval; NaN where undefined."""

    value: Number
    low: Number
    high: Number


class Share(Stored):
    """A share of examinations with its interval; NaN where undefined.

    Attributes:
        value: successes / trials.
        low, high: the interval to read: Wilson's where every person was examined once, else over persons.
        successes, trials: examinations.
    """

    value: Number
    low: Number
    high: Number
    successes: int
    trials: int


class Rates(Stored):
    """Rates of the answers; all but the last are of the examinations that could be assessed."""

    sensitivity: Share = Field(description="sensitivity of the answers: mismatches answered 'mismatch likely'")
    sensitivity_right_lesion: Share = Field(
        description="the same, where the predicted stroke touches the reference lesion"
    )
    specificity: Share = Field(
        description="specificity of the answers: lesions without mismatch not answered 'mismatch likely'"
    )
    positive_predictive_value: Share = Field(
        description="of the answers 'mismatch likely', those of a mismatch; stroke-free patients count"
    )
    stroke_missed: Share = Field(description="strokes answered 'no lesion found'")
    stroke_free_called_stroke: Share = Field(description="stroke-free patients called stroke")
    stroke_free_called_mismatch: Share = Field(description="stroke-free patients answered 'mismatch likely'")
    not_assessable: Share = Field(description="examinations answered 'not assessable', of all")


class Answers(Stored):
    """The answers: `table` has the number of examinations by kind of reference and by answer."""

    table: dict[str, dict[str, int]]
    rates: Rates


class Spread(Stored):
    """A metric over the examinations for which it is defined."""

    defined: int
    mean: Number
    sd: Number
    median: Number
    lower_quartile: Number
    upper_quartile: Number


class LesionsOfSize(Stored):
    """Reference lesions of one range of volume, and the share that was found."""

    size: str
    found: Share


class Agreement(Stored):
    """Two ways to measure one quantity: Bland and Altman (doi 10.1016/S0140-6736(86)90837-8).

    Attributes:
        n: pairs.
        bias: mean of second minus first.
        lower_limit, upper_limit: bias -+ 1.96 SD of the differences.
        concordance: Lin's coefficient.
        rank: Spearman's correlation.
    """

    n: int
    bias: Estimate
    lower_limit: Number
    upper_limit: Number
    concordance: Estimate
    rank: Estimate


class RatioAgreement(Stored):
    """Agreement on the log scale, as ratios: limits in mL say little of volumes near a cut-off of 0.5 mL.

    Attributes:
        pseudo_volume_ml: added to both volumes, so that 0 mL has a logarithm.
        ratio: geometric mean of (second + pseudo-volume) / (first + pseudo-volume).
        lower_limit, upper_limit: that ratio's 95 % limits of agreement.
    """

    n: int
    pseudo_volume_ml: float
    ratio: Estimate
    lower_limit: Number
    upper_limit: Number


class ChannelSummary(Stored):
    """One channel of the cohort.

    Attributes:
        dice_pooled, dice_mean: with intervals of a bootstrap over persons.
        pooled: ratios of the overlap of all examinations together, by metric.
        per_patient: spread over examinations, by metric.
        empty_cases: examinations by which of the two masks is empty.
        lesions_detected, lesions_missed, lesions_false_positive, lesion_f1: of all examinations together.
        lesions_by_size: reference lesions by volume; none of the brain.
        volume_ratio: the same on the log scale; None for the brain.
    """

    dice_pooled: Estimate
    dice_mean: Estimate
    pooled: dict[str, Number]
    per_patient: dict[str, Spread]
    empty_cases: dict[str, int]
    lesions_detected: int
    lesions_missed: int
    lesions_false_positive: int
    lesion_f1: Number
    lesions_by_size: tuple[LesionsOfSize, ...]
    volume: Agreement
    volume_ratio: RatioAgreement | None


class Performance(Stored):
    """What a cut-off achieves."""

    sensitivity: Number
    specificity: Number
    kappa: Number


class OperatingPoint(Stored):
    """A cut-off of the FVV alone: mismatch is predicted under it.

    Attributes:
        corrected: less the optimism of a cut-off chosen on these very patients; None where it was prespecified.
    """

    cutoff_ml: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    sensitivity: Share
    specificity: Share
    positive_predictive_value: Share
    negative_predictive_value: Share
    accuracy: Share
    kappa: Estimate
    corrected: Performance | None


class ReliabilityBin(Stored):
    """`n` patients with a similar probability: its mean, and the share that has a mismatch."""

    n: int
    predicted: float
    observed: float


class MarkerCalibration(Stored):
    """P(mismatch): the curve fitted on all, and how well curves fitted without each patient predict."""

    curve: Calibration
    held_out_by: Literal["fold", "person"]
    patients: int
    prevalence: float
    brier: Estimate
    brier_of_prevalence: float
    reliability: tuple[ReliabilityBin, ...]


class Marker(Stored):
    """The FVV alone as a marker of mismatch.

    Attributes:
        label: where the label comes from.
        excluded: examinations that are not used, by reason.
        persons_repeat: a person was examined more than once.
        auc: with DeLong's interval, or one over persons where persons repeat.
        operating_points: by name, `CUT_OFF` first; empty with one class only, as are the fields below.
    """

    label: str
    cutoff_ml: float
    mismatch: int
    no_mismatch: int
    excluded: dict[str, int]
    persons_repeat: bool
    auc: Estimate
    average_precision: Estimate
    operating_points: dict[str, OperatingPoint]
    calibration: MarkerCalibration | None


class PairedAuc(Stored):
    """The FVV and a baseline on the same examinations.

    Attributes:
        size: range of the reference lesion's volume, or `ALL_SIZES`.
        fvv, baseline: their AUCs for mismatch.
        difference: FVV minus baseline, with DeLong's interval, or one over persons where persons repeat; NaN where a
            class has too few examinations (`fvv.analysis.baselines.LEAST_OF_A_CLASS`).
    """

    size: str
    mismatch: int
    no_mismatch: int
    fvv: Estimate
    baseline: Estimate
    difference: Estimate


class Baseline(Stored):
    """A plain number of the predicted stroke as a marker of mismatch, and what the FVV is worth beside it.

    Attributes:
        name: what is measured.
        low_is_mismatch: whether a low value is taken for mismatch, as of the FVV; fixed beforehand.
        overall: on all examinations with a predicted stroke of which it could be measured.
        by_size: on those of each range of lesion volume.
        within_sizes: FVV minus baseline, comparing examinations of one range with each other only: the mean of the
            differences of `by_size`, weighted by pairs of a mismatch and another examination.
    """

    name: str
    low_is_mismatch: bool
    overall: PairedAuc
    by_size: tuple[PairedAuc, ...]
    within_sizes: Estimate


class Stratum(Stored):
    """A part of the cohort; lesion volume and FLAIR-visible share are those of the reference."""

    stratum: str
    value: str
    patients: int
    dice_pooled: ByChannel[Number]
    stroke_lesion_f1: Number
    mismatch: int
    no_mismatch: int
    auc: Estimate
    sensitivity: Share
    specificity: Share


class StrokeFree(Stored):
    """Examinations without a stroke, by empty ROIs or by statement: all that is found there is false.

    Attributes:
        examinations, persons: all of them.
        no_lesion_found: of those that could be assessed, the share with that answer.
        false_ml: predicted stroke, mL, of those that could be assessed.
        largest_false_ml: the largest of it.
        over_false_limit: examinations with more than `fvv.analysis.summary.FALSE_LIMIT_ML` of it.
    """

    examinations: int
    persons: int
    no_lesion_found: Share
    false_ml: Spread
    largest_false_ml: Number
    over_false_limit: int


class Comparison(Stored):
    """This evaluation minus another one, on the patients of both.

    Attributes:
        patients_of_marker: those measured by both.
        auc_difference: with its interval over persons.
        only_other_right, only_this_right, answers_p_value: right answers; exchange of the two models within persons.
        dice_difference: of the mean Dice.
    """

    other: str
    other_kind: str
    patients: int
    patients_of_marker: int
    auc_difference: Estimate
    only_other_right: int
    only_this_right: int
    answers_p_value: Number
    dice_difference: ByChannel[Estimate]


class Findings(ByChannel[ChannelSummary]):
    """What is computed from the results of a cohort.

    Attributes:
        reference_at_cutoff_ml: reference FVVs that go with a predicted FVV at the cut-off, by the limits of agreement.
        baselines: plain markers beside the FVV; none in files before version 3.
        stroke_free: None in files of version 1.
        own_metrics: metrics of the user's own over the examinations, by name.
    """

    answers: Answers
    marker: Marker
    baselines: tuple[Baseline, ...]
    reference_at_cutoff_ml: tuple[Number, Number]
    strata: tuple[Stratum, ...]
    stroke_free: StrokeFree | None
    own_metrics: dict[str, Spread] = Field(default_factory=dict)


class Measured(Stored):
    """What an evaluation was made from, before anything is computed of the cohort.

    Attributes:
        counts: patients by what became of them.
        run: what readers should know of the run, in order.
        sources: of each examination with a result, the hash of all that it depends on.
    """

    evaluation: Literal["out-of-fold", "external"]
    counts: dict[str, int]
    run: dict[str, str]
    models_sha256: dict[str, str]
    sources: dict[str, str]
    cohort: CohortKind
    failures: tuple[Failure, ...]


class Summary(Findings, Measured, FileModel):
    """The file: what was measured, what is computed of it, and the settings that this was done with.

    Attributes:
        comparison: with another evaluation, where one was asked for.
        settings: those the report was made with.
    """

    kind: ClassVar[str] = "summary"
    schema_version: int = CURRENT["summary"]
    comparison: Comparison | None
    settings: EvaluateConfig
