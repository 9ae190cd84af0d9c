"""Who is who in a place with DICOM objects: every header read once, one examination for each person and study."""

from __future__ import annotations

import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fvv.errors import InputError
from fvv.io.dicom.files import DAMAGE, DicomFile, DicomReader, find_files
from fvv.io.dicom.frames import Frame, frames_of
from fvv.io.dicom.repeats import Repeats
from fvv.names import plain
from fvv.system.parallel import track

log = logging.getLogger(__name__)
_MANY = 1000
"""Files over which reading their headers takes seconds, and progress is shown."""
Key = tuple[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class DicomExamination:
    """Images of one person and one study.

    Attributes:
        place: folder or zip file.
        frames: its slices, of every series.
        left_out: how many objects of the place are no slices, by reason.
        others: how many further people or studies with diffusion images the place holds.
        error: why it cannot be read, as damage of a header tells no one whose image it was.
    """

    place: Path
    frames: tuple[Frame, ...]
    left_out: tuple[tuple[str, int], ...] = ()
    others: int = 0
    error: InputError | None = None

    def files(self) -> list[Path]:
        """Files on disk that hold its slices, sorted."""
        return sorted({frame.file.path for frame in self.frames} or ({self.place} if self.place.is_file() else set()))


@dataclass(frozen=True, slots=True)
class PlaceIndex:
    """What the headers of one or several places say.

    Attributes:
        frames: slices, each once, in the order of their files.
        left_out: objects that are none, by reason.
        damage: the folder that a damaged object lies in, and what is wrong.
    """

    frames: tuple[Frame, ...]
    left_out: Counter[str]
    damage: tuple[tuple[str, InputError], ...]

    @property
    def keys(self) -> frozenset[Key]:
        """People and studies."""
        return frozenset(_key(frame) for frame in self.frames)

    @property
    def only_results(self) -> bool:
        """Whether there is nothing but what this program wrote."""
        return not self.frames and not self.damage and set(self.left_out) <= {"results of an earlier run"}


def index_place(place: Path) -> PlaceIndex:
    """Read the header of every DICOM file in a folder and below, or in a zip file, once.

    Args:
        place: what cannot be read of it becomes damage in the index.
    """
    repeats = Repeats()
    left_out: Counter[str] = Counter()
    damage: list[tuple[str, InputError]] = []
    with DicomReader() as reader, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of odd values where they are first looked at.
        try:
            found_files = list(find_files(place, reader))
        except InputError as error:
            return PlaceIndex((), left_out, ((str(place), error),))
        except OSError as error:
            where = error.filename or place
            unreadable = InputError(f"cannot be read: {error.strerror or error}", file=where)
            return PlaceIndex((), left_out, ((str(place), unreadable),))
        files: Iterable[DicomFile] = found_files
        if len(found_files) > _MANY:
            files = track(files, f"headers of {plain(place.name)}", len(found_files))
        for file in files:
            try:
                found, reason = frames_of(file, reader.read(file, pixels=False))
            except InputError as error:
                damage.append((file.folder, error))
                continue
            except DAMAGE as error:
                message = f"not readable as DICOM: {plain(str(error))}"
                damage.append((file.folder, InputError(message, file=file.path)))
                continue
            if reason:
                left_out[reason] += 1
            for frame in found:
                repeats.add(frame)
        frames, differing = repeats.settle(reader)
    return PlaceIndex(frames, left_out, (*damage, *differing))


def merged(indices: Sequence[PlaceIndex]) -> PlaceIndex:
    """One index of several places."""
    frames = {(frame.sop or str(frame.file), frame.index): frame for one in indices for frame in one.frames}
    left_out = sum((one.left_out for one in indices), Counter[str]())
    return PlaceIndex(tuple(frames.values()), left_out, tuple(item for one in indices for item in one.damage))


def are_parts_of_one(indices: Sequence[PlaceIndex]) -> bool:
    """Whether folders hold the parts of the same studies (a folder a series), and not a patient each.

    A study then lies in several of them, and no image in two: copies of a patient are folders of their own.
    """
    if len(indices) < 2 or any(not one.frames and not one.left_out for one in indices):
        return False
    keys = Counter(key for one in indices for key in one.keys)
    images = Counter(sop for one in indices for sop in {frame.sop for frame in one.frames})
    return max(keys.values(), default=0) > 1 and max(images.values(), default=0) == 1


def examinations_of(place: Path, index: PlaceIndex) -> list[DicomExamination]:
    """One examination for each person and study with diffusion images, by date of study.

    Other studies are left out where one has diffusion images; where none has, all is one examination, which says so
    when it is read.
    """
    groups: dict[Key, list[Frame]] = defaultdict(list)
    for frame in index.frames:
        groups[_key(frame)].append(frame)
    wanted = {key: frames for key, frames in groups.items() if any(map(_is_diffusion, frames))}
    left_out = Counter(index.left_out)
    if wanted and len(groups) > len(wanted):
        left_out["images of studies without diffusion images"] += sum(map(len, groups.values())) - sum(
            map(len, wanted.values())
        )
    counted = tuple(sorted(left_out.items()))
    if not wanted:
        error = index.damage[0][1] if index.damage else None
        return [DicomExamination(place, index.frames, counted, error=error)]
    ordered = sorted(wanted.items(), key=lambda item: (min(frame.study_time for frame in item[1]), item[0]))
    if len(ordered) > 1:
        people = len({key[0] for key in wanted})
        log.info(
            "%s: %d people, %d studies with diffusion images, numbered by date", plain(place.name), people, len(ordered)
        )
    return [
        DicomExamination(
            place, tuple(frames), counted, len(ordered) - 1, _damage_of(frames, wanted, index) or _two_people(frames)
        )
        for _, frames in ordered
    ]


def _two_people(frames: list[Frame]) -> InputError | None:
    """Two dates of birth under one number and in one study: an anonymised set whose numbers collide."""
    born: dict[str, Frame] = {}
    for frame in frames:
        if frame.born:
            born.setdefault(frame.born, frame)
    if len(born) < 2:
        return None
    one, other = list(born.values())[:2]
    message = f"of one PatientID and study as {plain(one.file.path.name)}, but of another date of birth"
    return InputError(message, file=other.file.path, hint="part the people's images into folders of their own")


def _damage_of(frames: list[Frame], wanted: dict[Key, list[Frame]], index: PlaceIndex) -> InputError | None:
    """Damage beside these images, or beside nobody's: a slice that is lost in silence is a wrong number."""
    mine = {frame.file.folder for frame in frames}
    anyone = {frame.file.folder for group in wanted.values() for frame in group}
    return next((error for folder, error in index.damage if folder in mine or folder not in anyone), None)


def _key(frame: Frame) -> Key:
    return frame.person, frame.study


def _is_diffusion(frame: Frame) -> bool:
    weighting = frame.weighting
    return weighting.declared or (weighting.b_value or 0) > 0
