"""Volumes to and from nibabel."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from fvv.data import Volume
from fvv.errors import GeometryError

AFFINE = np.array([[2.0, 0, 0, -30], [0, 2, 0, 5], [0, 0, 5, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.float32, np.float64, bool, np.float16])
def test_there_and_back(kind: type, rng: np.random.Generator) -> None:
    array = rng.integers(0, 2, (5, 4, 3)).astype(kind)
    image = Volume(array, AFFINE).to_nibabel()
    assert image.header.get_xyzt_units()[0] == "mm"
    again = Volume.from_nibabel(nib.Nifti1Image.from_bytes(image.to_bytes()))
    np.testing.assert_array_equal(again.array, array.astype(float))
    np.testing.assert_array_equal(again.affine, AFFINE)
    assert again.array.flags.c_contiguous


def test_scaling_is_applied() -> None:
    image = nib.Nifti1Image(np.full((3, 3, 3, 1), 7, np.int16), AFFINE)
    image.header.set_slope_inter(2.0, 1.0)
    opened = nib.Nifti1Image.from_bytes(image.to_bytes())
    opened.header["scl_slope"], opened.header["scl_inter"] = 2.0, 1.0
    assert Volume.from_nibabel(opened).array.shape == (3, 3, 3)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (nib.Nifti1Image(np.zeros((2, 2, 2, 2)), AFFINE), "3D"),
        (nib.Nifti1Image(np.zeros((2, 2, 2), np.complex64), AFFINE), "numbers"),
        (nib.Nifti1Image(np.zeros((2, 2, 2)), None), "affine|singular"),
        (nib.GiftiImage(), "GiftiImage"),
    ],
)
def test_what_is_no_volume_is_refused(image: object, said: str) -> None:
    with pytest.raises(GeometryError, match=said):
        Volume.from_nibabel(image)  # type: ignore[arg-type]
