"""One self-contained HTML page for a cohort: pictures inside, nothing fetched, nothing sent."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fvv import __version__
from fvv.analysis.figures import probability_in_words
from fvv.analysis.metrics import Emptiness
from fvv.analysis.patient import PatientResult, patient_row
from fvv.analysis.viewer import library, library_licence
from fvv.data import Channel, DecisionState, Failure, Prediction

if TYPE_CHECKING:
    # These need scikit-learn, which the page of predictions does without.
    from fvv.analysis.marker import MarkerData
    from fvv.analysis.shares import Share
    from fvv.analysis.statistics import Estimate

_CHANNEL_NAMES = {"brain": "Brain", "stroke": "Stroke", "flair_visible": "FLAIR-visible"}
_TITLES = {"out-of-fold": "Out-of-fold evaluation", "external": "Evaluation of the ensemble on external patients"}
_SHARES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "positive_predictive_value": "positive predictive value",
    "negative_predictive_value": "negative predictive value",
    "accuracy": "accuracy",
}
_SPREAD_NAMES = {
    "dice_coefficient": "Dice",
    "intersection_over_union": "IoU",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "volume_error_ml": "volume error (mL)",
    "volume_error_percent": "volume error (%)",
    "hausdorff_distance_95_mm": "Hausdorff distance, 95th percentile (mm)",
    "average_surface_distance_mm": "average surface distance (mm)",
    "lesion_f1": "lesion-wise F1",
}
_SHOWN_IN_VIEWER = (
    "decision",
    "flair_visible_predicted_ml",
    "flair_visible_true_ml",
    "stroke_predicted_ml",
    "stroke_true_ml",
    "stroke_dice",
)
NOT_DEFINED = "not defined"
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
        cutoff=" or ".join(sorted({f"{prediction.decision.cutoff_ml:g} mL" for prediction in predictions}))
        or "the cut-off",
        pictures=[(name, png_uri(png)) for name, png in shown],
        left_out=len(pictures) - len(shown),
        run=run,
    )


def evaluation_page(
    summary: Mapping[str, Any],
    patients: Sequence[PatientResult],
    data: MarkerData,
    *,
    kind: str,
    plots: Mapping[str, bytes],
    pictures: Mapping[str, bytes],
    viewer: Mapping[str, Mapping[str, bytes]],
    counts: Mapping[str, int],
    failures: Sequence[Failure],
    run: Mapping[str, str],
    methods: Sequence[str],
    comparison: Mapping[str, Any] | None = None,
) -> str:
    """The page about an evaluation.

    Args:
        summary: from `summarise_cohort`.
        patients: the results it was made of.
        data: labels of the same patients.
        kind: of evaluation, "out-of-fold" or "external".
        plots: PNG of each plot by its caption.
        pictures: PNG of patients by name; those among the worst and best are shown.
        viewer: of each patient in the scrollable viewer, the gzipped NIfTI files `b1000`, `drawn`, `predicted`.
        counts: patients by what became of them; "evaluated" is one of the names.
        failures: patients that could not be evaluated.
        run: what readers should know of the run, in order.
        methods: paragraphs of the methods section.
        comparison: from `compare_models`, with "other" naming the other models; None where none was asked for.

    Returns:
        An HTML document.
    """
    rows = [patient_row(patient, mismatch=label) for patient, label in zip(patients, data.labels, strict=True)]
    return _render(
        "evaluation.html.j2",
        title=_TITLES[kind],
        kind=kind,
        summary=summary,
        channels=_CHANNEL_NAMES,
        shares=_SHARES,
        states=[state.value for state in DecisionState],
        rates=rates_in_words(),
        spread=_SPREAD_NAMES,
        emptiness=[emptiness.value for emptiness in Emptiness],
        rows=rows,
        plots={caption: png_uri(png) for caption, png in plots.items()},
        pictures={
            group: [(name, png_uri(pictures[name])) for name in names if name in pictures]
            for group, names in extremes(patients).items()
        },
        viewer=_viewer(viewer, {row["participant"]: row for row in rows}),
        counts=counts,
        failures=failures,
        run=run,
        methods=methods,
        comparison=comparison,
    )


def rates_in_words() -> Mapping[str, str]:
    """What each rate of the answers is."""
    from fvv.analysis.answers import RATES  # noqa: PLC0415  (needs scikit-learn, which the other page does without)

    return RATES


def _viewer(images: Mapping[str, Mapping[str, bytes]], rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the viewer's script needs; None without a patient."""
    if not images:
        return None
    return {
        "library": library(),
        "licence": library_licence(),
        "patients": {
            name: {
                "about": {key: rows[name][key] for key in _SHOWN_IN_VIEWER},
                **{kind: base64.b64encode(file).decode("ascii") for kind, file in files.items()},
            }
            for name, files in images.items()
        },
    }


def extremes(patients: Sequence[PatientResult], most: int = 3) -> dict[str, list[str]]:
    """The patients with the lowest and the highest stroke Dice, no one in both; undefined ones are in neither."""
    dice = {patient.participant: patient.metrics[Channel.STROKE.label]["dice_coefficient"] for patient in patients}
    ranked = sorted((name for name in dice if not math.isnan(dice[name])), key=lambda name: (dice[name], name))
    each = min(most, len(ranked) // 2) if len(ranked) > 1 else len(ranked)
    return {"Lowest stroke Dice": ranked[:each], "Highest stroke Dice": ranked[each:][-each:][::-1] if each else []}


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
        "probability": probability_in_words(prediction).removeprefix("P(mismatch)  "),
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
    environment.filters |= {
        "number": _number,
        "cell": _cell,
        "signed": _signed,
        "percent": _percent,
        "interval": _interval,
        "interval_percent": _interval_percent,
        "share": _share,
        "spread": _spread,
    }
    environment.tests["missing"] = _missing
    return environment


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _cell(value: float | None, decimals: int = 2) -> str:
    """A number in a table of patients; nothing where there is none, as the page says."""
    return "" if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def _number(value: float | None, decimals: int = 2) -> str:
    """A number for people."""
    return _cell(value, decimals) or NOT_DEFINED


def _signed(value: float, decimals: int) -> str:
    return NOT_DEFINED if _missing(value) else f"{value:+.{decimals}f}"


def _percent(value: float) -> str:
    return NOT_DEFINED if _missing(value) else f"{100 * value:.1f} %"


def _interval(estimate: Estimate, decimals: int) -> str:
    if _missing(estimate.low):
        return ""
    return f"[{estimate.low:.{decimals}f} to {estimate.high:.{decimals}f}]"


def _interval_percent(estimate: Estimate | Share) -> str:
    return _percents(estimate.low, estimate.high)


def _percents(low: float, high: float) -> str:
    return "" if _missing(low) else f"[{100 * low:.0f} to {100 * high:.0f} %]"


def _share(share: Share) -> str:
    """A share with its interval and, where that is over persons, Wilson's beside it."""
    text = f"{_percent(share.value)} {_interval_percent(share)}".strip()
    if share.method == "Wilson" or _missing(share.wilson_low):
        return text
    return f"{text} (Wilson {_percents(share.wilson_low, share.wilson_high)})"


def _spread(row: Mapping[str, float]) -> str:
    """Median and quartiles, with the decimals their size needs."""
    if not row["defined"]:
        return NOT_DEFINED
    values = [row[name] for name in ("median", "lower_quartile", "upper_quartile")]
    decimals = 3 if max(map(abs, values)) < 2 else 1
    median, low, high = (f"{value:.{decimals}f}" for value in values)
    return f"{median} ({low} to {high})"
