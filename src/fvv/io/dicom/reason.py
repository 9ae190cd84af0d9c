"""What every structured report says: the answer, its reasons, who observed. For an examination without an answer the
report holds nothing else: never a volume of 0 mL.

Reports are of the class Enhanced SR: receivers that take no Comprehensive 3D SR take these, and no content needs more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes

from fvv import __version__
from fvv.data import DecisionState
from fvv.errors import FvvError
from fvv.io.atomic import atomic_write
from fvv.io.dicom.carry import DerivedUids, carried, quiet
from fvv.names import plain

FLAIR_VISIBLE = hd.sr.CodedConcept("FLAIRVIS", "99FVV", "FLAIR-visible part of the acute infarct")
_ANSWER = hd.sr.CodedConcept("MISMATCH", "99FVV", "DWI-FLAIR mismatch")
_ANSWERS = {
    DecisionState.MISMATCH_LIKELY: hd.sr.CodedConcept("LIKELY", "99FVV", "Mismatch likely"),
    DecisionState.MISMATCH_UNLIKELY: hd.sr.CodedConcept("UNLIKELY", "99FVV", "Mismatch unlikely"),
    DecisionState.NO_LESION_FOUND: hd.sr.CodedConcept("NOLESION", "99FVV", "No lesion found"),
    DecisionState.NOT_ASSESSABLE: hd.sr.CodedConcept("NOTASSESS", "99FVV", "Not assessable"),
}
_LONGEST_TEXT = 1024
"""Letters of a reason; viewers show it in one piece."""


def reason_report(images: Sequence[Dataset], reasons: Sequence[str], uids: DerivedUids) -> Any:
    """One group of measurements: not assessable, and each reason as a comment.

    Args:
        images: headers of the study's images, as `carried` makes them; the report refers to them.
    """
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uids("tracking not assessable"), "FLAIR-visible lesion"),
        finding_type=FLAIR_VISIBLE,
        algorithm_id=hd.sr.AlgorithmIdentification("fvv", __version__),
        qualitative_evaluations=[answer_item(DecisionState.NOT_ASSESSABLE)],
    )
    add_comments(group, reasons)
    return enhanced_report([group], images, uids, "not assessable")


def answer_item(state: DecisionState) -> Any:
    """One of the four answers, as an item of a group of measurements."""
    return hd.sr.QualitativeEvaluation(_ANSWER, _ANSWERS[state])


def add_comments(group: Any, texts: Sequence[str]) -> None:
    """Add texts to a group of measurements."""
    for text in texts:
        said, contains = plain(text)[:_LONGEST_TEXT], hd.sr.RelationshipTypeValues.CONTAINS
        group[0].ContentSequence.append(hd.sr.TextContentItem(codes.DCM.Comment, said, contains))


def enhanced_report(groups: Sequence[Any], evidence: Sequence[Dataset], uids: DerivedUids, about: str) -> Any:
    """TID 1500 (PS3.16) with some groups of measurements.

    Args:
        evidence: what the report refers to. highdicom names the equipment of the first as the acquisition's.
        about: what it is of, in its series description.
    """
    content = hd.sr.MeasurementReport(
        observation_context=_device(uids),
        procedure_reported=hd.sr.CodedConcept("24590-2", "LN", "MR Brain"),
        title=codes.DCM.ImagingMeasurementReport,
        imaging_measurements=groups,
    )
    return hd.sr.EnhancedSR(
        evidence=list({str(one.SOPInstanceUID): one for one in evidence}.values()),
        content=content,
        is_complete=True,
        is_final=False,
        **uids.series(1, about),
    )


def _device(uids: DerivedUids) -> hd.sr.ObservationContext:
    """The observer of a report: this program."""
    attributes = hd.sr.DeviceObserverIdentifyingAttributes(uid=uids("observer"), name="fvv")
    observer = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=attributes)
    return hd.sr.ObservationContext(observer_device_context=observer)


def write_reason(file: Path, headers: Sequence[Any], reasons: Sequence[str], *, seed: str) -> None:
    """Write the report of a study from whose images no examination could be read.

    Args:
        headers: datasets of the study's images, without pixels.
        seed: from which the report's UIDs are derived: the same inputs and models give the same.

    Raises:
        FvvError: no report can be made of these headers, or the file cannot be written.
    """
    uids = DerivedUids(seed)
    lost: set[str] = set()
    try:
        with quiet():
            report = reason_report([carried(header, uids, lost) for header in headers], reasons, uids)
    except Exception as error:  # Whatever a library raises of a strange header.
        message = f"no report could be made: {type(error).__name__}: {plain(str(error))}"
        raise FvvError(message, file=file, hint="the headers lack what it needs") from error
    with atomic_write(file) as temporary:
        report.save_as(temporary)
