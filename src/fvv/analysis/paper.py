"""What goes into a paper: tables in Markdown and LaTeX, and the paragraphs of the methods section."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fvv import __version__
from fvv.analysis.answers import RATES
from fvv.analysis.shares import WILSON, Share
from fvv.analysis.statistics import Estimate
from fvv.analysis.strata import VISIBLE_EDGES, VOLUME_EDGES_ML
from fvv.config import EvaluateConfig, PostprocessConfig
from fvv.data import DecisionState

CHANNEL_NAMES = {"brain": "Brain", "stroke": "Stroke", "flair_visible": "FLAIR-visible"}
OUT_OF_FOLD, EXTERNAL = "out-of-fold", "external"
"""The two kinds of evaluation."""
NOT_GIVEN = "not defined"
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
        lines = [f"**{self.title}**", "", _bar(self.head), _bar(["---"] * len(self.head)), *map(_bar, self.rows)]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """As a LaTeX table (needs the package booktabs)."""
        columns = "l" + "r" * (len(self.head) - 1)
        rows = "\n".join(_latex_row(row) for row in self.rows)
        return (
            f"\\begin{{table}}\n\\caption{{{_latex(self.title)}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
            f"{_latex_row(self.head)}\n\\midrule\n{rows}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
        )


def paper_tables(summary: Mapping[str, Any]) -> tuple[Table, ...]:
    """The tables of a paper, from `summarise_cohort`: answers first, then marker, segmentation, volumes."""
    tables = [answers_table(summary["answers"]), rates_table(summary["answers"])]
    if summary["marker"]["operating_points"]:
        tables.append(_marker_table(summary["marker"]))
    segmentation, volumes = _segmentation_table(summary["segmentation"]), _volume_table(summary["volumes"])
    return (*tables, segmentation, volumes, _ratio_table(summary["volume_ratios"]))


def answers_table(answers: Mapping[str, Any]) -> Table:
    """The four answers against what is so.

    Args:
        answers: from `summarise_answers`, or the same as JSON holds it.
    """
    states = [state.value for state in DecisionState]
    rows = tuple((kind, *(str(row[state]) for state in states)) for kind, row in answers["table"].items())
    return Table("Answers against the reference, examinations", ("Reference", *states), rows)


def rates_table(answers: Mapping[str, Any]) -> Table:
    """Rates of the answers.

    Args:
        answers: from `summarise_answers`.
    """
    rows = tuple(
        (text, f"{rate.successes} of {rate.trials}", _share(rate))
        for name, text in RATES.items()
        for rate in (answers["rates"][name],)
    )
    return Table("Rates of the answers, of the examinations that could be assessed", ("", "n", "Rate"), rows)


def _segmentation_table(segmentation: Mapping[str, Any]) -> Table:
    spreads = {
        "Dice, median (quartiles)": ("dice_coefficient", 3),
        "Sensitivity, median (quartiles)": ("sensitivity", 3),
        "Precision, median (quartiles)": ("precision", 3),
        "Hausdorff distance, 95th percentile, mm": ("hausdorff_distance_95_mm", 1),
        "Average surface distance, mm": ("average_surface_distance_mm", 2),
        "Volume error, mL": ("volume_error_ml", 2),
    }
    channels = list(segmentation.values())
    rows = [
        ("Dice, pooled", *(with_interval(channel["dice_pooled"], 3) for channel in channels)),
        ("Dice, mean", *(with_interval(channel["dice_mean"], 3) for channel in channels)),
        *(
            (name, *(_quartiles(channel["per_patient"][metric], decimals) for channel in channels))
            for name, (metric, decimals) in spreads.items()
        ),
        ("Lesion-wise F1, pooled", *(_number(channel["lesions"]["f1"], 3) for channel in channels)),
    ]
    return Table("Segmentation", ("", *(CHANNEL_NAMES[name] for name in segmentation)), tuple(rows))


def _marker_table(marker: Mapping[str, Any]) -> Table:
    points = marker["operating_points"]
    shares = {
        "Sensitivity": "sensitivity",
        "Specificity": "specificity",
        "PPV": "positive_predictive_value",
        "NPV": "negative_predictive_value",
        "Accuracy": "accuracy",
    }
    rows = [
        *((label, *(_share(point[name]) for point in points.values())) for label, name in shares.items()),
        ("Cohen's κ", *(with_interval(point["kappa"], 3) for point in points.values())),
        *(
            (f"{label}, optimism corrected", *(_corrected(point, name) for point in points.values()))
            for label, name in (("Sensitivity", "sensitivity"), ("Specificity", "specificity"))
        ),
        (
            "Youden's index, apparent; corrected",
            *(f"{_youden(point):.2f}; {_corrected(point, 'youden_index')}" for point in points.values()),
        ),
    ]
    head = ("FVV under", *(f"{point['cutoff_ml']:.3g} mL ({name})" for name, point in points.items()))
    n = marker["mismatch"] + marker["no_mismatch"]
    title = (
        f"FVV alone for DWI-FLAIR mismatch, {marker['mismatch']} of {n} examinations. "
        f"AUC {with_interval(marker['auc'], 3)}, average precision {with_interval(marker['average_precision'], 3)}. "
        "A missed stroke has an FVV of 0 mL"
    )
    return Table(title, head, tuple(rows))


def _share(share: Share) -> str:
    """A share with its interval and, where that is over persons, Wilson's beside it."""
    text = with_interval(share, 1, percent=True)
    if share.method == WILSON or math.isnan(share.wilson_low):
        return text
    return f"{text} (Wilson [{100 * share.wilson_low:.1f} to {100 * share.wilson_high:.1f}])"


def _corrected(point: Mapping[str, Any], name: str) -> str:
    """A measure with its optimism taken off; of the prespecified cut-off, which has none, a dash."""
    return "-" if point["optimism"] is None else _number(point["optimism"]["corrected"][name], 2)


def _youden(point: Mapping[str, Any]) -> float:
    return float(point["sensitivity"].value + point["specificity"].value - 1)


def _ratio_table(ratios: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            CHANNEL_NAMES[name],
            str(row.n),
            with_interval(row.ratio, 2),
            f"{_number(row.lower_limit, 2)} to {_number(row.upper_limit, 2)}",
        )
        for name, row in ratios.items()
        if name in CHANNEL_NAMES
    )
    pseudo = ratios["flair_visible"].pseudo_volume_ml
    title = f"Volumes on the log scale: (predicted + {pseudo:g} mL) over (drawn + {pseudo:g} mL)"
    return Table(title, ("", "n", "Ratio, geometric mean", "95 % limits of agreement"), rows)


def _volume_table(volumes: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            CHANNEL_NAMES[name],
            str(row.n),
            with_interval(row.bias, 2),
            f"{_number(row.lower_limit, 2)} to {_number(row.upper_limit, 2)}",
            with_interval(row.concordance, 3),
            with_interval(row.intraclass, 3),
            with_interval(row.rank, 3),
        )
        for name, row in volumes.items()
    )
    head = ("", "n", "Bias, mL", "Limits of agreement, mL", "Lin's concordance", "ICC(A,1)", "Spearman")
    return Table("Volumes, predicted against drawn", head, rows)


def methods_paragraphs(kind: str, label: str, config: EvaluateConfig) -> tuple[str, ...]:
    """The methods section of the evaluation, a paragraph each, in plain sentences.

    Args:
        kind: `OUT_OF_FOLD` or `EXTERNAL`.
        label: where the mismatch label comes from.
        config: the settings behind the numbers.
    """
    volumes = ", ".join(f"{edge:g}" for edge in VOLUME_EDGES_ML)
    shares = " and ".join(f"{100 * edge:g}" for edge in VISIBLE_EDGES)
    text = _METHODS.format(
        who=_WHO[kind],
        how=" ".join(_how(kind, config)),
        label=label,
        cutoff=f"{config.decision.cutoff_ml:g}",
        specificity=f"{100 * config.operating_specificity:g}",
        draws=config.bootstrap_samples,
        seed=config.seed,
        pseudo=f"{config.pseudo_volume_ml:g}",
        volumes=volumes,
        shares=shares,
        versions=software_versions(),
    )
    return tuple(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _how(kind: str, config: EvaluateConfig) -> list[str]:
    """What was done to the images and to the masks, a sentence each."""
    sentences = [_OWN_MASKS if kind == EXTERNAL and config.own_masks else _GIVEN_MASKS]
    post = config.postprocess
    if post == PostprocessConfig():
        sentences.append("Nothing was taken out of the stroke afterwards.")
    if post is not None and post.minimum_lesion_mm3:
        sentences.append(f"Separate pieces of the stroke under {post.minimum_lesion_mm3:g} mm³ were dropped.")
    if kind == EXTERNAL:
        sentences.append(_REFUSED)
    return sentences


_GIVEN_MASKS = "Brain mask: the file's where there was one, else computed from the images."
_OWN_MASKS = """Brain mask shown to the models: computed from the images of every patient; a drawn one was only compared
    with the predicted brain."""
_REFUSED = """Images that quality control refused were shown to no model: these examinations are counted, and are in no
    overlap and no lesion count."""
_WHO = {
    OUT_OF_FOLD: """Each examination was segmented by the cross-validation model that had neither been trained on that
        person nor used that person to choose its weights. These are numbers of single models; a new patient gets the
        answer of the whole ensemble, which may differ.""",
    EXTERNAL: """Each examination was segmented by the whole ensemble, none of whose models had been trained or selected
        on that person or on these images (checked by hashes of the ids and of the voxel values). Brain and stroke:
        voxels marked by at least half of the models; FVV: mean over the models of the FLAIR-visible voxels inside that
        stroke.""",
}
_METHODS = """
{who} {how}

Masks were compared on the grid of the input images. Pooled Dice adds up the volumes of all patients before the ratio is
taken; mean Dice is the average over patients. Where both masks are empty, overlap is not defined and the patient is
counted, not averaged; where only one is, Dice is 0. Distances are between surface voxels in mm, defined where both
masks hold voxels. A lesion is a component over 26 neighbours; one common voxel is a detection. Volumes are those
reported to users, measured on the working grid.

Each examination gets one of four answers: mismatch likely, mismatch unlikely, no lesion found, not assessable. They are
counted against mismatch, no mismatch and no lesion of the reference. Sensitivity and specificity of the answers are of
the examinations that could be assessed; a missed stroke is no mismatch found. Label: {label}.

Of the FVV alone, mismatch is the positive class and a low FVV predicts it; a missed stroke has an FVV of 0 mL and so is
under any cut-off. The prespecified cut-off is {cutoff} mL; Youden's cut-off and the one that keeps a specificity of
{specificity} % were chosen on the patients they are judged on: beside what they achieve there stands the same with its
optimism taken off by bootstrap (Harrell). Where every person was examined once, AUC has DeLong's interval on the logit
scale and proportions have Wilson's; where a person was examined twice or more, both have the interval of a percentile
bootstrap over persons with all their examinations, as Dice, kappa, average precision and Brier score have always
({draws} draws, seed {seed}). All intervals are at 95 %.

P(mismatch) is a logistic curve on log(FVV + {pseudo} mL) with Platt's targets, judged on patients held out of its fit
(by fold, or by person where one ensemble tested all). It holds for the share of mismatches among these patients;
another prevalence changes the odds by Bayes' rule. Net benefit weighs a false positive by t/(1 - t) at the threshold
probability t. Volumes: Bland-Altman limits of agreement (bias ± 1.96 SD), in mL and as ratios on log(volume + {pseudo}
mL), Lin's concordance, ICC(A,1), Spearman's correlation. Strata: lesion volume at {volumes} mL, FLAIR-visible share at
{shares} %, site, fold.

Software: {versions}.
"""


def software_versions() -> str:
    """Versions of what the numbers depend on."""
    packages = ("numpy", "scipy", "scikit-learn", "statsmodels", "onnxruntime", "nibabel")
    parts = [f"fvv {__version__}", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *(f"{name} {version(name)}" for name in packages)])


def with_interval(estimate: Estimate | Share, decimals: int, *, percent: bool = False) -> str:
    """A number with its interval in brackets, for people."""
    scale = 100 if percent else 1
    unit = " %" if percent else ""
    if math.isnan(estimate.value):
        return NOT_GIVEN
    value = f"{scale * estimate.value:.{decimals}f}{unit}"
    if math.isnan(estimate.low):
        return value
    return f"{value} [{scale * estimate.low:.{decimals}f} to {scale * estimate.high:.{decimals}f}]"


def _quartiles(row: Mapping[str, float], decimals: int) -> str:
    if not row["defined"]:
        return NOT_GIVEN
    median, low, high = (f"{row[name]:.{decimals}f}" for name in ("median", "lower_quartile", "upper_quartile"))
    return f"{median} ({low} to {high})"


def _number(value: float, decimals: int) -> str:
    return NOT_GIVEN if math.isnan(value) else f"{value:.{decimals}f}"


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_latex(cell) for cell in cells) + r" \\"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
