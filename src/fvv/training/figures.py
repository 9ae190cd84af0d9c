"""Figures of a training run: its progress; examples, slice classes and kappa against cut-off of an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fvv.arrays import BoolArray
from fvv.data import Channel
from fvv.training.examples import EXAMPLE_CLASSES, Example
from fvv.training.validation import (
    SCORE,
    PatientValidation,
    SliceClass,
    confusion_matrix,
    kappa_against_cutoff,
    labelled_volumes,
    selection_key,
)

STROKE_COLOUR, VISIBLE_COLOUR = "#2f7fff", "#e8402a"
"""The colours of the heatmaps: stroke blue, FLAIR-visible red."""
_PROGRESS: Mapping[str, Mapping[str, str]] = {
    "loss": {"train/loss": "training", "valid/loss": "validation"},
    "validation Dice (mean over patients)": {
        "valid/dice_brain": "brain",
        "valid/dice_stroke": "stroke",
        "valid/dice_flair_visible": "FLAIR-visible",
        "valid/dice_not_visible": "not visible",
        SCORE: "score",
    },
    "mismatch and slice classes (validation)": {
        "valid/auc": "AUC of FVV",
        "valid/best_kappa": "best kappa of FVV",
        "valid/slice_kappa": "kappa of slice classes",
    },
    "learning rate": {"learning_rate": "learning rate"},
}
_NAMES = {
    SliceClass.NONE: "none",
    SliceClass.NOT_VISIBLE: "not visible",
    SliceClass.MIXED: "mixed",
    SliceClass.VISIBLE: "visible",
}


def progress_figure(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """The epochs so far as curves: losses, Dice and score, mismatch and slice classes, learning rate.

    Args:
        rows: of metrics.csv, at least one.
        title: name of the run and its fold.
    """
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    places = figure.subplots(2, 2, sharex=True)
    epochs = [row["epoch"] + 1 for row in rows]
    for place, (heading, names) in zip(places.flat, _PROGRESS.items(), strict=True):
        for name, label in names.items():
            colour, width = ("black", 2.4) if name == SCORE else (None, 1.4)
            values = [row.get(name, np.nan) for row in rows]
            # Dashed, so that two curves that coincide (AUC and kappa of few patients) both show.
            style = "--" if name == "valid/best_kappa" else "-"
            place.plot(epochs, values, style, marker=".", label=label, color=colour, linewidth=width)
        place.set_title(heading, fontsize="medium")
        place.grid(alpha=0.3)
        place.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(names) > 1:
            place.legend(fontsize="small", framealpha=0.9, loc="upper right" if heading == "loss" else "lower right")
    losses, dice, agreement, rate = places.flat
    losses.set_ylim(bottom=0)
    rate.set_yscale("log")
    dice.set_ylim(0, 1)
    agreement.set_ylim(-0.2, 1.02)
    best = max(rows, key=selection_key)
    dice.axvline(best["epoch"] + 1, color="gray", linestyle=":", linewidth=1)
    for place in places[1]:
        place.set_xlabel("epoch")
    figure.suptitle(f"{title}: best epoch {best['epoch'] + 1:.0f} of {len(rows)}, score {best[SCORE]:.3f}")
    return figure


def example_figure(examples: Mapping[SliceClass, Example]) -> Figure:
    """A row for each kind of slice: the image, what the network marks, the truth."""
    rows = len(EXAMPLE_CLASSES)
    figure = Figure(figsize=(7.5, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False)
    for row, kind in enumerate(EXAMPLE_CLASSES):
        axes[row, 0].set_ylabel(_NAMES[kind])
        for column, title in enumerate(("b1000", "marked", "truth")):
            place = axes[row, column]
            place.set_xticks([])
            place.set_yticks([])
            if row == 0:
                place.set_title(title)
            example = examples.get(kind)
            if example is None:
                place.text(0.5, 0.5, "no such slice", ha="center", va="center", transform=place.transAxes)
                continue
            place.imshow(example.b1000.T, cmap="gray", origin="lower", vmin=-1.5, vmax=5.0)
            if column > 0:
                masks = example.marked if column == 1 else example.truth
                _outline(place, masks[Channel.STROKE.value], STROKE_COLOUR)
                _outline(place, masks[Channel.FLAIR_VISIBLE.value], VISIBLE_COLOUR)
    figure.suptitle("stroke blue, FLAIR-visible part red", fontsize="small")
    return figure


def confusion_figure(patients: Sequence[PatientValidation]) -> Figure:
    """Slice classes, true against marked."""
    counts = confusion_matrix(patients)
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    place = figure.subplots()
    # Rows have very different sizes: colour says the share, the number says the count.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    place.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        place.text(column, row, str(count), ha="center", va="center", color=colour)
    names = [_NAMES[kind] for kind in SliceClass]
    place.set_xticks(range(len(names)), names)
    place.set_yticks(range(len(names)), names)
    place.set_xlabel("marked")
    place.set_ylabel("truth")
    place.set_title("slices by FLAIR-visible share of the lesion", fontsize="medium")
    return figure


def kappa_figure(patients: Sequence[PatientValidation]) -> Figure:
    """Cohen's kappa of "FVV under the cut-off" with the label, against the cut-off."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    place = figure.subplots()
    volumes, mismatch = labelled_volumes(patients)
    if 0 < mismatch.sum() < mismatch.size:
        cutoffs, kappas = kappa_against_cutoff(volumes, mismatch)
        place.step(cutoffs, kappas, where="mid", marker="o", markersize=3)
    else:
        place.text(0.5, 0.5, "the validation patients\nall have one label", ha="center", transform=place.transAxes)
    place.set_title(f"{mismatch.size} validation patients, {mismatch.sum()} with mismatch", fontsize="medium")
    place.grid(alpha=0.3)
    place.set_xscale("symlog", linthresh=0.1)
    place.set_ylim(-1, 1.05)
    place.set_xlabel("FVV cut-off (mL)")
    place.set_ylabel("Cohen's kappa with the label")
    return figure


def _outline(place: object, mask: BoolArray, colour: str) -> None:
    if mask.any():
        place.contour(mask.T.astype(float), levels=[0.5], colors=[colour], linewidths=1.0, origin="lower")  # type: ignore[attr-defined]
