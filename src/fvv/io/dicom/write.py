"""Results as DICOM: a segmentation, a structured report with the volumes, and the picture, all of the source's study.

Segmentation: PS3.3 A.51; report: TID 1500 (PS3.16); picture: Secondary Capture (PS3.3 A.8). The segmentation is read
back before it counts.
"""

from __future__ import annotations

import io
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
from fvv.errors import FvvError, InputError, OutputExistsError
from fvv.imaging.fusion import visible_to_half
from fvv.io.atomic import atomic_write
from fvv.io.dicom import DICOM_FILES, PICTURE_FILE, REPORT_FILE, SEGMENTATION_FILE
from fvv.io.dicom.frames import DAMAGE
from fvv.io.dicom.read import DicomSource

_MAKER = "fvv"
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


def write_dicom_results(folder: Path, source: DicomSource, prediction: Prediction, *, synthesis_png: bytes) -> None:
    """Write segmentation, report and picture; for a patient who is not assessable the picture alone.

    Args:
        folder: where to.
        source: objects b1000 was made of, in the order of the volume's slices.
        prediction: the answer, masks (i, j, k) on b1000's grid: i along a row, j along a column.
        synthesis_png: the picture.

    Raises:
        InputError: a header of the source is damaged where it is first looked at here.
        OutputExistsError: a file of the same name is there that is none of ours: it may be one of the source's.
        FvvError: a file cannot be written or made, or the segmentation does not read back as it should.
    """
    earlier = [folder / name for name in DICOM_FILES if (folder / name).exists()]
    for file in earlier:
        if not _is_ours(file):
            raise OutputExistsError("already there, and not written by fvv", file=file, hint="name another -o")
    for file in earlier:
        file.unlink()
    try:
        _write(folder, source, prediction, synthesis_png)
    except DAMAGE as error:
        if damage := _damage_in(source):
            message, hint = f"a header of its images is damaged: {damage}", "export the series again"
        else:
            message = f"no DICOM results could be made: {type(error).__name__}: {error}"
            hint = "the headers lack what these need, or fvv is at fault: please report it"
        found = "the NIfTI results are written; without results.json, the mark of a finished patient"
        kind = InputError if damage else FvvError
        raise kind(message, patient=prediction.patient, hint=f"{hint}; {found}") from error


def _is_ours(file: Path) -> bool:
    try:
        return str(pydicom.dcmread(file, stop_before_pixels=True).get("Manufacturer", "")) == _MAKER
    except DAMAGE:
        return False


def _damage_in(source: DicomSource) -> str:
    """What an element of the headers is damaged by; "" where all can be read, which is not done before it is needed."""
    try:
        for dataset in {id(dataset): dataset for dataset in source.b1000}.values():
            for _ in dataset.iterall():
                pass
    except DAMAGE as error:
        return str(error) or type(error).__name__
    return ""


def _write(folder: Path, source: DicomSource, prediction: Prediction, synthesis_png: bytes) -> None:
    _save(folder / PICTURE_FILE, _picture(source, synthesis_png))
    if prediction.brain is None or prediction.stroke is None or prediction.flair_visible_votes is None:
        return
    masks = {
        Channel.BRAIN: prediction.brain,
        Channel.STROKE: prediction.stroke,
        # DICOM's binary segments hold no votes.
        Channel.FLAIR_VISIBLE: visible_to_half(prediction.flair_visible_votes, prediction.n_models) & prediction.stroke,
    }
    found = {channel: mask for channel, mask in masks.items() if mask.any()}
    segmentation = _segmentation(source, found)
    _save(folder / SEGMENTATION_FILE, segmentation)
    _check(folder / SEGMENTATION_FILE, found)
    _save(folder / REPORT_FILE, _report(source, segmentation, found, prediction))


def _segmentation(source: DicomSource, masks: dict[Channel, BoolArray]) -> Any:
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
    images, where = _source_images(source)
    return hd.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=FIRST_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        series_description="FVV segmentation, for research use only",
        omit_empty_frames=True,
        manufacturer=_MAKER,
        manufacturer_model_name="fvv",
        software_versions=__version__,
        device_serial_number=__version__,
        **where,
    )


def _source_images(source: DicomSource) -> tuple[list[Any], dict[str, Any]]:
    """What highdicom needs to know of the source; of an enhanced object also where our slices lie in it."""
    first = source.b1000[0]
    if "PerFrameFunctionalGroupsSequence" not in first:
        return list(source.b1000), {}
    shared = (first.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = [first.PerFrameFunctionalGroupsSequence[frame] for frame in source.frames]

    def of(name: str) -> list[Any]:
        return [(getattr(group, name, None) or getattr(shared, name))[0] for group in groups]

    measures, orientation = of("PixelMeasuresSequence")[0], of("PlaneOrientationSequence")[0]
    return [first], {
        "plane_positions": [
            hd.PlanePositionSequence(hd.CoordinateSystemNames.PATIENT, position.ImagePositionPatient)
            for position in of("PlanePositionSequence")
        ],
        "plane_orientation": hd.PlaneOrientationSequence(
            hd.CoordinateSystemNames.PATIENT, orientation.ImageOrientationPatient
        ),
        "pixel_measures": hd.PixelMeasuresSequence(
            measures.PixelSpacing, measures.get("SliceThickness", 1.0), measures.get("SpacingBetweenSlices")
        ),
    }


def _report(
    source: DicomSource, segmentation: Any, masks: dict[Channel, BoolArray], prediction: Prediction
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
            segment = _reference(source, segmentation, numbers[channel], masks[channel])
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
    return hd.sr.Comprehensive3DSR(
        evidence=[segmentation, *{str(image.SOPInstanceUID): image for image in source.b1000}.values()],
        content=content,
        series_instance_uid=hd.UID(),
        series_number=FIRST_SERIES_NUMBER + 1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        series_description="FVV volumes, for research use only",
        is_complete=True,
        is_final=False,
        manufacturer=_MAKER,
    )


def _reference(source: DicomSource, segmentation: Any, number: int, mask: BoolArray) -> hd.sr.ReferencedSegment:
    """A segment, and the slices of the source that it lies on.

    highdicom's own `from_segmentation` looks for each frame's segment where a segmentation of one segment has none.
    """
    images: dict[str, Any] = {}
    frames: dict[str, list[int]] = {}
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        uid = str(source.b1000[k].SOPInstanceUID)
        images[uid] = source.b1000[k]
        frames.setdefault(uid, []).append(source.frames[k] + 1)
    return hd.sr.ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=number,
        source_images=[
            hd.sr.SourceImageForSegmentation(
                str(image.SOPClassUID), uid, frames[uid] if "PerFrameFunctionalGroupsSequence" in image else None
            )
            for uid, image in images.items()
        ],
    )


def _picture(source: DicomSource, png: bytes) -> Any:
    rgb = np.ascontiguousarray(np.rint(imread(io.BytesIO(png), format="png")[..., :3] * 255).astype(np.uint8))
    picture = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=source.b1000[0],
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
        manufacturer=_MAKER,
        series_description="FVV synthesis, for research use only",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    picture.Laterality = ""  # Asked for, and may be empty: a head has no side.
    return picture


def _save(path: Path, dataset: Any) -> None:
    with atomic_write(path) as temporary:
        dataset.save_as(temporary)


def _check(path: Path, masks: dict[Channel, BoolArray]) -> None:
    """Read the segmentation back: every segment has its voxels.

    Raises:
        FvvError: it has not.
    """
    read = hd.seg.segread(path)
    for number, (channel, mask) in enumerate(masks.items(), start=1):
        frames = read.get_volume(segment_numbers=[number], combine_segments=False).array
        if int(frames.sum()) != int(mask.sum()):
            raise FvvError(f"the DICOM segmentation does not hold the {channel.label} it should", file=path)
