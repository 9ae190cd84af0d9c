"""Several slices side by side in one picture: Siemens' mosaics and UIH's grids, and where each slice lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fvv.io.dicom.diffusion import siemens_csa

_UIH_NUMBER, _UIH_SLICES = (0x0065, 0x1050), (0x0065, 0x1051)
"""Images in a grid, and a sequence with the place of each."""
_MOST = 400
"""Slices in one picture."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One slice of such a picture.

    Attributes:
        corner: its first row and column in the picture.
        shape: rows, columns.
        position: ImagePositionPatient of its own first pixel, LPS mm.
    """

    corner: tuple[int, int]
    shape: tuple[int, int]
    position: tuple[float, ...]


def is_mosaic(dataset: Any) -> bool:
    """Whether a classic object holds several slices in one picture."""
    kinds = [str(word).upper() for word in dataset.get("ImageType") or ()]
    return "MOSAIC" in kinds or "GRID" in kinds or _UIH_SLICES in dataset


def tiles_of(dataset: Any) -> tuple[Tile, ...]:
    """The slices of a mosaic; empty where the header does not say enough to separate them."""
    if _UIH_SLICES in dataset:
        items = dataset[_UIH_SLICES].value
        items = [] if isinstance(items, bytes) or items is None else list(items)
        positions = [item.get("ImagePositionPatient") for item in items]
        if any(position is None or len(position) != 3 for position in positions):
            return ()
        return _tiles(dataset, [tuple(float(number) for number in position) for position in positions])
    return _siemens(dataset)


def _siemens(dataset: Any) -> tuple[Tile, ...]:
    """By number of images and slice normal in the CSA header.

    ImagePositionPatient of a mosaic is that of a single slice as large as the picture, with the same centre: the first
    slice begins half of the difference further in (nibabel.org/nibabel/dicom/dicom_mosaic.html).
    """
    number, normal = siemens_csa(dataset, "NumberOfImagesInMosaic"), siemens_csa(dataset, "SliceNormalVector")
    orientation, spacing = dataset.get("ImageOrientationPatient"), dataset.get("PixelSpacing")
    step = dataset.get("SpacingBetweenSlices")
    if number is None or normal is None or len(normal) != 3 or not orientation or not spacing or not step:
        return ()
    n = int(number[0])
    shape = _tile_shape(dataset, n)
    if shape is None:
        return ()
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    rows, columns = (int(dataset.Rows) - shape[0]) / 2, (int(dataset.Columns) - shape[1]) / 2
    first = np.array(dataset.ImagePositionPatient, float)
    first += column * float(spacing[0]) * rows + row * float(spacing[1]) * columns
    along = np.array(normal, float) * float(step)
    return _tiles(dataset, [tuple((first + k * along).tolist()) for k in range(n)])


def _tile_shape(dataset: Any, n: int) -> tuple[int, int] | None:
    if not 1 <= n <= _MOST:
        return None
    edge = math.ceil(math.sqrt(n))
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    return None if rows % edge or columns % edge else (rows // edge, columns // edge)


def _tiles(dataset: Any, positions: list[tuple[float, ...]]) -> tuple[Tile, ...]:
    shape = _tile_shape(dataset, len(positions))
    if shape is None:
        return ()
    edge = math.ceil(math.sqrt(len(positions)))
    corners = [(k // edge * shape[0], k % edge * shape[1]) for k in range(len(positions))]
    return tuple(Tile(corner, shape, position) for corner, position in zip(corners, positions, strict=True))
