"""The evaluation's plots. Object interface of matplotlib only; one figure per function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fvv.analysis.agreement import Agreement, RatioAgreement
from fvv.analysis.calibration import ReliabilityBin
from fvv.analysis.marker import MarkerData
from fvv.analysis.patient import PatientResult
from fvv.analysis.statistics import Estimate, precision_recall_curve, roc_curve, wilson_interval
from fvv.analysis.summary import measured_volumes
from fvv.arrays import BoolArray, FloatArray
from fvv.data import Channel

INK, SOFT = "#1d2733", "#8a95a1"
MISMATCH_COLOUR, OTHER_COLOUR = "#0072b2", "#d55e00"
CHANNEL_COLOURS = {Channel.BRAIN: "#7f7f7f", Channel.STROKE: "#0072b2", Channel.FLAIR_VISIBLE: "#d55e00"}
"""Okabe and Ito's palette: told apart in every common form of colour blindness."""
_LINEAR_UP_TO_ML = 0.1
"""Volumes are shown on a logarithmic axis that is linear under this, so that 0 mL has a place."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure, the name of its file and the sentence that says what it shows."""

    name: str
    caption: str
    figure: Figure


def evaluation_plots(
    patients: Sequence[PatientResult], data: MarkerData, summary: Mapping[str, Any]
) -> tuple[Plot, ...]:
    """Every plot of the report.

    Args:
        patients: the results.
        data: of the same patients.
        summary: of the same patients, from `summarise_cohort`.
    """
    plots = _marker_plots(data, summary["marker"])
    segmented = [patient for patient in patients if patient.segmented]
    dice = {
        channel: [patient.metrics[channel.label]["dice_coefficient"] for patient in segmented] for channel in Channel
    }
    plots.append(Plot("dice", "Dice of every patient, sorted within each channel.", dice_figure(dice)))
    for channel, name in ((Channel.FLAIR_VISIBLE, "FVV"), (Channel.STROKE, "stroke volume")):
        drawn, predicted = measured_volumes(patients, channel)
        if drawn.size > 1:
            caption = f"Bland-Altman of the {name}: bias and 95 % limits of agreement."
            figure = bland_altman_figure(drawn, predicted, summary["volumes"][channel.label])
            plots.append(Plot(f"bland_altman_{channel.label}", caption, figure))
            ratios = summary["volume_ratios"][channel.label]
            caption = f"The same of the {name} on the log scale: ratio with 95 % limits of agreement."
            figure = ratio_figure(drawn, predicted, ratios)
            plots.append(Plot(f"bland_altman_log_{channel.label}", caption, figure))
    return tuple(plots)


def _marker_plots(data: MarkerData, marker: Mapping[str, Any]) -> list[Plot]:
    plots = []
    points = marker["operating_points"]
    if points:
        roc_places = {
            name: (point["cutoff_ml"], 1 - point["specificity"].value, point["sensitivity"].value)
            for name, point in points.items()
        }
        recall_places = {
            name: (point["cutoff_ml"], point["sensitivity"].value, point["positive_predictive_value"].value)
            for name, point in points.items()
        }
        figure = roc_figure(data.fvv_ml, data.mismatch, marker["auc"], roc_places)
        how = "of a bootstrap over persons" if marker["persons_repeat"] else "after DeLong"
        plots.append(Plot("roc", f"ROC of the predicted FVV for mismatch; interval {how}.", figure))
        figure = precision_recall_figure(data.fvv_ml, data.mismatch, marker["average_precision"], recall_places)
        caption = "Precision (positive predictive value) against recall (sensitivity). Dashed: the share of mismatches."
        plots.append(Plot("precision_recall", caption, figure))
    if data.fvv_ml.size:
        figure = marker_figure(data.fvv_ml, data.mismatch, marker["cutoff_ml"])
        plots.append(Plot("fvv_by_label", "Predicted FVV by label. Lines: medians.", figure))
    if marker["calibration"] is not None:
        caption = "Reliability of P(mismatch), held out; bars: Wilson's 95 % interval of the observed share, "
        caption += "which takes examinations for independent."
        plots.append(Plot("reliability", caption, reliability_figure(marker["calibration"])))
        caption = "Decision curve: net benefit of treating by P(mismatch), by the cut-off, everybody, nobody."
        plots.append(Plot("decision_curve", caption, decision_curve_figure(marker["decision_curve"])))
    return plots


def roc_figure(
    fvv_ml: FloatArray, mismatch: BoolArray, auc: Estimate, points: Mapping[str, tuple[float, float, float]]
) -> Figure:
    """ROC curve with operating points.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels, both classes present.
        auc: area and its interval.
        points: operating points to mark, by name: cut-off (mL), 1 - specificity, sensitivity.
    """
    figure, axes = _figure("1 - specificity", "sensitivity")
    false_positive_rate, true_positive_rate, _ = roc_curve(fvv_ml, mismatch)
    interval = f" [{auc.low:.2f} to {auc.high:.2f}]" if np.isfinite(auc.low) else ""
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle="dashed")
    axes.plot(false_positive_rate, true_positive_rate, color=INK, linewidth=1.6, label=f"AUC {auc.value:.2f}{interval}")
    _mark_points(axes, points)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def precision_recall_figure(
    fvv_ml: FloatArray, mismatch: BoolArray, area: Estimate, points: Mapping[str, tuple[float, float, float]]
) -> Figure:
    """Precision-recall curve with operating points.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels, both classes present.
        area: average precision and its interval.
        points: operating points to mark, by name: cut-off (mL), recall, precision.
    """
    figure, axes = _figure("recall (sensitivity)", "precision (PPV)")
    precision, recall = precision_recall_curve(fvv_ml, mismatch)
    interval = f" [{area.low:.2f} to {area.high:.2f}]" if np.isfinite(area.low) else ""
    axes.axhline(float(mismatch.mean()), color=SOFT, linewidth=0.8, linestyle="dashed")
    label = f"average precision {area.value:.2f}{interval}"
    axes.step(recall, precision, where="post", color=INK, linewidth=1.6, label=label)
    _mark_points(axes, points)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    return figure


def reliability_figure(calibration: Mapping[str, Any]) -> Figure:
    """Observed share of mismatches against predicted probability.

    Args:
        calibration: of `summarise_marker`.
    """
    figure, axes = _figure("predicted P(mismatch)", "observed share of mismatches")
    bins: Sequence[ReliabilityBin] = calibration["reliability"]
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle="dashed")
    shares = [wilson_interval(round(one.observed * one.n), one.n) for one in bins]
    predicted, observed = [one.predicted for one in bins], [share.value for share in shares]
    bars = [[share.value - share.low for share in shares], [share.high - share.value for share in shares]]
    axes.errorbar(predicted, observed, yerr=np.abs(bars), fmt="none", ecolor=SOFT, elinewidth=1)
    axes.plot(predicted, observed, "o-", color=INK, markersize=5, linewidth=1)
    brier: Estimate = calibration["brier"]
    note = f"Brier {brier.value:.3f}  (prevalence alone: {calibration['brier_of_prevalence']:.3f})"
    axes.text(0.03, 0.97, note, transform=axes.transAxes, va="top", fontsize=9)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.08), aspect="equal")
    return figure


def decision_curve_figure(curve: Mapping[str, Sequence[float]]) -> Figure:
    """Net benefit against threshold probability.

    Args:
        curve: from `decision_curve`.
    """
    figure, axes = _figure("threshold probability", "net benefit")
    styles: tuple[tuple[str, str, str, str], ...] = (
        ("calibrated", "by P(mismatch)", INK, "solid"),
        ("cutoff", "by the cut-off", OTHER_COLOUR, "solid"),
        ("all", "everybody", SOFT, "dashed"),
    )
    for key, label, colour, style in styles:
        axes.plot(curve["threshold"], curve[key], color=colour, linestyle=style, linewidth=1.5, label=label)
    axes.axhline(0, color=SOFT, linewidth=1, linestyle="dotted", label="nobody")
    top = max(*curve["calibrated"], *curve["cutoff"], 0.05)
    axes.set(xlim=(0, 1), ylim=(-0.3 * top, 1.3 * top))
    axes.legend(loc="upper right", frameon=False, fontsize=9, ncols=2)
    return figure


def marker_figure(fvv_ml: FloatArray, mismatch: BoolArray, cutoff_ml: float) -> Figure:
    """FVV of every patient by label, with the cut-off.

    Args:
        fvv_ml: (n,) volumes, mL.
        mismatch: (n,) bool labels.
        cutoff_ml: drawn as a line.
    """
    figure, axes = _figure("predicted FVV (mL)", "")
    groups = (("no mismatch", ~mismatch, OTHER_COLOUR), ("mismatch", mismatch, MISMATCH_COLOUR))
    for row, (_, inside, colour) in enumerate(groups):
        volumes = np.sort(fvv_ml[inside])
        # A fixed pattern of heights keeps equal volumes apart and the picture the same each time.
        heights = row + 0.28 * np.sin(2.4 * np.arange(volumes.size))
        axes.plot(volumes, heights, "o", color=colour, markersize=4.5, alpha=0.6, markeredgewidth=0)
        if volumes.size:
            axes.plot([np.median(volumes)] * 2, [row - 0.36, row + 0.36], color=colour, linewidth=2)
    axes.axvline(cutoff_ml, color=INK, linewidth=1, linestyle="dashed")
    axes.text(cutoff_ml, 1.47, f" cut-off {cutoff_ml:g} mL", fontsize=9, va="top")
    axes.set_yticks([0, 1], [f"{name}\n(n = {int(inside.sum())})" for name, inside, _ in groups])
    axes.set_ylim(-0.5, 1.5)
    _volume_axis(axes, fvv_ml)
    return figure


def bland_altman_figure(drawn_ml: FloatArray, predicted_ml: FloatArray, agreement: Agreement) -> Figure:
    """Difference against mean of two volumes, with bias and limits of agreement.

    Args:
        drawn_ml: (n,) drawn volumes, mL.
        predicted_ml: (n,) predicted volumes, mL.
        agreement: of the two.
    """
    figure, axes = _figure("mean of drawn and predicted (mL)", "predicted - drawn (mL)")
    means = (drawn_ml + predicted_ml) / 2
    axes.plot(means, predicted_ml - drawn_ml, "o", color=MISMATCH_COLOUR, markersize=4.5, alpha=0.6, markeredgewidth=0)
    lines = (
        (agreement.bias.value, "bias", "solid"),
        (agreement.lower_limit, "", "dashed"),
        (agreement.upper_limit, "limits", "dashed"),
    )
    for level, name, style in lines:
        if np.isfinite(level):
            axes.axhline(level, color=INK, linewidth=1, linestyle=style)
            axes.annotate(
                f"{name} {level:+.1f}".strip(), (1, level), xycoords=("axes fraction", "data"), fontsize=8.5,
                xytext=(3, 0), textcoords="offset points", va="center",
            )  # fmt: skip
    _volume_axis(axes, means)
    return figure


def ratio_figure(drawn_ml: FloatArray, predicted_ml: FloatArray, agreement: RatioAgreement) -> Figure:
    """Ratio against mean of two volumes, with mean ratio and limits of agreement.

    Args:
        drawn_ml: (n,) drawn volumes, mL.
        predicted_ml: (n,) predicted volumes, mL.
        agreement: of the two, on the log scale.
    """
    pseudo = agreement.pseudo_volume_ml
    figure, axes = _figure("mean of drawn and predicted (mL)", f"(predicted + {pseudo:g}) / (drawn + {pseudo:g})")
    means, ratios = (drawn_ml + predicted_ml) / 2, (predicted_ml + pseudo) / (drawn_ml + pseudo)
    axes.plot(means, ratios, "o", color=MISMATCH_COLOUR, markersize=4.5, alpha=0.6, markeredgewidth=0)
    axes.set_yscale("log")
    lines = (
        (agreement.ratio.value, "ratio", "solid"),
        (agreement.lower_limit, "", "dashed"),
        (agreement.upper_limit, "limits", "dashed"),
    )
    for level, name, style in lines:
        if np.isfinite(level):
            axes.axhline(level, color=INK, linewidth=1, linestyle=style)
            axes.annotate(
                f"{name} {level:.2g}".strip(), (1, level), xycoords=("axes fraction", "data"), fontsize=8.5,
                xytext=(3, 0), textcoords="offset points", va="center",
            )  # fmt: skip
    _volume_axis(axes, means)
    return figure


def dice_figure(dice: Mapping[Channel, Sequence[float]]) -> Figure:
    """Dice of every patient, sorted within each channel.

    Args:
        dice: for each channel the Dice of every patient; NaN (both empty) is left out and counted in the legend.
    """
    figure, axes = _figure("patients, sorted (%)", "Dice")
    handles = []
    for channel, values in dice.items():
        all_values = np.asarray(values, dtype=float)
        defined = np.sort(all_values[~np.isnan(all_values)])
        places = 100 * (np.arange(defined.size) + 0.5) / max(defined.size, 1)
        colour = CHANNEL_COLOURS[channel]
        axes.plot(places, defined, "o-", color=colour, markersize=3.5, linewidth=0.8)
        left_out = all_values.size - defined.size
        label = channel.label.replace("_", "-").replace("flair", "FLAIR")
        label += f" (n = {defined.size}" + (f", {left_out} both empty)" if left_out else ")")
        handles.append(Line2D([], [], color=colour, marker="o", markersize=4, label=label))
    axes.set(xlim=(0, 100), ylim=(-0.02, 1.02))
    figure.legend(handles=handles, loc="outside lower center", frameon=False, fontsize=9, ncols=2)
    return figure


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 4.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e8ecf0", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _mark_points(axes: Axes, points: Mapping[str, tuple[float, float, float]]) -> None:
    for (name, (cutoff_ml, x, y)), marker in zip(points.items(), "os^", strict=False):
        axes.plot(x, y, marker, color=OTHER_COLOUR, markersize=7, label=f"{name}: FVV < {cutoff_ml:.3g} mL")


def _volume_axis(axes: Axes, volumes_ml: FloatArray) -> None:
    axes.set_xscale("symlog", linthresh=_LINEAR_UP_TO_ML)
    most = max(float(volumes_ml.max(initial=0.0)), 1.0)
    axes.set_xlim(-0.02, 1.5 * most)
    ticks = [0.0] + [10.0**power for power in range(-1, int(np.floor(np.log10(1.5 * most))) + 1)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
