"""Images that came twice: copies count once, and two that claim to be one and differ are refused."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from fvv.errors import InputError
from fvv.io.dicom.files import DAMAGE, DicomFile, DicomReader
from fvv.io.dicom.frames import Frame, pixels_of
from fvv.names import plain

Damage = tuple[str, InputError]
_ROUNDED_MM = 2
"""Digits of a position: a series that is sent again states the same one."""


class Repeats:
    """The slices of a place, each once.

    A slice is known again by its SOPInstanceUID. One that was sent again under new ones is known by its series, its
    AcquisitionNumber, InstanceNumber, place and b-value; where such two differ, both stay, and who averages them says
    so (`repeated`).
    """

    def __init__(self) -> None:
        self._frames: dict[tuple[str, int], Frame] = {}
        self._same_uid: dict[tuple[DicomFile, DicomFile], tuple[Frame, Frame]] = {}

    def add(self, frame: Frame) -> None:
        """Take a slice, in the order of the files."""
        first = self._frames.setdefault((frame.sop or str(frame.file), frame.index), frame)
        if first is not frame:
            self._same_uid.setdefault((first.file, frame.file), (first, frame))

    def settle(self, reader: DicomReader) -> tuple[tuple[Frame, ...], list[Damage]]:
        """Compare what came twice.

        Returns:
            The slices, and what is wrong in which folder.
        """
        damage: list[Damage] = []
        for one, other in self._same_uid.values():
            if _differ(one, other, reader):
                message = f"not the image that {plain(one.file.member or str(one.file.path))} holds under the same UID"
                hint = "two people's images, or two versions of one: part them, or keep the right one"
                error = InputError(message, file=other.file.path, hint=hint)
                damage += [(one.file.folder, error), (other.file.folder, error)]
        frames = tuple(self._frames.values())
        copies = {id(other) for one, *others in repeated(frames) for other in others if not _differ(one, other, reader)}
        return tuple(frame for frame in frames if id(frame) not in copies), damage


def repeated(frames: tuple[Frame, ...]) -> list[list[Frame]]:
    """Diffusion images of one series that state the same numbers, place and b-value, and are several objects."""
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        if frame.numbers is not None and frame.weighting.b_value is not None:
            place = tuple(round(number, _ROUNDED_MM) for number in frame.position)
            weighting = frame.weighting
            key = (frame.study, frame.person, frame.series, frame.numbers, frame.index, place, weighting)
            groups[key].append(frame)
    return [group for group in groups.values() if len({frame.sop for frame in group}) > 1]


def _differ(one: Frame, other: Frame, reader: DicomReader) -> bool:
    """Whether two slices lie at two places or hold other values. What cannot be read is no copy."""
    if one.position != other.position or one.weighting.b_value != other.weighting.b_value:
        return True
    try:
        here, there = (pixels_of(reader.read(frame.file, pixels=True), frame) for frame in (one, other))
    except (InputError, *DAMAGE):
        return True
    return not np.array_equal(here, there)
