"""Figures of a training run: its progress; example slices, slice classes and kappa against cut-off of an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import from_numpy
from torchmetrics.functional.classification import multiclass_confusion_matrix

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Channel
from fvv.training.validation import (
    SCORE,
    PatientValidation,
    SliceClass,
    best_epoch,
    kappa_against_cutoff,
    labelled_volumes,
    slice_classes,
)

EXAMPLE_CLASSES = (SliceClass.VISIBLE, SliceClass.MIXED, SliceClass.NOT_VISIBLE)
_NAMES = {kind: kind.name.lower().replace("_", " ") for kind in SliceClass}
_PROGRESS: Mapping[str, Sequence[str]] = {
    "loss": ("train/loss", "valid/loss"),
    "validation Dice (mean over patients)": (
        "valid/dice_brain",
        "valid/dice_stroke",
        "valid/dice_flair_visible",
        "valid/dice_not_visible",
        SCORE,
    ),
    "mismatch and slice classes (validation)": ("valid/auc", "valid/best_kappa", "valid/slice_kappa"),
    "learning rate": ("learning_rate",),
}


@dataclass(frozen=True, slots=True)
class Example:
    """One slice: b1000 (H, W) z-scores, predicted and reference masks (3, H, W), area of the reference lesion, voxels.

    The slices that are shown are those with the largest lesion of their kind.
    """

    b1000: FloatArray
    predicted: BoolArray
    reference: BoolArray
    area: int


def patient_examples(b1000: FloatArray, predicted: BoolArray, reference: BoolArray) -> dict[SliceClass, Example]:
    """The slice with the largest reference lesion of each class that a patient has.

    Args:
        b1000: (Z, H, W).
        predicted, reference: (3, Z, H, W) bool.
    """
    classes, areas = slice_classes(reference), reference[Channel.STROKE.value].sum(axis=(1, 2))
    found = {}
    for kind in EXAMPLE_CLASSES:
        if (classes == kind).any():
            k = int(np.where(classes == kind, areas, -1).argmax())
            masks = predicted[:, k].copy(), reference[:, k].copy()
            found[kind] = Example(b1000[k].astype(np.float32), *masks, int(areas[k]))
    return found


def larger_examples(
    examples: Mapping[SliceClass, Example], others: Mapping[SliceClass, Example]
) -> dict[SliceClass, Example]:
    """Of two sets of examples, the one with the larger lesion of each class; the first of equals."""
    larger = {kind: new for kind, new in others.items() if kind not in examples or new.area > examples[kind].area}
    return {**examples, **larger}


def progress_figure(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """The epochs so far as curves: losses, Dice and score, mismatch and slice classes, learning rate.

    Args:
        rows: of metrics.csv, at least one.
    """
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    places = figure.subplots(2, 2, sharex=True)
    epochs = [row["epoch"] + 1 for row in rows]
    for place, (heading, names) in zip(places.flat, _PROGRESS.items(), strict=True):
        for name in names:
            place.plot(epochs, [row.get(name, np.nan) for row in rows], marker=".", alpha=0.8, label=name)
        place.set_title(heading, fontsize="medium")
        place.grid(alpha=0.3)
        place.xaxis.set_major_locator(MaxNLocator(integer=True))
        place.legend(fontsize="small")
    losses, dice, agreement, rate = places.flat
    losses.set_ylim(bottom=0)
    dice.set_ylim(0, 1)
    agreement.set_ylim(-0.2, 1.02)
    rate.set_yscale("log")
    best = rows[best_epoch(rows)]
    dice.axvline(best["epoch"] + 1, color="gray", linestyle=":", linewidth=1)
    figure.supxlabel("epoch")
    figure.suptitle(f"{title}: best epoch {best['epoch'] + 1:.0f} of {len(rows)}, score {best[SCORE]:.3f}")
    return figure


def example_figure(examples: Mapping[SliceClass, Example]) -> Figure:
    """A row for each kind of slice: the image, the predicted masks, the reference."""
    rows = len(EXAMPLE_CLASSES)
    figure = Figure(figsize=(7.5, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    for place, title in zip(axes[0], ("b1000", "predicted", "reference"), strict=True):
        place.set_title(title)
    for places, kind in zip(axes, EXAMPLE_CLASSES, strict=True):
        places[0].set_ylabel(_NAMES[kind])
        example = examples.get(kind)
        for place in places:
            if example is None:
                place.text(0.5, 0.5, "no such slice", ha="center", va="center", transform=place.transAxes)
            else:
                place.imshow(example.b1000.T, cmap="gray", origin="lower", vmin=-1.5, vmax=5.0)
        if example is not None:
            _outline(places[1], example.predicted)
            _outline(places[2], example.reference)
    figure.suptitle("stroke sky blue, FLAIR-visible part vermillion", fontsize="small")
    return figure


def confusion_figure(patients: Sequence[PatientValidation]) -> Figure:
    """Slice classes, reference against predicted."""
    classes = from_numpy(np.concatenate([patient.classes for patient in patients]))
    counts = multiclass_confusion_matrix(classes[:, 1], classes[:, 0], len(SliceClass)).numpy()
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    place = figure.subplots()
    # Rows have very different sizes: colour says the share, the number says the count.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    place.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        place.text(column, row, str(count), ha="center", va="center", color=colour)
    place.set_xticks(range(len(_NAMES)), list(_NAMES.values()))
    place.set_yticks(range(len(_NAMES)), list(_NAMES.values()))
    place.set(xlabel="predicted", ylabel="reference")
    place.set_title("slices by FLAIR-visible share of the lesion", fontsize="medium")
    return figure


def kappa_figure(patients: Sequence[PatientValidation]) -> Figure:
    """Cohen's kappa of "FVV under the cut-off" with the label, against the cut-off."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    place = figure.subplots()
    volumes, mismatch = labelled_volumes(patients)
    if 0 < mismatch.sum() < mismatch.size:
        place.step(*kappa_against_cutoff(volumes, mismatch), where="mid", marker="o", markersize=3)
    else:
        place.text(0.5, 0.5, "the validation patients\nall have one label", ha="center", transform=place.transAxes)
    place.set_title(f"{mismatch.size} validation patients, {mismatch.sum()} with mismatch", fontsize="medium")
    place.grid(alpha=0.3)
    place.set_xscale("symlog", linthresh=0.1)
    place.set(ylim=(-1, 1.05), xlabel="FVV cut-off (mL)", ylabel="Cohen's kappa with the label")
    return figure


def _outline(place: Axes, masks: BoolArray) -> None:
    for channel in (Channel.STROKE, Channel.FLAIR_VISIBLE):
        if masks[channel.value].any():
            outline = masks[channel.value].T.astype(float)
            place.contour(outline, levels=[0.5], colors=[channel.colour], linewidths=1.0, origin="lower")
