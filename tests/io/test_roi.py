"""Masks whose values, or whose grid, are not what they should be: read as meant, or refused, never an empty mask."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, SHAPE, case_of, ellipsoid, head, save, write_patient
from fvv.config import PROFILES, PreprocessConfig, PreprocessingProfile
from fvv.data import Case, Volume
from fvv.errors import GeometryError, InputError, MaskError
from fvv.imaging.geometry import same_grid
from fvv.io.case import read_case
from fvv.io.mask_command import with_commanded_mask
from fvv.io.roi import read_roi

B1000 = Volume(np.zeros(SHAPE), AFFINE)
DRAWN = ellipsoid(SHAPE, (22.0, 33.0, 5.0), (5.0, 6.0, 1.6))


def read(path: Path, *, resample: bool = False) -> tuple[np.ndarray, str]:
    roi, notes = read_roi(path, B1000, resample=resample)
    return roi.array, "; ".join(notes)


def written(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine, dtype=array.dtype), path)
    return path


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (DRAWN.astype(np.uint8), ""),
        (DRAWN.astype(np.uint8) * 255, "used where over 0.5"),
        ((DRAWN.astype(np.uint8) * 255).view(np.int8), "values 0 and -1): used where not 0"),
        (DRAWN.astype(np.float32) / 255, "used where not 0"),
        (DRAWN * np.float32(0.9), "used where over 0.5"),
        (DRAWN.astype(np.float32) * 0.4, "values 0 and 0.4): used where not 0"),
    ],
)
def test_values_are_read_as_meant(tmp_path: Path, array: np.ndarray, said: str) -> None:
    found, notes = read(written(tmp_path / "roi.nii.gz", array))
    np.testing.assert_array_equal(found, DRAWN)
    assert said in notes
    assert bool(notes) is bool(said)


def test_an_empty_mask_is_empty(tmp_path: Path) -> None:
    found, notes = read(written(tmp_path / "roi.nii.gz", np.zeros(SHAPE, np.uint8)))
    assert not found.any()
    assert not notes


@pytest.mark.parametrize(
    "array",
    [
        DRAWN * np.linspace(0.1, 0.45, SHAPE[2], dtype=np.float32),
        DRAWN.astype(np.int8) - 3,
        np.full(SHAPE, -1, np.int8),
    ],
)
def test_values_that_are_no_mask_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"roi\.nii\.gz: no mask: .* none over 0\.5"):
        read(written(tmp_path / "roi.nii.gz", array))


def test_resampling_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    far = AFFINE.copy()
    far[:3, 3] = 500
    path = written(tmp_path / "roi.nii.gz", DRAWN.astype(np.uint8), far)
    with pytest.raises(GeometryError, match=r"apart.*--resample-rois"):
        read(path)
    with pytest.raises(GeometryError, match="nothing is left of its"):
        read(path, resample=True)


def test_resampling_that_loses_much_is_said(tmp_path: Path) -> None:
    shifted = AFFINE.copy()
    shifted[2, 3] = -55
    found, notes = read(written(tmp_path / "roi.nii.gz", DRAWN.astype(np.uint8), shifted), resample=True)
    assert 0 < found.sum() < DRAWN.sum()
    assert "mL became" in notes


def test_the_same_voxels_in_another_order_are_reordered(tmp_path: Path) -> None:
    image = nib.Nifti1Image(DRAWN.astype(np.uint8), AFFINE)
    turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "roi.nii.gz")
    found, notes = read(tmp_path / "roi.nii.gz")
    np.testing.assert_array_equal(found, DRAWN)
    assert "order of axes" in notes


@pytest.mark.parametrize(("moved_mm", "same"), [(0.0015, True), (0.3, True), (0.5, False), (4.0, False)])
def test_a_tenth_of_a_voxel_is_one_place(moved_mm: float, same: bool) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += moved_mm
    assert same_grid(Volume(np.zeros(SHAPE), moved), B1000) is same


def test_q_forms_alone_of_one_acquisition_share_a_grid(tmp_path: Path, rng: np.random.Generator) -> None:
    """Two files that differ by the rounding of their quaternions."""
    write_patient(tmp_path / "p", rng, mask=False)
    for name, turned in (("b0", 1e-6), ("b1000", 0.0)):
        image = nib.load(tmp_path / "p" / f"{name}.nii.gz")
        out = nib.Nifti1Image(np.asarray(image.dataobj), None)
        affine = AFFINE.copy()
        affine[:3, :3] = [[1, -turned, 0], [turned, 1, 0], [0, 0, 1]] @ affine[:3, :3]
        affine[0, 3] += 1.5e-3
        out.set_qform(affine, 1)
        nib.save(out, tmp_path / "p" / f"{name}.nii.gz")
    assert read_case(tmp_path / "p", PreprocessConfig(), labelled=False).notes == ()


def commanding(script: Path) -> PreprocessingProfile:
    command = f"{sys.executable} {script} {{b0}} {{mask}}"
    return PROFILES["robust-v3"].model_copy(update={"mask_method": "command", "mask_command": command})


TOOL = """
import sys, nibabel as nib, numpy as np
image = nib.load(sys.argv[1])
mask, affine = (image.get_fdata() > 250).astype(np.{dtype}) * {value}, image.affine
{change}
nib.save(nib.Nifti1Image(mask, affine), sys.argv[2])
"""


def bare(rng: np.random.Generator) -> Case:
    return replace(case_of(head(rng)), mask=None)


def tool(folder: Path, change: str = "", dtype: str = "uint8", value: int = 1) -> PreprocessingProfile:
    script = folder / "tool.py"
    script.write_text(TOOL.format(change=change, dtype=dtype, value=value))
    return commanding(script)


def test_an_outside_mask_that_lies_elsewhere_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    profile = tool(tmp_path, "affine[0, 3] += 40")
    with pytest.raises(GeometryError, match=r"patient p.*the mask command's output: not on the grid.*40 mm apart"):
        with_commanded_mask(bare(rng), profile)
    moved = with_commanded_mask(bare(rng), profile, resample=True)
    assert moved.mask is not None
    assert "resampled" in moved.notes[-1]


def test_an_outside_mask_in_another_order_is_turned_back(tmp_path: Path, rng: np.random.Generator) -> None:
    change = "turned = nib.as_closest_canonical(nib.Nifti1Image(mask, affine)).as_reoriented("
    change += "np.array([[0, -1], [2, 1], [1, -1]])); mask, affine = np.asarray(turned.dataobj), turned.affine"
    case = with_commanded_mask(bare(rng), tool(tmp_path, change))
    assert case.mask is not None
    np.testing.assert_array_equal(case.mask.array, case.b0.array > 250)


def test_an_outside_tool_may_print_anything(tmp_path: Path, rng: np.random.Generator) -> None:
    noise = "sys.stdout.buffer.write(b'\\xff\\xfe'); sys.stderr.buffer.write(b'\\xe9 \\x1b[31mred\\x07')"
    assert with_commanded_mask(bare(rng), tool(tmp_path, noise)).mask is not None
    with pytest.raises(MaskError) as caught:
        with_commanded_mask(bare(rng), tool(tmp_path, f"{noise}; sys.exit(3)"))
    assert "ended with 3" in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_outside_mask_of_signed_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    case = with_commanded_mask(bare(rng), tool(tmp_path, dtype="int8", value=-1))
    assert case.mask is not None
    np.testing.assert_array_equal(case.mask.array, case.b0.array > 250)


def test_a_patient_with_a_faint_roi_is_not_without_lesion(tmp_path: Path, rng: np.random.Generator) -> None:
    images = write_patient(tmp_path / "p", rng)
    save(tmp_path / "p" / "stroke_roi.nii.gz", images["stroke_roi"] / 255.0)
    case = read_case(tmp_path / "p", PreprocessConfig(), labelled=True)
    assert case.stroke_roi is not None
    np.testing.assert_array_equal(case.stroke_roi.array, images["stroke_roi"])
