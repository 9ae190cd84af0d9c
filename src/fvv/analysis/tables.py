"""Every table of an evaluation, built once: for the page, for a paper (Markdown, LaTeX) and for the model card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from fvv.analysis.summary import FALSE_LIMIT_ML, SPREAD_METRICS
from fvv.data import Channel, DecisionState
from fvv.imaging.overlap import Emptiness
from fvv.schemas.summary import (
    Agreement,
    Answers,
    Baseline,
    Comparison,
    Estimate,
    Findings,
    Marker,
    Rates,
    RatioAgreement,
    Share,
    Spread,
    Stratum,
    StrokeFree,
)

NOT_DEFINED = "not defined"
TITLES = tuple(channel.title for channel in Channel)
_LATEX = {"%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "κ": r"$\kappa$", "\N{NO-BREAK SPACE}": "~"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table as text cells.

    Attributes:
        title: what it shows.
        head: names of the columns.
        rows: cells; the first of each row names it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """As a Markdown table."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return f"**{self.title}**\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def latex(self) -> str:
        """As a LaTeX table (needs the package booktabs)."""

        def row(cells: Sequence[str]) -> str:
            return " & ".join(_latex(cell) for cell in cells) + r" \\"

        rows = "\n".join(map(row, self.rows))
        return (
            f"\\begin{{table}}\n\\caption{{{_latex(self.title)}}}\n"
            f"\\begin{{tabular}}{{l{'r' * (len(self.head) - 1)}}}\n\\toprule\n"
            f"{row(self.head)}\n\\midrule\n{rows}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
        )


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def number(value: float | None, decimals: int = 2) -> str:
    """A number for people."""
    return NOT_DEFINED if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def with_interval(estimate: Estimate | Share, decimals: int = 3, *, signed: bool = False) -> str:
    """A number with its interval in brackets."""
    if math.isnan(estimate.value):
        return NOT_DEFINED
    sign = "+" if signed else ""
    value, low, high = (f"{one:{sign}.{decimals}f}" for one in (estimate.value, estimate.low, estimate.high))
    return value if math.isnan(estimate.low) else f"{value} [{low} to {high}]"


def percent(share: Share) -> str:
    """A share in percent with its interval."""
    if math.isnan(share.value):
        return NOT_DEFINED
    interval = "" if math.isnan(share.low) else f" [{100 * share.low:.1f} to {100 * share.high:.1f}]"
    return f"{100 * share.value:.1f} %{interval}"


def counted(share: Share) -> str:
    """A share with the numbers behind it."""
    return f"{percent(share)}, {share.successes} of {share.trials}"


def _limits(agreement: Agreement | RatioAgreement) -> str:
    return f"{number(agreement.lower_limit)} to {number(agreement.upper_limit)}"


@dataclass(frozen=True, slots=True)
class Tables:
    """Every table of an evaluation, in the order of a paper; None: this evaluation has none."""

    answers: Table
    rates: Table
    stroke_free: Table | None
    marker: Table | None
    cutoffs: Table | None
    baselines: Table | None
    segmentation: Table
    lesions: Table
    own_metrics: Table | None
    volumes: Table
    ratios: Table
    comparison: Table | None
    strata: Table | None

    def present(self) -> list[Table]:
        """Those that this evaluation has."""
        tables = (getattr(self, field.name) for field in fields(self))
        return [table for table in tables if table is not None]


def all_tables(findings: Findings, comparison: Comparison | None) -> Tables:
    """The tables of an evaluation, and of its comparison with another one."""
    marker = findings.marker
    judged = bool(marker.operating_points)
    return Tables(
        answers=answers_table(findings.answers),
        rates=_rates(findings.answers.rates),
        stroke_free=_stroke_free(findings.stroke_free) if findings.stroke_free else None,
        marker=_marker(marker) if judged else None,
        cutoffs=_over_all_cutoffs(marker) if judged else None,
        baselines=baselines_table(findings.baselines) if judged and findings.baselines else None,
        segmentation=_segmentation(findings),
        lesions=_lesions(findings),
        own_metrics=_own_metrics(findings.own_metrics) if findings.own_metrics else None,
        volumes=_volumes(findings),
        ratios=_ratios(findings),
        comparison=None if comparison is None else _comparison(comparison),
        strata=_strata(findings.strata) if findings.strata else None,
    )


def answers_table(answers: Answers) -> Table:
    """The four answers against the reference."""
    states = [state.value for state in DecisionState]
    rows = tuple((kind, *(str(row[state]) for state in states)) for kind, row in answers.table.items())
    return Table("Answers against the reference, examinations", ("Reference", *states), rows)


def _rates(rates: Rates) -> Table:
    rows = []
    for name, field in Rates.model_fields.items():
        share: Share = getattr(rates, name)
        rows.append((str(field.description), f"{share.successes} of {share.trials}", percent(share)))
    return Table("Rates of the answers, of the examinations that could be assessed", ("", "n", "Rate"), tuple(rows))


def _stroke_free(found: StrokeFree) -> Table | None:
    if not found.examinations:
        return None
    rows = (
        ("Examinations, persons", f"{found.examinations}, {found.persons}"),
        ("Not assessable", str(found.examinations - found.no_lesion_found.trials)),
        ("No lesion found", counted(found.no_lesion_found)),
        ("False-positive stroke, mL, mean", number(found.false_ml.mean)),
        ("False-positive stroke, mL, largest", number(found.largest_false_ml)),
        (f"More than {FALSE_LIMIT_ML:g} mL of it", str(found.over_false_limit)),
    )
    return Table("Stroke-free examinations: every predicted stroke is a false positive", ("", "Value"), rows)


def _marker(marker: Marker) -> Table:
    points = marker.operating_points.values()
    rows = [
        (label, *(percent(getattr(point, name)) for point in points))
        for label, name in (
            ("Sensitivity", "sensitivity"),
            ("Specificity", "specificity"),
            ("PPV", "positive_predictive_value"),
            ("NPV", "negative_predictive_value"),
            ("Accuracy", "accuracy"),
        )
    ]
    rows.append(("Cohen's κ", *(with_interval(point.kappa) for point in points)))
    for name, label in (("sensitivity", "Sensitivity"), ("specificity", "Specificity"), ("kappa", "Cohen's κ")):
        # The prespecified cut-off has no optimism.
        corrected = ("-" if one.corrected is None else number(getattr(one.corrected, name), 3) for one in points)
        rows.append((f"{label}, corrected for optimism", *corrected))
    rows += [
        ("True, false positives", *(f"{point.true_positive}, {point.false_positive}" for point in points)),
        ("True, false negatives", *(f"{point.true_negative}, {point.false_negative}" for point in points)),
    ]
    head = ("FVV under", *(f"{point.cutoff_ml:.3g} mL ({name})" for name, point in marker.operating_points.items()))
    title = (
        f"FVV alone for DWI-FLAIR mismatch, {marker.mismatch} of {marker.mismatch + marker.no_mismatch} examinations. "
        f"AUC {with_interval(marker.auc)}. A missed stroke has an FVV of 0 mL"
    )
    return Table(title, head, tuple(rows))


def _over_all_cutoffs(marker: Marker) -> Table:
    rows = [
        ("AUC", with_interval(marker.auc), "bootstrap over persons" if marker.persons_repeat else "DeLong"),
        ("Average precision", with_interval(marker.average_precision), "bootstrap over persons"),
    ]
    if marker.calibration is not None:
        held_out = f"Brier score of P(mismatch), held out by {marker.calibration.held_out_by}"
        alone = f"bootstrap over persons; prevalence alone: {number(marker.calibration.brier_of_prevalence, 3)}"
        rows.append((held_out, with_interval(marker.calibration.brier), alone))
    return Table("FVV alone, over all cut-offs", ("", "Value", "Interval"), tuple(rows))


def baselines_table(baselines: Iterable[Baseline]) -> Table:
    """The FVV beside plain numbers of the predicted stroke, for all strokes and by size."""
    rows = []
    for one in baselines:
        for pair in (one.overall, *one.by_size):
            if pair.mismatch + pair.no_mismatch or pair is one.overall:
                aucs = (with_interval(auc) for auc in (pair.fvv, pair.baseline))
                lesion = f"{one.name}: {pair.size}"
                rows.append((lesion, f"{pair.mismatch}, {pair.no_mismatch}", *aucs, _difference(pair.difference)))
        rows.append((f"{one.name}: within sizes", "", "", "", _difference(one.within_sizes)))
    head = ("Baseline: lesion volume", "Mismatch, none", "AUC of the FVV", "AUC of the baseline", "FVV minus baseline")
    title = "The FVV beside plain baselines, examinations with a predicted stroke; intervals of DeLong, or over persons"
    return Table(title, head, tuple(rows))


def _difference(estimate: Estimate) -> str:
    return "too few" if math.isnan(estimate.value) else with_interval(estimate, signed=True)


def _segmentation(findings: Findings) -> Table:
    channels = [findings.of(channel) for channel in Channel]
    rows = [
        ("Dice, pooled", *(with_interval(one.dice_pooled) for one in channels)),
        ("Dice, mean", *(with_interval(one.dice_mean) for one in channels)),
        ("Dice, n", *(str(one.per_patient["dice_coefficient"].defined) for one in channels)),
    ]
    for name, label in SPREAD_METRICS.items():
        rows.append((f"{label}, median (quartiles)", *(_quartiles(one.per_patient[name]) for one in channels)))
    rows.append(("Lesion-wise F1, pooled", *(number(one.lesion_f1, 3) for one in channels)))
    found = (f"{one.lesions_detected}, {one.lesions_missed}, {one.lesions_false_positive}" for one in channels)
    rows.append(("True positive, false negative, false positive lesions", *found))
    rows += [
        (f"Examinations: {kind.value}", *(str(one.empty_cases.get(kind.value, 0)) for one in channels))
        for kind in Emptiness
    ]
    return Table("Segmentation", ("", *TITLES), tuple(rows))


def _quartiles(spread: Spread) -> str:
    """Median and quartiles, with the decimals their size needs, and of how many."""
    if not spread.defined:
        return NOT_DEFINED
    values = (spread.median, spread.lower_quartile, spread.upper_quartile)
    decimals = 3 if max(map(abs, values)) < 2 else 1
    median, low, high = (f"{value:.{decimals}f}" for value in values)
    return f"{median} ({low} to {high}), n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{spread.defined}"


def _lesions(findings: Findings) -> Table:
    shown = (findings.stroke, findings.flair_visible)
    rows = tuple(
        (one.size, counted(one.found), counted(other.found))
        for one, other in zip(*(channel.lesions_by_size for channel in shown), strict=True)
    )
    return Table("Reference lesions found, by volume", ("Lesion", *TITLES[1:]), rows)


def _own_metrics(found: Mapping[str, Spread]) -> Table:
    rows = tuple((name, number(spread.mean, 3), _quartiles(spread)) for name, spread in found.items())
    return Table("Metrics of the user's own", ("", "Mean", "Median (quartiles)"), rows)


def _volumes(findings: Findings) -> Table:
    rows = []
    for channel in Channel:
        row = findings.of(channel).volume
        correlations = (with_interval(one) for one in (row.concordance, row.rank))
        rows.append((channel.title, str(row.n), with_interval(row.bias, 2), _limits(row), *correlations))
    head = ("", "n", "Bias, mL", "Limits of agreement, mL", "Lin's concordance", "Spearman")
    return Table("Volumes, predicted against reference", head, tuple(rows))


def _ratios(findings: Findings) -> Table:
    rows, title = [], ""
    for channel in Channel:
        row = findings.of(channel).volume_ratio
        if row is not None:
            rows.append((channel.title, str(row.n), with_interval(row.ratio, 2), _limits(row)))
            pseudo = f"{row.pseudo_volume_ml:g}"
            title = f"Volumes on the log scale: (predicted + {pseudo} mL) / (reference + {pseudo} mL)"
    return Table(title, ("", "n", "Ratio, geometric mean", "95 % limits of agreement"), tuple(rows))


def _comparison(comparison: Comparison) -> Table:
    right, other = comparison.only_this_right, comparison.only_other_right
    p_value = number(comparison.answers_p_value, 3)
    rows = [
        ("AUC", with_interval(comparison.auc_difference, signed=True), "bootstrap over persons"),
        (
            "Right answers",
            f"{right - other:+d}",
            f"{right} right here only, {other} there only, p = {p_value}, exchange of the models within persons",
        ),
    ]
    for channel in Channel:
        change = with_interval(comparison.dice_difference.of(channel), signed=True)
        rows.append((f"{channel.title} Dice, mean", change, "bootstrap over persons"))
    title = f"This evaluation minus another ({comparison.other}), {comparison.patients} examinations in both"
    return Table(title, ("", "Difference", "Test or interval"), tuple(rows))


def _strata(strata: Iterable[Stratum]) -> Table:
    rows = tuple(
        (
            f"{row.stratum}: {row.value}",
            str(row.patients),
            *(number(row.dice_pooled.of(channel), 3) for channel in Channel),
            number(row.stroke_lesion_f1, 3),
            f"{row.mismatch}, {row.no_mismatch}",
            with_interval(row.auc, 2),
            percent(row.sensitivity),
            percent(row.specificity),
        )
        for row in strata
    )
    head = ("Stratum", "n", *(f"{title} Dice" for title in TITLES), "Stroke F1", "Mismatch, none", "AUC")
    return Table("Strata; Dice is pooled", (*head, "Sensitivity", "Specificity"), rows)
