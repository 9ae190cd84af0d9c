"""Stage 1: from patient folders to the store and the split."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fvv.cohort.examinations import read_cohort
from fvv.cohort.folds import SplitInput, refuse_too_few
from fvv.cohort.participants import same_images_of_two_persons
from fvv.cohort.split import SPLIT_FILE, StoredSplit, given_split, write_split
from fvv.config import PrepareConfig
from fvv.data import Failure, FoldPlan, Participant, Severity
from fvv.errors import FvvError, InputError, OutputExistsError, StoreError
from fvv.io.case import Place, case_files, hash_files, image_sha256
from fvv.io.folds import FOLDS_FILE, read_folds
from fvv.io.lock import only_writer
from fvv.io.ownership import claim, refuse_foreign
from fvv.io.shards import (
    SHARDS_FOLDER,
    clear_reports,
    finishing,
    hold_for_a_moment,
    hold_with_shards,
    mark_gathered,
    mark_ungathered,
    read_reports,
    shard_place,
    write_report,
)
from fvv.io.store import CASES_FOLDER, STORE_FILE, CaseRecord, CaseStore
from fvv.io.tables import FAILURES_FILE, counted_reasons, failure_of, write_failures
from fvv.names import first_few
from fvv.recipes.labelled import files_reachable, finding_lines, prepare_labelled, profile_of, unknown_lines
from fvv.schemas.migrations import CURRENT
from fvv.schemas.store import Outcome, ShardReport, SplitSettings
from fvv.simulator.files import is_simulated
from fvv.system.fingerprint import fingerprint
from fvv.system.parallel import map_items
from fvv.system.shard import Shard

log = logging.getLogger(__name__)
_OURS = (STORE_FILE, CASES_FOLDER, FAILURES_FILE, FOLDS_FILE, SPLIT_FILE, SHARDS_FOLDER)


@dataclass(frozen=True, slots=True)
class PrepareResult:
    """What preparation did.

    Attributes:
        unchanged: patients that were already there, unchanged.
        plan: the split; None after a shard, whose patients get their sides when the shards are gathered.
    """

    store: Path
    prepared: int
    unchanged: int
    failures: tuple[Failure, ...]
    plan: FoldPlan | None = None
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """A few lines for the console."""
        split = "no split yet: `fvv gather` makes it when all shards are done"
        if self.plan is not None:
            where = self.store / FOLDS_FILE
            split = f"split: {len(self.plan.rows)} patients over {self.plan.n_folds} folds -> {where}"
        done = f"{self.prepared} patients prepared, {self.unchanged} unchanged, {len(self.failures)} failed"
        return "\n".join([done, f"store: {self.store}", split, *self.warnings])


def prepare(
    input_path: str | Path,
    output_path: str | Path,
    config: PrepareConfig,
    *,
    folds: str | Path | None = None,
    overwrite: bool = False,
    prune: bool = False,
    shard: Shard | None = None,
) -> PrepareResult:
    """Prepare a cohort; a second run does only what changed, a killed run continues.

    What the store holds and the data set does not stays in the store, and so does what was stored of a patient whose
    files cannot be opened now: both are failures.

    Args:
        input_path: one folder per patient, or a BIDS data set; and optionally participants.tsv.
        folds: a split file to use instead of making one.
        prune: take out of the store what the data set does not hold, and what was found unusable.
        shard: prepare this part of the patients only; `gather_store` joins the parts.

    Raises:
        InputError: no data set there, or an unusable participants.tsv.
        StoreError: the split cannot be made, or the given one does not fit; the store holds another cohort.
        OutputExistsError: files that this program did not write lie in the store's place.
    """
    input_path, output_path = Path(input_path), Path(output_path)
    folds = None if folds is None else Path(folds)
    cohort = read_cohort(input_path, unlisted=config.preprocess.unlisted)
    people = cohort.people
    if output_path.resolve().is_relative_to(input_path.resolve()):
        message = "the store would be inside the data set and count as a patient"
        raise OutputExistsError(message, file=output_path, hint="name a folder beside it with -o")
    refuse_foreign(output_path)
    given = None if folds is None else read_folds(folds)
    if shard is None:
        with hold_with_shards(output_path):
            _refuse_hopeless(output_path, config, people, prune=prune, given=given is not None)
            outcomes = _prepare_each(output_path, config, cohort.located(people), overwrite=overwrite)
            with finishing(output_path):
                return _finish(output_path, config, outcomes, given=given, prune=prune)
    if given is not None:
        raise StoreError("a shard makes no split", hint="gather the shards, then give --split to `fvv prepare` again")
    with ExitStack() as held:
        report = ShardReport(shard=shard, config=config, prune=prune, cohort_sha256=fingerprint(people=people))
        with hold_for_a_moment(output_path, shard):
            _refuse_hopeless(output_path, config, people, prune=prune, given=False)
            held.enter_context(only_writer(shard_place(output_path, shard)))
            mark_ungathered(output_path, "prepare", shard)
            clear_reports(output_path, report)
        mine = cohort.located(shard.select(people))
        outcomes = _prepare_each(output_path, config, mine, overwrite=overwrite)
        write_report(output_path, report.model_copy(update={"outcomes": tuple(outcomes)}))
    return _result(output_path, outcomes, _failures(outcomes))


def gather_store(store: str | Path) -> PrepareResult:
    """Join the shards of a cohort: failures.csv, and the split. A second call does the same again.

    Raises:
        StoreError: a shard is missing, the shards are of different runs, or the split cannot be made.
    """
    store = Path(store)
    with hold_with_shards(store):
        reports = read_reports(store)
        outcomes = [outcome for report in reports for outcome in report.outcomes]
        result = _finish(store, reports[0].config, outcomes, given=None, prune=reports[0].prune)
        mark_gathered(store)
        return result


def _refuse_hopeless(
    path: Path, config: PrepareConfig, people: Mapping[str, Participant], *, prune: bool, given: bool
) -> None:
    """Take the names in the store, and refuse, before hours of work, what cannot end well."""
    claim(path, _OURS, stage="prepare")
    stored = CaseStore(path, profile_of(config)).participants
    if stored and not prune and not set(stored) & set(people):
        names = first_few(stored, 10)
        message = f"holds {len(stored)} examinations, none of which is in the data set: {names}"
        raise StoreError(
            message, file=path, hint="if it is another cohort's, choose another -o; --prune removes these examinations"
        )
    split = StoredSplit.read(path, stored)
    if given:
        return
    split.refuse_unfit(_split_settings(config), {name: one.person_id for name, one in people.items()})
    if not split.rows:
        refuse_too_few({one.person_id for one in people.values()}, config.kfolds)


def _split_settings(config: PrepareConfig) -> SplitSettings:
    return SplitSettings(config.kfolds, config.valid_proportion, config.seed)


def _prepare_each(
    path: Path, config: PrepareConfig, items: Sequence[tuple[Participant, Place]], *, overwrite: bool
) -> list[Outcome]:
    store = CaseStore(path, profile_of(config))
    work = partial(_prepare_one, store, config, overwrite=overwrite)
    outcomes = []
    for (one, place), result in map_items(work, items, workers=config.compute.workers, description="prepare"):
        if isinstance(result, FvvError):
            reason = failure_of(one.examination_id, result).reason
            reachable = files_reachable(place, one, config.preprocess)
            outcomes.append(Outcome(participant=one, reason=reason, reachable=reachable))
        else:
            outcomes.append(Outcome(participant=one, newly=result))
    return outcomes


def _prepare_one(store: CaseStore, config: PrepareConfig, item: tuple[Participant, Place], *, overwrite: bool) -> bool:
    """Prepare one patient; False where the store already holds exactly this."""
    one, place = item
    source = _source_sha256(place, config, one)
    if not overwrite and _is_stored(store, one.examination_id, source):
        return False
    case, prepared = prepare_labelled(place, one, config)
    one = replace(one, simulated=is_simulated(place))
    store.write(prepared, one, image_sha256=image_sha256(case), source_sha256=source)
    return True


def _source_sha256(place: Place, config: PrepareConfig, one: Participant) -> str:
    return fingerprint(
        schema_version=CURRENT[CaseRecord.kind],
        preprocess=config.preprocess,
        quality=config.quality,
        profile=profile_of(config).sha256,
        who=(one.person_id, one.site, one.dwi_flair_mismatch, one.stroke_free),
        files=hash_files(case_files(place)),
    )


def _is_stored(store: CaseStore, patient: str, source: str) -> bool:
    """Whether exactly this is stored, whole: reading compares the checksum of every chunk."""
    try:
        if store.record(patient).source_sha256 != source:
            return False
        store.read(patient)
    except StoreError:
        return False
    return True


def _finish(
    path: Path, config: PrepareConfig, outcomes: Sequence[Outcome], *, given: FoldPlan | None, prune: bool
) -> PrepareResult:
    """Join what was done with each patient: failures, the split, and what leaves the store where that was asked for."""
    failures = _failures(outcomes)
    if len(failures) == len(outcomes):
        message = f"none of the {len(outcomes)} patients could be prepared. {_reasons(failures)}"
        raise StoreError(message, file=path)
    store = CaseStore.create(path, profile_of(config))
    stored, people = set(store.participants), {one.participant.examination_id: one.participant for one in outcomes}
    unusable = {one.participant.examination_id for one in outcomes if one.reason is not None and one.reachable}
    gone = (stored - set(people)) | (stored & unusable) if prune else set()
    records = _usable_records(store, people, stored - unusable - gone)
    hashes = {name: record.image_sha256 for name, record in records.items()}
    duplicates = same_images_of_two_persons({name: record.participant for name, record in records.items()}, hashes)
    records = {name: record for name, record in records.items() if name not in duplicates}
    absent, hint = "in the store, but no longer in the data set", "restore it, or remove it from the store with --prune"
    missing = {name: InputError(absent, hint=hint) for name in stored - set(people) - gone}
    failures |= {name: failure_of(name, error) for name, error in missing.items()} | duplicates
    write_failures(path / FAILURES_FILE, [failures[name] for name in sorted(failures)])
    before = StoredSplit.read(path, stored)
    try:
        split = _split(before.without(gone), records, config, given)
    except StoreError as error:
        raise _with_the_left_out(error, failures) from error
    write_split(path, split, before)
    for name in sorted(gone):
        log.info("removed from the store: %s", name)
        store.remove(name)
    by_hand = sorted(split.removed & set(records))
    warnings = [f"in no fold, as the split was edited or given: {first_few(by_hand, 10)}"] if by_hand else []
    warnings += unknown_lines({name: record.known for name, record in records.items()})
    for name, record in records.items():
        warnings += finding_lines(name, (one for one in record.findings if one.severity is not Severity.NOTE))
    return _result(path, outcomes, failures, FoldPlan(split.rows), warnings)


def _failures(outcomes: Iterable[Outcome]) -> dict[str, Failure]:
    names = ((one.participant.examination_id, one.reason) for one in outcomes)
    return {name: Failure(name, reason) for name, reason in names if reason is not None}


def _usable_records(store: CaseStore, people: Mapping[str, Participant], names: Iterable[str]) -> dict[str, CaseRecord]:
    """What can be learned from: prepared under this profile, for the person that the cohort names."""
    records = {}
    for name in sorted(names):
        try:
            record = store.record(name)
        except StoreError as error:
            log.warning("%s", error)
            continue
        if record.participant == people.get(name, record.participant):
            records[name] = record
    return records


def _split(
    split: StoredSplit, records: Mapping[str, CaseRecord], config: PrepareConfig, given: FoldPlan | None
) -> StoredSplit:
    settings = _split_settings(config)
    if given is not None:
        return given_split(given, {name: record.participant for name, record in records.items()}, settings)
    cases = [SplitInput(record.participant, record.stroke_ml, record.flair_visible_ml) for record in records.values()]
    return split.updated(cases, settings)


def _with_the_left_out(error: StoreError, failures: Mapping[str, Failure]) -> StoreError:
    """The same error, with the examinations that are missing from the split and why."""
    if not failures:
        return error
    message = f"{error.message}; {len(failures)} examinations were left out. {_reasons(failures)}"
    hint = f"every reason stands in {FAILURES_FILE}"
    return StoreError(message, file=error.file, hint=f"{error.hint}; {hint}" if error.hint else hint)


def _reasons(failures: Mapping[str, Failure]) -> str:
    return counted_reasons(failures[name] for name in sorted(failures))


def _result(
    path: Path,
    outcomes: Iterable[Outcome],
    failures: Mapping[str, Failure],
    plan: FoldPlan | None = None,
    warnings: Iterable[str] = (),
) -> PrepareResult:
    done = [one for one in outcomes if one.participant.examination_id not in failures]
    newly = sum(one.newly for one in done)
    listed = tuple(failures[name] for name in sorted(failures))
    return PrepareResult(path, newly, len(done) - newly, listed, plan, tuple(warnings))
