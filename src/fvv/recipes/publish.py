"""From the patients' results to everything that is said of the cohort, on disk: tables, figures, text and the page."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.figure import Figure

from fvv.analysis.answers import answer_lines
from fvv.analysis.calibration import calibration_in_words
from fvv.analysis.comparison import compare_models
from fvv.analysis.figures import figure_png, no_word_of_fonts
from fvv.analysis.marker import marker_data
from fvv.analysis.paper import OUT_OF_FOLD, methods_paragraphs, paper_tables, with_interval
from fvv.analysis.patient import PatientResult, jsonable, metric_rows, patient_row
from fvv.analysis.plots import evaluation_plots
from fvv.analysis.report import evaluation_page, extremes
from fvv.analysis.statistics import Estimate
from fvv.analysis.summary import headline, summarise_cohort
from fvv.analysis.viewer import patients_to_view
from fvv.config import EvaluateConfig
from fvv.data import Channel, Failure
from fvv.errors import InputError, ModelError
from fvv.io.bundle import BUNDLE_FILE, ModelBundle, write_manifest
from fvv.io.evaluation import SCHEMA_VERSION, EvaluationFolder
from fvv.schemas.bundle import Calibration

log = logging.getLogger(__name__)
ALREADY_COMPLETE = "already complete: no patient was measured again"
"""Note of an evaluation whose every result was there."""


CohortKind = Literal["simulated", "people", "unknown"]


def cohort_kind(simulated: Iterable[bool | None]) -> CohortKind:
    """Who the patients are, from what is known of each: simulated or not; None: unknown."""
    kinds = set(simulated)
    if kinds == {True}:
        return "simulated"
    return "people" if kinds == {False} else "unknown"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, before anything is said of it.

    Attributes:
        kind: `paper.OUT_OF_FOLD` or `paper.EXTERNAL`.
        patients: results, by name.
        failures: patients that could not be evaluated, by name.
        counts: patients by what became of them.
        run: what readers should know of the run, in order.
        models_sha256: hash of every model file that was tested.
        sources: of each patient with a result, the hash of all that it depends on.
        cohort: who the patients are: "simulated", "people" or "unknown".
        settings: those the report was last made with; empty before the first.
    """

    kind: str
    patients: tuple[PatientResult, ...]
    failures: tuple[Failure, ...]
    counts: dict[str, int]
    run: dict[str, str]
    models_sha256: dict[str, str]
    sources: dict[str, str]
    cohort: CohortKind = "unknown"
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_files(cls, folder: EvaluationFolder) -> Evaluation:
        """A finished evaluation, as it was measured.

        Raises:
            InputError: none there, one of its files is missing or damaged, or it is of another version.
        """
        summary, results, failures = folder.read_finished()
        try:
            patients = tuple(PatientResult.from_json(result) for result in results)
        except InputError as error:
            error.file, error.hint = str(folder.path), "run `fvv evaluate` again: it measures what is damaged"
            raise
        return cls(
            kind=summary["kind"],
            patients=patients,
            failures=failures,
            counts=summary["counts"],
            run=summary["run"],
            models_sha256=summary["models_sha256"],
            sources=summary["sources"],
            cohort=summary["cohort"],
            settings=summary["settings"],
        )


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """What an evaluation found.

    Attributes:
        output: the folder with tables, pictures and report.html.
        kind: `paper.OUT_OF_FOLD` or `paper.EXTERNAL`.
        patients: how each patient was predicted.
        headline: the few numbers people ask for first; NaN where undefined.
        answers: from `summarise_answers`.
        label_source: where the mismatch label comes from.
        failures: patients that could not be evaluated.
        calibration: the curve of P(mismatch), None where it could not be fitted.
        notes: lines that the reader should see beside the numbers.
    """

    output: Path
    kind: str
    patients: tuple[PatientResult, ...]
    headline: dict[str, float]
    answers: dict[str, Any]
    label_source: str
    failures: tuple[Failure, ...]
    calibration: Calibration | None
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """The headline numbers and where the rest is."""
        numbers = {
            name: "not defined" if math.isnan(value) else f"{value:.3f}" for name, value in self.headline.items()
        }
        area = Estimate(*(self.headline[name] for name in ("auc", "auc_low", "auc_high")))
        rates = {
            name: f"{with_interval(rate, 1, percent=True)} ({rate.successes} of {rate.trials})"
            for name, rate in self.answers["rates"].items()
        }
        unmeasured = sum(patient.fvv_ml is None for patient in self.patients)
        how = "out of fold" if self.kind == OUT_OF_FOLD else "with the whole ensemble"
        lines = [
            f"{len(self.patients)} patients tested {how}, {unmeasured} not assessable, {len(self.failures)} failed",
            *answer_lines(self.answers),
            f"{'answers':<14}sensitivity {rates['sensitivity']}, specificity {rates['specificity']}",
            f"{'':<14}stroke-free patients called stroke {rates['stroke_free_called_stroke']}",
            f"{'':<14}strokes missed {rates['stroke_missed']}",
            *(
                f"{channel.label.replace('_', '-'):<14}Dice pooled {numbers[f'{channel.label}_dice_pooled']}, "
                f"mean {numbers[f'{channel.label}_dice_mean']}"
                for channel in Channel
            ),
            f"{'FVV':<14}Spearman's correlation with the drawn one {numbers['fvv_spearman']}",
            f"{'FVV alone':<14}AUC {with_interval(area, 3)}, "
            f"kappa {numbers['kappa']}, sensitivity {numbers['sensitivity']}, specificity {numbers['specificity']}",
            f"label: {self.label_source}",
            *self.notes,
            f"report: {self.output / 'report.html'} (for research use only)",
        ]
        return "\n".join(lines)


def publish(
    folder: EvaluationFolder, measured: Evaluation, config: EvaluateConfig, other: Evaluation | None = None
) -> EvaluateResult:
    """Compute everything said of the cohort and write it.

    Args:
        folder: of the evaluation.
        measured: what was measured.
        config: cut-off, label, bootstrap; answers are made anew with its cut-off.
        other: another model's evaluation of the same patients, to compare with.
    """
    patients = tuple(patient.decided_with(config.decision) for patient in measured.patients)
    data = marker_data(patients, config.visible_fraction_label)
    summary = summarise_cohort(patients, data, config)
    if summary["marker"]["calibration"] is not None:
        summary["marker"]["calibration"]["curve"]["fitted_on"] = measured.cohort
    comparison = _comparison(other, patients, config)
    plots = evaluation_plots(patients, data, summary)
    methods = methods_paragraphs(measured.kind, data.label_source, config)
    shown = [name for names in extremes(patients).values() for name in names]
    viewed = patients_to_view(patients, config.viewer_patients)
    page = evaluation_page(
        summary,
        patients,
        data,
        kind=measured.kind,
        plots={plot.caption: figure_png(plot.figure) for plot in plots},
        pictures={name: png for name in shown if (png := folder.read_picture(name)) is not None},
        viewer={name: images for name in viewed if (images := folder.read_viewer(name)) is not None},
        counts=measured.counts,
        failures=measured.failures,
        run={**measured.run, "settings": json.dumps(config.model_dump(mode="json"))},
        methods=methods,
        comparison=comparison,
    )
    numbers = headline(summary)
    content = {
        "schema_version": SCHEMA_VERSION,
        "kind": measured.kind,
        "headline": numbers,
        "counts": measured.counts,
        **summary,
        "comparison": comparison,
        "run": measured.run,
        "settings": config.model_dump(mode="json"),
        "models_sha256": measured.models_sha256,
        "sources": measured.sources,
        "cohort": measured.cohort,
    }
    tables = paper_tables(summary)
    figures = {
        f"figures/{plot.name}.{suffix}": _vector(plot.figure, suffix) for plot in plots for suffix in ("pdf", "svg")
    }
    texts = {
        "tables.md": "\n".join(table.markdown() for table in tables),
        "tables.tex": "\n".join(table.latex() for table in tables),
        "methods.md": "\n\n".join(methods) + "\n",
    }
    folder.finish(
        jsonable(content),
        page,
        metrics=metric_rows(patients),
        patients=[patient_row(patient, mismatch=label) for patient, label in zip(patients, data.labels, strict=True)],
        failures=measured.failures,
        more={**figures, **{name: text.encode() for name, text in texts.items()}},
    )
    fitted = summary["marker"]["calibration"]
    return EvaluateResult(
        output=folder.path,
        kind=measured.kind,
        patients=patients,
        headline=numbers,
        answers=summary["answers"],
        label_source=data.label_source,
        failures=measured.failures,
        calibration=None if fitted is None else Calibration(**fitted["curve"]),
        notes=() if comparison is None else (_in_words(comparison),),
    )


def known_result(folder: EvaluationFolder, participant: str, source_sha256: str) -> PatientResult | None:
    """What an earlier run measured of a patient, where it is whole and of this source; else None."""
    content = folder.read_patient(participant, source_sha256)
    try:
        return None if content is None else PatientResult.from_json(content)
    except InputError as error:
        log.warning("%s is measured again: %s", participant, error.message)
        return None


def calibrated(result: EvaluateResult, bundle: ModelBundle) -> EvaluateResult:
    """Write the curve of P(mismatch) into the bundle, for `predict`.

    Raises:
        ModelError: no curve could be fitted, it says the opposite of the answers, or the folder is in the published
            format, which has no place for one.
    """
    kept = "" if bundle.manifest.calibration is None else "; the bundle keeps the curve it has"
    if result.calibration is None:
        raise ModelError(f"P(mismatch) cannot be calibrated: both classes are needed{kept}", file=bundle.path)
    if result.calibration.slope >= 0:
        raise ModelError(
            "P(mismatch) cannot be calibrated: in these patients a mismatch is no likelier where FVV is small, against "
            f"what the answers say (slope {result.calibration.slope:+.2f}, expected under 0){kept}",
            file=bundle.path,
            hint="look at the AUC in the report; leave --calibrate out",
        )
    if not (bundle.path / BUNDLE_FILE).exists():
        raise ModelError("the published format has no place for a calibration", file=bundle.path)
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"calibration": result.calibration}))
    note = (
        f"calibration of P(mismatch) written to {bundle.path / BUNDLE_FILE}: {calibration_in_words(result.calibration)}"
    )
    return replace(result, notes=(*result.notes, note))


def _comparison(
    other: Evaluation | None, patients: Sequence[PatientResult], config: EvaluateConfig
) -> dict[str, Any] | None:
    if other is None:
        return None
    numbers = compare_models(
        other.patients,
        patients,
        decision=config.decision,
        visible_fraction=config.visible_fraction_label,
        samples=config.bootstrap_samples,
        seed=config.seed,
    )
    return {"other": other.run.get("models", ""), "other_kind": other.kind, **numbers}


def _in_words(comparison: dict[str, Any]) -> str:
    change, test = comparison["auc_difference"], comparison["mcnemar"]
    interval = "" if math.isnan(change.low) else f" [{change.low:+.3f} to {change.high:+.3f}]"
    return (
        f"against the other evaluation ({comparison['patients']} patients in both): AUC difference "
        f"{_signed(change.value)}{interval}, "
        f"p {_p(comparison['auc_p_value'])}; "
        f"answers right in this one only {test['only_second_right']}, in the other only "
        f"{test['only_first_right']}, p {_p(test['p_value'])}"
    )


def _signed(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:+.3f}"


def _p(value: float) -> str:
    return "not defined" if math.isnan(value) else f"= {value:.3g}"


def _vector(figure: Figure, suffix: str) -> bytes:
    """A figure as PDF or SVG, the same bytes for the same figure."""
    stream = io.BytesIO()
    no_date = {"Date": None} if suffix == "svg" else {"CreationDate": None}
    with rc_context({"svg.hashsalt": "fvv"}), no_word_of_fonts():
        figure.savefig(stream, format=suffix, metadata=no_date)
    return stream.getvalue()
