"""Prediction from Python, on arrays in memory: what `fvv predict` does, without its files."""

from __future__ import annotations

from pathlib import Path

from fvv.config import PredictConfig
from fvv.data import Case, Prediction, Volume
from fvv.errors import GeometryError
from fvv.imaging.geometry import same_grid
from fvv.inference.ensemble import open_ensemble
from fvv.io.bundle import ModelBundle
from fvv.io.shipped import shipped_or_refuse
from fvv.recipes.examine import Settings, examine


def predict(
    b0: Volume,
    b1000: Volume,
    bundle: ModelBundle | Path | str | None = None,
    *,
    mask: Volume | None = None,
    b_value: float | None = None,
    config: PredictConfig | None = None,
) -> Prediction:
    """Predict for one patient.

    Args:
        b0, b1000: (i, j, k) raw intensities on one grid.
        bundle: models, or their folder; None: the model in the package.
        mask: (i, j, k) bool brain mask; None: one is computed.
        b_value: of b1000, s/mm^2, where it is known; quality control judges it.
        config: masks, cut-off, device; None: the defaults.

    Returns:
        The answer, with masks, votes and ADC map on the grid of the input.

    Raises:
        GeometryError: the images lie on different grids.
        ModelError: no usable models.
    """
    for name, volume in (("b0", b0), ("mask", mask)):
        if volume is not None and not same_grid(volume, b1000):
            raise GeometryError(f"{name} is not on the grid of b1000", hint="resample it first")
    config = config or PredictConfig()
    opened = bundle if isinstance(bundle, ModelBundle) else ModelBundle.open(Path(bundle or shipped_or_refuse()))
    case = Case(
        "patient",
        Volume(b0.array.astype("float64"), b0.affine),
        Volume(b1000.array.astype("float64"), b1000.affine),
        mask=None if mask is None else Volume(mask.array.astype(bool), mask.affine),
        b_value=b_value,
    )
    ensemble = open_ensemble(opened, config)
    about = opened.manifest.description(len(ensemble))
    settings = Settings.of(opened.profile, config, opened.manifest, models=about)
    return examine(case, ensemble, settings).prediction
