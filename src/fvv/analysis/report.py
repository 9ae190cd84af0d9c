"""The page of an evaluation, and what HTML pages share: pictures lie inside, nothing is fetched, nothing sent."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from fvv import __version__
from fvv.analysis.viewer import library, library_licence
from fvv.data import Channel

if TYPE_CHECKING:  # These need scikit-learn, which the page of predictions does without.
    from fvv.analysis.marker import MarkerData
    from fvv.analysis.tables import Tables
    from fvv.schemas.patient import PatientResult
    from fvv.schemas.summary import Summary


def evaluation_page(
    summary: Summary,
    patients: Sequence[PatientResult],
    data: MarkerData,
    *,
    tables: Tables,
    plots: Mapping[str, bytes],
    pictures: Mapping[str, Mapping[str, bytes]],
    viewer: Mapping[str, Mapping[str, bytes]],
    methods: Sequence[str],
) -> str:
    """The page about an evaluation.

    Args:
        patients: the results they were computed from.
        data: labels of the same examinations.
        tables: from `all_tables`.
        plots: PNG of each plot by its caption.
        pictures: PNG of examinations by name, by the heading they stand under.
        viewer: of each examination in the scrollable viewer, the gzipped NIfTI files of `VIEWER_IMAGES`.
        methods: paragraphs of the methods section.
    """
    about = {patient.examination_id: patient for patient in patients}
    from fvv.analysis.baselines import baselines_in_words  # noqa: PLC0415  (needs scikit-learn, see above)

    images = {
        name: {
            "about": _about(about[name]),
            **{kind: base64.b64encode(file).decode("ascii") for kind, file in files.items()},
        }
        for name, files in viewer.items()
    }
    pieces = render(
        "evaluation.html.j2",
        title="Out-of-fold evaluation" if summary.evaluation == "out-of-fold" else "Evaluation on external patients",
        summary=summary,
        patients=list(zip(patients, data.labels, strict=True)),
        tables=tables,
        baselines_in_words=baselines_in_words(summary.baselines),
        plots={caption: png_uri(png) for caption, png in plots.items()},
        pictures={
            group: [(name, png_uri(png)) for name, png in of_group.items()] for group, of_group in pictures.items()
        },
        viewer={"library": library(), "licence": library_licence(), "images": images} if images else None,
        methods=methods,
    )
    return "".join(pieces)


def _about(patient: PatientResult) -> str:
    stroke, visible = patient.stroke, patient.flair_visible
    return (
        f"{patient.decision.value}. FVV predicted {_ml(visible.predicted_volume_ml)}, reference "
        f"{_ml(visible.reference_volume_ml, 'not outlined')}; stroke predicted {_ml(stroke.predicted_volume_ml)}, "
        f"reference {_ml(stroke.reference_volume_ml, 'not outlined')}; stroke Dice "
        f"{_number(stroke.dice_coefficient, 3) or 'not defined'}."
    )


def _ml(volume: float, unknown: str = "not measured") -> str:
    return f"{volume:.2f} mL" if _number(volume) else unknown


def png_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def render(template: str, **values: object) -> Iterator[str]:
    """A page of a template in `templates`, with the version and the channels, piece by piece."""
    page = _environment().get_template(template)
    return page.generate(software=f"fvv {__version__}", channels=list(Channel), **values)


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
    return environment


def _number(value: float | None, decimals: int = 2) -> str:
    """A number in a cell; nothing where there is none, as the page says."""
    return "" if value is None or math.isnan(value) else f"{value:.{decimals}f}"
