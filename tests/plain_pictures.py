"""Squares of one colour as plots: drawing is most of the time that a small training or evaluation takes.

For tests of what stands beside the plots. A square's colour follows what the plot shows: files of other numbers differ,
and those of the same numbers do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from zlib import crc32

import pytest
from matplotlib.figure import Figure


def square(*shown: object) -> Figure:
    """An empty figure in a colour that follows what it would show."""
    number = crc32(repr(shown).encode())
    return Figure((1, 1), facecolor=tuple((number >> shift & 255) / 255 for shift in (0, 8, 16)))


@contextmanager
def plain_evaluations() -> Iterator[None]:
    """No plot of an evaluation is drawn; each is made, so that an error in making one still shows."""
    from fvv.recipes import publish  # noqa: PLC0415

    make = publish.evaluation_plots

    def plain(patients: Any, data: Any, findings: Any) -> Any:
        plots = make(patients, data, findings)
        return tuple(replace(plot, figure=square(plot.caption, data.fvv_ml.tolist(), findings)) for plot in plots)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "evaluation_plots", plain)
        yield


@contextmanager
def plain_trainings() -> Iterator[None]:
    """No figure of a training is made or drawn in this process."""
    from fvv.training import loggers  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loggers, "progress_figure", square)
        for name in ("example_figure", "confusion_figure", "kappa_figure"):
            patch.setattr(loggers, name, lambda _: square())
        yield
