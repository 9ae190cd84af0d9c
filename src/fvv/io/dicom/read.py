"""b0 and b1000 among all the series of a patient."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from fvv.arrays import FloatArray
from fvv.config import PreprocessConfig
from fvv.data import Case, Volume
from fvv.errors import FvvError, GeometryError, InputError
from fvv.imaging.geometry import resample_onto
from fvv.io.case import same_grid
from fvv.io.dicom.frames import DAMAGE, DicomFile, Frame, find_files, frames_of, pixels_of
from fvv.io.nifti import B0_TOLERANCE, B1000_TOLERANCE

log = logging.getLogger(__name__)
WIDEST_B_TOLERANCE = 300.0
"""s/mm^2: what may stand for b1000 where nothing nearer is there; quality control judges it."""
SPACING_TOLERANCE = 0.05
"""Relative: slices farther apart than their neighbours by more are missing one between them."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class DicomSource:
    """The objects a case was made of, for the results to refer to.

    Attributes:
        b1000: datasets, without pixels, of the slices of b1000 in the order of the volume's slices; for an enhanced
            object the same dataset throughout.
        frames: frame of each slice in its dataset, from 0.
    """

    b1000: tuple[Any, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Stack:
    """All frames of one series near one b-value."""

    frames: tuple[Frame, ...]

    @property
    def first(self) -> Frame:
        return self.frames[0]

    @property
    def b_value(self) -> float:
        return float(np.mean([frame.b_value for frame in self.frames if frame.b_value is not None]))

    @property
    def n_slices(self) -> int:
        return len({round(frame.along_normal_mm, 2) for frame in self.frames})

    def describe(self) -> str:
        first = self.first
        per_slice = len(self.frames) / self.n_slices
        return (
            f"series {first.series_number} {first.description!r} (b = {self.b_value:g} s/mm^2, {self.n_slices} slices, "
            f"{per_slice:g} images a slice)"
        )


def read_dicom(
    path: Path, *, name: str, config: PreprocessConfig, series: Sequence[int] = ()
) -> tuple[Case, DicomSource]:
    """Read one patient's DICOM folder or zip file.

    Args:
        path: holds any number of series; localisers, ADC maps and other computed images are left out.
        name: of the patient in the results.
        config: whether a b0 on another grid may be resampled.
        series: SeriesNumber of those to take; empty: choose.

    Raises:
        InputError: no b0 or no b1000 among them.
        GeometryError: slices missing, or the two lie on different grids.
    """
    try:
        return _read(path, name, config, series)
    except FvvError as error:
        error.file = error.file or str(path)
        raise error.for_patient(name) from error
    except DAMAGE as error:
        raise InputError(f"not readable as DICOM: {error}", file=path, patient=name) from error


def _read(path: Path, name: str, config: PreprocessConfig, series: Sequence[int]) -> tuple[Case, DicomSource]:
    frames = [frame for file in find_files(path) for frame in frames_of(file)]
    if series:
        frames = [frame for frame in frames if frame.series_number in series]
    b0, b1000 = _choose(frames, path)
    notes = [f"b0 from {b0.describe()}; b1000 from {b1000.describe()}"]
    log.info("%s: %s", name, notes[0])
    b0_volume, _ = _volume(b0, geometric=False)
    b1000_volume, source = _volume(b1000, geometric=True)
    if not same_grid(b0_volume, b1000_volume):
        if not config.resample_b0:
            hint = "--resample-b0 resamples b0 onto b1000, --series names other series"
            raise GeometryError("b0 and b1000 lie on different grids", hint=hint)
        b0_volume = resample_onto(b0_volume, b1000_volume, order=1)
        notes.append("b0 resampled onto b1000's grid")
    return Case(name, b0_volume, b1000_volume, b_value=b1000.b_value, notes=tuple(notes)), source


def _choose(frames: list[Frame], path: Path) -> tuple[_Stack, _Stack]:
    """The b0 and b1000 that belong together best: one series before two, the full stack before the part."""
    groups: dict[tuple[str, str], list[Frame]] = defaultdict(list)
    for frame in frames:
        kind = _kind(frame.b_value)
        if kind:
            groups[frame.series, kind].append(frame)
    b0 = [_Stack(tuple(found)) for (_, kind), found in groups.items() if kind == "b0"]
    b1000 = [_Stack(_trace_or_all(found)) for (_, kind), found in groups.items() if kind == "b1000"]
    if not b0 or not b1000:
        known = sorted({f"{frame.series_number}: b = {frame.b_value}" for frame in frames})
        raise InputError(
            f"no {'b0' if not b0 else 'b1000'} among its series ({', '.join(known) or 'no diffusion images'})",
            file=path,
            hint="name the series with --series",
        )
    pairs = [(low, high) for low in b0 for high in b1000]
    return max(pairs, key=_suitability)


def _suitability(pair: tuple[_Stack, _Stack]) -> tuple[float, ...]:
    low, high = pair
    same_place = low.n_slices == high.n_slices and np.allclose(low.first.orientation, high.first.orientation, atol=1e-3)
    return (
        same_place and low.first.shape == high.first.shape,
        abs(high.b_value - 1000.0) <= B1000_TOLERANCE,
        low.first.series == high.first.series,
        high.n_slices,
        -abs(high.b_value - 1000.0),
        -high.first.series_number,
    )


def _kind(b_value: float | None) -> str:
    if b_value is None:
        return ""
    if b_value <= B0_TOLERANCE:
        return "b0"
    return "b1000" if abs(b_value - 1000.0) <= WIDEST_B_TOLERANCE else ""


def _trace_or_all(frames: list[Frame]) -> tuple[Frame, ...]:
    trace = tuple(frame for frame in frames if frame.isotropic)
    return trace or tuple(frames)


def _volume(stack: _Stack, *, geometric: bool) -> tuple[Volume, DicomSource]:
    """Average the images of each slice and stack the slices along their normal."""
    slices: dict[float, list[Frame]] = defaultdict(list)
    for frame in stack.frames:
        slices[round(frame.along_normal_mm, 2)].append(frame)
    places = sorted(slices)
    _refuse_gaps(places, stack)
    # One dataset at a time: a classic object holds one slice, an enhanced one all of them.
    read = lru_cache(maxsize=1)(partial(DicomFile.read, pixels=True))
    layers = [
        _average([pixels_of(read(frame.file), frame.index) for frame in slices[place]], geometric=geometric)
        for place in places
    ]
    first, last = slices[places[0]][0], slices[places[-1]][0]
    # Pixels are (row, column); the volume's axes are (column, row, slice).
    array = np.stack([layer.T for layer in layers], axis=2)
    chosen = [slices[place][0] for place in places]
    headers = {frame.file: frame.file.read(pixels=False) for frame in chosen}
    source = DicomSource(tuple(headers[frame.file] for frame in chosen), tuple(frame.index for frame in chosen))
    return Volume(array, _affine(first, last, len(places))), source


def _average(images: list[FloatArray], *, geometric: bool) -> FloatArray:
    if len(images) == 1:
        return images[0]
    if geometric:
        return np.asarray(np.exp(np.mean([np.log(np.maximum(image, 1e-6)) for image in images], axis=0)))
    return np.asarray(np.mean(images, axis=0))


def _refuse_gaps(places: list[float], stack: _Stack) -> None:
    steps = np.diff(places)
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


def _affine(first: Frame, last: Frame, n_slices: int) -> np.ndarray:
    """(4, 4), voxel (column, row, slice) to RAS+ mm (PS3.3 C.7.6.2.1.1; DICOM's own frame is LPS+)."""
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    affine = np.eye(4)
    affine[:3, 0] = row * first.spacing[1]
    affine[:3, 1] = column * first.spacing[0]
    if n_slices > 1:
        affine[:3, 2] = (np.array(last.position) - np.array(first.position)) / (n_slices - 1)
    else:
        affine[:3, 2] = np.cross(row, column)
    affine[:3, 3] = first.position
    return np.asarray(LPS_TO_RAS @ affine)
