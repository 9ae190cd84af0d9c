"""From the results of single examinations to everything that is said of the cohort, on disk: tables, figures, page."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from fvv.analysis.baselines import baselines_in_words
from fvv.analysis.calibration import calibration_in_words
from fvv.analysis.comparison import compare_models
from fvv.analysis.figures import figure_png, no_word_of_fonts
from fvv.analysis.marker import marker_data
from fvv.analysis.methods import methods_paragraphs
from fvv.analysis.patient import decided_with, metric_rows, patient_row
from fvv.analysis.plots import evaluation_plots
from fvv.analysis.report import evaluation_page
from fvv.analysis.summary import extremes, summarise_cohort
from fvv.analysis.tables import all_tables, answers_table, counted, number, with_interval
from fvv.analysis.viewer import patients_to_view
from fvv.config import EvaluateConfig
from fvv.data import Channel, Failure
from fvv.errors import ModelError
from fvv.io.bundle import BUNDLE_FILE, ModelBundle, write_manifest
from fvv.io.evaluation import EvaluationFolder
from fvv.schemas.bundle import Calibration
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import CUT_OFF, OUT_OF_FOLD, CohortKind, Comparison, Measured, StrokeFree, Summary

ALREADY_COMPLETE = "already complete: no patient was measured again"
"""Note of an evaluation whose every result was there."""


def cohort_kind(simulated: Iterable[bool | None]) -> CohortKind:
    """Who the patients are, from what is known of each: simulated or not; None: unknown."""
    kinds = set(simulated)
    if kinds == {True}:
        return "simulated"
    return "people" if kinds == {False} else "unknown"


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """What an evaluation found.

    Attributes:
        output: the folder with tables, pictures and report.html.
        patients: how each patient was predicted.
        found: all numbers.
        notes: lines that the reader should see beside the numbers.
    """

    output: Path
    patients: tuple[PatientResult, ...]
    found: Summary
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Patients that could not be evaluated."""
        return self.found.failures

    @property
    def calibration(self) -> Calibration | None:
        """The curve of P(mismatch), None where it could not be fitted."""
        fitted = self.found.marker.calibration
        return None if fitted is None else fitted.curve

    def summary(self) -> str:
        """The headline numbers and where the rest is."""
        found, marker = self.found, self.found.marker
        rates, point = found.answers.rates, marker.operating_points.get(CUT_OFF)
        unmeasured = sum(patient.fvv_ml is None for patient in self.patients)
        how = "out of fold" if found.evaluation == OUT_OF_FOLD else "with the whole ensemble"
        table = answers_table(found.answers)
        at_cutoff = "" if point is None else (
            f"; at this cut-off kappa {number(point.kappa.value, 3)}, "
            f"sensitivity {number(point.sensitivity.value, 3)}, specificity {number(point.specificity.value, 3)}"
        )  # fmt: skip
        lines = [
            f"{len(self.patients)} patients tested {how}, {unmeasured} not assessable, {len(self.failures)} failed",
            f"models: {found.run.get('models', 'unknown')}",
            *(f"{name:<22}" + "".join(f"{cell:>20}" for cell in cells) for name, *cells in (table.head, *table.rows)),
            f"{'answers':<14}cut-off {marker.cutoff_ml:g} mL: sensitivity {counted(rates.sensitivity)}; "
            f"specificity {counted(rates.specificity)}",
            f"{'':<14}stroke-free patients called stroke {counted(rates.stroke_free_called_stroke)}",
            *_of_stroke_free(found.stroke_free),
            f"{'':<14}strokes missed {counted(rates.stroke_missed)}",
            *(
                f"{channel.title:<14}Dice pooled {number(found.of(channel).dice_pooled.value, 3)}, "
                f"mean {number(found.of(channel).dice_mean.value, 3)}, "
                f"n = {found.of(channel).per_patient['dice_coefficient'].defined}"
                for channel in Channel
            ),
            f"{'FVV':<14}Spearman's correlation with the reference {number(found.flair_visible.volume.rank.value, 3)}",
            f"{'FVV alone':<14}AUC {with_interval(marker.auc)}{at_cutoff}",
            *([baselines_in_words(found.baselines)] if marker.operating_points and found.baselines else []),
            *(f"{name}: mean {number(own.mean, 3)}, n {own.defined}" for name, own in found.own_metrics.items()),
            f"label: {marker.label}",
            *self.notes,
            f"report: {self.output / 'report.html'} (for research use only)",
        ]
        return "\n".join(lines)


def publish(
    folder: EvaluationFolder,
    measured: Measured,
    results: Sequence[PatientResult],
    config: EvaluateConfig,
    other: tuple[Measured, Sequence[PatientResult]] | None = None,
) -> EvaluateResult:
    """Compute everything said of the cohort and write it.

    Args:
        folder: of the evaluation.
        measured: how.
        results: of each examination, by name.
        config: cut-off, label, bootstrap; the answers are those under its cut-off.
        other: another model's evaluation of the same patients, to compare with.
    """
    patients = tuple(decided_with(patient, config.decision) for patient in results)
    data = marker_data(patients, config.visible_fraction_label)
    comparison: Comparison | None = None
    if other is not None:  # First: another cohort is refused before anything is computed.
        about, theirs = other
        name = about.run.get("models", "")
        comparison = compare_models(theirs, patients, config, other=name, other_kind=about.evaluation)
    findings = summarise_cohort(patients, data, config, measured.cohort)
    same = {name: getattr(measured, name) for name in Measured.model_fields}
    summary = Summary(**dict(findings), **same, comparison=comparison, settings=config)
    plots = evaluation_plots(patients, data, findings)
    tables = all_tables(findings, comparison)
    methods = methods_paragraphs(measured.evaluation, data.label_source, config)
    page = evaluation_page(
        summary,
        patients,
        data,
        tables=tables,
        plots={plot.caption: figure_png(plot.figure) for plot in plots},
        pictures={
            group: {name: png for name in names if (png := folder.read_picture(name)) is not None}
            for group, names in extremes(patients).items()
        },
        viewer={
            name: images
            for name in patients_to_view(patients, config.viewer_patients)
            if (images := folder.read_viewer(name)) is not None
        },
        methods=methods,
    )
    texts = {
        "tables.md": "\n".join(table.markdown() for table in tables.present()),
        "tables.tex": "\n".join(table.latex() for table in tables.present()),
        "methods.md": "\n\n".join(methods) + "\n",
    }
    figures = {
        f"figures/{plot.name}.{suffix}": _vector(plot.figure, suffix) for plot in plots for suffix in ("pdf", "svg")
    }
    folder.finish(
        summary,
        page,
        metrics=metric_rows(patients),
        patients=[patient_row(patient, mismatch=label) for patient, label in zip(patients, data.labels, strict=True)],
        more={**figures, **{name: text.encode() for name, text in texts.items()}},
    )
    return EvaluateResult(folder.path, patients, summary, () if comparison is None else (_in_a_line(comparison),))


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
            "P(mismatch) cannot be calibrated: in these patients a small FVV does not make a mismatch more likely, "
            f"which contradicts the answers (slope {result.calibration.slope:+.2f}, expected under 0){kept}",
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


def _of_stroke_free(found: StrokeFree | None) -> list[str]:
    if found is None or not found.no_lesion_found.trials:
        return []
    return [
        f"{'':<14}stroke-free patients: no lesion found in {counted(found.no_lesion_found)}; "
        f"largest false-positive stroke {number(found.largest_false_ml)} mL"
    ]


def _in_a_line(comparison: Comparison) -> str:
    return (
        f"against the other evaluation ({comparison.patients} patients in both): AUC difference "
        f"{with_interval(comparison.auc_difference, signed=True)}; answers right in "
        f"this one only {comparison.only_this_right}, in the other only {comparison.only_other_right}, "
        f"p = {number(comparison.answers_p_value, 3)}"
    )


def _vector(figure: Figure, suffix: str) -> bytes:
    """A figure as PDF or SVG, the same bytes for the same figure."""
    stream = io.BytesIO()
    no_date = {"Date": None} if suffix == "svg" else {"CreationDate": None}
    with rc_context({"svg.hashsalt": "fvv"}), no_word_of_fonts():
        figure.savefig(stream, format=suffix, metadata=no_date)
    return stream.getvalue()
