"""Help with labels: draft masks for readers to correct, and what the readers accept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path

import numpy as np

from fvv import __version__
from fvv.analysis.draft_figure import draft_figure
from fvv.analysis.figures import figure_png
from fvv.cohort.examinations import table_folder
from fvv.cohort.participants import PARTICIPANTS_FILE, read_subjects, table_text
from fvv.config import LabelConfig, PredictConfig
from fvv.data import Channel, Failure, Participant, Volume
from fvv.errors import ConfigError, FvvError, InputError
from fvv.imaging.overlap import Overlap
from fvv.inference.ensemble import OnnxEnsemble, open_ensemble
from fvv.io.atomic import write_bytes
from fvv.io.bundle import ModelBundle
from fvv.io.case import list_patients
from fvv.io.drafts import (
    DRAFT,
    LABELS,
    PICTURE,
    RECORD,
    VALUES,
    read_labels,
    refuse_to_replace,
    write_draft,
    write_masks,
)
from fvv.io.inputs import Examination, find_examinations, flair_of, without_results
from fvv.io.lock import only_writer
from fvv.io.nifti import read_volume
from fvv.io.ownership import claim, refuse_foreign
from fvv.io.sealed import read_record, verify_files, write_sealed
from fvv.io.tables import failure_of
from fvv.names import is_plain
from fvv.recipes.draft import Draft, draft_masks
from fvv.recipes.examine import Settings
from fvv.schemas.labels import Acceptance, Change, DraftRecord, Registration
from fvv.schemas.run import MadeFrom
from fvv.system.fingerprint import file_sha256, fingerprint
from fvv.system.parallel import attempt, map_items, track

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelResult:
    """What was done with each examination, in one line each.

    Attributes:
        kept: how many were already there as asked for.
    """

    output: Path
    lines: tuple[str, ...]
    failures: tuple[Failure, ...]
    kept: int
    accepted: bool

    def summary(self) -> str:
        """A line for each examination, and where the files are."""
        what = "accepted" if self.accepted else "drafts"
        last = f"{len(self.lines)} {what}, {self.kept} kept from before, {len(self.failures)} failed: {self.output}"
        hint = () if self.accepted else (f"look at {PICTURE}, correct {LABELS}, then `fvv label --accept`",)
        return "\n".join([*self.lines, last, *hint])


@dataclass(frozen=True, slots=True)
class _Job:
    models: Path
    output: Path
    config: LabelConfig
    made_from: MadeFrom
    overwrite: bool


def label(
    input_path: str | Path, models: str | Path, output: str | Path, config: LabelConfig, *, overwrite: bool = False
) -> LabelResult:
    """Write a draft for each examination; the same command goes on after an interruption.

    A draft that a reader has edited or accepted is kept, whatever else has changed, and never replaced.

    Args:
        input_path: examinations as `predict` reads them, each with a FLAIR: flair.nii.gz in its folder, or in BIDS
            anat/*_FLAIR.nii.gz. Without one the stroke alone is proposed.
        models: a bundle, or a folder of models in the published format.
        output: a folder for each examination, as `prepare` reads it; another folder than the images'.
        overwrite: make drafts of other images, models or settings again.

    Raises:
        InputError: no examination there.
        ModelError: no usable models.
        OutputExistsError: files that this program did not write are in the way.
        ModuleNotFoundError: SimpleITK is not installed (the extra `label`).
    """
    import_module("SimpleITK")  # Without it there is one error, not one for each examination.
    input_path, output, models = Path(input_path), Path(output), Path(models)
    if output.resolve() == input_path.resolve():
        raise ConfigError("the drafts would lie among the images", hint="name another folder with -o")
    cohort = without_results(find_examinations(input_path, config.readers), output)
    refuse_foreign(output)
    bundle = ModelBundle.open(models)
    settings = fingerprint(settings=config.model_dump(exclude={"compute"}))
    made_from = MadeFrom(software=__version__, models=fingerprint(manifest=bundle.manifest), settings=settings)
    table = _table_of(input_path, cohort)
    _models_of.cache_clear()
    with only_writer(output):
        claim(output, [*(one.name for one in cohort), *([PARTICIPANTS_FILE] if table else [])], stage="label")
        _write_table(output / PARTICIPANTS_FILE, table)
        work = partial(_label_one, _Job(models, output, config, made_from, overwrite))
        workers = config.compute.workers or (1 if config.compute.workers is None else 0)
        outcomes = list(map_items(work, cohort, workers=workers, description="label"))
    failures = tuple(failure_of(one.name, outcome) for one, outcome in outcomes if isinstance(outcome, FvvError))
    done = [outcome for _, outcome in outcomes if not isinstance(outcome, FvvError)]
    return LabelResult(output, tuple(line for line, _ in done), failures, sum(kept for _, kept in done), accepted=False)


def accept(output: str | Path, examinations: Sequence[str], reader: str) -> LabelResult:
    """Accept label maps: write the masks that `prepare` reads, and record who did, when, and what was changed.

    Args:
        output: folder that `label` wrote.
        examinations: names; none: all drafts, and all label maps that were edited after they were accepted.
        reader: who has looked at them.

    Raises:
        ConfigError: the reader is not named, or not on one line.
        InputError: no such folder.
    """
    output = Path(output)
    if not reader.strip() or not is_plain(reader):
        raise ConfigError("no reader is named", hint="state who accepts, on one line: --reader NAME")
    names = tuple(examinations) or tuple(name for name in list_patients(output) if (output / name / RECORD).exists())
    failures, lines, kept = [], [], 0
    with only_writer(output):
        for name in track(names, "accept", len(names)):
            outcome = attempt(_accept_one, output / name, reader.strip(), all_of_them=not examinations)
            if isinstance(outcome, FvvError):
                failures.append(failure_of(name, outcome))
            else:
                lines.append(outcome[0])
                kept += outcome[1]
    return LabelResult(output, tuple(lines), tuple(failures), kept, accepted=True)


def _table_of(input_path: Path, cohort: Sequence[Examination]) -> bytes:
    """participants.tsv of the drafts; empty where there is none.

    Folders of drafts have the names of examinations. In BIDS, where a table names subjects, each gets a row of its own:
    otherwise two sessions of a person would be two persons. So would be two studies of a DICOM folder without a table.
    """
    if not all(one.format == "files" for one in cohort):
        table = input_path / PARTICIPANTS_FILE
        return table.read_bytes() if table.is_file() else _table_of_studies(cohort)
    names = [one.name for one in cohort]
    people = read_subjects(table_folder(input_path), names, unlisted="own-person")
    return table_text([people[name] for name in sorted(names)]).encode()


def _table_of_studies(cohort: Sequence[Examination]) -> bytes:
    """Who is who where a folder holds several DICOM studies of a person, named by the first; else empty.

    The same PatientID in two folders says nothing: anonymised sets have one for all.
    """
    first: dict[tuple[Path, object], str] = {}
    people = []
    for one in sorted(cohort, key=lambda one: one.name):
        frames = one.dicom.frames if one.dicom else ()
        who = frames[0].person if frames else one.name
        people.append(Participant(one.name, first.setdefault((one.place, who), one.name)))
    return table_text(people).encode() if len(first) < len(people) else b""


def _write_table(path: Path, content: bytes) -> None:
    """Write participants.tsv, but never over one in which a reader may have written labels."""
    if path.is_file() and path.read_bytes() != content:
        log.warning("%s differs from that of the data set, and is kept", path)
    elif content:
        write_bytes(path, content)


def _label_one(job: _Job, one: Examination) -> tuple[str, bool]:
    """Make one draft, or keep what is there; gives the line that says so, and whether it was kept."""
    folder, flair_file = job.output / one.name, flair_of(one)
    images = fingerprint(files=one.sha256(), flair=flair_file and file_sha256(flair_file))
    made_from = job.made_from.with_images(images)
    if (said := _kept(folder, made_from, overwrite=job.overwrite)) is not None:
        return f"{one.name}: {said}", True
    refuse_to_replace(folder)
    _, ensemble, settings = _models_of(job.models, job.config)
    case, _ = one.read(_as_predict(job.config))
    flair = None if flair_file is None else read_volume(flair_file)
    draft = draft_masks(case, flair, ensemble, settings, job.config)
    images_of = {"b0.nii.gz": case.b0, "b1000.nii.gz": case.b1000}
    shown = {"b1000": case.b1000}
    if draft.adc is not None:
        adc = Volume(np.rint(np.nan_to_num(draft.adc) * 1e6), case.b1000.affine)
        images_of["fvv_adc.nii.gz"] = shown["ADC"] = adc
    if draft.flair is not None:
        images_of["flair.nii.gz"] = draft.flair
        shown["FLAIR"] = draft.flair
    if case.mask is not None:
        images_of["mask.nii.gz"] = case.mask
    labels = draft.stroke.astype(np.uint8) + draft.flair_visible
    volumes = _volumes(labels, case.b1000, visible_known=flair is not None)
    picture = figure_png(
        draft_figure(shown, draft.brain, draft.stroke, draft.flair_visible, title=f"Draft of {one.name}: {volumes}")
    )
    record = DraftRecord(
        examination_id=one.name,
        made_from=made_from,
        models=settings.models,
        registration=_registration(draft, case.b0),
        visible_ratio=job.config.visible_ratio,
        labels_sha256="",
        files={},
    )
    b_value = "" if case.b_value is None else f"{case.b_value:g}"
    write_draft(folder, record, images_of, labels, picture=picture, b_value=b_value)
    return f"{one.name}: {volumes}", False


def _kept(folder: Path, made_from: MadeFrom, *, overwrite: bool) -> str | None:
    """What is there and stays, in words; None where the draft has to be made."""
    if not (folder / RECORD).exists():
        return None
    try:
        record = read_record(folder / RECORD, DraftRecord)
        if record.acceptances:
            return f"accepted by {record.acceptances[-1].reader}"
        if file_sha256(folder / LABELS) != record.labels_sha256:
            return "a reader works on it"
        verify_files(folder, record.files)
    except InputError:
        return None  # `refuse_to_replace` says what is damaged.
    differences = record.made_from.differences(made_from)
    if differences and not overwrite:
        hint = "--overwrite makes it again"
        raise InputError(f"a draft of {' and '.join(differences)} is there", file=folder, hint=hint)
    return None if differences else "draft"


def _accept_one(folder: Path, reader: str, *, all_of_them: bool) -> tuple[str, bool]:
    if not (folder / RECORD).exists():
        raise InputError("no draft", examination_id=folder.name, file=folder / RECORD, hint="`fvv label` writes drafts")
    record = read_record(folder / RECORD, DraftRecord)
    sha256 = file_sha256(folder / LABELS)
    last = record.acceptances[-1] if record.acceptances else None
    if last is not None and last.labels_sha256 == sha256 and (all_of_them or last.reader == reader):
        return f"{folder.name}: accepted by {last.reader}, unchanged", True
    verify_files(folder, record.files, hint="restore it from a copy, or make the draft again")
    draft, labels = read_labels(folder, DRAFT), read_labels(folder)
    visible_known = record.registration is not None or bool((labels.array == VALUES[Channel.FLAIR_VISIBLE]).any())
    acceptance = Acceptance(
        reader=reader,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        labels_sha256=sha256,
        stroke=_change(draft, labels, Channel.STROKE),
        flair_visible=_change(draft, labels, Channel.FLAIR_VISIBLE) if visible_known else None,
        files=write_masks(folder, labels.array, draft.affine, visible_known=visible_known),
    )
    # The record last: until it is written, `prepare` refuses the masks.
    write_sealed(folder / RECORD, record.model_copy(update={"acceptances": (*record.acceptances, acceptance)}))
    return f"{folder.name}: {_changes(acceptance)}", False


def _change(draft: Volume, labels: Volume, channel: Channel) -> Change:
    before, after = (volume.array >= VALUES[channel] for volume in (draft, labels))
    return Change(
        draft_ml=float(before.sum()) * draft.voxel_volume_ml,
        accepted_ml=float(after.sum()) * draft.voxel_volume_ml,
        dice_coefficient=Overlap.of_masks(before, after).dice_coefficient,
    )


def _changes(acceptance: Acceptance) -> str:
    return f"{_in_words(Channel.STROKE, acceptance.stroke)}, " + (
        "FLAIR-visible part unknown"
        if acceptance.flair_visible is None
        else _in_words(Channel.FLAIR_VISIBLE, acceptance.flair_visible)
    )


def _in_words(channel: Channel, change: Change) -> str:
    dice = "not defined" if np.isnan(change.dice_coefficient) else f"{change.dice_coefficient:.2f}"
    return f"{channel.title} {change.draft_ml:.2f} -> {change.accepted_ml:.2f} mL (Dice {dice})"


def _volumes(labels: np.ndarray, b1000: Volume, *, visible_known: bool) -> str:
    stroke, visible = (float((labels >= value).sum()) * b1000.voxel_volume_ml for value in VALUES.values())
    return f"stroke {stroke:.2f} mL, " + (f"FLAIR-visible {visible:.2f} mL" if visible_known else "no FLAIR")


def _registration(draft: Draft, b0: Volume) -> Registration | None:
    if draft.motion is None:
        return None
    middle = b0.affine[:3, :3] @ np.argwhere(draft.brain).mean(axis=0) + b0.affine[:3, 3]
    return Registration(rotation_deg=draft.motion.rotation_deg, shift_mm=draft.motion.shift_mm(middle))


def _as_predict(config: LabelConfig) -> PredictConfig:
    same = ("readers", "preprocess", "postprocess", "compute")
    return PredictConfig(**{name: getattr(config, name) for name in same})


@lru_cache(maxsize=1)
def _models_of(models: Path, config: LabelConfig) -> tuple[ModelBundle, OnnxEnsemble, Settings]:
    bundle, predict = ModelBundle.open(models), _as_predict(config)
    ensemble = open_ensemble(bundle, predict)
    about = bundle.manifest.description(len(ensemble))
    return bundle, ensemble, Settings.of(bundle.profile, predict, bundle.manifest, models=about)
