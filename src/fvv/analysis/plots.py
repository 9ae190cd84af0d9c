"""The evaluation's plots. Object interface of matplotlib only; one figure per function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from fvv.analysis.marker import MarkerData
from fvv.analysis.statistics import wilson_interval
from fvv.analysis.summary import volumes_of
from fvv.analysis.tables import with_interval
from fvv.arrays import BoolArray, FloatArray
from fvv.data import Channel
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import Agreement, Findings, Marker, MarkerCalibration, RatioAgreement

INK, SOFT = "#1d2733", "#8a95a1"
MISMATCH_COLOUR, OTHER_COLOUR = "#0072b2", "#e69f00"
"""Of Okabe and Ito's palette, as the channels', and none of theirs."""
_LINEAR_UP_TO_ML = 0.1
"""Volumes are shown on a logarithmic axis that is linear under this, so that 0 mL has a place."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure, the name of its file and the sentence that says what it shows."""

    name: str
    caption: str
    figure: Figure


def evaluation_plots(patients: Sequence[PatientResult], data: MarkerData, findings: Findings) -> tuple[Plot, ...]:
    """Every plot of the report."""
    marker = findings.marker
    plots = []
    if marker.operating_points:
        how = "of a bootstrap over persons" if marker.persons_repeat else "after DeLong"
        caption = f"ROC of the predicted FVV for mismatch; interval {how}."
        plots.append(Plot("roc", caption, roc_figure(data, marker)))
        caption = "Precision (positive predictive value) against recall (sensitivity). Dashed: the share of mismatches."
        plots.append(Plot("precision_recall", caption, precision_recall_figure(data, marker)))
    if data.fvv_ml.size:
        figure = marker_figure(data.fvv_ml, data.mismatch, marker.cutoff_ml)
        plots.append(Plot("fvv_by_label", "Predicted FVV by label. Lines: medians.", figure))
    if marker.calibration is not None:
        caption = "Reliability of P(mismatch), held out; bars: Wilson's 95 % interval of the observed share, "
        caption += "which takes examinations for independent."
        plots.append(Plot("reliability", caption, reliability_figure(marker.calibration)))
    segmented = [patient for patient in patients if patient.segmented]
    dice = {channel: [patient.of(channel).dice_coefficient for patient in segmented] for channel in Channel}
    plots.append(Plot("dice", "Dice of every examination, sorted within each channel.", dice_figure(dice)))
    for channel, name in ((Channel.FLAIR_VISIBLE, "FVV"), (Channel.STROKE, "stroke volume")):
        volumes = volumes_of(patients, channel)
        of_channel = findings.of(channel)
        if volumes[0].size > 1 and of_channel.volume_ratio is not None:
            caption = f"Bland-Altman of the {name}: bias and 95 % limits of agreement."
            figure = bland_altman_figure(*volumes, of_channel.volume)
            plots.append(Plot(f"bland_altman_{channel.label}", caption, figure))
            caption = f"The same of the {name} on the log scale: ratio with 95 % limits of agreement."
            figure = ratio_figure(*volumes, of_channel.volume_ratio)
            plots.append(Plot(f"bland_altman_log_{channel.label}", caption, figure))
    return tuple(plots)


def roc_figure(data: MarkerData, marker: Marker) -> Figure:
    """ROC curve with operating points; both classes must be present."""
    figure, axes = _figure("1 - specificity", "sensitivity")
    false_positive_rate, true_positive_rate, _ = roc_curve(data.mismatch, -data.fvv_ml, drop_intermediate=False)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle="dashed")
    label = f"AUC {with_interval(marker.auc, 2)}"
    axes.plot(false_positive_rate, true_positive_rate, color=INK, linewidth=1.6, label=label)
    points = [(1 - point.specificity.value, point.sensitivity.value) for point in marker.operating_points.values()]
    _square(axes, marker, points, "lower right")
    return figure


def precision_recall_figure(data: MarkerData, marker: Marker) -> Figure:
    """Precision-recall curve with operating points; both classes must be present."""
    figure, axes = _figure("recall (sensitivity)", "precision (PPV)")
    precision, recall, _ = precision_recall_curve(data.mismatch, -data.fvv_ml)
    axes.axhline(float(data.mismatch.mean()), color=SOFT, linewidth=0.8, linestyle="dashed")
    label = f"average precision {with_interval(marker.average_precision, 2)}"
    axes.step(recall, precision, where="post", color=INK, linewidth=1.6, label=label)
    points = [
        (point.sensitivity.value, point.positive_predictive_value.value) for point in marker.operating_points.values()
    ]
    _square(axes, marker, points, "lower left")
    return figure


def _square(
    axes: Axes, marker: Marker, points: Sequence[tuple[float, float]], place: Literal["lower left", "lower right"]
) -> None:
    """Finish a plot of rates: operating points, both axes from 0 to 1, legend."""
    for (name, point), (x, y), sign in zip(marker.operating_points.items(), points, "os^", strict=True):
        axes.plot(x, y, sign, color=OTHER_COLOUR, markersize=7, label=f"{name}: FVV < {point.cutoff_ml:.3g} mL")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc=place, frameon=False, fontsize=9)


def reliability_figure(calibration: MarkerCalibration) -> Figure:
    """Observed share of mismatches against predicted probability."""
    figure, axes = _figure("predicted P(mismatch)", "observed share of mismatches")
    bins = calibration.reliability
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle="dashed")
    shares = [wilson_interval(round(one.observed * one.n), one.n) for one in bins]
    predicted, observed = [one.predicted for one in bins], [share.value for share in shares]
    bars = [[share.value - share.low for share in shares], [share.high - share.value for share in shares]]
    axes.errorbar(predicted, observed, yerr=np.abs(bars), fmt="none", ecolor=SOFT, elinewidth=1)
    axes.plot(predicted, observed, "o-", color=INK, markersize=5, linewidth=1)
    note = f"Brier {calibration.brier.value:.3f}  (prevalence alone: {calibration.brier_of_prevalence:.3f})"
    axes.text(0.03, 0.97, note, transform=axes.transAxes, va="top", fontsize=9)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.08), aspect="equal")
    return figure


def marker_figure(fvv_ml: FloatArray, mismatch: BoolArray, cutoff_ml: float) -> Figure:
    """FVV of every examination by label, with the cut-off."""
    figure, axes = _figure("predicted FVV (mL)", "")
    groups = (("no mismatch", ~mismatch, OTHER_COLOUR), ("mismatch", mismatch, MISMATCH_COLOUR))
    for row, (_, inside, colour) in enumerate(groups):
        volumes = np.sort(fvv_ml[inside])
        # A fixed pattern of heights keeps equal volumes apart and the picture the same each time.
        heights = row + 0.28 * np.sin(2.4 * np.arange(volumes.size))
        _points(axes, volumes, heights, colour)
        if volumes.size:
            axes.plot([np.median(volumes)] * 2, [row - 0.36, row + 0.36], color=colour, linewidth=2)
    axes.axvline(cutoff_ml, color=INK, linewidth=1, linestyle="dashed")
    axes.text(cutoff_ml, 1.47, f" cut-off {cutoff_ml:g} mL", fontsize=9, va="top")
    axes.set_yticks([0, 1], [f"{name}\n(n = {int(inside.sum())})" for name, inside, _ in groups])
    axes.set_ylim(-0.5, 1.5)
    _volume_axis(axes, fvv_ml)
    return figure


def bland_altman_figure(reference_ml: FloatArray, predicted_ml: FloatArray, agreement: Agreement) -> Figure:
    """Difference against mean of (n,) volumes, with bias and limits of agreement."""
    figure, axes = _figure("mean of reference and predicted (mL)", "predicted - reference (mL)")
    means = (reference_ml + predicted_ml) / 2
    _points(axes, means, predicted_ml - reference_ml, MISMATCH_COLOUR)
    levels = (agreement.bias.value, agreement.lower_limit, agreement.upper_limit)
    _levels(axes, levels, [f"bias {levels[0]:+.1f}", f"{levels[1]:+.1f}", f"limits {levels[2]:+.1f}"])
    _volume_axis(axes, means)
    return figure


def ratio_figure(reference_ml: FloatArray, predicted_ml: FloatArray, agreement: RatioAgreement) -> Figure:
    """Ratio against mean of (n,) volumes, with mean ratio and limits of agreement."""
    pseudo = agreement.pseudo_volume_ml
    figure, axes = _figure(
        "mean of reference and predicted (mL)", f"(predicted + {pseudo:g}) / (reference + {pseudo:g})"
    )
    means = (reference_ml + predicted_ml) / 2
    _points(axes, means, (predicted_ml + pseudo) / (reference_ml + pseudo), MISMATCH_COLOUR)
    axes.set_yscale("log")
    levels = (agreement.ratio.value, agreement.lower_limit, agreement.upper_limit)
    _levels(axes, levels, [f"ratio {levels[0]:.2g}", f"{levels[1]:.2g}", f"limits {levels[2]:.2g}"])
    _volume_axis(axes, means)
    return figure


def dice_figure(dice: Mapping[Channel, Sequence[float]]) -> Figure:
    """Dice of every examination, sorted within each channel; NaN (both empty) is counted in the legend."""
    figure, axes = _figure("examinations, sorted (%)", "Dice")
    for channel, values in dice.items():
        all_values = np.asarray(values, dtype=float)
        defined = np.sort(all_values[~np.isnan(all_values)])
        places = 100 * (np.arange(defined.size) + 0.5) / max(defined.size, 1)
        left_out = all_values.size - defined.size
        label = f"{channel.title} (n = {defined.size}" + (f", {left_out} both empty)" if left_out else ")")
        axes.plot(places, defined, "o-", color=channel.colour, markersize=3.5, linewidth=0.8, label=label)
    axes.set(xlim=(0, 100), ylim=(-0.02, 1.02))
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=2)
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


def _points(axes: Axes, x: FloatArray, y: FloatArray, colour: str) -> None:
    axes.plot(x, y, "o", color=colour, markersize=4.5, alpha=0.6, markeredgewidth=0)


def _levels(axes: Axes, levels: Sequence[float], names: Sequence[str]) -> None:
    """The mean and both limits of agreement as lines, named at the right."""
    for level, name, style in zip(levels, names, ("solid", "dashed", "dashed"), strict=True):
        if np.isfinite(level):
            axes.axhline(level, color=INK, linewidth=1, linestyle=style)
            axes.annotate(
                name, (1, level), xycoords=("axes fraction", "data"), fontsize=8.5,
                xytext=(3, 0), textcoords="offset points", va="center",
            )  # fmt: skip


def _volume_axis(axes: Axes, volumes_ml: FloatArray) -> None:
    axes.set_xscale("symlog", linthresh=_LINEAR_UP_TO_ML)
    most = max(float(volumes_ml.max(initial=0.0)), 1.0)
    axes.set_xlim(-0.02, 1.5 * most)
    ticks = [0.0] + [10.0**power for power in range(-1, int(np.floor(np.log10(1.5 * most))) + 1)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
