"""Images in space: the native grid of the files, and the way from it to the working grid and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import FileBasedImage
from nibabel.nifti1 import Nifti1Image
from nibabel.spatialimages import SpatialImage

from fvv.arrays import Affine
from fvv.errors import GeometryError

Orientation = tuple[tuple[int, int], ...]
"""nibabel's orientation: for every stored axis, (RAS axis, +1 or -1)."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A 3D image in space.

    Attributes:
        array: (i, j, k), any dtype.
        affine: (4, 4) float64, voxel index to RAS+ mm.

    Raises:
        GeometryError: not 3D, or the affine is singular, sheared or not finite.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> volume = fvv.Volume(np.zeros((4, 4, 2)), np.diag([2.0, 2.0, 5.0, 1.0]))
        >>> volume.spacing_mm, volume.voxel_volume_ml
        ((2.0, 2.0, 5.0), 0.02)
    """

    array: np.ndarray
    affine: Affine

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise GeometryError(f"expected a 3D image, got shape {self.array.shape}")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise GeometryError("expected a finite 4 x 4 affine")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:
            raise GeometryError("the affine is singular: the voxels have no volume")
        if abs(np.linalg.det(self.affine[:3, :3])) < 0.99 * np.prod(self.spacing_mm):
            # Volumes and distances are products of voxel edges, which is only true of bricks.
            raise GeometryError(
                "the affine is sheared: the voxels have no right angles", hint="resample the image onto an upright grid"
            )

    @classmethod
    def from_nibabel(cls, image: FileBasedImage) -> Self:
        """The image that nibabel has opened, as float64 with its scaling applied.

        Args:
            image: 3D; further axes of length 1 are dropped.

        Raises:
            GeometryError: not 3D, of colours or complex numbers, or without an affine.

        Examples:
            >>> import nibabel
            >>> import numpy as np
            >>> import fvv
            >>> fvv.Volume.from_nibabel(nibabel.Nifti1Image(np.ones((4, 4, 2), np.int16), np.eye(4))).array.dtype
            dtype('float64')
        """
        if not isinstance(image, SpatialImage) or image.affine is None:
            raise GeometryError(f"expected an image with an affine, got {type(image).__name__}")
        if image.get_data_dtype().kind not in "biuf":
            raise GeometryError(f"expected an image of numbers, got data type {image.get_data_dtype()}")
        # In C order, as files are read: sums of voxels in another order differ in their last digit.
        array = np.asarray(image.dataobj, dtype=np.float64, order="C")
        while array.ndim > 3 and array.shape[-1] == 1:
            array = array[..., 0]
        return cls(np.ascontiguousarray(array), np.array(image.affine, dtype=np.float64))

    def to_nibabel(self) -> Nifti1Image:
        """The same as a NIfTI image of nibabel, in mm; bool becomes uint8, float16 becomes float32.

        Examples:
            >>> import numpy as np
            >>> import fvv
            >>> fvv.Volume(np.zeros((4, 4, 2), bool), np.eye(4)).to_nibabel().get_data_dtype()
            dtype('uint8')
        """
        kind = {"bool": np.uint8, "float16": np.float32}.get(self.array.dtype.name, self.array.dtype)
        image = Nifti1Image(self.array.astype(kind), self.affine, dtype=kind)
        image.header.set_xyzt_units("mm")
        return image

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths along i, j, k."""
        i, j, k = voxel_sizes(self.affine).tolist()
        return i, j, k

    @property
    def voxel_volume_ml(self) -> float:
        """Product of the three edge lengths, in mL."""
        return float(np.prod(self.spacing_mm)) / 1000.0


@dataclass(frozen=True, slots=True)
class InPlaneGrid:
    """The invertible way from the native grid to the working grid (256 x 256, slices untouched).

    Attributes:
        native_shape: (i, j, k) of the input files.
        native_affine: (4, 4) affine of the input files, voxel to RAS+ mm.
        orientation: how the stored axes are reordered and flipped first; identity for the usual axial image.
        scale: in-plane zoom applied to every slice (1.0 where none).
        size: edge of the working grid in voxels.
    """

    native_shape: tuple[int, int, int]
    native_affine: Affine
    orientation: Orientation
    scale: float
    size: int = 256

    @property
    def oriented_shape(self) -> tuple[int, int, int]:
        """Shape after reorientation, before scaling."""
        shape = [0, 0, 0]
        for stored_axis, (axis, _) in enumerate(self.orientation):
            shape[axis] = self.native_shape[stored_axis]
        return shape[0], shape[1], shape[2]

    @property
    def scaled_shape(self) -> tuple[int, int, int]:
        """Shape after scaling, before padding or cropping (scikit-image's rounding)."""
        nx, ny, nz = self.oriented_shape
        if self.scale == 1.0:
            return nx, ny, nz
        return int(np.round(nx * self.scale)), int(np.round(ny * self.scale)), nz

    @property
    def working_shape(self) -> tuple[int, int, int]:
        """(size, size, slices)."""
        return self.size, self.size, self.oriented_shape[2]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edges of the working grid."""
        dx, dy, dz = self._oriented_spacing_mm
        return dx / self.scale, dy / self.scale, dz

    @property
    def _oriented_spacing_mm(self) -> tuple[float, float, float]:
        native = voxel_sizes(self.native_affine)
        oriented = [0.0, 0.0, 0.0]
        for stored_axis, (axis, _) in enumerate(self.orientation):
            oriented[axis] = float(native[stored_axis])
        return oriented[0], oriented[1], oriented[2]

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one working-grid voxel, mL: (dx dy dz) / 1000 / scale^2."""
        dx, dy, dz = self._oriented_spacing_mm  # In one order however stored: products differ in their last digit.
        return float(dx * dy * dz / 1000.0 / self.scale**2)
