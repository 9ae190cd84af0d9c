"""The evaluation's plots. Object interface of matplotlib only; one figure per function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fvv.analysis.patient import PatientResult
from fvv.analysis.statistics import Agreement, Estimate, roc_curve
from fvv.analysis.summary import MarkerData, measured_volumes
from fvv.arrays import BoolArray, FloatArray
from fvv.data import Channel

INK, SOFT = "#1d2733", "#8a95a1"
MISMATCH_COLOUR, OTHER_COLOUR = "#0072b2", "#d55e00"
CHANNEL_COLOURS = {Channel.BRAIN: "#7f7f7f", Channel.STROKE: "#0072b2", Channel.FLAIR_VISIBLE: "#d55e00"}
"""Okabe and Ito's palette: told apart in every common form of colour blindness."""
_LINEAR_UP_TO_ML = 0.1
"""Volumes are shown on a logarithmic axis that is linear under this, so that 0 mL has a place."""


def evaluation_plots(
    patients: Sequence[PatientResult], data: MarkerData, summary: Mapping[str, Any]
) -> dict[str, Figure]:
    """Every plot of the report, by a caption that says what it shows.

    Args:
        patients: the results.
        data: of the same patients.
        summary: of the same patients, from `summarise_cohort`.
    """
    figures = {}
    marker = summary["marker"]
    if marker["operating_points"]:
        places = {
            name: (point["cutoff_ml"], 1 - point["specificity"].value, point["sensitivity"].value)
            for name, point in marker["operating_points"].items()
        }
        caption = "ROC of the predicted FVV for mismatch; interval after DeLong."
        figures[caption] = roc_figure(data.fvv_ml, data.mismatch, marker["auc"], places)
    if data.fvv_ml.size:
        cutoff_ml = marker["cutoff_ml"]
        figures["Predicted FVV by label. Lines: medians."] = marker_figure(data.fvv_ml, data.mismatch, cutoff_ml)
    dice = {
        channel: [patient.metrics[channel.label]["dice_coefficient"] for patient in patients] for channel in Channel
    }
    figures["Dice of every patient, sorted within each channel."] = dice_figure(dice)
    for channel, name in ((Channel.FLAIR_VISIBLE, "FVV"), (Channel.STROKE, "stroke volume")):
        drawn, predicted = measured_volumes(patients, channel)
        if drawn.size > 1:
            caption = f"Bland-Altman of the {name}: bias and 95 % limits of agreement."
            figures[caption] = bland_altman_figure(drawn, predicted, summary["volumes"][channel.label])
    return figures


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
    for (name, (cutoff_ml, x, y)), marker in zip(points.items(), "os^", strict=False):
        axes.plot(x, y, marker, color=OTHER_COLOUR, markersize=7, label=f"{name}: FVV < {cutoff_ml:.3g} mL")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc="lower right", frameon=False, fontsize=9)
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


def _volume_axis(axes: Axes, volumes_ml: FloatArray) -> None:
    axes.set_xscale("symlog", linthresh=_LINEAR_UP_TO_ML)
    most = max(float(volumes_ml.max(initial=0.0)), 1.0)
    axes.set_xlim(-0.02, 1.5 * most)
    ticks = [0.0] + [10.0**power for power in range(-1, int(np.floor(np.log10(1.5 * most))) + 1)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
