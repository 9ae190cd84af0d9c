"""A structured report for an examination without an answer: what was not measured, and why. Never a volume of 0 mL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes

from fvv import __version__
from fvv.errors import FvvError
from fvv.io.atomic import atomic_write
from fvv.io.dicom.carry import DerivedUids, carried, quiet
from fvv.names import plain

FLAIR_VISIBLE = hd.sr.CodedConcept("FLAIRVIS", "99FVV", "FLAIR-visible part of the acute infarct")
_ASSESSABLE = hd.sr.CodedConcept("ASSESSABLE", "99FVV", "Assessability")
_NOT_ASSESSABLE = hd.sr.CodedConcept("NOTASSESS", "99FVV", "Not assessable")
_LONGEST_TEXT = 1024
"""Letters of a reason; viewers show it in one piece."""


def reason_report(images: Sequence[Dataset], reasons: Sequence[str], uids: DerivedUids) -> Any:
    """TID 1500 (PS3.16) with one group: not assessable, and each reason as a comment.

    Args:
        images: headers of the study's images, as `carried` makes them; the report refers to them.
    """
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uids("tracking not assessable"), "FLAIR-visible lesion"),
        finding_type=FLAIR_VISIBLE,
        algorithm_id=hd.sr.AlgorithmIdentification("fvv", __version__),
        qualitative_evaluations=[hd.sr.QualitativeEvaluation(_ASSESSABLE, _NOT_ASSESSABLE)],
    )
    for reason in reasons:
        comment = hd.sr.TextContentItem(
            codes.DCM.Comment, plain(reason)[:_LONGEST_TEXT], hd.sr.RelationshipTypeValues.CONTAINS
        )
        group[0].ContentSequence.append(comment)
    content = hd.sr.MeasurementReport(
        observation_context=device(uids),
        procedure_reported=hd.sr.CodedConcept("24590-2", "LN", "MR Brain"),
        title=codes.DCM.ImagingMeasurementReport,
        imaging_measurements=[group],
    )
    return hd.sr.Comprehensive3DSR(
        evidence=list({str(image.SOPInstanceUID): image for image in images}.values()),
        content=content,
        is_complete=True,
        is_final=False,
        **uids.series(1, "not assessable"),
    )


def device(uids: DerivedUids) -> hd.sr.ObservationContext:
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
