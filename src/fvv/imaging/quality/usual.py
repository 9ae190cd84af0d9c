"""How far this patient lies from those the models were trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from fvv.data import Finding, PreparedCase, Severity
from fvv.imaging.quality.view import NativeView

MARGIN = 0.25
"""A feature may leave the cohort's range by this share of its width."""
_NAMES = {
    "b0_fluid": "fluid on b0 (99th percentile, z)",
    "b1000_bright": "brightest tissue on b1000 (99th percentile, z)",
    "b0_dark": "darkest tissue on b0 (5th percentile, z)",
    "b1000_dark": "darkest tissue on b1000 (5th percentile, z)",
    "background": "b1000 outside the brain (median, z)",
    "slice_spacing_mm": "slice spacing (mm)",
    "brain_ml": "brain volume (mL)",
}


def usual_features(prepared: PreparedCase) -> dict[str, float]:
    """What a patient looks like to the network, in a few numbers."""
    b0, b1000 = (image[prepared.brain].astype(np.float32) for image in (prepared.b0, prepared.b1000))
    outside = prepared.b1000[~prepared.brain]
    (b0_dark, b0_fluid), (b1000_dark, b1000_bright) = (np.percentile(image, (5, 99)) for image in (b0, b1000))
    return {
        "b0_fluid": float(b0_fluid),
        "b1000_bright": float(b1000_bright),
        "b0_dark": float(b0_dark),
        "b1000_dark": float(b1000_dark),
        "background": float(np.median(outside.astype(np.float32))) if outside.size else 0.0,
        "slice_spacing_mm": prepared.grid.spacing_mm[2],
        "brain_ml": float(prepared.brain.sum()) * prepared.voxel_volume_ml,
    }


def usual_range(cohort: Iterable[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each feature over a cohort."""
    rows = list(cohort)
    return {
        name: (min(row[name] for row in rows), max(row[name] for row in rows)) for name in (rows[0] if rows else {})
    }


def unlike_training(view: NativeView) -> Iterator[Finding]:
    """A warning for each feature outside the training cohort's range."""
    for name, value in usual_features(view.prepared).items() if view.usual_range else ():
        low, high = view.usual_range.get(name, (-np.inf, np.inf))
        allowed = MARGIN * (high - low) if np.isfinite(high - low) else 0.0
        if not low - allowed <= value <= high + allowed:
            message = f"unlike the training cohort: {_NAMES[name]} is {value:.4g}, its range is {low:.4g} to {high:.4g}"
            yield Finding("unlike-training", message, Severity.WARNING)
