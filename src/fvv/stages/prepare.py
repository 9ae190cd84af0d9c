"""Stage 1: from patient folders to the store and the split."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from fvv.cohort.folds import SplitInput, refuse_too_few
from fvv.cohort.participants import read_participants
from fvv.cohort.split import SPLIT_FILE, SplitSettings, StoredSplit, given_split, write_split
from fvv.config import PROFILES, PrepareConfig, PreprocessingProfile
from fvv.data import Failure, FoldPlan, Participant, Severity
from fvv.errors import FvvError, InputError, OutputExistsError, StoreError
from fvv.io.atomic import write_text
from fvv.io.case import case_files, image_sha256
from fvv.io.lock import only_writer
from fvv.io.manifest import FAILURES_FILE, FOLDS_FILE, failure_of, read_folds, refuse_missing_folder, write_failures
from fvv.io.nifti import MAX_BYTES
from fvv.io.ownership import adopt, claim, claimed, refuse_foreign
from fvv.io.preparation import Outcome, ShardReport, clear_misfits, forget_reports, read_reports
from fvv.io.shard_lock import SHARDS_FOLDER, beginning, shard_place, whole_store
from fvv.io.store import SCHEMA_VERSION, CaseRecord, CaseStore, read_store_json
from fvv.recipes.labelled import files_reachable, prepare_labelled, refuse_unassessable
from fvv.simulator.files import SIMULATION_FILE
from fvv.system.fingerprint import file_sha256
from fvv.system.parallel import map_items
from fvv.system.shard import Shard

log = logging.getLogger(__name__)
_OURS = ("store.json", "cases", FAILURES_FILE, FOLDS_FILE, SPLIT_FILE, SHARDS_FOLDER)


@dataclass(frozen=True, slots=True)
class PrepareResult:
    """What preparation did.

    Attributes:
        prepared: patients prepared now.
        unchanged: patients that were already there, unchanged.
        failures: patients left out, with the reason.
        plan: the split; None after a shard, whose patients get their sides when the shards are gathered.
        warnings: what people should read, one line each.
    """

    store: Path
    prepared: int
    unchanged: int
    failures: tuple[Failure, ...]
    plan: FoldPlan | None
    warnings: tuple[str, ...]

    def summary(self) -> str:
        """A few lines for the console."""
        lines = [
            f"{self.prepared} patients prepared, {self.unchanged} unchanged, {len(self.failures)} failed",
            f"store: {self.store}",
        ]
        if self.plan is None:
            lines.append("no split yet: `fvv gather` makes it when all shards are done")
        else:
            where = self.store / FOLDS_FILE
            lines.append(f"split: {len(self.plan.rows)} patients over {self.plan.n_folds} folds -> {where}")
        return "\n".join([*lines, *self.warnings])


def prepare(
    input_path: Path,
    output_path: Path,
    config: PrepareConfig,
    *,
    folds: Path | None = None,
    overwrite: bool = False,
    prune: bool = False,
    shard: Shard | None = None,
) -> PrepareResult:
    """Prepare a cohort; a second run does only what changed, a killed run continues.

    What the store holds and the data set does not stays in the store, and so does what was stored of a patient whose
    files cannot be opened now: both are failures.

    Args:
        input_path: one folder per patient, and optionally participants.tsv.
        output_path: the store.
        config: split, profile, masks.
        folds: a split file to obey instead of making one.
        overwrite: prepare every patient again.
        prune: take out of the store what the data set does not hold, and what was found unusable.
        shard: prepare this part of the patients only; `gather_store` joins the parts.

    Raises:
        InputError: no data set there, or an unusable participants.tsv.
        StoreError: the split cannot be made, or the given one does not fit; the store holds another cohort.
        OutputExistsError: files that this program did not write lie in the store's place.
    """
    participants = read_participants(input_path, unlisted=config.unlisted)
    _refuse_place(input_path, output_path)
    # What can be known to fail is known before hours of work.
    given = None if folds is None else read_folds(folds)
    if shard is not None:
        if given is not None:
            raise StoreError("a split is given when the shards are gathered", hint="give --folds to `fvv gather`")
        return _prepare_shard(input_path, output_path, config, participants, shard, overwrite=overwrite, prune=prune)
    with whole_store(output_path):
        before = _begin(output_path, config, participants, prune=prune, given=given)
        outcomes = _prepare_all(input_path, output_path, config, participants.values(), overwrite=overwrite)
        try:
            return _finish(output_path, config, outcomes, given=given, prune=prune)
        except _NothingPreparedError:
            if before is not None:  # Under another profile the patients that are there could not be read.
                write_text(output_path / "store.json", before)
            raise


def gather_store(store: Path, *, folds: Path | None = None) -> PrepareResult:
    """Join the shards of a cohort: failures.csv, and the split.

    Args:
        store: into which all shards were prepared.
        folds: a split file to obey instead of making one.

    Raises:
        StoreError: a shard is missing, or the split cannot be made, or the given one does not fit.
    """
    given = None if folds is None else read_folds(folds)
    if not store.is_dir():
        raise StoreError("no such folder", file=store)
    with whole_store(store):
        reports = read_reports(store)
        outcomes = [outcome for report in reports for outcome in report.outcomes]
        return _finish(store, reports[0].config, outcomes, given=given, prune=reports[0].prune)


def _prepare_shard(
    input_path: Path,
    store: Path,
    config: PrepareConfig,
    participants: dict[str, Participant],
    shard: Shard,
    *,
    overwrite: bool,
    prune: bool,
) -> PrepareResult:
    with ExitStack() as held:
        with beginning(store):
            _claim(store)
            held.enter_context(only_writer(shard_place(store, shard)))
            report = ShardReport(shard=str(shard), config=config, prune=prune, outcomes=())
            clear_misfits(store, report)
            _begin(store, config, participants, prune=prune, given=None)
        mine = [participants[name] for name in shard.select(participants)]
        outcomes = _prepare_all(input_path, store, config, mine, overwrite=overwrite)
        report.model_copy(update={"outcomes": tuple(outcomes)}).write(store)
    return PrepareResult(
        store=store,
        prepared=sum(outcome.newly for outcome in outcomes),
        unchanged=sum(outcome.reason is None and not outcome.newly for outcome in outcomes),
        failures=_failures(outcomes),
        plan=None,
        warnings=(),
    )


def _begin(
    path: Path, config: PrepareConfig, participants: Mapping[str, Participant], *, prune: bool, given: FoldPlan | None
) -> str | None:
    """Refuse what cannot end well, then describe the store; returns the description that was there."""
    file = path / "store.json"
    _claim(path)
    profile = config.preprocess.applied_to(PROFILES[config.profile])
    stored = CaseStore(path, profile).participants
    if stored and not prune and not set(stored) & set(participants):
        message = f"holds {len(stored)} examinations, none of which is in the data set: {_some(stored)}"
        raise StoreError(message, file=path, hint="is it another cohort's? name another -o, or take them out (--prune)")
    settings = _split_settings(config)
    split = StoredSplit.read(path, stored, _earlier_settings(path))
    if given is None:
        split.refuse_unfit(settings, {name: one.person for name, one in participants.items()})
        if not split.rows:
            refuse_too_few({participant.person for participant in participants.values()}, config.kfolds)
    before = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
    CaseStore.create(path, profile, asdict(settings))
    return before


def _refuse_place(input_path: Path, store: Path) -> None:
    """Refuse, before anything is written, a store among the patients or among other people's files."""
    if store.resolve().is_relative_to(input_path.resolve()):
        hint = "name a folder beside it with -o"
        raise OutputExistsError("the store would lie in the data set, as a patient", file=store, hint=hint)
    if not _is_store(store):
        refuse_foreign(store)


def _is_store(path: Path) -> bool:
    """Whether store.json says that an earlier version wrote it, which left no marker."""
    try:
        content = read_store_json(path) or {}
    except StoreError:
        return False
    return "schema_version" in content and str(content.get("software")).startswith("fvv ")


def _claim(path: Path) -> None:
    if not claimed(path) and _is_store(path):
        adopt(path, _OURS)
    claim(path, _OURS, stage="prepare")


def _split_settings(config: PrepareConfig) -> SplitSettings:
    return SplitSettings(config.kfolds, config.valid_proportion, config.seed)


def _earlier_settings(path: Path) -> SplitSettings | None:
    """Those that store.json names: of use where there is no split.json yet."""
    try:
        return SplitSettings(**(read_store_json(path) or {})["split"])
    except (StoreError, KeyError, TypeError):
        return None


def _prepare_all(
    input_path: Path, path: Path, config: PrepareConfig, participants: Collection[Participant], *, overwrite: bool
) -> list[Outcome]:
    store = CaseStore(path, config.preprocess.applied_to(PROFILES[config.profile]))
    work = partial(_prepare_one, input_path, store, config, overwrite=overwrite)
    outcomes = []
    for participant, result in map_items(work, list(participants), workers=config.workers, description="prepare"):
        if isinstance(result, FvvError):
            reason = failure_of(participant.participant, result).reason
            reachable = files_reachable(input_path / participant.participant)
            outcomes.append(Outcome(participant=participant, reason=reason, reachable=reachable))
        else:
            outcomes.append(Outcome(participant=participant, newly=result))
    return outcomes


def _prepare_one(
    input_path: Path, store: CaseStore, config: PrepareConfig, participant: Participant, *, overwrite: bool
) -> bool:
    """Prepare one patient; False where the store already holds exactly this."""
    folder = input_path / participant.participant
    refuse_missing_folder(folder)
    source = _source_sha256(folder, config, store.profile, participant)
    if not overwrite and _already_there(store, participant.participant, source):
        return False
    case, prepared = prepare_labelled(folder, store.profile, config)
    if config.quality == "refuse":
        refuse_unassessable(prepared)
    participant = replace(participant, simulated=(folder / SIMULATION_FILE).exists())
    store.write(prepared, participant, image_sha256=image_sha256(case), source_sha256=source)
    return True


def _source_sha256(folder: Path, config: PrepareConfig, profile: PreprocessingProfile, participant: Participant) -> str:
    """Hash of all that the prepared patient depends on."""
    settings = [SCHEMA_VERSION, config.preprocess.model_dump(mode="json"), config.quality, profile.sha256]
    who = [participant.person, participant.site, participant.dwi_flair_mismatch]
    digest = hashlib.sha256(json.dumps([*settings, *who], sort_keys=True).encode())
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
    """Whether exactly this is stored, whole: reading compares the checksum of every chunk."""
    try:
        if store.record(patient).source_sha256 != source:
            return False
        store.read(patient)
    except StoreError:
        return False
    return True


class _NothingPreparedError(StoreError):
    """No patient of the data set could be prepared: the store is left as it was."""


def _finish(
    path: Path, config: PrepareConfig, outcomes: Sequence[Outcome], *, given: FoldPlan | None, prune: bool
) -> PrepareResult:
    """Join what was done with each patient: failures, the split, and what leaves the store where that was asked for."""
    if all(outcome.reason is not None for outcome in outcomes):
        first = min(outcomes, key=lambda outcome: outcome.participant.participant)
        message = f"none of the {len(outcomes)} patients could be prepared; the first: {first.reason}"
        raise _NothingPreparedError(message, file=path)
    store = CaseStore.open(path)
    people = {outcome.participant.participant: outcome.participant for outcome in outcomes}
    absent = [name for name in store.participants if name not in people]
    unusable = {one.participant.participant for one in outcomes if one.reason is not None and one.reachable}
    before = StoredSplit.read(path, store.participants, _earlier_settings(path))
    gone: set[str] = {*absent, *(unusable & set(store.participants))} if prune else set()
    split = before.without(gone)
    records = _usable_records(path, people, unusable | gone)
    duplicates = _same_images_of_two_persons(records)
    records = {name: record for name, record in records.items() if name not in duplicates}
    away = _absent(name for name in absent if name not in gone)
    failures = {failure.patient: failure for failure in (*_failures(outcomes), *away)} | duplicates
    ordered = tuple(failures[name] for name in sorted(failures))
    write_failures(path / FAILURES_FILE, ordered)
    plan, split = _plan(split, records, config, given)
    write_split(path, split, before)
    for name in sorted(gone):
        log.info("taken out of the store: %s", name)
        store.remove(name)
    forget_reports(path)
    done = [one for one in outcomes if one.reason is None and one.participant.participant not in duplicates]
    return PrepareResult(
        store=path,
        prepared=sum(outcome.newly for outcome in done),
        unchanged=sum(not outcome.newly for outcome in done),
        failures=ordered,
        plan=plan,
        warnings=_warnings(records.values()) + _by_hand(split, records),
    )


def _failures(outcomes: Iterable[Outcome]) -> tuple[Failure, ...]:
    return tuple(
        Failure(outcome.participant.participant, outcome.reason)
        for outcome in sorted(outcomes, key=lambda outcome: outcome.participant.participant)
        if outcome.reason is not None
    )


def _absent(names: Iterable[str]) -> list[Failure]:
    hint = "fetch it again, or take it out of the store with --prune"
    return [failure_of(name, InputError("in the store, but no longer in the data set", hint=hint)) for name in names]


def _usable_records(path: Path, people: Mapping[str, Participant], unusable: set[str]) -> dict[str, CaseRecord]:
    """What can be learned from: prepared under this profile, for the person whom the cohort names."""
    store = CaseStore.open(path)
    records = {}
    for name in store.participants:
        if name in unusable:
            continue
        try:
            record = store.record(name)
        except StoreError as error:
            log.warning("%s", error)
            continue
        if record.participant == people.get(name, record.participant):
            records[name] = record
    return records


def _same_images_of_two_persons(records: Mapping[str, CaseRecord]) -> dict[str, Failure]:
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


def _plan(
    split: StoredSplit, records: Mapping[str, CaseRecord], config: PrepareConfig, given: FoldPlan | None
) -> tuple[FoldPlan, StoredSplit]:
    settings = _split_settings(config)
    if given is not None:
        obeyed = given_split(given, {name: record.participant for name, record in records.items()}, settings)
        return FoldPlan(obeyed.rows), obeyed
    inputs = [SplitInput(record.participant, record.stroke_ml, record.flair_visible_ml) for record in records.values()]
    return split.plan(inputs, settings)


def _by_hand(split: StoredSplit, records: Collection[str]) -> tuple[str, ...]:
    out = sorted(split.removed & set(records))
    return (f"in no fold, as the split was edited or given: {_some(out)}",) if out else ()


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _warnings(records: Iterable[CaseRecord]) -> tuple[str, ...]:
    lines: list[str] = []
    for record in records:
        name = record.participant.participant
        lines += [
            f"{name}: {f.severity.value}: {f.message}" for f in record.findings if f.severity is not Severity.NOTE
        ]
    return tuple(lines)
