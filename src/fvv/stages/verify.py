"""Stage 0: what is wrong with a data set, before anything is computed on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fvv.cohort.examinations import read_cohort
from fvv.cohort.participants import PARTICIPANTS_FILE, same_images, same_images_of_two_persons
from fvv.config import PrepareConfig
from fvv.data import Channel, Failure, Participant
from fvv.errors import FvvError
from fvv.io.case import Place, image_sha256
from fvv.io.tables import failure_of
from fvv.names import counted
from fvv.recipes.labelled import finding_lines, prepare_labelled, unknown_lines
from fvv.system.parallel import map_items
from fvv.system.shard import Shard


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found.

    Attributes:
        failures: patients that `prepare` would leave out.
    """

    patients: int
    persons: int
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """A few lines for the console."""
        usable = self.patients - len(self.failures)
        patients = f"{counted(self.patients, 'patient')} of {counted(self.persons, 'person')}"
        first = f"{patients}; {usable} usable, {len(self.failures)} not"
        return "\n".join([first, *self.notes])


@dataclass(frozen=True, slots=True)
class _Seen:
    image_sha256: str
    has_lesion: bool | None
    known: frozenset[Channel]
    notes: list[str]


def verify(input_path: str | Path, config: PrepareConfig, *, shard: Shard | None = None) -> VerifyResult:
    """Read, prepare and judge every patient as `prepare` would, and write nothing.

    Args:
        input_path: one folder per patient, or a BIDS data set; and optionally participants.tsv.
        shard: look at this part of the patients only; the table is checked as a whole all the same.

    Raises:
        InputError: no data set there, or an unusable participants.tsv.
    """
    input_path = Path(input_path)
    cohort = read_cohort(input_path, unlisted=config.preprocess.unlisted)
    people = cohort.people
    if shard is not None:
        people = {name: people[name] for name in shard.select(people)}
    failures: dict[str, Failure] = {}
    seen: dict[str, _Seen] = {}
    items, work = cohort.located(people), partial(_look, config)
    for (one, _), outcome in map_items(work, items, workers=config.compute.workers, description="verify"):
        if isinstance(outcome, FvvError):
            failures[one.examination_id] = failure_of(one.examination_id, outcome)
        else:
            seen[one.examination_id] = outcome
    hashes = {name: one.image_sha256 for name, one in seen.items()}
    failures |= same_images_of_two_persons(people, hashes)
    lesions, without, unknown = (sum(one.has_lesion is value for one in seen.values()) for value in (True, False, None))
    notes = [note for name in sorted(seen) for note in seen[name].notes]
    notes += [f"{name}: same images as {other}" for name, other in same_images(hashes).items() if name not in failures]
    if shard is not None:
        notes.append(f"shard {shard}: equal images are looked for within this shard; `fvv prepare` compares all")
    if not cohort.table.exists():
        notes.insert(
            0, f"no {PARTICIPANTS_FILE}: every folder (in BIDS every subject) is a person of its own, without a label"
        )
    return VerifyResult(
        patients=len(people),
        persons=len({one.person_id for one in people.values()}),
        failures=tuple(failures[name] for name in sorted(failures)),
        notes=(
            *notes,
            *unknown_lines({name: one.known for name, one in seen.items()}),
            f"{lesions} with a lesion, {without} without{f', {unknown} without a stroke mask' if unknown else ''}",
        ),
    )


def _look(config: PrepareConfig, item: tuple[Participant, Place]) -> _Seen:
    one, place = item
    case, prepared = prepare_labelled(place, one, config)
    has_lesion = None if prepared.stroke is None else bool(prepared.stroke.any())
    notes = finding_lines(one.examination_id, prepared.findings)
    return _Seen(image_sha256(case), has_lesion, frozenset(prepared.masks), notes)
