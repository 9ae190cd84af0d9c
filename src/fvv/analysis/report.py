"""One self-contained HTML page for a cohort: pictures inside, nothing fetched, nothing sent."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fvv import __version__
from fvv.data import Channel, DecisionState, Failure, Prediction

MOST_PICTURES = 40
"""Pictures put into one page of predictions: about 10 MB."""


def prediction_page(
    predictions: Sequence[Prediction],
    failures: Sequence[Failure],
    pictures: Mapping[str, bytes],
    run: Mapping[str, str],
    *,
    title: str = "Predictions",
) -> str:
    """The page about new patients.

    Args:
        predictions: the answers; their masks are not looked at and may be None.
        failures: patients without an answer.
        pictures: synthesis PNG of each patient by name; the first `MOST_PICTURES` are shown.
        run: what readers should know of the run (models, preprocessing, device), in order.
        title: heading.

    Returns:
        An HTML document.
    """
    shown = list(pictures.items())[:MOST_PICTURES]
    return _render(
        "prediction.html.j2",
        title=title,
        predictions=[_prediction_row(prediction) for prediction in predictions],
        failures=failures,
        states={
            state.value: sum(prediction.decision.state is state for prediction in predictions)
            for state in DecisionState
        },
        cutoff=" or ".join(sorted({f"{prediction.decision.cutoff_ml:g}" for prediction in predictions}))
        or "the cut-off",
        pictures=[(name, png_uri(png)) for name, png in shown],
        left_out=len(pictures) - len(shown),
        run=run,
    )


def png_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _prediction_row(prediction: Prediction) -> dict[str, Any]:
    measured = prediction.decision.state is not DecisionState.NOT_ASSESSABLE
    per_model = prediction.fvv_per_model_ml if measured else ()
    return {
        "patient": prediction.patient,
        "state": prediction.decision.state.value,
        "fvv_ml": prediction.fvv_ml if measured else None,
        "lowest_ml": min(per_model, default=None),
        "highest_ml": max(per_model, default=None),
        "stroke_ml": prediction.volume_ml(Channel.STROKE) if measured else None,
        "brain_ml": prediction.volume_ml(Channel.BRAIN) if measured else None,
        "findings": [finding.message for finding in prediction.decision.reasons],
    }


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(software=f"fvv {__version__}", **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fvv.analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.tests["missing"] = _missing
    return environment


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _number(value: float | None, decimals: int = 2) -> str:
    """A number for people; nothing where there is none."""
    return "" if value is None or math.isnan(value) else f"{value:.{decimals}f}"
