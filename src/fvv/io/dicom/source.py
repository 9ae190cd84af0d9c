"""The source's headers as the written objects need them: complete, readable, with one geometry.

Anonymised objects lack elements that the standard asks for, makers write measures frame by frame, oblique stacks differ
in the 8th digit of their orientation, and positions are rounded. What is written refers to the source's objects, but
takes its geometry from the volume that was measured, and its missing elements empty.
"""

from __future__ import annotations

import re
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.uid import UID, MRImageStorage

from fvv.arrays import FloatArray
from fvv.io.dicom.files import DAMAGE
from fvv.io.dicom.read import DicomSource

_TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
"""Elements that must be there and may be empty (PS3.3 C.7.1.1, C.7.2.1, C.7.4.1)."""
_LAST_GROUP = 0x0020
"""Groups after it hold pixels, geometry and display."""
_GEOMETRY = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("Rows", "Columns", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames"),
)
_DATE, _TIME = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")


class Headers:
    """Headers of the slices of b1000, for highdicom to copy from and to refer to.

    Attributes:
        images: for each slice the dataset of its object; for one enhanced object with many frames this one alone.
        by_slice: SOPClassUID, SOPInstanceUID and number of the frame (None for a classic object) of each slice.
        positions, orientation, measures: geometry of the volume.
        lost: elements that are damaged, and left out.
    """

    def __init__(self, source: DicomSource) -> None:
        affine, n = source.affine, source.shape[2]
        cosines = _cosines(affine)
        spacing = [float(np.linalg.norm(affine[:3, 1])), float(np.linalg.norm(affine[:3, 0]))]
        step = float(abs(np.dot(np.cross(cosines[:3], cosines[3:]), affine[:3, 2])))
        places = [(affine[:3, 3] + k * affine[:3, 2]).tolist() for k in range(n)]
        self.positions = [hd.PlanePositionSequence(hd.CoordinateSystemNames.PATIENT, place) for place in places]
        self.orientation = hd.PlaneOrientationSequence(hd.CoordinateSystemNames.PATIENT, cosines)
        thickness = _thickness(source.b1000[0]) or step
        self.measures = hd.PixelMeasuresSequence(spacing, thickness, step if n > 1 else None)
        self.lost: set[str] = set()
        frame_of_reference = str(source.b1000[0].get("FrameOfReferenceUID") or "").strip() or hd.UID()
        complete: dict[int, Dataset] = {}
        for dataset in source.b1000:
            if id(dataset) not in complete:
                complete[id(dataset)] = self._complete(dataset, source, frame_of_reference)
        several = [dataset.get("PerFrameFunctionalGroupsSequence") is not None for dataset in source.b1000]
        self.by_slice = [
            (str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), frame + 1 if enhanced else None)
            for dataset, frame, enhanced in zip(source.b1000, source.frames, several, strict=True)
        ]
        if len(complete) == 1 and several[0]:
            (one,) = complete.values()
            self.images = [self._enhanced(one, source)]
        else:
            self.images = [self._classic(complete[id(source.b1000[k])], k) for k in range(n)]

    def refer_rightly(self, dataset: Dataset) -> None:
        """Give each reference to an object of the source that object's own class."""
        classes = {uid: sop_class for sop_class, uid, _ in self.by_slice}
        for item in (dataset, *(item for element in dataset.iterall() if element.VR == "SQ" for item in element.value)):
            uid = str(item.get("ReferencedSOPInstanceUID") or "")
            if uid in classes:
                item.ReferencedSOPClassUID = classes[uid]

    def _complete(self, dataset: Any, source: DicomSource, frame_of_reference: str) -> Dataset:
        """A copy in UTF-8 of all that can be read and is no geometry, with the elements that the standard asks for."""
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
                copy[tag] = element
            except DAMAGE:
                self.lost.add(str(tag))
        copy.SpecificCharacterSet = "ISO_IR 192"
        for keyword in _TYPE_2:
            if copy.get(keyword) is None:
                setattr(copy, keyword, "")
        _empty_where_wrong(copy)
        copy.Modality, copy.FrameOfReferenceUID = "MR", frame_of_reference
        copy.Rows, copy.Columns = source.shape[1], source.shape[0]
        return copy

    def _classic(self, complete: Dataset, k: int) -> Dataset:
        """One slice as a classic object, which highdicom takes many of; `refer_rightly` undoes the class."""
        image = Dataset()
        image.update(complete)
        image.SOPClassUID = MRImageStorage
        image.ImagePositionPatient = self.positions[k][0].ImagePositionPatient
        image.ImageOrientationPatient = self.orientation[0].ImageOrientationPatient
        for name in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
            if name in self.measures[0]:
                setattr(image, name, self.measures[0].get(name))
        return image

    def _enhanced(self, complete: Dataset, source: DicomSource) -> Dataset:
        """Of its groups only where each frame lies; of frames that are no slices of b1000 the place is as it was."""
        image = Dataset()
        image.update(complete)
        shared = Dataset()
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = self.measures, self.orientation
        image.SharedFunctionalGroupsSequence = [shared]
        place = dict(zip(source.frames, self.positions, strict=True))
        groups = []
        for number, theirs in enumerate(source.b1000[0].PerFrameFunctionalGroupsSequence):
            group = Dataset()
            group.PlanePositionSequence = place.get(number) or theirs.get("PlanePositionSequence") or self.positions[0]
            groups.append(group)
        image.PerFrameFunctionalGroupsSequence = groups
        image.NumberOfFrames = len(groups)
        return image


def _cosines(affine: FloatArray) -> list[float]:
    """Six direction cosines, rounded so that they fit DICOM's 16 characters."""
    row, column = (affine[:3, n] / np.linalg.norm(affine[:3, n]) for n in (0, 1))
    return [round(float(number), 10) for number in (*row, *column)]


def _thickness(dataset: Any) -> float | None:
    """SliceThickness, mm; None where it is not stated or no length."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or [None]
    for group in (frames[0], shared):
        measures = (group.get("PixelMeasuresSequence") or [None])[0] if group is not None else None
        if measures is not None and measures.get("SliceThickness"):
            return float(measures.SliceThickness)
    try:
        stated = float(dataset.get("SliceThickness") or 0)
    except DAMAGE:
        return None
    return stated if stated > 0 else None


def _empty_where_wrong(copy: Dataset) -> None:
    """What highdicom refuses: a sex, a date or a time of another form than the standard's becomes empty."""
    if copy.PatientSex not in {"", "M", "F", "O"}:
        copy.PatientSex = ""
    for keyword in ("PatientBirthDate", "StudyDate", "StudyTime"):
        value, form = str(copy.get(keyword) or ""), _TIME if keyword == "StudyTime" else _DATE
        if value and not form.fullmatch(value):
            setattr(copy, keyword, "")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not copy.get(keyword):
            setattr(copy, keyword, UID(hd.UID()))
