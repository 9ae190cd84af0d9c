"""b0 and b1000 of one DICOM examination as volumes, and the objects they came from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fvv.arrays import FloatArray
from fvv.config import PreprocessConfig
from fvv.data import Case, Volume
from fvv.errors import FvvError, GeometryError, InputError
from fvv.imaging.geometry import resample_onto
from fvv.io.case import same_grid
from fvv.io.dicom.choose import PLACE_TOLERANCE_MM, Stack, choose
from fvv.io.dicom.files import DAMAGE, DicomFile, DicomReader
from fvv.io.dicom.frames import pixels_of
from fvv.io.dicom.index import DicomExamination
from fvv.io.dicom.repeats import repeated
from fvv.io.nifti import MAX_VOXELS
from fvv.names import plain

log = logging.getLogger(__name__)
SPACING_TOLERANCE = 0.05
"""Relative: slices farther apart than their neighbours by more are missing one between them."""
STATED_TOLERANCE = 0.01
"""Relative: SpacingBetweenSlices that differs by more from the positions is said."""
SAME_PLACE = 0.1
"""Of a pixel: images of one slice lie no farther apart in plane."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class DicomSource:
    """The objects a case was made of, for the results to refer to.

    Attributes:
        b1000: datasets, without pixels, of the slices of b1000 in the order of the volume's slices; for an enhanced
            object or a mosaic the same dataset throughout.
        frames: frame of each slice in its dataset, from 0.
        affine: (4, 4) of b1000, voxel to LPS+ mm.
        shape: (i, j, k) of b1000.
    """

    b1000: tuple[Any, ...]
    frames: tuple[int, ...]
    affine: FloatArray
    shape: tuple[int, int, int]


def read_dicom(
    examination: DicomExamination, *, name: str, config: PreprocessConfig, series: Sequence[int] = ()
) -> tuple[Case, DicomSource]:
    """Read the images of one person and study.

    Args:
        examination: of any number of series; localisers, ADC maps and other computed images are left out.
        name: of the examination in the results.
        config: whether a b0 on another grid may be resampled.
        series: SeriesNumber of those to take; empty: choose.

    Raises:
        InputError: no b0 or no b1000 among them, or an object of the place is damaged.
        GeometryError: slices missing, or the two lie on different grids.
    """
    try:
        if examination.error is not None:
            raise examination.error
        with DicomReader() as reader, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # As when the headers were read.
            return _read(examination, name, config, series, reader)
    except FvvError as error:
        error.file = error.file or str(examination.place)
        raise error.for_patient(name) from error
    except DAMAGE as error:
        message = f"not readable as DICOM: {plain(str(error))}"
        raise InputError(message, file=examination.place, patient=name) from error


def _read(
    examination: DicomExamination, name: str, config: PreprocessConfig, series: Sequence[int], reader: DicomReader
) -> tuple[Case, DicomSource]:
    try:
        choice = choose(examination.frames, series)
    except InputError as error:
        raise _with_context(error, examination) from error
    log.info("%s: %s", name, choice.notes[0])
    for note in choice.notes[1:]:
        log.warning("%s: %s", name, note)
    doubts = [*choice.warnings, *_repeats(choice.b0, choice.b1000)]
    b0_volume, _, b0_notes = _volume(choice.b0, reader, geometric=False)
    b1000_volume, source, notes = _volume(choice.b1000, reader, geometric=True)
    notes = [*choice.notes, *b0_notes, *(note for note in notes if note not in b0_notes), *_about(examination)]
    if not same_grid(b0_volume, b1000_volume):
        if not config.resample_b0:
            hint = "--resample-b0 resamples b0 onto b1000, --series names other series"
            raise GeometryError("b0 and b1000 lie on different grids", hint=hint)
        b0_volume = resample_onto(b0_volume, b1000_volume, order=1)
        notes.append("b0 resampled onto b1000's grid")
    case = Case(
        name,
        b0_volume,
        b1000_volume,
        b_value=choice.b1000.b_value,
        notes=tuple(notes),
        warnings=tuple(doubts),
    )
    return case, source


def _about(examination: DicomExamination) -> list[str]:
    """What was left out, and the study, by which the examination is known among others."""
    notes = [f"left out: {number} {reason}" for reason, number in examination.left_out]
    if examination.others:
        notes.append(f"one of {examination.others + 1} examinations in {plain(examination.place.name)}")
    return [*notes, f"StudyInstanceUID {plain(examination.frames[0].study)}"]


def _with_context(error: InputError, examination: DicomExamination) -> InputError:
    left_out = [f"{number} {reason}" for reason, number in examination.left_out]
    if left_out:
        error.message += f"; left out: {', '.join(left_out)}"
    if examination.others:
        error.message += "; the place holds other people or studies, which are never mixed"
    return error


def _volume(stack: Stack, reader: DicomReader, *, geometric: bool) -> tuple[Volume, DicomSource, list[str]]:
    """Average the images of each slice and stack the slices along their normal.

    Files are read in their order, each once: a classic object holds one slice, an enhanced one and a mosaic many.
    Directions are averaged geometrically, so that the mean is that of the trace; one image stays as it is.
    """
    _refuse_gaps(stack)
    (rows, columns), n_slices = stack.first.shape, len(stack.slices)
    if columns * rows * n_slices > MAX_VOXELS:
        raise InputError(f"{stack.describe()}: over the largest image read here", file=stack.first.file.path)
    places = {(frame.file, frame.index): k for k, images in enumerate(stack.slices) for frame in images}
    counts = [len(images) for images in stack.slices]
    array = np.zeros((columns, rows, n_slices))
    chosen: dict[int, tuple[Any, int]] = {}
    file: DicomFile | None = None
    dataset: Any = None
    for frame in stack.frames:
        if frame.file != file:
            dataset, file = reader.read(frame.file, pixels=True), frame.file
        k = places[frame.file, frame.index]
        chosen.setdefault(k, (dataset, frame.index))
        pixels = pixels_of(dataset, frame).T  # They are (row, column); the volume's axes are (column, row, slice).
        array[:, :, k] += np.log(np.maximum(pixels, 1e-6)) if geometric and counts[k] > 1 else pixels
    for k, count in enumerate(counts):
        if count > 1:
            array[:, :, k] = np.exp(array[:, :, k] / count) if geometric else array[:, :, k] / count
    for header, _ in chosen.values():
        header.pop("PixelData", None)
    affine = _affine(stack)
    headers, frames = zip(*(chosen[k] for k in range(n_slices)), strict=True)
    source = DicomSource(headers, frames, affine, (columns, rows, n_slices))
    return Volume(array, LPS_TO_RAS @ affine), source, _geometry_notes(stack, affine)


def _refuse_gaps(stack: Stack) -> None:
    """Slices must follow each other at one distance, and the images of one slice lie at one place.

    Raises:
        GeometryError: they do not.
    """
    for k, images in enumerate(stack.slices, start=1):
        positions = np.array([frame.position for frame in images])
        apart = float(np.linalg.norm(positions - positions[0], axis=1).max())
        if apart > max(SAME_PLACE * min(stack.first.spacing), PLACE_TOLERANCE_MM):
            raise GeometryError(f"images of slice {k} lie {apart:.2g} mm apart in {stack.describe()}")
    steps = np.diff([images[0].along_normal_mm for images in stack.slices])
    if not len(steps):
        return
    typical = float(np.median(steps))
    wide = np.flatnonzero(np.abs(steps - typical) > SPACING_TOLERANCE * typical)
    if len(wide):
        raise GeometryError(
            f"slices are missing in {stack.describe()}: {steps[wide[0]]:.1f} mm between slices {wide[0] + 1} and "
            f"{wide[0] + 2}, elsewhere {typical:.1f} mm",
            hint="send the complete series again",
        )


def _repeats(low: Stack, high: Stack) -> list[str]:
    """What to say of images of one place and InstanceNumber that are no copies.

    Some number the directions of a shell alike. Where b0 and b1000 both come as often, they are of several people, or
    of several versions of one study.

    Raises:
        InputError: so it is.
    """
    found = [repeated(stack.frames) for stack in (low, high)]
    often = [max(map(len, groups), default=1) for groups in found]
    if min(often) > 1 and often[0] == often[1]:
        one, other, *_ = found[0][0]
        message = f"not the image that {plain(one.file.member or str(one.file.path))} holds under the same number"
        hint = "two people's images, or two versions of one series: part them, or keep the right ones"
        raise InputError(message, file=other.file.path, hint=hint)
    return [
        f"{name}: {number} different images of one place and InstanceNumber are averaged: of one person, sent once?"
        for name, number in zip(("b0", "b1000"), often, strict=True)
        if number > 1
    ]


def _affine(stack: Stack) -> FloatArray:
    """(4, 4), voxel (column, row, slice) to LPS+ mm (PS3.3 C.7.6.2.1.1), from the positions alone."""
    first, last, n_slices = stack.slices[0][0], stack.slices[-1][0], len(stack.slices)
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    affine = np.eye(4)
    affine[:3, 0] = row * first.spacing[1]
    affine[:3, 1] = column * first.spacing[0]
    if n_slices > 1:
        affine[:3, 2] = (np.array(last.position) - np.array(first.position)) / (n_slices - 1)
    else:
        affine[:3, 2] = np.cross(row, column)
    affine[:3, 3] = first.position
    return affine


def _geometry_notes(stack: Stack, affine: FloatArray) -> list[str]:
    """What the header states of the distance between slices, where the positions say otherwise."""
    step, stated = float(np.linalg.norm(affine[:3, 2])), stack.first.stated_step
    if stated is None or len(stack.slices) < 2 or abs(abs(stated) - step) <= STATED_TOLERANCE * step:
        return []
    return [
        f"SpacingBetweenSlices is {stated:g} mm, but the positions lie {step:.4g} mm apart: the positions are taken"
    ]
