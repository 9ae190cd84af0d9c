"""Examinations on which the page's engine must answer as Python does, made of simulated patients."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from fvv.config import PreprocessConfig, SimulateConfig
from fvv.imaging.adc import adc_map
from fvv.io.case import read_case
from fvv.stages.simulate import simulate

SEED, CASES = 4711, 10


@dataclass(frozen=True)
class Images:
    """What is written: (i, j, k) or (i, j, k, volume) arrays, and how."""

    b0: np.ndarray
    b1000: np.ndarray
    affine: np.ndarray
    bval: str = ""
    dtype: type = np.float32
    suffix: str = ".nii.gz"
    header: Callable[[nib.Nifti1Image], nib.Nifti1Image] = lambda image: image
    low: str = "b0"
    """Name of the first image; "adc" for an ADC map."""
    said: float | None = None
    """The b-value that the user states, s/mm^2."""

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        if self.said is not None:
            (folder / "b_value.txt").write_text(str(self.said))
        for name, array in ((self.low, self.b0), ("b1000", self.b1000)):
            image = self.header(nib.Nifti1Image(array.astype(self.dtype), self.affine, dtype=self.dtype))
            nib.save(image, folder / f"{name}{self.suffix}")
            if self.bval:
                (folder / f"{name}.bval").write_text(self.bval)


def base(folder: Path, number: int = 3) -> Images:
    """A simulated patient of 128 x 128 x 22 voxels (number 3)."""
    simulate(folder, SimulateConfig(cases=CASES, only=number, seed=SEED))
    case = read_case(folder / f"sim_{number:04d}", PreprocessConfig(), labelled=False)
    return Images(case.b0.array, case.b1000.array, case.b1000.affine, dtype=np.int16)


def stored_as(axes: str) -> Callable[[Images], Images]:
    """The same head with its axes in another order."""

    def store(of: Images) -> Images:
        start = nib.orientations.io_orientation(of.affine)
        way = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(axes))
        b0, b1000 = (nib.orientations.apply_orientation(array, way) for array in (of.b0, of.b1000))
        return replace(of, b0=b0, b1000=b1000, affine=of.affine @ nib.orientations.inv_ornt_aff(way, of.b0.shape))

    return store


def in_matrix(ni: int, nj: int) -> Callable[[Images], Images]:
    """The same head in another in-plane matrix."""

    def resample(of: Images) -> Images:
        factors = ni / of.b0.shape[0], nj / of.b0.shape[1], 1.0
        b0, b1000 = (
            np.maximum(ndimage.zoom(array, factors, order=1, mode="nearest", grid_mode=True), 0)
            for array in (of.b0, of.b1000)
        )
        scale = np.diag([1 / factors[0], 1 / factors[1], 1.0, 1.0])
        scale[:2, 3] = [(1 / factors[0] - 1) / 2, (1 / factors[1] - 1) / 2]
        return replace(of, b0=b0, b1000=b1000, affine=of.affine @ scale, dtype=np.float32)

    return resample


def images(rule: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Callable[[Images], Images]:
    """Other values in the same voxels."""

    def change(of: Images) -> Images:
        b0, b1000 = rule(of.b0.copy(), of.b1000.copy())
        return replace(of, b0=b0, b1000=b1000, dtype=np.float32)

    return change


def with_edges(i: float, j: float, k: float) -> Callable[[Images], Images]:
    """Other voxel edges, times those there are."""
    return lambda of: replace(of, affine=of.affine @ np.diag([i, j, k, 1.0]))


def _set(array: np.ndarray, where: object, value: float) -> np.ndarray:
    array[where] = value
    return array


def _noise(array: np.ndarray, deviation: float) -> np.ndarray:
    return np.hypot(array + np.random.default_rng(1).normal(0, deviation, array.shape), 0)


def _blank(k: int) -> Callable[[Images], Images]:
    return images(lambda b0, b1000: (_set(b0, np.s_[..., k], 0), _set(b1000, np.s_[..., k], 0)))


def _four_dimensional(of: Images) -> Images:
    """Two b0 and three directions of b1000 in one file, which is both."""
    rng = np.random.default_rng(2)
    volumes = [of.b0 * 1.01, of.b0 * 0.99, *(of.b1000 * factor for factor in (0.9, 1.0, 1.1))]
    together = np.stack([np.maximum(volume + rng.normal(0, 2, volume.shape), 0) for volume in volumes], axis=3)
    return replace(of, b0=together, b1000=together, bval="0 5 995 1000 1005", dtype=np.float32)


def with_adc(scale: float, b_value: float | None = None) -> Callable[[Images], Images]:
    """The ADC map instead of b0, in mm^2/s times a scale."""

    def change(of: Images) -> Images:
        adc = np.nan_to_num(adc_map(of.b0, of.b1000, b_value or 1000.0)) * scale
        return replace(of, b0=adc, low="adc", said=b_value, dtype=np.float32)

    return change


def _one_line_motion(b0: np.ndarray, b1000: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved = [np.roll(b1000[..., k], 4 * (k % 2), axis=1) for k in range(b1000.shape[2])]
    return b0, np.stack(moved, axis=2)


def _patch(array: np.ndarray, value: float) -> np.ndarray:
    middle = [n // 2 for n in array.shape]
    return _set(array, np.s_[middle[0] : middle[0] + 12, middle[1] : middle[1] + 12, middle[2]], value)


def _big_endian(image: nib.Nifti1Image) -> nib.Nifti1Image:
    header = image.header.as_byteswapped(">")
    return nib.Nifti1Image(np.asarray(image.dataobj), image.affine, header)


def _scaled(image: nib.Nifti1Image) -> nib.Nifti1Image:
    image.header.set_data_dtype(np.int16)
    return nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float64) * 0.37 - 5, image.affine, image.header)


def _second_kind(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti2Image(np.asarray(image.dataobj), image.affine)


def _forms(qform: int, sform: int) -> Callable[[nib.Nifti1Image], nib.Nifti1Image]:
    def code(image: nib.Nifti1Image) -> nib.Nifti1Image:
        image.set_qform(image.affine, qform)
        image.set_sform(image.affine if sform else None, sform)
        return image

    return code


def _turned(degrees: float) -> Callable[[Images], Images]:
    """The affine of a tilted head."""
    a = np.deg2rad(degrees)
    tilt = np.array([[1, 0, 0, 0], [0, np.cos(a), -np.sin(a), 0], [0, np.sin(a), np.cos(a), 0], [0, 0, 0, 1]])
    return lambda of: replace(of, affine=tilt @ of.affine)


FAST: dict[str, Callable[[Images], Images]] = {
    "as_simulated": lambda of: of,
    "stored_psr": stored_as("PSR"),
    "matrix_320x260": in_matrix(320, 260),
    "four_dimensional": _four_dimensional,
    "swapped": lambda of: replace(of, b0=of.b1000, b1000=of.b0),
    "no_numbers_patch": images(lambda b0, b1000: (b0, _patch(b1000, np.nan))),
    "slices_18_mm_apart": with_edges(1, 1, 3),
    "missing_slice": _blank(9),
    "adc_as_b1000": images(lambda b0, b1000: (b0, np.nan_to_num(adc_map(b0, b1000, 1000.0)) * 1e6)),
    "b_3000": lambda of: replace(of, bval="3000"),
    "adc_instead_of_b0": with_adc(1e6),
    "adc_at_b_2000_as_stated": with_adc(1e3, 2000.0),
}
"""What every change is tried on."""

MORE: dict[str, Callable[[Images], Images]] = {
    **{f"stored_{axes.lower()}": stored_as(axes) for axes in ("RAS", "LPS", "RPI", "SAL", "ASR")},
    **{f"matrix_{n}x{m}": in_matrix(n, m) for n, m in ((96, 96), (192, 168), (245, 251), (256, 256), (288, 288))},
    "tilted_30": _turned(30),
    "tilted_50": _turned(50),
    "big_endian": lambda of: replace(of, header=_big_endian),
    "scaled_integers": lambda of: replace(of, header=_scaled, dtype=np.float32),
    "nifti_2": lambda of: replace(of, header=_second_kind),
    "q_form_alone": lambda of: replace(of, header=_forms(1, 0)),
    "not_compressed_uint16": lambda of: replace(of, suffix=".nii", dtype=np.uint16),
    "no_forms": lambda of: replace(of, header=_forms(0, 0)),
    "b_2000": lambda of: replace(of, bval="2000"),
    "b_600": lambda of: replace(of, bval="600"),
    "b_300": lambda of: replace(of, bval="300"),
    "b_600_as_stated": lambda of: replace(of, said=600.0),
    "b_1000_but_900_stated": lambda of: replace(of, bval="1000", said=900.0),
    "adc_in_square_millimetres": with_adc(1.0),
    "adc_of_no_unit": with_adc(7.0),
    "adc_on_another_grid": lambda of: replace(with_adc(1e6)(of), b0=of.b0[:-1]),
    "scaled_to_one": images(lambda b0, b1000: (b0 / b0.max(), b1000 / b1000.max())),
    "below_zero": images(lambda b0, b1000: (b0 - 1000, b1000 - 1000)),
    "same_image": lambda of: replace(of, b1000=of.b0),
    "empty": images(lambda b0, b1000: (b0 * 0, b1000 * 0)),
    "nothing_finite": images(lambda b0, b1000: (b0 * np.nan, b1000)),
    "some_not_finite": images(lambda b0, b1000: (_set(b0, np.s_[60, 60, 8:10], np.inf), b1000)),
    "eight_levels": images(lambda b0, b1000: (np.round(b0 / b0.max() * 8), np.round(b1000 / b1000.max() * 8))),
    "saturated": images(lambda b0, b1000: (np.minimum(b0, np.percentile(b0, 97)), b1000)),
    "spike": images(lambda b0, b1000: (_patch(b0, 1e6), b1000)),
    "glare": images(lambda b0, b1000: (b0, _patch(b1000, 12 * np.percentile(b1000, 95)))),
    "noise": images(lambda b0, b1000: (b0, _noise(b1000, 0.6 * np.percentile(b1000, 90)))),
    "some_noise": images(lambda b0, b1000: (b0, _noise(b1000, 0.2 * np.percentile(b1000, 90)))),
    "half_size": with_edges(0.5, 0.5, 0.5),
    "one_millimetre": lambda of: replace(of, affine=np.eye(4)),
    "axes_exchanged": images(lambda b0, b1000: (b0.transpose(1, 0, 2), b1000.transpose(1, 0, 2))),
    "upside_down": images(lambda b0, b1000: (b0[..., ::-1], b1000[..., ::-1])),
    "backwards": images(lambda b0, b1000: (b0[:, ::-1], b1000[:, ::-1])),
    "two_slices": images(lambda b0, b1000: (b0[..., 10:12], b1000[..., 10:12])),
    "six_slices": images(lambda b0, b1000: (b0[..., 8:14], b1000[..., 8:14])),
    "thick_in_plane": with_edges(1, 1, 0.15),
    "repeated_slice": images(lambda b0, b1000: tuple(_set(one, np.s_[..., 9], one[..., 8]) for one in (b0, b1000))),
    "cut_by_field_of_view": images(lambda b0, b1000: (b0[36:], b1000[36:])),
    "moved_between": images(lambda b0, b1000: (b0, np.roll(b1000, 4, axis=0))),
    "moving": images(_one_line_motion),
    "dropout": images(lambda b0, b1000: (b0, _set(b1000, np.s_[..., 10], b1000[..., 10] * 0.5))),
    "flair_as_b1000": images(lambda b0, b1000: (b0, b0.max() - b0)),
    "phantom": images(lambda b0, b1000: ((b1000 > 100) * 500.0 + b0 % 7, (b1000 > 100) * 300.0 + b1000 % 5)),
    "other_gain": images(lambda b0, b1000: (b0, b1000 * 4)),
    "other_grid": lambda of: replace(of, b0=of.b0[:-1]),
    "four_dimensional_without_bval": lambda of: replace(_four_dimensional(of), bval=""),
}


def broken_files(folder: Path, of: Images) -> None:
    """Files that no image can be read from, each with one that can."""
    for name in ("text_file", "cut_gzip"):
        of.write(folder / name)
    (folder / "text_file" / "b0.nii.gz").write_bytes(b"b0\n" * 200)
    packed = (folder / "cut_gzip" / "b1000.nii.gz").read_bytes()
    (folder / "cut_gzip" / "b1000.nii.gz").write_bytes(packed[: len(packed) // 2])
    of.write(folder / "cut_image")
    whole = gzip.decompress((folder / "cut_image" / "b0.nii.gz").read_bytes())
    (folder / "cut_image" / "b0.nii.gz").write_bytes(gzip.compress(whole[: len(whole) // 2]))
