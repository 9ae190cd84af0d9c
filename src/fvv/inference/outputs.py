"""What is kept of a model's logits, which come in parts of a volume, from any thread and in any order."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Channel
from fvv.errors import ModelError


def logit_limits(visible_logit: float) -> FloatArray:
    """(3, 1, 1, 1) float32, the logit that each channel exceeds where a model predicts it."""
    limits = np.zeros((len(Channel), 1, 1, 1), dtype=np.float32)
    limits[Channel.FLAIR_VISIBLE.value] = visible_logit
    return limits


class AllLogits:
    """All logits of one model: (3, slices, 256, 256) float32."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array = np.empty(shape, dtype=np.float32)

    def add(self, first: int, logits: FloatArray) -> None:
        """Keep (slices, 3, 256, 256) logits from a slice on."""
        self.array[:, first : first + len(logits)] = np.moveaxis(logits, 0, 1)


class Masks:
    """What one model predicts, and where it is asked for, its logits of the stroke."""

    def __init__(self, file: Path, shape: tuple[int, ...], *, stroke_logits: bool, visible_logit: float) -> None:
        self._file = file
        self._limits = logit_limits(visible_logit)
        self._mask = np.empty(shape, dtype=bool)
        self._stroke = np.empty(shape[1:], dtype=np.float32) if stroke_logits else None
        self._lowest: list[FloatArray] = []

    def add(self, first: int, logits: FloatArray) -> None:
        """Keep what is asked for of (slices, 3, 256, 256) logits from a slice on."""
        # Minimum and maximum both keep NaN, in two passes and without an array of truth values.
        lowest = logits.min(axis=(0, 2, 3))
        if not np.isfinite(lowest).all() or not np.isfinite(logits.max()):
            hint = "the model or the images are damaged"
            raise ModelError("the network's output is not finite", file=self._file, hint=hint)
        self._lowest.append(lowest)
        here = slice(first, first + len(logits))
        np.greater(np.moveaxis(logits, 0, 1), self._limits, out=self._mask[:, here])
        if self._stroke is not None:
            self._stroke[here] = logits[:, Channel.STROKE.value]

    def checked(self) -> tuple[BoolArray, FloatArray | None]:
        """The masks and the stroke's logits, when all slices are there."""
        lowest = np.min(self._lowest, axis=0)
        # A logit says no where it is negative, as it is in the air around every head; a probability never is.
        for channel in Channel:
            if lowest[channel.value] >= 0:
                raise ModelError(
                    f"the network's output for {channel.label} is nowhere negative: these are not logits",
                    file=self._file,
                    hint="export the model without the sigmoid or softmax at its end",
                )
        return self._mask, self._stroke


Kept = TypeVar("Kept", AllLogits, Masks)
