"""b0 and b1000 of one DICOM examination as volumes, and the objects they came from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from fvv.arrays import FloatArray
from fvv.config import PreprocessConfig
from fvv.data import Case, Volume
from fvv.errors import FvvError, GeometryError, InputError
from fvv.io.case import stated_b_value
from fvv.io.dicom.choose import PLACE_TOLERANCE_MM, Stack, choose
from fvv.io.dicom.find import DicomFile, DicomReader, refusing_damage
from fvv.io.dicom.frames import pixels_of
from fvv.io.dicom.group import DicomExamination, repeated
from fvv.io.nifti import MAX_VOXELS
from fvv.io.roi import onto_grid
from fvv.names import plain
from fvv.protocol import Average

log = logging.getLogger(__name__)
SPACING_TOLERANCE = 0.05
"""Relative: slices farther apart than their neighbours by more are missing one between them."""
STATED_TOLERANCE = 0.01
"""Relative: SpacingBetweenSlices that differs by more from the positions is noted."""
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
        instances: SOPInstanceUIDs of all objects that b0 and b1000 were made of, sorted.
    """

    b1000: tuple[Any, ...]
    frames: tuple[int, ...]
    affine: FloatArray
    shape: tuple[int, int, int]
    instances: tuple[str, ...] = ()


def read_dicom(
    examination: DicomExamination, *, name: str, config: PreprocessConfig, series: Sequence[int] = ()
) -> tuple[Case, DicomSource]:
    """Read the images of one person and study.

    Args:
        examination: of any number of series; localisers, ADC maps and other computed images are left out.
        config: whether a b0 on another grid may be resampled.
        series: SeriesNumber of those to take; empty: choose.
    """
    try:
        if examination.error is not None:
            raise examination.error
        with DicomReader() as reader, refusing_damage(examination.place):
            return _read(examination, name, config, series, reader)
    except FvvError as error:
        error.file = error.file or str(examination.place)
        raise error.for_examination(name) from error


def _read(
    examination: DicomExamination, name: str, config: PreprocessConfig, series: Sequence[int], reader: DicomReader
) -> tuple[Case, DicomSource]:
    left_out = [f"{number} {reason}" for reason, number in examination.left_out]
    try:
        choice = choose(examination.frames, series)
    except InputError as error:
        error.message += f"; left out: {', '.join(left_out)}" if left_out else ""
        error.message += "; the folder holds other people or studies, which are never mixed" * bool(examination.others)
        raise
    log.info("%s: %s", name, choice.notes[0])
    for note in choice.notes[1:]:
        log.warning("%s: %s", name, note)
    doubts = (*choice.warnings, *_repeats(choice.b0, choice.b1000))
    b0, _ = _volume(choice.b0, reader)
    b1000, source = _volume(choice.b1000, reader)
    instances = sorted({frame.sop for stack in (choice.b0, choice.b1000) for frame in stack.frames})
    source = replace(source, instances=tuple(instances))
    b0, moved = onto_grid(
        b0, b1000, "b0", resample=config.resample_b0, option="--series names other series, --resample-b0"
    )
    notes = [*choice.notes, *dict.fromkeys(note for stack in (choice.b0, choice.b1000) for note in _stated_step(stack))]
    notes += [f"left out: {what}" for what in left_out]
    if examination.others:
        notes.append(f"one of {examination.others + 1} examinations in {plain(examination.place.name)}")
    series_of = ", ".join(dict.fromkeys(plain(stack.first.series) for stack in (choice.b0, choice.b1000)))
    notes += [f"StudyInstanceUID {plain(choice.b1000.first.study)}, SeriesInstanceUID {series_of}", *moved]
    b_value = stated_b_value(examination.place, choice.b1000.b_value, config.b_value)
    return Case(name, b0, b1000, b_value=b_value, notes=tuple(notes), warnings=doubts), source


def _volume(stack: Stack, reader: DicomReader) -> tuple[Volume, DicomSource]:
    """Average the images of each slice and stack the slices along their normal.

    Files are read in their order, each once: a classic object holds one slice, an enhanced one and a mosaic many.
    """
    _refuse_gaps(stack)
    (rows, columns), n_slices = stack.first.shape, len(stack.slices)
    if columns * rows * n_slices > MAX_VOXELS:
        raise InputError(f"{stack.describe()}: over the largest image read here", file=stack.first.file.path)
    places = {(frame.file, frame.index): k for k, images in enumerate(stack.slices) for frame in images}
    averages = [Average(stack.b_value) for _ in range(n_slices)]
    chosen: dict[int, tuple[Any, int]] = {}
    file: DicomFile | None = None
    dataset: Any = None
    for frame in stack.frames:
        if frame.file != file:
            dataset, file = reader.read(frame.file, pixels=True), frame.file
        k = places[frame.file, frame.index]
        chosen.setdefault(k, (dataset, frame.index))
        averages[k].add(pixels_of(dataset, frame).T)  # (row, column); the volume's axes are (column, row, slice).
    array = np.empty((columns, rows, n_slices))
    for k, average in enumerate(averages):
        array[:, :, k] = average.mean()
    for header, _ in chosen.values():
        header.pop("PixelData", None)
    affine = _affine(stack)
    headers, frames = zip(*(chosen[k] for k in range(n_slices)), strict=True)
    source = DicomSource(headers, frames, affine, (columns, rows, n_slices))
    return Volume(array, LPS_TO_RAS @ affine), source


def _refuse_gaps(stack: Stack) -> None:
    """Slices must follow each other at one distance, and the images of one slice lie at one place."""
    for k, images in enumerate(stack.slices, start=1):
        positions = np.array([frame.position for frame in images])
        apart = float(np.linalg.norm(positions - positions[0], axis=1).max())
        if apart > max(SAME_PLACE * min(stack.first.spacing), PLACE_TOLERANCE_MM):
            raise GeometryError(f"images of slice {k} lie {apart:.2g} mm apart in {stack.describe()}")
    steps = np.diff([images[0].along(images[0]) for images in stack.slices])
    typical = float(np.median(steps)) if len(steps) else 0.0
    wide = np.flatnonzero(np.abs(steps - typical) > SPACING_TOLERANCE * typical)
    if len(wide):
        raise GeometryError(
            f"slices are missing in {stack.describe()}: {steps[wide[0]]:.1f} mm between slices {wide[0] + 1} and "
            f"{wide[0] + 2}, elsewhere {typical:.1f} mm",
            hint="send the complete series again",
        )


def _repeats(low: Stack, high: Stack) -> list[str]:
    """Warnings of images of one place and InstanceNumber that are no copies.

    Some makers number the directions of a shell alike. Where b0 and b1000 both come as often, they are of several
    people, or of several versions of one study.
    """
    found = [repeated(stack.frames) for stack in (low, high)]
    often = [max(map(len, groups), default=1) for groups in found]
    if min(often) > 1 and often[0] == often[1]:
        one, other, *_ = found[0][0]
        message = f"not the image that {one.file.name} holds under the same number"
        hint = "two people's images, or two versions of one series: separate them, or keep the right ones"
        raise InputError(message, file=other.file.path, hint=hint)
    return [
        f"{name}: {number} different images with one position and InstanceNumber are averaged: are they of one person?"
        for name, number in zip(("b0", "b1000"), often, strict=True)
        if number > 1
    ]


def _affine(stack: Stack) -> FloatArray:
    """(4, 4), voxel (column, row, slice) to LPS+ mm (PS3.3 C.7.6.2.1.1), from the positions alone."""
    first, last = stack.slices[0][0], stack.slices[-1][0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    between = (np.array(last.position) - np.array(first.position)) / max(len(stack.slices) - 1, 1)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * first.spacing[1], column * first.spacing[0]
    affine[:3, 2] = between if len(stack.slices) > 1 else np.cross(row, column)
    affine[:3, 3] = first.position
    return affine


def _stated_step(stack: Stack) -> list[str]:
    """A note where the header states another distance between slices than the positions."""
    step, stated = float(voxel_sizes(_affine(stack))[2]), stack.first.stated_step
    if stated is None or len(stack.slices) < 2 or abs(abs(stated) - step) <= STATED_TOLERANCE * step:
        return []
    stated_by = f"SpacingBetweenSlices is {stated:g} mm, but the positions lie {step:.4g} mm apart"
    return [f"{stated_by}: the positions are used"]
