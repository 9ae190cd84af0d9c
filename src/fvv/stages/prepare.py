"""Stage 1: from one folder per patient to the store and its split file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fvv.config import PROFILES, PrepareConfig, PreprocessConfig, PreprocessingProfile
from fvv.data import Failure, FoldPlan, FoldRow, Participant, Severity
from fvv.errors import FvvError, InputError, MaskError, StoreError
from fvv.imaging.folds import SplitInput, plan_folds, refuse_too_few
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import brain_volume_findings
from fvv.io.bundle import file_sha256
from fvv.io.case import case_files, image_sha256, read_case
from fvv.io.lock import only_writer
from fvv.io.manifest import (
    FAILURES_FILE,
    FOLDS_FILE,
    failure_of,
    read_folds,
    read_participants,
    write_failures,
    write_folds,
)
from fvv.io.mask_command import with_commanded_mask
from fvv.io.nifti import MAX_BYTES
from fvv.io.simulation import SIMULATION_FILE
from fvv.io.store import SCHEMA_VERSION, CaseRecord, CaseStore, read_store_json
from fvv.parallel import map_items

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PrepareResult:
    """What preparation did.

    Attributes:
        prepared: patients prepared now.
        unchanged: patients that were already there, unchanged.
        failures: patients left out, with the reason.
        plan: the split.
        warnings: what people should read, one line each.
    """

    store: Path
    prepared: int
    unchanged: int
    failures: tuple[Failure, ...]
    plan: FoldPlan
    warnings: tuple[str, ...]

    def summary(self) -> str:
        """A few lines for the console."""
        lines = [
            f"{self.prepared} patients prepared, {self.unchanged} unchanged, {len(self.failures)} failed",
            f"store: {self.store}",
            f"split: {len(self.plan.rows)} patients over {self.plan.n_folds} folds -> {self.store / FOLDS_FILE}",
        ]
        return "\n".join([*lines, *self.warnings])


def prepare(
    input_path: Path, output_path: Path, config: PrepareConfig, *, folds: Path | None = None, overwrite: bool = False
) -> PrepareResult:
    """Prepare a cohort; a second run does only what changed, a killed run continues.

    Args:
        input_path: one folder per patient, and optionally participants.tsv.
        output_path: the store.
        config: split, profile, masks.
        folds: a split file to obey in place of making one.
        overwrite: prepare every patient anew.

    Raises:
        InputError: no data set there.
        StoreError: the split cannot be made, or the given one does not fit.
    """
    participants = read_participants(input_path)
    # What can be known to fail is known before hours of work.
    given = None if folds is None else read_folds(folds)
    if given is None:
        refuse_too_few({participant.person for participant in participants.values()}, config.kfolds)
    profile = config.preprocess.applied_to(PROFILES[config.profile])
    split = {"kfolds": config.kfolds, "valid_proportion": config.valid_proportion, "seed": config.seed}
    with only_writer(output_path):
        before = read_store_json(output_path) or {}
        store = CaseStore.create(output_path, profile, split)
        for gone in set(store.participants) - set(participants):
            log.info("no longer in the data set, taken out of the store: %s", gone)
            store.remove(gone)

        work = partial(_prepare_one, input_path, store, config.preprocess, overwrite=overwrite)
        failures: dict[str, Failure] = {}
        newly_prepared: dict[str, bool] = {}
        for participant, outcome in map_items(
            work, list(participants.values()), workers=config.workers, description="prepare"
        ):
            if isinstance(outcome, FvvError):
                failures[participant.participant] = failure_of(participant.participant, outcome)
            else:
                newly_prepared[participant.participant] = outcome
        records = {name: store.record(name) for name in sorted(newly_prepared)}
        failures |= _same_images_of_two_persons(records)
        for name in failures:
            store.remove(name)
            records.pop(name, None)
        ordered = tuple(failures[name] for name in sorted(failures))
        write_failures(output_path / FAILURES_FILE, ordered)
        if not records:
            raise StoreError(
                f"none of the {len(participants)} patients could be prepared; the first: {ordered[0].reason}",
                file=input_path,
            )
        plan = _split(store, records, config, given=given, keep=before.get("split") == split)
        write_folds(output_path / FOLDS_FILE, plan)
    return PrepareResult(
        store=output_path,
        prepared=sum(newly_prepared[name] for name in records),
        unchanged=sum(not newly_prepared[name] for name in records),
        failures=ordered,
        plan=plan,
        warnings=_warnings(records.values()),
    )


def _prepare_one(
    input_path: Path, store: CaseStore, config: PreprocessConfig, participant: Participant, *, overwrite: bool
) -> bool:
    """Prepare one patient; False where the store already holds exactly this."""
    folder = input_path / participant.participant
    source = _source_sha256(folder, config, store.profile, participant)
    if not overwrite and _already_there(store, participant.participant, source):
        return False
    case = with_commanded_mask(read_case(folder, config, labelled=True), store.profile)
    prepared = preprocess_case(case, store.profile)
    for finding in brain_volume_findings(prepared, config.brain_volume_bounds_ml):
        raise MaskError(finding.message, hint="give a mask file, or another --mask-method", patient=case.patient)
    participant = replace(participant, simulated=(folder / SIMULATION_FILE).exists())
    store.write(prepared, participant, image_sha256=image_sha256(case), source_sha256=source)
    return True


def _source_sha256(
    folder: Path, config: PreprocessConfig, profile: PreprocessingProfile, participant: Participant
) -> str:
    """Hash of all that the prepared patient depends on."""
    digest = hashlib.sha256()
    settings = [SCHEMA_VERSION, config.model_dump(mode="json"), profile.sha256, participant.person, participant.site]
    digest.update(json.dumps([*settings, participant.dwi_flair_mismatch], sort_keys=True).encode())
    try:
        for path in case_files(folder):
            if path.stat().st_size > MAX_BYTES:
                raise InputError("over the largest image read here", file=path)
            digest.update(path.name.encode())
            digest.update(bytes.fromhex(file_sha256(path)))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=error.filename or folder) from error
    return digest.hexdigest()


def _already_there(store: CaseStore, patient: str, source: str) -> bool:
    try:
        return store.record(patient).source_sha256 == source
    except StoreError:
        return False


def _same_images_of_two_persons(records: dict[str, CaseRecord]) -> dict[str, Failure]:
    """One person under two names would sit on both sides of a fold: the later folder is left out."""
    first: dict[str, CaseRecord] = {}
    failures = {}
    for name, record in records.items():
        other = first.setdefault(record.image_sha256, record).participant
        if other.person != record.participant.person:
            reason = f"has the same images as {other.participant}, said to be another person"
            failures[name] = failure_of(
                name, FvvError(reason, hint="give both the same patient_id in participants.tsv")
            )
    return failures


def _split(
    store: CaseStore, records: dict[str, CaseRecord], config: PrepareConfig, *, given: FoldPlan | None, keep: bool
) -> FoldPlan:
    if given is not None:
        return _obey(given, records)
    file = store.path / FOLDS_FILE
    if keep and file.exists():
        # Made earlier with the same settings, perhaps edited since: it stays, as long as it fits the patients.
        plan = read_folds(file)
        if {(row.participant, row.person) for row in plan.rows} == {
            (name, record.participant.person) for name, record in records.items()
        }:
            return plan
        log.info("the patients have changed: making a new split")
    inputs = [SplitInput(record.participant, record.stroke_ml, record.flair_visible_ml) for record in records.values()]
    return plan_folds(inputs, kfolds=config.kfolds, valid_proportion=config.valid_proportion, seed=config.seed)


def _obey(plan: FoldPlan, records: dict[str, CaseRecord]) -> FoldPlan:
    """The given split, without the patients that could not be prepared."""
    rows: list[FoldRow] = []
    for row in plan.rows:
        record = records.get(row.participant)
        if record is None:
            log.warning("%s is in the given split but was not prepared", row.participant)
        elif record.participant.person != row.person:
            raise StoreError(
                f"{row.participant} is {row.person} in the given split and {record.participant.person} in the cohort",
                hint="mend patient_id in the split file or in participants.tsv",
            )
        else:
            rows.append(row)
    left_out = sorted(set(records) - {row.participant for row in rows})
    if left_out:
        log.warning("not in the given split, so in no fold: %s", ", ".join(left_out))
    return FoldPlan(tuple(rows))


def _warnings(records: Iterable[CaseRecord]) -> tuple[str, ...]:
    lines: list[str] = []
    for record in records:
        name = record.participant.participant
        lines += [
            f"{name}: {f.severity.value}: {f.message}" for f in record.findings if f.severity is not Severity.NOTE
        ]
    return tuple(lines)
