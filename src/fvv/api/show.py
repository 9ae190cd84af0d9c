"""A prediction as a picture."""

from __future__ import annotations

from matplotlib.figure import Figure

from fvv.analysis.figures import synthesis_figure
from fvv.api.sources import Source, read
from fvv.data import Prediction
from fvv.errors import GeometryError, InputError


def plot(prediction: Prediction, b1000: Source | None = None, *, max_slices: int = 12) -> Figure:
    """Axial slices with the outlines of brain, stroke and FLAIR-visible part, the volumes, the answer and its reasons.

    Args:
        prediction: a result of `fvv.predict`.
        b1000: the image that was predicted; None: the one stored in the prediction.
        max_slices: largest number of slices shown.

    Returns:
        A matplotlib figure without a window: a notebook shows it, `figure.savefig("anna.png")` writes it.

    Raises:
        GeometryError: the image is not on the grid of the masks.
        InputError: there is no image to draw on.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> empty = (np.zeros((64, 64, 10)), np.diag([4.0, 4.0, 10.0, 1.0]))
        >>> figure = fvv.plot(fvv.predict(empty, empty))
        >>> len(figure.axes) > 0
        True
    """
    image = prediction.b1000 if b1000 is None else read(b1000)
    if image is None:
        raise InputError("no image to draw on", hint="give the b1000 image as second argument")
    if prediction.brain is not None and prediction.brain.shape != image.array.shape:
        raise GeometryError(f"masks of {prediction.brain.shape} on an image of {image.array.shape}")
    return synthesis_figure(image, prediction, max_slices=max_slices)
