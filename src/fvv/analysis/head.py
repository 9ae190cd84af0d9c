"""What stands at the head of a reader's page, in words: the picture, the HTML page and results.json say the same."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

import numpy as np

from fvv.data import Case, Channel, DecisionState, Finding, Prediction, Severity
from fvv.imaging.decision import ANSWER_CODES, MOST_DECIMALS
from fvv.imaging.quality import topics_passed
from fvv.schemas.lesions import Lesion

CALIBRATION_NOTES = {"simulated": " (simulated)", "people": "", "unknown": " (fitted on unknown patients)", "": ""}
"""Said beside P(mismatch), by `Prediction.calibration_source`."""
_ONE_SIDE = 0.02
"""Share of the stroke on the other side of the midline that is not stated (chosen here): the midline is coarse."""


def examination_facts(case: Case, prediction: Prediction, day: datetime.date) -> dict[str, str]:
    """What the answer was made from, by label, in the order in which it is shown.

    Args:
        case: the images as read.
        prediction: the answer.
        day: on which it was made; the day of the examination is not shown.
    """
    b = f"{case.b_value:g} s/mm²" if case.b_value is not None else "1000 s/mm² (assumed: no file states it)"
    x, y, z = case.b1000.spacing_mm
    grid = " x ".join(str(n) for n in case.b1000.array.shape)
    return {
        "b-values": f"0 and {b}; b0 {'computed from b1000 and the ADC map' if case.b0_computed else 'measured'}",
        "Voxels": f"{x:.2f} x {y:.2f} x {z:.2f} mm, {grid}",
        "Quality checks": _checks(prediction),
        "Models": prediction.models or str(prediction.n_models),
        "Predicted on": day.isoformat(),
    }


def _checks(prediction: Prediction) -> str:
    codes = {finding.code for finding in prediction.decision.reasons}
    if "no-brain-mask" in codes:
        return "not run: there is no brain mask"
    passed, noted = topics_passed(prediction.decision.reasons)
    said = f"{len(passed)} of {len(passed) + len(noted)} passed: {', '.join(passed)}"
    return said + (f". Something to report: {', '.join(noted)}" if noted else "")


def answer_in_words(prediction: Prediction) -> str:
    """The answer as a headline."""
    state = prediction.decision.state
    known = (DecisionState.MISMATCH_LIKELY, DecisionState.MISMATCH_UNLIKELY)
    text = f"DWI-FLAIR {state.value}" if state in known else state.value
    return text[0].upper() + text[1:]


def numbers_in_words(prediction: Prediction, sides_ml: tuple[float, float] | None = None) -> dict[str, str]:
    """What was measured, by label, in the order in which it is shown; nothing where it is not assessable.

    Args:
        sides_ml: stroke to the right and to the left of the midline, mL; None: unknown.
    """
    if prediction.decision.state is DecisionState.NOT_ASSESSABLE or prediction.fvv_ml is None:
        return {}
    stroke_ml, brain_ml = prediction.volume_ml(Channel.STROKE), prediction.volume_ml(Channel.BRAIN)
    said = {"FVV": fvv_in_words(prediction)}
    if prediction.decision.state is not DecisionState.NO_LESION_FOUND:
        said["FLAIR-visible"] = visible_share_in_words(prediction)
    sides = ""
    if sides_ml is not None and stroke_ml and sum(sides_ml) > 0:
        sides = f"  ({_sides_in_words(sides_ml[0] / sum(sides_ml))})"
    said["Stroke"] = f"{plain_ml(stroke_ml)}{sides}"
    said["Brain"] = plain_ml(brain_ml)
    if prediction.lesion_adc is not None:
        median, _, relative = prediction.lesion_adc
        said["ADC of the stroke"] = f"median {median:.0f} x 10⁻⁶ mm²/s, {relative:.0%} of the rest of the brain's"
    if prediction.mismatch_probability is not None:
        said["P(mismatch)"] = probability_in_words(prediction)
    return said


def _sides_in_words(right: float) -> str:
    if min(right, 1 - right) < _ONE_SIDE:
        return f"{'right' if right > 0.5 else 'left'} of the midline"
    return f"{right:.0%} right, {1 - right:.0%} left of the midline"


def fvv_in_words(prediction: Prediction) -> str:
    """FVV with the range of the models, no finer than the models agree."""
    fvv_ml, per_model, cutoff = prediction.fvv_ml, prediction.fvv_per_model_ml, prediction.decision.cutoff_ml
    if fvv_ml is None:
        return "not measured"
    if len(per_model) < 2 or prediction.agreement is None:
        return f"{known_ml(fvv_ml, per_model, cutoff)} mL  (cut-off {cutoff:g} mL; one model)"
    agreeing = round(prediction.agreement * len(per_model))
    models = f"{len(per_model)} models, {agreeing} on this side of the cut-off of {cutoff:g} mL"
    return f"{range_in_words(prediction)};  {models}"


def range_in_words(prediction: Prediction) -> str:
    """FVV with the range of the models, short."""
    fvv_ml, per_model, cutoff = prediction.fvv_ml, prediction.fvv_per_model_ml, prediction.decision.cutoff_ml
    if fvv_ml is None:
        return "not measured"
    shown = known_ml(fvv_ml, per_model, cutoff)
    low, high = (known_ml(end, per_model, cutoff) for end in (min(per_model, default=0), max(per_model, default=0)))
    return f"{shown} mL ({low} to {high})" if low != high else f"{shown} mL"


def visible_share_in_words(prediction: Prediction) -> str:
    """Share of the stroke that is FLAIR-visible, with the range of the models."""
    stroke_ml, fvv_ml = prediction.volume_ml(Channel.STROKE), prediction.fvv_ml
    if not stroke_ml or fvv_ml is None:
        return "no stroke"
    shares = sorted(
        {f"{one / stroke_ml:.0%}": one for one in prediction.fvv_per_model_ml}.items(), key=lambda at: at[1]
    )
    models = f"  (models: {shares[0][0]} to {shares[-1][0]})" if len(shares) > 1 else ""
    return f"{fvv_ml / stroke_ml:.0%} of the stroke{models}"


def known_ml(volume_ml: float, per_model_ml: Sequence[float], *limits_ml: float) -> str:
    """A volume rounded to the digit in which the models' volumes differ, without crossing a limit or becoming 0.

    The decimals (chosen here) are those of the leading digit of the models' range: 2.2 to 4.3 mL gives whole mL, 0.41
    to 0.52 mL two decimals. One model, or models that all agree: two decimals.
    """
    if volume_ml == 0:
        return "0"
    spread = max(per_model_ml) - min(per_model_ml) if per_model_ml else 0.0
    decimals = min(max(-math.floor(math.log10(spread)), 0), 2) if spread > 0 else 2
    limits = (0.0, *limits_ml)
    while decimals < MOST_DECIMALS and any(
        np.sign(round(volume_ml, decimals) - limit) != np.sign(volume_ml - limit) for limit in limits
    ):
        decimals += 1
    return f"{volume_ml:.{decimals}f}"


def plain_ml(volume_ml: float | None) -> str:
    """A volume in mL with two figures under 10 mL, whole mL from there on."""
    if volume_ml is None:
        return "not measured"
    if volume_ml == 0 or volume_ml >= 10:
        return f"{volume_ml:.0f} mL"
    if volume_ml < 0.095:
        return f"{float(f'{volume_ml:.1g}'):g} mL"
    return f"{volume_ml:.{1 if volume_ml >= 1 else 2}f} mL"


def probability_in_words(prediction: Prediction) -> str:
    """P(mismatch) with the prevalence it holds for and, where no person was among them, whom it was fitted on."""
    if prediction.mismatch_probability is None:
        return ""
    text = f"{prediction.mismatch_probability:.0%}"
    if prediction.mismatch_prevalence is not None:
        text += f" at prevalence {prediction.mismatch_prevalence:.0%}"
    return text + CALIBRATION_NOTES[prediction.calibration_source]


def remarks(prediction: Prediction) -> tuple[Finding, ...]:
    """The findings beside the answer itself, the gravest first."""
    others = [
        one for one in prediction.decision.reasons if one.code not in ANSWER_CODES or one.code == "models-disagree"
    ]
    return tuple(sorted(others, key=lambda one: list(Severity).index(one.severity), reverse=True))


def sides_of(lesions: Sequence[Lesion]) -> tuple[float, float] | None:
    """Volume to the right and to the left of the midline, mL; None without a lesion."""
    if not lesions:
        return None
    right = sum(lesion.volume_ml * lesion.share_right for lesion in lesions)
    return right, sum(lesion.volume_ml for lesion in lesions) - right


LESION_COLUMNS = (
    "lesion",
    "side",
    "place (thirds)",
    "slices",
    "volume",
    "ADC / brain",
    "FLAIR-visible",
    "models agree",
)


def lesion_cells(lesion: Lesion) -> tuple[str, ...]:
    """One row of the table of lesions, by `LESION_COLUMNS`."""
    first, last = lesion.first_slice, lesion.last_slice
    return (
        str(lesion.lesion),
        lesion.side,
        lesion.place,
        str(first) if first == last else f"{first} to {last}",
        plain_ml(lesion.volume_ml),
        "" if lesion.adc_relative is None else f"{lesion.adc_relative:.0%}",
        f"{lesion.flair_visible_share:.0%}",
        "" if lesion.model_agreement is None else f"{lesion.model_agreement:.0%}",
    )
