"""Stage 0: what is wrong with a data set, before anything is computed on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fvv.cohort.participants import PARTICIPANTS_FILE, read_participants, same_images, same_images_of_two_persons
from fvv.config import PrepareConfig
from fvv.data import Failure, Participant
from fvv.errors import FvvError
from fvv.io.case import image_sha256
from fvv.io.tables import failure_of
from fvv.recipes.labelled import finding_lines, prepare_labelled
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
        first = f"{self.patients} patients of {self.persons} persons; {usable} usable, {len(self.failures)} not"
        return "\n".join([first, *self.notes])


@dataclass(frozen=True, slots=True)
class _Seen:
    image_sha256: str
    has_lesion: bool
    notes: list[str]


def verify(input_path: str | Path, config: PrepareConfig, *, shard: Shard | None = None) -> VerifyResult:
    """Read, prepare and judge every patient as `prepare` would, and write nothing.

    Args:
        input_path: one folder per patient, and optionally participants.tsv.
        shard: look at this part of the patients only; the table is checked as a whole all the same.

    Raises:
        InputError: no data set there, or an unusable participants.tsv.
    """
    input_path = Path(input_path)
    people = read_participants(input_path, unlisted=config.preprocess.unlisted)
    if shard is not None:
        people = {name: people[name] for name in shard.select(people)}
    failures: dict[str, Failure] = {}
    seen: dict[str, _Seen] = {}
    work = partial(_look, input_path, config)
    for one, outcome in map_items(work, list(people.values()), workers=config.compute.workers, description="verify"):
        if isinstance(outcome, FvvError):
            failures[one.examination_id] = failure_of(one.examination_id, outcome)
        else:
            seen[one.examination_id] = outcome
    hashes = {name: one.image_sha256 for name, one in seen.items()}
    failures |= same_images_of_two_persons(people, hashes)
    lesions = sum(one.has_lesion for one in seen.values())
    notes = [note for name in sorted(seen) for note in seen[name].notes]
    notes += [f"{name}: same images as {other}" for name, other in same_images(hashes).items() if name not in failures]
    if not (input_path / PARTICIPANTS_FILE).exists():
        notes.insert(0, f"no {PARTICIPANTS_FILE}: every folder counts as a person of its own, without a label")
    return VerifyResult(
        patients=len(people),
        persons=len({one.person_id for one in people.values()}),
        failures=tuple(failures[name] for name in sorted(failures)),
        notes=(*notes, f"{lesions} with a lesion, {len(seen) - lesions} without"),
    )


def _look(input_path: Path, config: PrepareConfig, one: Participant) -> _Seen:
    case, prepared = prepare_labelled(input_path / one.examination_id, config)
    has_lesion = prepared.stroke is not None and bool(prepared.stroke.any())
    return _Seen(image_sha256(case), has_lesion, finding_lines(one.examination_id, prepared.findings))
