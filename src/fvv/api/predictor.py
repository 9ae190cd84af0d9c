"""Prediction from Python: the same as `fvv predict`, without writing files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fvv.api.sources import Source, case_of
from fvv.config import PredictConfig
from fvv.data import Prediction
from fvv.io.bundle import ModelBundle
from fvv.io.shipped import shipped_or_refuse
from fvv.recipes.examine import examine
from fvv.recipes.models import models_and_settings


class Predictor:
    """A bundle of models that is opened and checked once, and used for many patients.

    Args:
        bundle: models, or their folder; None: the model in the package.
        config: masks, cut-off, device; None: the defaults.

    Attributes:
        bundle: the models with their description.
        config: as given.
        models: the opened models, an argument of `fvv.segment_case`.
        provider: the onnxruntime provider that runs, such as "CPUExecutionProvider".

    Raises:
        ModelError: no usable models, or the device is not available.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> config = fvv.PredictConfig(
        ...     decision=fvv.DecisionConfig(cutoff_ml=0.8),
        ...     preprocess=fvv.PreprocessConfig(resample_b0=True),
        ...     compute=fvv.ComputeConfig(device="cpu"),
        ... )
        >>> predictor = fvv.Predictor(config=config)
        >>> empty = (np.zeros((64, 64, 10)), np.diag([4.0, 4.0, 10.0, 1.0]))
        >>> for name in ("anna", "bert"):
        ...     print(name, predictor(empty, empty, examination_id=name).decision.state.value)
        anna not assessable
        bert not assessable
    """

    def __init__(self, bundle: ModelBundle | Path | str | None = None, config: PredictConfig | None = None) -> None:
        self.config = config or PredictConfig()
        opened = bundle if isinstance(bundle, ModelBundle) else ModelBundle.open(Path(bundle or shipped_or_refuse()))
        self.bundle = opened
        self.models, self._settings = models_and_settings(opened, self.config)
        self.provider = self.models.provider

    def __call__(
        self,
        b0: Source,
        b1000: Source,
        mask: Source | None = None,
        *,
        b_value: float | None = None,
        examination_id: str | None = None,
    ) -> Prediction:
        """Predict for one patient; the same answer to the bit as `fvv predict` on the same images.

        Args:
            b0, b1000: (i, j, k) raw intensities on one grid; files may be 4D with a `.bval` file beside them.
            mask: (i, j, k) brain mask; None: one is computed.
            b_value: of b1000, s/mm^2, if no file states it; an image of 500 to 2500 is converted to 1000.
            examination_id: a name for the answer; None: the name of the b1000 file, or "patient".

        Returns:
            The answer, with masks, votes and ADC map on the grid of b1000. Images that fail quality control give the
            answer "not assessable", with its reasons and without volumes.

        Raises:
            GeometryError: the images lie on different grids.
            InputError: an image cannot be read.
        """
        preprocess = self.config.preprocess
        case = case_of(b0, b1000, mask, preprocess, b_value=b_value, examination_id=examination_id)
        return replace(examine(case, self.models, self._settings).prediction, b1000=case.b1000)

    def __repr__(self) -> str:
        return f"<fvv.Predictor: {self._settings.models} on {self.provider}>"


def predict(
    b0: Source,
    b1000: Source,
    bundle: ModelBundle | Path | str | None = None,
    *,
    mask: Source | None = None,
    b_value: float | None = None,
    config: PredictConfig | None = None,
) -> Prediction:
    """Predict for one patient. For many, open a `Predictor` once: opening and checking the models takes time.

    Args:
        b0, b1000: (i, j, k) raw intensities on one grid: files, nibabel images, arrays with affine, or volumes.
        bundle: models, or their folder; None: the model in the package.
        mask: (i, j, k) brain mask; None: one is computed.
        b_value: of b1000, s/mm^2, if no file states it; an image of 500 to 2500 is converted to 1000.
        config: masks, cut-off, device; None: the defaults.

    Returns:
        The answer, with masks, votes and ADC map on the grid of b1000.

    Raises:
        GeometryError: the images lie on different grids.
        InputError: an image cannot be read.
        ModelError: no usable models.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> empty = (np.zeros((64, 64, 10)), np.diag([4.0, 4.0, 10.0, 1.0]))
        >>> prediction = fvv.predict(empty, empty)
        >>> prediction.decision.state.value, prediction.fvv_ml
        ('not assessable', None)
    """
    return Predictor(bundle, config)(b0, b1000, mask, b_value=b_value)
