"""What DICOM results take from their source: its header, as far as it can be read, and UIDs derived from it."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, generate_uid

from fvv.io.dicom import MAKER
from fvv.io.dicom.find import DAMAGE

FIRST_SERIES_NUMBER = 9000
"""Of our three series: beyond those of scanners."""
_TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
"""Elements that must be there and may be empty (PS3.3 C.7.1.1, C.7.2.1, C.7.4.1)."""
_FORMS = {
    "PatientSex": re.compile(r"[MFO]"),
    **dict.fromkeys(("PatientBirthDate", "StudyDate"), re.compile(r"\d{8}")),
    "StudyTime": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
}
"""What highdicom refuses in another form than the standard's: it becomes empty."""
_LAST_GROUP = 0x0020
"""Groups after it hold pixels, geometry and display."""
_GEOMETRY = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("Rows", "Columns", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames"),
)


class DerivedUids:
    """UIDs that are the same whenever the same source gives the same kind of result (PS3.5, 9).

    An archive that receives a result twice keeps one.

    Args:
        seed: what tells one result from another, such as a hash of the source's UIDs, the models and the settings.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed

    def __call__(self, what: str) -> UID:
        """The UID of one thing."""
        return generate_uid(entropy_srcs=[self._seed, what])

    def series(self, order: int, what: str) -> dict[str, Any]:
        """What highdicom asks for a series of one object.

        Args:
            order: of the series among the results, from 0.
        """
        return {
            "series_instance_uid": self(f"series {what}"),
            "series_number": FIRST_SERIES_NUMBER + order,
            "sop_instance_uid": self(f"object {what}"),
            "instance_number": 1,
            "series_description": f"FVV {what}, for research use only",
            "manufacturer": MAKER,
        }


def carried(dataset: Any, uids: DerivedUids, lost: set[str]) -> Dataset:
    """A copy in UTF-8 of all that can be read and is no geometry, with the elements that the standard asks for.

    Args:
        lost: gets the elements that are damaged and left out.
    """
    copy = Dataset()
    for tag in sorted(set(dataset.keys())):
        if tag.is_private or tag.group > _LAST_GROUP:
            continue
        try:
            element = dataset[tag]
            if element.keyword in _GEOMETRY or (element.VR == "SQ" and tag.group != 0x0008):
                continue
            if element.VR != "SQ":
                str(element.value)
            copy[tag] = deepcopy(element)  # Elements are changed below, and in highdicom.
        except DAMAGE:
            lost.add(str(tag))
    for keyword in _TYPE_2:
        if copy.get(keyword) is None:
            setattr(copy, keyword, "")
    for keyword, form in _FORMS.items():
        if not form.fullmatch(str(copy.get(keyword))):
            setattr(copy, keyword, "")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not copy.get(keyword):
            setattr(copy, keyword, uids(keyword))
    copy.SpecificCharacterSet = "ISO_IR 192"
    return copy


@contextmanager
def quiet() -> Iterator[None]:
    """Libraries warn of odd values in the source, such as a name without a caret: they are the source's own."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
