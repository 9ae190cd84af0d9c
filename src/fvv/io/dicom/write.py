"""Results as DICOM: a segmentation, a structured report with the volumes, and the picture, all of the source's study.

Segmentation: PS3.3 A.51; report: TID 1500 (PS3.16); picture: Secondary Capture (PS3.3 A.8). The segmentation is read
back, place by place, before it counts.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from matplotlib.image import imread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from fvv import __version__
from fvv.arrays import BoolArray
from fvv.data import Channel, Prediction
from fvv.errors import FvvError, OutputExistsError
from fvv.imaging.fusion import visible_to_half
from fvv.io.atomic import atomic_write
from fvv.io.dicom import MAKER
from fvv.io.dicom.files import DAMAGE
from fvv.io.dicom.read import DicomSource
from fvv.io.dicom.source import Headers
from fvv.io.ownership import claim, claimed
from fvv.io.result_files import DICOM_FILES, DICOM_PICTURE, DICOM_REPORT, DICOM_SEGMENTATION
from fvv.names import plain

FIRST_SERIES_NUMBER = 9000
"""Of our three series: beyond those of scanners."""
_ALGORITHM = hd.AlgorithmIdentificationSequence(
    name="fvv", version=__version__, family=codes.cid7162.ArtificialIntelligence
)
_INFARCT = hd.sr.CodedConcept("55641003", "SCT", "Infarct")
_FLAIR_VISIBLE = hd.sr.CodedConcept("FLAIRVIS", "99FVV", "FLAIR-visible part of the acute infarct")
_MILLILITRE = hd.sr.CodedConcept("mL", "UCUM", "milliliter")
_KINDS = {
    Channel.BRAIN: (codes.SCT.Organ, codes.SCT.Brain, (217, 217, 217)),
    Channel.STROKE: (codes.SCT.MorphologicallyAbnormalStructure, _INFARCT, (0, 158, 232)),
    Channel.FLAIR_VISIBLE: (codes.SCT.MorphologicallyAbnormalStructure, _FLAIR_VISIBLE, (255, 127, 14)),
}


def write_dicom_results(
    folder: Path, source: DicomSource, prediction: Prediction, *, synthesis_png: bytes
) -> tuple[str, ...]:
    """Write segmentation, report and picture; for a patient who is not assessable the picture alone.

    Args:
        folder: where to.
        source: objects b1000 was made of, in the order of the volume's slices.
        prediction: the answer, masks (i, j, k) on b1000's grid: i along a row, j along a column.
        synthesis_png: the picture.

    Returns:
        What of the source could not be carried over, one sentence each.

    Raises:
        OutputExistsError: a file of the same name is there that this program did not write: it may be a source image.
        FvvError: a file cannot be written or made, or the segmentation does not read back as it should. The answer
            does not depend on it: the caller says so beside the answer.
    """
    remove_dicom_results(folder)
    for file in (folder / name for name in DICOM_FILES):
        if file.exists() or file.is_symlink():
            raise OutputExistsError("already there, and not written by fvv", file=file, hint="name another -o")
    claim(folder.parent, [f"{folder.name}/{name}" for name in DICOM_FILES])
    try:
        with _quiet():
            headers = Headers(source)
            _write(folder, headers, prediction, synthesis_png)
    except FvvError as error:
        remove_dicom_results(folder)
        raise error.for_patient(prediction.patient) from error
    except Exception as error:  # Whatever a library raises of a strange header, the answer stands.
        remove_dicom_results(folder)
        message = f"no DICOM results could be made: {type(error).__name__}: {plain(str(error))}"
        hint = "the headers lack what these need, or fvv is at fault: please report it"
        raise FvvError(message, patient=prediction.patient, hint=hint) from error
    if not headers.lost:
        return ()
    return (f"damaged elements of the headers are not in the DICOM results: {', '.join(sorted(headers.lost))}",)


def remove_dicom_results(folder: Path) -> None:
    """Remove an earlier run's DICOM results: they must not stand beside a new answer.

    They are known by their manufacturer; damaged ones by their claimed names.
    """
    ours = claimed(folder.parent)
    for file in (folder / name for name in DICOM_FILES):
        if file.is_file() and _is_ours(file, if_damaged=f"{folder.name}/{file.name}" in ours):
            file.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Libraries warn of odd values in the source, such as a name without a caret: they are the source's own."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _is_ours(file: Path, *, if_damaged: bool) -> bool:
    try:
        return str(pydicom.dcmread(file, stop_before_pixels=True).get("Manufacturer", "")) == MAKER
    except DAMAGE:
        return if_damaged


def _write(folder: Path, headers: Headers, prediction: Prediction, synthesis_png: bytes) -> None:
    _save(folder / DICOM_PICTURE, _picture(headers, synthesis_png))
    if prediction.brain is None or prediction.stroke is None or prediction.flair_visible_votes is None:
        return
    masks = {
        Channel.BRAIN: prediction.brain,
        Channel.STROKE: prediction.stroke,
        # DICOM's binary segments hold no votes.
        Channel.FLAIR_VISIBLE: visible_to_half(prediction.flair_visible_votes, prediction.n_models) & prediction.stroke,
    }
    found = {channel: mask for channel, mask in masks.items() if mask.any()}
    segmentation = _segmentation(headers, found)
    _save(folder / DICOM_SEGMENTATION, segmentation)
    _check(folder / DICOM_SEGMENTATION, found, headers)
    _save(folder / DICOM_REPORT, _report(headers, segmentation, found, prediction))


def _segmentation(headers: Headers, masks: dict[Channel, BoolArray]) -> Any:
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=channel.label,
            segmented_property_category=_KINDS[channel][0],
            segmented_property_type=_KINDS[channel][1],
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=_ALGORITHM,
            display_color=hd.color.CIELabColor.from_rgb(*_KINDS[channel][2]),
        )
        for number, channel in enumerate(masks, start=1)
    ]
    # (i, j, k) -> frames, rows, columns, segments
    pixels = np.stack([np.transpose(mask, (2, 1, 0)) for mask in masks.values()], axis=3).astype(np.uint8)
    segmentation = hd.seg.Segmentation(
        source_images=headers.images,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=FIRST_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        series_description="FVV segmentation, for research use only",
        omit_empty_frames=True,
        manufacturer=MAKER,
        manufacturer_model_name="fvv",
        software_versions=__version__,
        device_serial_number=__version__,
        plane_positions=headers.positions,
        plane_orientation=headers.orientation,
        pixel_measures=headers.measures,
    )
    for series in segmentation.get("ReferencedSeriesSequence") or []:  # A mosaic stands for many slices.
        once = {str(item.ReferencedSOPInstanceUID): item for item in series.ReferencedInstanceSequence}
        series.ReferencedInstanceSequence = list(once.values())
    headers.refer_rightly(segmentation)
    return segmentation


def _report(
    headers: Headers, segmentation: Any, masks: dict[Channel, BoolArray], prediction: Prediction
) -> hd.sr.Comprehensive3DSR:
    """TID 1500: a group of measurements for each channel, also where no voxel of it has half of the votes.

    Such a channel has no segment to refer to: its volume is 0 mL, or a mean over models of whom fewer than half agree.
    """
    numbers = {channel: number for number, channel in enumerate(masks, start=1)}
    groups: list[Any] = []
    for channel in Channel:
        volume = prediction.volume_ml(channel)
        if volume is None:
            raise FvvError(f"no volume of the {channel.label} was measured", patient=prediction.patient)
        about: dict[str, Any] = {
            "tracking_identifier": hd.sr.TrackingIdentifier(hd.UID(), channel.label),
            "finding_type": _KINDS[channel][1],
            "algorithm_id": hd.sr.AlgorithmIdentification("fvv", __version__),
            "measurements": [hd.sr.Measurement(name=codes.SCT.Volume, value=round(volume, 4), unit=_MILLILITRE)],
        }
        if channel in numbers:
            segment = _reference(headers, segmentation, numbers[channel], masks[channel])
            groups.append(hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**about, referenced_segment=segment))
        else:
            groups.append(hd.sr.MeasurementsAndQualitativeEvaluations(**about))
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(uid=hd.UID(), name="fvv"),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=hd.sr.CodedConcept("24590-2", "LN", "MR Brain"),
        title=codes.DCM.ImagingMeasurementReport,
        imaging_measurements=groups,
    )
    report = hd.sr.Comprehensive3DSR(
        # The source first: what highdicom names as the acquisition's equipment is that of the first one.
        evidence=[*{str(image.SOPInstanceUID): image for image in headers.images}.values(), segmentation],
        content=content,
        series_instance_uid=hd.UID(),
        series_number=FIRST_SERIES_NUMBER + 1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        series_description="FVV volumes, for research use only",
        is_complete=True,
        is_final=False,
        manufacturer=MAKER,
    )
    headers.refer_rightly(report)
    return report


def _reference(headers: Headers, segmentation: Any, number: int, mask: BoolArray) -> hd.sr.ReferencedSegment:
    """A segment, and the slices of the source that it lies on.

    highdicom's own `from_segmentation` looks for each frame's segment where a segmentation of one segment has none.
    """
    frames: dict[tuple[str, str], list[int]] = {}
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        sop_class, uid, frame = headers.by_slice[k]
        frames.setdefault((sop_class, uid), []).extend([] if frame is None else [frame])
    return hd.sr.ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=number,
        source_images=[
            hd.sr.SourceImageForSegmentation(sop_class, uid, numbers or None)
            for (sop_class, uid), numbers in frames.items()
        ],
    )


def _picture(headers: Headers, png: bytes) -> Any:
    rgb = np.ascontiguousarray(np.rint(imread(io.BytesIO(png), format="png")[..., :3] * 255).astype(np.uint8))
    picture = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=headers.images[0],
        pixel_array=rgb,
        photometric_interpretation="RGB",
        bits_allocated=8,
        # Slices side by side, each in radiological convention.
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        series_instance_uid=hd.UID(),
        series_number=FIRST_SERIES_NUMBER + 2,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        series_description="FVV synthesis, for research use only",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    picture.BurnedInAnnotation = "YES"  # The picture names the examination.
    picture.Laterality = ""  # Asked for, and may be empty: a head has no side.
    return picture


def _save(path: Path, dataset: Any) -> None:
    with atomic_write(path) as temporary:
        dataset.save_as(temporary)


def _check(path: Path, masks: dict[Channel, BoolArray], headers: Headers) -> None:
    """Read the segmentation back as another reader does, by positions and stated spacing: every voxel has its place.

    Raises:
        FvvError: it has not.
    """
    read = pydicom.dcmread(path)
    pixels = np.atleast_3d(read.pixel_array) if read.pixel_array.ndim == 3 else read.pixel_array[None]
    shared = read.SharedFunctionalGroupsSequence[0]
    slices = {
        tuple(np.round(np.array(one[0].ImagePositionPatient, float), 2)): k for k, one in enumerate(headers.positions)
    }
    found = {channel: np.zeros_like(mask, dtype=bool) for channel, mask in masks.items()}
    for groups, frame in zip(read.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        segment = (groups.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence)[0]
        place = tuple(np.round(np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float), 2))
        channel = list(masks)[int(segment.ReferencedSegmentNumber) - 1]
        found[channel][:, :, slices[place]] |= frame.T > 0
    for channel, mask in masks.items():
        if not np.array_equal(found[channel], mask):
            raise FvvError(f"the DICOM segmentation does not hold the {channel.label} it should", file=path)
    stated = shared.PixelMeasuresSequence[0].get("SpacingBetweenSlices")
    if len(headers.positions) > 1:
        first, second = (np.array(one[0].ImagePositionPatient, float) for one in headers.positions[:2])
        cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
        step = abs(float(np.cross(cosines[:3], cosines[3:]) @ (second - first)))
        if stated is None or abs(float(stated) - step) > 1e-3 * step:
            raise FvvError(
                f"the DICOM segmentation states slices {stated} mm apart, they lie {step:g} mm apart", file=path
            )
