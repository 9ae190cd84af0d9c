"""Results as DICOM: a segmentation, a structured report with the volumes, and the picture, all of the source's study.

Segmentation: PS3.3 A.51; report: TID 1500 (PS3.16); picture: Secondary Capture (PS3.3 A.8). The segmentation is read
back, place by place, before it counts. What is written refers to the source's objects, but takes its geometry from the
volume that was measured, and elements that the source lacks empty: anonymised objects lack elements that the standard
asks for, makers write measures frame by frame, oblique stacks differ in the 8th digit of their orientation.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from matplotlib.image import imread
from nibabel.affines import voxel_sizes
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from fvv import __version__
from fvv.arrays import BoolArray
from fvv.data import Channel, Prediction
from fvv.errors import FvvError, OutputExistsError
from fvv.imaging.fusion import visible_to_half
from fvv.io.atomic import atomic_write
from fvv.io.dicom import MAKER
from fvv.io.dicom.carry import DerivedUids, carried, quiet
from fvv.io.dicom.find import DAMAGE
from fvv.io.dicom.reason import FLAIR_VISIBLE, add_comments, answer_item, enhanced_report, reason_report
from fvv.io.dicom.stack import DicomSource
from fvv.io.dicom.weighting import first_item
from fvv.io.ownership import claim, claimed
from fvv.io.result_files import DICOM_FILES, DICOM_PICTURE, DICOM_REPORT, DICOM_SEGMENTATION
from fvv.names import plain
from fvv.system.fingerprint import fingerprint

_ALGORITHM = hd.AlgorithmIdentificationSequence(
    name="fvv", version=__version__, family=codes.cid7162.ArtificialIntelligence
)
_INFARCT = hd.sr.CodedConcept("55641003", "SCT", "Infarct")
_MILLILITRE = hd.sr.CodedConcept("mL", "UCUM", "milliliter")
_KINDS = {
    Channel.BRAIN: (codes.SCT.Organ, codes.SCT.Brain),
    Channel.STROKE: (codes.SCT.MorphologicallyAbnormalStructure, _INFARCT),
    Channel.FLAIR_VISIBLE: (codes.SCT.MorphologicallyAbnormalStructure, FLAIR_VISIBLE),
}


def write_dicom_results(
    folder: Path, source: DicomSource, prediction: Prediction, *, synthesis_png: bytes, made_from: str = ""
) -> tuple[str, ...]:
    """Write segmentation, report and picture; for a patient who is not assessable a report of the reasons, and picture.

    All UIDs are derived from the source's images and `made_from`: the same examination gives the same objects again.

    Args:
        source: objects b1000 was made of, in the order of the volume's slices.
        prediction: the answer, masks (i, j, k) on b1000's grid: i along a row, j along a column.
        made_from: what else the results are made from, such as a hash of models and settings.

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
        with quiet():
            headers = _Headers(source, DerivedUids(fingerprint(images=source.instances, made_from=made_from)))
            _write(folder, headers, prediction, synthesis_png)
    except FvvError as error:
        remove_dicom_results(folder)
        raise error.for_examination(prediction.examination_id) from error
    except Exception as error:  # Whatever a library raises of a strange header, the answer stands.
        remove_dicom_results(folder)
        message = f"no DICOM results could be made: {type(error).__name__}: {plain(str(error))}"
        hint = "the headers lack what these need, or fvv is at fault: please report it"
        raise FvvError(message, examination_id=prediction.examination_id, hint=hint) from error
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


def _is_ours(file: Path, *, if_damaged: bool) -> bool:
    try:
        return str(pydicom.dcmread(file, stop_before_pixels=True).get("Manufacturer", "")) == MAKER
    except DAMAGE:
        return if_damaged


def _write(folder: Path, headers: _Headers, prediction: Prediction, synthesis_png: bytes) -> None:
    _save(folder / DICOM_PICTURE, _picture(headers, synthesis_png))
    if prediction.brain is None or prediction.stroke is None or prediction.flair_visible_votes is None:
        reasons = [f"{finding.severity.value}: {finding.message}" for finding in prediction.decision.reasons]
        report = reason_report(headers.images, reasons, headers.uids)
        headers.refer_rightly(report)
        _save(folder / DICOM_REPORT, report)
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


class _Headers:
    """Headers of the slices of b1000, for highdicom to copy from and to refer to.

    Attributes:
        images: for each slice a classic object, which highdicom takes many of; `refer_rightly` undoes the class.
        by_slice: SOPClassUID, SOPInstanceUID and number of the frame (None for a classic object) of each slice.
        positions, orientation, measures: geometry of the volume.
        step: distance between slices, mm.
        slice_at: number of the slice at a rounded position.
        lost: elements that are damaged, and left out.
        uids: of all that is written.
    """

    def __init__(self, source: DicomSource, uids: DerivedUids) -> None:
        self.uids = uids
        affine, n = source.affine, source.shape[2]
        # Direction cosines, rounded so that they fit DICOM's 16 characters.
        between_columns, between_rows, _ = voxel_sizes(affine).tolist()
        row, column = affine[:3, 0] / between_columns, affine[:3, 1] / between_rows
        cosines = [round(float(number), 10) for number in (*row, *column)]
        self.step = step = float(abs(np.dot(np.cross(cosines[:3], cosines[3:]), affine[:3, 2])))
        places = [(affine[:3, 3] + k * affine[:3, 2]).tolist() for k in range(n)]
        self.positions = [hd.PlanePositionSequence(hd.CoordinateSystemNames.PATIENT, place) for place in places]
        self.slice_at = {_rounded(position[0]): k for k, position in enumerate(self.positions)}
        self.orientation = hd.PlaneOrientationSequence(hd.CoordinateSystemNames.PATIENT, cosines)
        thickness = _thickness(source.b1000[0]) or step
        self.measures = hd.PixelMeasuresSequence([between_rows, between_columns], thickness, step if n > 1 else None)
        self.lost: set[str] = set()
        frame_of_reference = str(source.b1000[0].get("FrameOfReferenceUID") or "").strip() or uids("frame of reference")
        self.images, self.by_slice = [], []
        complete: dict[int, Dataset] = {}
        for dataset, frame, position in zip(source.b1000, source.frames, self.positions, strict=True):
            if id(dataset) not in complete:
                complete[id(dataset)] = self._complete(dataset, source, frame_of_reference)
            image = Dataset()
            image.update(complete[id(dataset)])
            for items in (position, self.orientation, self.measures):
                image.update(items[0])
            self.images.append(image)
            enhanced = dataset.get("PerFrameFunctionalGroupsSequence") is not None
            named = str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
            self.by_slice.append((*named, frame + 1 if enhanced else None))

    def refer_rightly(self, dataset: Dataset) -> None:
        """Give each reference to the source that object's own class, and that of a slice its frame."""
        classes = {uid: sop_class for sop_class, uid, _ in self.by_slice}
        for item in (dataset, *(item for element in dataset.iterall() if element.VR == "SQ" for item in element.value)):
            uid = str(item.get("ReferencedSOPInstanceUID") or "")
            if uid in classes:
                item.ReferencedSOPClassUID = classes[uid]
        for groups in dataset.get("PerFrameFunctionalGroupsSequence") or ():
            frame = self.by_slice[self.slice_at[_rounded(groups.PlanePositionSequence[0])]][2]
            for derivation in groups.get("DerivationImageSequence") or ():
                for item in derivation.SourceImageSequence if frame is not None else ():
                    item.ReferencedFrameNumber = frame

    def _complete(self, dataset: Any, source: DicomSource, frame_of_reference: str) -> Dataset:
        copy = carried(dataset, self.uids, self.lost)
        copy.SOPClassUID, copy.Modality, copy.FrameOfReferenceUID = MRImageStorage, "MR", frame_of_reference
        copy.Rows, copy.Columns = source.shape[1], source.shape[0]
        return copy


def _rounded(place: Dataset) -> tuple[float, ...]:
    return tuple(round(float(number), 2) for number in place.ImagePositionPatient)


def _thickness(dataset: Any) -> float | None:
    """SliceThickness, mm; None where it is not stated or no length."""
    groups = [first_item(dataset, f"{name}FunctionalGroupsSequence") for name in ("PerFrame", "Shared")]
    for place in (*(first_item(group, "PixelMeasuresSequence") for group in groups), dataset):
        try:
            stated = float((place.get("SliceThickness") if place is not None else 0) or 0)
        except DAMAGE:
            return None
        if stated > 0:
            return stated
    return None


def _segmentation(headers: _Headers, masks: dict[Channel, BoolArray]) -> Any:
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=channel.label,
            segmented_property_category=_KINDS[channel][0],
            segmented_property_type=_KINDS[channel][1],
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=_ALGORITHM,
            display_color=hd.color.CIELabColor.from_rgb(*bytes.fromhex(channel.colour[1:])),
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
        omit_empty_frames=True,
        manufacturer_model_name="fvv",
        software_versions=__version__,
        device_serial_number=__version__,
        plane_positions=headers.positions,
        plane_orientation=headers.orientation,
        pixel_measures=headers.measures,
        **headers.uids.series(0, "segmentation"),
    )
    for series in segmentation.get("ReferencedSeriesSequence") or []:  # A mosaic stands for many slices.
        once = {str(item.ReferencedSOPInstanceUID): item for item in series.ReferencedInstanceSequence}
        series.ReferencedInstanceSequence = list(once.values())
    headers.refer_rightly(segmentation)
    return segmentation


def _report(headers: _Headers, segmentation: Any, masks: dict[Channel, BoolArray], prediction: Prediction) -> Any:
    """A group of measurements for each channel, also where no voxel of it has half of the votes.

    The answer and its reasons stand in the group of FVV, on which it rests.

    Such a channel has no segment to refer to: its volume is 0 mL, or a mean of models of which under half agree.
    """
    numbers = {channel: number for number, channel in enumerate(masks, start=1)}
    groups: list[Any] = []
    for channel in Channel:
        volume = prediction.volume_ml(channel)
        if volume is None:
            raise FvvError(f"no volume of the {channel.label} was measured", examination_id=prediction.examination_id)
        about: dict[str, Any] = {
            "tracking_identifier": hd.sr.TrackingIdentifier(headers.uids(f"tracking {channel.label}"), channel.label),
            "finding_type": _KINDS[channel][1],
            "algorithm_id": hd.sr.AlgorithmIdentification("fvv", __version__),
            "measurements": [hd.sr.Measurement(name=codes.SCT.Volume, value=round(volume, 4), unit=_MILLILITRE)],
        }
        if channel is Channel.FLAIR_VISIBLE:
            about["qualitative_evaluations"] = [answer_item(prediction.decision.state)]
        if channel in numbers:
            segment = _reference(headers, segmentation, numbers[channel], masks[channel])
            groups.append(hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**about, referenced_segment=segment))
        else:
            groups.append(hd.sr.MeasurementsAndQualitativeEvaluations(**about))
        if channel is Channel.FLAIR_VISIBLE:
            add_comments(groups[-1], _said(prediction))
    report = enhanced_report(groups, [*headers.images, segmentation], headers.uids, "volumes")
    headers.refer_rightly(report)
    return report


def _said(prediction: Prediction) -> list[str]:
    """What the reader of an answer must know."""
    decision = prediction.decision
    cutoff = f"mismatch is called likely under an FVV of {decision.cutoff_ml:g} mL; for research use only"
    return [cutoff, *(f"{finding.severity.value}: {finding.message}" for finding in decision.reasons)]


def _reference(headers: _Headers, segmentation: Any, number: int, mask: BoolArray) -> hd.sr.ReferencedSegment:
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


def _picture(headers: _Headers, png: bytes) -> Any:
    rgb = np.ascontiguousarray(np.rint(imread(io.BytesIO(png), format="png")[..., :3] * 255).astype(np.uint8))
    picture = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=headers.images[0],
        pixel_array=rgb,
        photometric_interpretation="RGB",
        bits_allocated=8,
        # Slices side by side, each in radiological convention.
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **headers.uids.series(2, "synthesis"),
    )
    picture.BurnedInAnnotation = "YES"  # The picture names the examination.
    picture.Laterality = ""  # Asked for, and may be empty: a head has no side.
    return picture


def _save(path: Path, dataset: Any) -> None:
    with atomic_write(path) as temporary:
        dataset.save_as(temporary)


def _check(path: Path, masks: dict[Channel, BoolArray], headers: _Headers) -> None:
    """Read the segmentation back as another reader does, by positions and stated spacing: every voxel has its place."""
    read = pydicom.dcmread(path)
    pixels = np.atleast_3d(read.pixel_array) if read.pixel_array.ndim == 3 else read.pixel_array[None]
    shared = read.SharedFunctionalGroupsSequence[0]
    found = {channel: np.zeros_like(mask, dtype=bool) for channel, mask in masks.items()}
    for groups, frame in zip(read.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        segment = (groups.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence)[0]
        channel = list(masks)[int(segment.ReferencedSegmentNumber) - 1]
        found[channel][:, :, headers.slice_at[_rounded(groups.PlanePositionSequence[0])]] |= frame.T > 0
    for channel, mask in masks.items():
        if not np.array_equal(found[channel], mask):
            raise FvvError(f"the DICOM segmentation does not hold the {channel.label} it should", file=path)
    stated = shared.PixelMeasuresSequence[0].get("SpacingBetweenSlices")
    if len(headers.positions) > 1 and (stated is None or abs(float(stated) - headers.step) > 1e-3 * headers.step):
        message = f"the DICOM segmentation states slices {stated} mm apart, they lie {headers.step:g} mm apart"
        raise FvvError(message, file=path)
