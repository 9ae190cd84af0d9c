"""Who is who in a place with DICOM objects: every header read once, one examination for each person and study.

Images that came twice count once, and two that claim to be one image and differ are refused.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvv.errors import InputError
from fvv.io.dicom.find import DicomFile, DicomReader, find_files, refusing_damage
from fvv.io.dicom.frames import LOOKED_AT, OURS, Frame, frames_of, pixels_of
from fvv.names import plain
from fvv.system.parallel import track

log = logging.getLogger(__name__)
_MANY = 1000
"""Files over which reading their headers takes seconds, and progress is shown."""
_ROUNDED_MM = 2
"""Digits of a position: a series that is sent again states the same one."""


@dataclass(frozen=True, slots=True)
class DicomExamination:
    """Images of one person and one study.

    Attributes:
        frames: its slices, of every series.
        left_out: how many objects of the place are no slices, by reason.
        others: how many further people or studies with diffusion images the place holds.
        error: why it cannot be read, as damage of a header does not tell whose image it was.
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
    def only_results(self) -> bool:
        """Whether there is nothing but what this program wrote."""
        return not self.frames and not self.damage and set(self.left_out) <= {OURS}


def index_place(place: Path) -> PlaceIndex:
    """Read the header of every DICOM file in a folder and below, or in a zip file, once.

    Args:
        place: what cannot be read of it becomes damage in the index.
    """
    frames: dict[tuple[str, int], Frame] = {}
    same_uid: dict[tuple[DicomFile, DicomFile], list[tuple[Frame, Frame]]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    damage: list[tuple[str, InputError]] = []
    with DicomReader() as reader:
        try:
            with refusing_damage(place):
                files: Iterable[DicomFile] = (found := list(find_files(place, reader)))
        except InputError as error:
            return PlaceIndex((), left_out, ((str(place), error),))
        if len(found) > _MANY:
            files = track(files, f"headers of {plain(place.name)}", len(found))
        for file in files:
            try:
                with refusing_damage(file.path):
                    slices, reason = frames_of(file, reader.read(file, pixels=False, only=LOOKED_AT))
            except InputError as error:
                damage.append((file.folder, error))
                continue
            if reason:
                left_out[reason] += 1
            for frame in slices:
                first = frames.setdefault(frame.key, frame)
                if first is not frame:
                    same_uid[first.file, frame.file].append((first, frame))
        for (one, other), pairs in same_uid.items():
            if _differ(pairs, reader):
                message = f"not the image that {one.name} holds under the same UID"
                hint = "two people's images, or two versions of one: separate them, or keep the right one"
                differing = InputError(message, file=other.path, hint=hint)
                damage += [(one.folder, differing), (other.folder, differing)]
        again = repeated(frames.values())
        copies = {other.key for one, *others in again for other in others if not _differ([(one, other)], reader)}
    kept = tuple(frame for key, frame in frames.items() if key not in copies)
    return PlaceIndex(kept, left_out, tuple(damage))


def repeated(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Diffusion images of one series that state the same numbers, place and b-value, and are several objects.

    A series that was sent again under new UIDs is found so. Where such images differ, both are used, with a warning.
    """
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        if frame.numbers is not None and frame.weighting.b_value is not None:
            place = tuple(round(number, _ROUNDED_MM) for number in frame.position)
            of_series = (frame.study, frame.person, frame.series, frame.numbers, frame.index)
            groups[(*of_series, place, frame.weighting)].append(frame)
    return [group for group in groups.values() if len({frame.sop for frame in group}) > 1]


def _differ(pairs: Sequence[tuple[Frame, Frame]], reader: DicomReader) -> bool:
    """Whether slices of two files are of two people or places, or hold other values. What cannot be read is no copy."""
    if any(_stated(one) != _stated(other) for one, other in pairs):
        return True
    (first, second), *_ = pairs
    try:
        with refusing_damage(first.file.path):
            here, there = (reader.read(frame.file, pixels=True) for frame in (first, second))
            return not all(np.array_equal(pixels_of(here, one), pixels_of(there, other)) for one, other in pairs)
    except InputError:
        return True


def _stated(frame: Frame) -> tuple[object, ...]:
    one = frame.weighting
    weighting = one.b_value, one.isotropic, one.directed
    return frame.person, frame.study, frame.position, frame.orientation, frame.spacing, weighting


def merged(indices: Sequence[PlaceIndex]) -> PlaceIndex | None:
    """One index of the folders of one place; None where they are not parts of the same studies, but a patient each.

    Of a folder a series, a study lies in several folders, and no image in two: copies of a patient are patients.
    """
    if len(indices) < 2 or any(not one.frames and not one.left_out for one in indices):
        return None
    studies = Counter(study for one in indices for study in {_study(frame) for frame in one.frames})
    images = Counter(sop for one in indices for sop in {frame.sop for frame in one.frames})
    if max(studies.values(), default=0) < 2 or max(images.values(), default=0) != 1:
        return None
    frames = {frame.key: frame for one in indices for frame in one.frames}
    left_out = sum((one.left_out for one in indices), Counter[str]())
    return PlaceIndex(tuple(frames.values()), left_out, tuple(item for one in indices for item in one.damage))


def examinations_of(place: Path, index: PlaceIndex) -> list[DicomExamination]:
    """One examination for each person and study with diffusion images, by date of study.

    Other studies are left out where one has diffusion images; where none has, all is one examination, which says so
    when it is read.
    """
    groups: dict[tuple[tuple[str, ...], str], list[Frame]] = defaultdict(list)
    for frame in index.frames:
        groups[_study(frame)].append(frame)
    weighted = {_study(one) for one in index.frames if one.weighting.declared or (one.weighting.b_value or 0) > 0}
    wanted = {study: frames for study, frames in groups.items() if study in weighted}
    if not wanted:
        error = index.damage[0][1] if index.damage else None
        return [DicomExamination(place, index.frames, tuple(sorted(index.left_out.items())), error=error)]
    left_out = Counter(index.left_out)
    if others := sum(len(frames) for key, frames in groups.items() if key not in wanted):
        left_out["images of studies without diffusion images"] += others
    ordered = sorted(wanted.items(), key=lambda item: (min(frame.study_time for frame in item[1]), item[0]))
    if len(ordered) > 1:
        people = len({person for person, _ in wanted})
        said = "%s: %d people, %d studies with diffusion images, numbered by date"
        log.info(said, plain(place.name), people, len(ordered))
    counted = tuple(sorted(left_out.items()))
    anyone = {frame.file.folder for group in wanted.values() for frame in group}
    found = []
    for _, frames in ordered:
        # Damage beside these images, or beside nobody's: a slice that is lost in silence is a wrong number.
        mine = {frame.file.folder for frame in frames}
        damage = next((error for folder, error in index.damage if folder in mine or folder not in anyone), None)
        error = damage or _two_people(frames)
        found.append(DicomExamination(place, tuple(frames), counted, len(ordered) - 1, error))
    return found


def _two_people(frames: list[Frame]) -> InputError | None:
    """Two dates of birth under one number and in one study: an anonymised set whose numbers collide."""
    born: dict[str, Frame] = {}
    for frame in frames:
        born.setdefault(frame.born, frame)
    born.pop("", None)
    if len(born) < 2:
        return None
    one, other = list(born.values())[:2]
    message = f"of one PatientID and study as {plain(one.file.path.name)}, but with another date of birth"
    return InputError(message, file=other.file.path, hint="separate the people's images into folders of their own")


def _study(frame: Frame) -> tuple[tuple[str, ...], str]:
    return frame.person, frame.study
