"""How well two readers agree: two folders of masks and labels, compared examination by examination."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvv.analysis.readers import MaskPair, channel_agreement, mismatch_agreement
from fvv.analysis.statistics import Bootstrap
from fvv.cohort.participants import PARTICIPANTS_FILE, read_participants
from fvv.config import MISMATCH_BELOW
from fvv.data import Channel, Failure, Participant, Volume
from fvv.errors import FvvError, InputError
from fvv.imaging.geometry import same_grid
from fvv.io.case import list_patients
from fvv.io.drafts import MASKS, RECORD, refuse_draft
from fvv.io.lock import only_writer
from fvv.io.nifti import find_image, read_volume
from fvv.io.ownership import claim
from fvv.io.roi import inside
from fvv.io.sealed import read_record, write_sealed
from fvv.io.tables import FAILURES_FILE, failure_of, write_failures, write_table
from fvv.names import counted, first_few
from fvv.schemas.labels import AgreementRecord, DraftRecord, KappaResult
from fvv.schemas.summary import Estimate
from fvv.system.fingerprint import file_sha256
from fvv.system.parallel import attempt, track

AGREEMENT_FILE, TABLE_FILE = "agreement.json", "agreement.csv"
SAMPLES = 2000
"""Bootstrap draws behind an interval, as `fvv evaluate` takes."""
Pairs = dict[Channel, MaskPair]


@dataclass(frozen=True, slots=True)
class AgreementResult:
    """Two readers compared."""

    output: Path
    record: AgreementRecord
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """The table, for the console."""
        one = self.record
        who = f"{counted(len(one.examinations), 'examination')} of {counted(one.persons, 'person')}"
        lines = [f"{who}: {one.first} and {one.second}"]
        if one.only_one:
            lines.append(f"in one folder only, left out: {first_few(one.only_one)}")
        if one.drafts:
            lines.append(f"{one.drafts} began as the same draft: these numbers are higher than those of free readers")
        lines += [
            f"mismatch, kappa {_shown(kappa.kappa)}, n {kappa.n} ({kappa.source})"
            for kappa in (one.by_masks, one.by_readers)
            if kappa is not None
        ]
        for name, channel in (("stroke", one.stroke), ("FLAIR-visible", one.flair_visible)):
            limits = _interval(channel.volume.lower_limit, channel.volume.upper_limit)
            empty = f", {channel.n_empty} of them empty in both" if channel.n_empty else ""
            lines.append(
                f"{name}, n {channel.n}{empty}: Dice {_shown(channel.dice_coefficient)}; volume in mL: bias "
                f"{_shown(channel.volume.bias)}, limits {limits}; ICC(2,1) {_shown(channel.intraclass)}"
            )
        return "\n".join([*lines, f"tables: {self.output}"])


def agreement(first: str | Path, second: str | Path, output: str | Path, *, seed: int = 0) -> AgreementResult:
    """Compare two readers' masks and mismatch labels, and write agreement.json and agreement.csv.

    Args:
        first, second: a folder for each examination, with stroke_roi, flairviz_roi or both; perhaps participants.tsv.
        seed: of the bootstrap.

    Raises:
        InputError: a folder holds no examination, or the two have none in common.
        OutputExistsError: files that this program did not write are in the way.
    """
    first, second, output = Path(first), Path(second), Path(output)
    names = [list_patients(folder) for folder in (first, second)]
    common = sorted(set(names[0]) & set(names[1]))
    if not common:
        raise InputError(
            f"has no examination in common with {second}", file=first, hint="names of folders are compared"
        )
    people = [_people(folder) for folder in (first, second)]
    pairs: dict[str, Pairs] = {}
    failures = []
    for name in track(common, "compare", len(common)):
        found = attempt(_compare, first / name, second / name)
        if isinstance(found, FvvError):
            failures.append(failure_of(name, found))
        else:
            pairs[name] = found
    if not pairs:
        raise InputError(f"no examination could be compared; the first: {failures[0].reason}", file=first)
    record = _record(first, second, pairs, people, seed)
    record = record.model_copy(update={"only_one": tuple(sorted(set(names[0]) ^ set(names[1])))})
    with only_writer(output):
        claim(output, [AGREEMENT_FILE, TABLE_FILE, FAILURES_FILE], stage="agreement")
        write_sealed(output / AGREEMENT_FILE, record)
        write_table(output / TABLE_FILE, list(_rows(pairs)), columns=_columns())
        write_failures(output / FAILURES_FILE, failures)
    return AgreementResult(output, record, tuple(failures))


def _people(folder: Path) -> dict[str, Participant]:
    return read_participants(folder, unlisted="own-person")


def _compare(first: Path, second: Path) -> Pairs:
    """The channels that both readers outlined; FLAIR-visible within the same reader's stroke, as `prepare` cuts it."""
    for folder in (first, second):
        refuse_draft(folder)
    masks: dict[Channel, tuple[Volume, Volume]] = {}
    for channel, name in MASKS.items():
        files = [find_image(folder, name.partition(".")[0]) for folder in (first, second)]
        if None in files:
            continue
        one, two = (_mask(file) for file in files if file is not None)
        masks[channel] = one, two
        if not all(same_grid(one, other) for other in (two, next(iter(masks.values()))[0])):
            hint = "both readers outline on the grid of b1000"
            raise InputError(f"{name} and another mask lie on different grids", file=second / name, hint=hint)
    if not masks:
        raise InputError("neither mask is in both folders", file=second)
    strokes = masks.get(Channel.STROKE)
    pairs = {}
    for channel, (one, two) in masks.items():
        here, there = one.array, two.array
        if channel is Channel.FLAIR_VISIBLE and strokes is not None:
            here, there = here & strokes[0].array, there & strokes[1].array
        pairs[channel] = MaskPair.of(here, there, one.voxel_volume_ml)
    return pairs


def _mask(file: Path) -> Volume:
    volume = read_volume(file)
    try:
        return Volume(inside(volume.array, file.name)[0], volume.affine)
    except InputError as error:
        error.file = str(file)
        raise


def _record(
    first: Path, second: Path, pairs: dict[str, Pairs], people: list[dict[str, Participant]], seed: int
) -> AgreementRecord:
    names = tuple(pairs)
    who = [_person(name, people) for name in names]
    codes = {person: code for code, person in enumerate(dict.fromkeys(who))}
    persons = np.array([codes[person] for person in who])
    of_masks, of_readers, *of_channels = Bootstrap(SAMPLES, np.random.default_rng(seed)).spawn(4)
    channels = {}
    for (channel, _), bootstrap in zip(MASKS.items(), of_channels, strict=True):
        there = [at for at, name in enumerate(names) if channel in pairs[name]]
        chosen = [pairs[names[at]][channel] for at in there]
        channels[channel.label] = channel_agreement(chosen, persons[there], bootstrap)
    rule = [[_by_rule(pairs[name], second=second) for name in names] for second in (False, True)]
    source = f"under {MISMATCH_BELOW:.0%} of the stroke FLAIR-visible"
    return AgreementRecord(
        first=first.name or str(first),
        second=second.name or str(second),
        examinations=names,
        persons=len(codes),
        only_one=(),
        drafts=sum(_same_draft(first / name, second / name) for name in names),
        by_masks=mismatch_agreement(rule[0], rule[1], persons, of_masks, source),
        by_readers=_by_readers(first, second, names, people, persons=persons, bootstrap=of_readers),
        **channels,
    )


def _person(name: str, people: list[dict[str, Participant]]) -> str:
    """By the first table that gives a patient_id."""
    return next((one[name].person_id for one in people if one[name].person_id != name), name)


def _by_rule(pair: Pairs, *, second: bool) -> bool | None:
    """Mismatch by one reader's masks; None where a channel is missing or there is no stroke."""
    if len(pair) < len(MASKS):
        return None
    stroke, visible = (one.second_ml if second else one.first_ml for one in pair.values())
    return None if not stroke else visible / stroke < MISMATCH_BELOW


def _by_readers(
    first: Path,
    second: Path,
    names: tuple[str, ...],
    people: list[dict[str, Participant]],
    *,
    persons: np.ndarray,
    bootstrap: Bootstrap,
) -> KappaResult | None:
    """Kappa of the labels in the two tables; None where a table is missing, or one is a copy of the other."""
    tables = [folder / PARTICIPANTS_FILE for folder in (first, second)]
    if not all(table.is_file() for table in tables) or file_sha256(tables[0]) == file_sha256(tables[1]):
        return None
    labels = [[one[name].dwi_flair_mismatch for name in names] for one in people]
    found = mismatch_agreement(labels[0], labels[1], persons, bootstrap, f"labels in {PARTICIPANTS_FILE}")
    return found if found.n else None


def _same_draft(first: Path, second: Path) -> bool:
    files = [folder / RECORD for folder in (first, second)]
    if not all(file.is_file() for file in files):
        return False
    one, two = (read_record(file, DraftRecord) for file in files)
    return one.labels_sha256 == two.labels_sha256


def _columns() -> list[str]:
    kinds = ("first_ml", "second_ml", "dice")
    return ["examination_id", *(f"{channel.label}_{kind}" for channel in MASKS for kind in kinds)]


def _rows(pairs: dict[str, Pairs]) -> Iterator[dict[str, str | float | None]]:
    for name, pair in pairs.items():
        row: dict[str, str | float | None] = dict.fromkeys(_columns())
        row["examination_id"] = name
        for channel, one in pair.items():
            dice = None if math.isnan(one.dice_coefficient) else round(one.dice_coefficient, 4)
            row |= {f"{channel.label}_first_ml": round(one.first_ml, 4), f"{channel.label}_dice": dice}
            row[f"{channel.label}_second_ml"] = round(one.second_ml, 4)
        yield row


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.3g}"


def _interval(low: float, high: float) -> str:
    return "not defined" if math.isnan(low) else f"{_number(low)} to {_number(high)}"


def _shown(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return _number(estimate.value)
    return f"{_number(estimate.value)} ({_interval(estimate.low, estimate.high)})"
