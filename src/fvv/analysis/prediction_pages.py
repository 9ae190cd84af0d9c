"""The pages about new patients: the cohort's table, and each patient with a viewer. They fetch and send nothing."""

from __future__ import annotations

import base64
import gzip
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from fvv.analysis.head import (
    LESION_COLUMNS,
    answer_in_words,
    lesion_cells,
    numbers_in_words,
    plain_ml,
    probability_in_words,
    range_in_words,
    remarks,
    sides_of,
)
from fvv.analysis.report import render
from fvv.analysis.tiles import Stack, slice_view
from fvv.analysis.viewer import library, library_licence
from fvv.analysis.windows import RULE
from fvv.data import Channel, DecisionState, Failure, Prediction, Severity
from fvv.imaging.lesions import labelled_lesions, turned, turned_affine
from fvv.schemas.lesions import Lesion

MOST_BYTES = 24_000_000
"""Of images in one page, as text: about 10 to 15 patients at 256 x 256 x 30. The next are on another page."""
MOST_PATIENTS = 40
"""In one page."""
_THUMBNAIL_PX = 132
_MOST_THUMBNAILS = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """One patient on the pages.

    Attributes:
        prediction: the answer; its masks are not looked at and may be None.
        about: what it was made from, in words, by label.
        lesions: of the stroke.
        viewer: gzipped NIfTI file of `page_volume`, or where it lies: those of a large cohort would fill the memory,
            and are read page by page. b"": there is none to show.
        picture: relative link to the patient's picture; "": none.
    """

    prediction: Prediction
    about: Mapping[str, str]
    lesions: Sequence[Lesion]
    viewer: bytes | Path = b""
    picture: str = ""

    @property
    def name(self) -> str:
        """Of the examination."""
        return self.prediction.examination_id


def page_name(number: int) -> str:
    """File of a page, from 1: report.html, report_2.html and so on."""
    return "report.html" if number == 1 else f"report_{number}.html"


def prediction_pages(
    entries: Sequence[Entry], failures: Sequence[Failure], run: Mapping[str, str], *, title: str = "Predictions"
) -> Iterator[Iterator[str]]:
    """The pages, one after another, each as pieces of its text; the first has the table of all patients.

    Args:
        entries: the patients, in the order of the table; each is asked for three times, and none is kept.
        failures: patients without an answer.
        run: what readers should know of the run (models, preprocessing, device), in order.
    """
    parts, decisions = _parts(entries)
    cutoffs = sorted({f"{cutoff_ml:g} mL" for _, cutoff_ml in decisions})
    states = {one.value: sum(n for (state, _), n in decisions.items() if state is one) for one in DecisionState}
    table = {"rows": _rows(entries, parts), "failures": failures, "states": states}
    for number, places in enumerate(parts, 1):
        part = [entries[place] for place in places]
        viewers = [_read(one.viewer) for one in part]
        yield render(
            "prediction.html.j2",
            title=title if number == 1 else f"{title}, page {number} of {len(parts)}",
            table=table if number == 1 else None,
            n_patients=len(entries) + len(failures),
            cutoff=" or ".join(cutoffs) or "the cut-off",
            patients=[_details(one, viewer) for one, viewer in zip(part, viewers, strict=True)],
            images={f"patient-{place}": _text(viewer) for place, viewer in enumerate(viewers) if viewer},
            pages=[page_name(one) for one in range(1, len(parts) + 1)] if len(parts) > 1 else [],
            number=number,
            library=library() if any(viewers) else "",
            licence=library_licence() if any(viewers) else "",
            lesion_columns=LESION_COLUMNS,
            rule=RULE,
            run=run,
        )


def _parts(entries: Iterable[Entry]) -> tuple[list[range], Counter[tuple[DecisionState, float]]]:
    """Which entries stand on each page; and how often there is each answer, with its cut-off."""
    parts, size = [range(0)], 0
    decisions: Counter[tuple[DecisionState, float]] = Counter()
    for place, entry in enumerate(entries):
        viewer, decision = entry.viewer, entry.prediction.decision
        own = 4 * (viewer.stat().st_size if isinstance(viewer, Path) else len(viewer)) // 3
        if parts[-1] and (size + own > MOST_BYTES or len(parts[-1]) == MOST_PATIENTS):
            parts.append(range(place, place))
            size = 0
        parts[-1] = range(parts[-1].start, place + 1)
        size += own
        decisions[decision.state, decision.cutoff_ml] += 1
    return parts, decisions


def _rows(entries: Sequence[Entry], parts: Iterable[range]) -> Iterator[dict[str, object]]:
    """The rows of the table, each with a link to where its patient stands."""
    for number, places in enumerate(parts, 1):
        for place in places:
            yield _row(entries[place], f"{page_name(number)}#patient-{place - places.start}")


def _read(viewer: bytes | Path) -> bytes:
    return viewer.read_bytes() if isinstance(viewer, Path) else viewer


def _row(entry: Entry, link: str) -> dict[str, object]:
    prediction = entry.prediction
    measured = prediction.decision.state is not DecisionState.NOT_ASSESSABLE
    stroke_ml, fvv_ml = prediction.volume_ml(Channel.STROKE), prediction.fvv_ml
    share = fvv_ml / stroke_ml if measured and stroke_ml and fvv_ml is not None else math.nan
    relative = prediction.lesion_adc[2] if measured and prediction.lesion_adc is not None else math.nan
    return {
        "name": entry.name,
        "link": link,
        "state": prediction.decision.state.value,
        "fvv_ml": fvv_ml if measured else None,
        "fvv": range_in_words(prediction) if measured else "",
        "share": share,
        "stroke_ml": stroke_ml if measured else None,
        "stroke": plain_ml(stroke_ml) if measured else "",
        "lesions": len(entry.lesions) if measured and entry.about else None,
        "relative": relative,
        "probability": probability_in_words(prediction) if measured else "",
        "p": prediction.mismatch_probability if measured else None,
        "remarks": [one.message for one in remarks(prediction) if one.severity is not Severity.NOTE],
    }


def _details(entry: Entry, viewer: bytes) -> dict[str, object]:
    return {
        "name": entry.name,
        "answer": answer_in_words(entry.prediction),
        "state": entry.prediction.decision.state.value,
        "numbers": numbers_in_words(entry.prediction, sides_of(entry.lesions)),
        "about": entry.about,
        "remarks": [(one.severity.value, one.message) for one in remarks(entry.prediction)],
        "lesions": [(lesion_cells(one), f"{one.x_mm},{one.y_mm},{one.z_mm}") for one in entry.lesions],
        "thumbnails": thumbnails(viewer) if viewer else [],
        "picture": entry.picture,
    }


def thumbnails(viewer: bytes) -> list[dict[str, str]]:
    """Small pictures of the slices with most of each lesion, outlined; with the place that each shows, RAS+ mm.

    Args:
        viewer: gzipped NIfTI file of `page_volume`.
    """
    image = nib.Nifti1Image.from_bytes(gzip.decompress(viewer))
    stored, affine = np.asarray(image.dataobj), np.asarray(image.affine)
    frames, frame = turned(stored, affine), turned_affine(affine, stored.shape)
    brain, stroke, visible = (frames[..., 3] >> channel.value & 1 > 0 for channel in Channel)
    lesions, count = labelled_lesions(stroke)
    x_mm, y_mm, z_mm = nib.affines.voxel_sizes(frame).tolist()
    stack = Stack({"b1000": frames[..., 0]}, brain, stroke, visible, visible, lesions, (x_mm, y_mm, z_mm))
    shown: dict[int, int] = {}
    for number in range(1, count + 1):
        shown.setdefault(int((lesions == number).sum(axis=(0, 1)).argmax()), number)
        if len(shown) == _MOST_THUMBNAILS:
            break
    size = (_THUMBNAIL_PX, stack.height(_THUMBNAIL_PX))
    pictures = []
    for k, number in sorted(shown.items()):
        centre = [*(float(axis.mean()) for axis in np.nonzero(lesions[..., k] == number)), k]
        place = frame[:3, :3] @ centre + frame[:3, 3]
        whole = (0, 0, *brain.shape[:2])
        stream = io.BytesIO()
        slice_view(stack, "b1000", k, whole, size, outline=True).save(stream, format="JPEG", quality=85)
        pictures.append(
            {
                "uri": f"data:image/jpeg;base64,{_text(stream.getvalue())}",
                "place": ",".join(f"{mm:.1f}" for mm in place),
                "name": f"slice {k + 1}, lesion {number}",
            }
        )
    return pictures


def _text(file: bytes) -> str:
    return base64.b64encode(file).decode("ascii")
