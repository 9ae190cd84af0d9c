"""Stage 0: what is wrong with a data set, before anything is computed on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fvv.cohort.participants import PARTICIPANTS_FILE, read_participants
from fvv.config import PROFILES, PrepareConfig
from fvv.data import Case, Failure, Participant, Severity
from fvv.errors import FvvError
from fvv.io.case import image_sha256
from fvv.io.manifest import failure_of, refuse_missing_folder
from fvv.recipes.labelled import prepare_labelled, refuse_unassessable
from fvv.system.parallel import map_items
from fvv.system.shard import Shard


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found.

    Attributes:
        patients: number of patients.
        persons: number of persons behind them.
        failures: patients that `prepare` would leave out.
        notes: what else one should know, one line each.
    """

    patients: int
    persons: int
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """A few lines for the console."""
        usable = self.patients - len(self.failures)
        return "\n".join(
            [
                f"{self.patients} patients of {self.persons} persons; {usable} usable, {len(self.failures)} not",
                *self.notes,
            ]
        )


@dataclass(frozen=True, slots=True)
class _Looked:
    image_sha256: str
    person: str
    notes: tuple[str, ...]
    has_lesion: bool


def verify(input_path: Path, config: PrepareConfig, *, shard: Shard | None = None) -> VerifyResult:
    """Read, prepare and judge every patient as `prepare` would, and write nothing.

    Args:
        input_path: one folder per patient, and optionally participants.tsv.
        config: how `prepare` would do it.
        shard: look at this part of the patients only; the table is checked as a whole all the same.

    Raises:
        InputError: no data set there, or an unusable participants.tsv.
    """
    participants = read_participants(input_path, unlisted=config.unlisted)
    if shard is not None:
        participants = {name: participants[name] for name in shard.select(participants)}
    failures: list[Failure] = []
    looked: dict[str, _Looked] = {}
    work = partial(_look, input_path, config)
    for participant, outcome in map_items(
        work, list(participants.values()), workers=config.workers, description="verify"
    ):
        if isinstance(outcome, FvvError):
            failures.append(failure_of(participant.participant, outcome))
        else:
            looked[participant.participant] = outcome
    notes = [f"{name}: {note}" for name in sorted(looked) for note in looked[name].notes]
    if not (input_path / PARTICIPANTS_FILE).exists():
        notes.insert(0, f"no {PARTICIPANTS_FILE}: every folder is taken as a person of its own, no labels")
    notes += _duplicate_notes(looked)
    lesions = sum(one.has_lesion for one in looked.values())
    notes.append(f"{lesions} with a lesion, {len(looked) - lesions} without")
    return VerifyResult(
        patients=len(participants),
        persons=len({participant.person for participant in participants.values()}),
        failures=tuple(sorted(failures, key=lambda failure: failure.patient)),
        notes=tuple(notes),
    )


def _look(input_path: Path, config: PrepareConfig, participant: Participant) -> _Looked:
    folder = input_path / participant.participant
    refuse_missing_folder(folder)
    profile = config.preprocess.applied_to(PROFILES[config.profile])
    case, prepared = prepare_labelled(folder, profile, config)
    if config.quality == "refuse":
        refuse_unassessable(prepared)
    has_lesion = case.stroke_roi is not None and bool(case.stroke_roi.array.any())
    found = tuple(
        f"{finding.severity.value}: {finding.message}"
        for finding in prepared.findings
        if finding.severity is not Severity.NOTE
    )
    return _Looked(image_sha256(case), participant.person, (*case.notes, *_roi_notes(case), *found), has_lesion)


def _roi_notes(case: Case) -> list[str]:
    notes = []
    if case.stroke_roi is not None and case.flair_visible_roi is not None:
        stroke, visible = case.stroke_roi.array, case.flair_visible_roi.array
        if not stroke.any():
            notes.append("the stroke ROI is empty: taken as no lesion")
        if outside := int((visible & ~stroke).sum()):
            notes.append(f"{outside} FLAIR-visible voxels lie outside the stroke ROI and will be cut")
    if (
        case.mask is not None
        and case.stroke_roi is not None
        and (outside := int((case.stroke_roi.array & ~case.mask.array).sum()))
    ):
        notes.append(f"{outside} voxels of the stroke ROI lie outside the brain mask and will be cut")
    return notes


def _duplicate_notes(looked: dict[str, _Looked]) -> list[str]:
    first: dict[str, str] = {}
    notes = []
    for name in sorted(looked):
        other = first.setdefault(looked[name].image_sha256, name)
        if other != name:
            same_person = looked[name].person == looked[other].person
            remark = "" if same_person else ", said to be another person: `prepare` will leave it out"
            notes.append(f"{name}: same images as {other}{remark}")
    return notes
