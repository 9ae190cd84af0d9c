"""What the page's viewer shows is where it was, small, and chosen as said."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from importlib.resources import files

import numpy as np
import pytest

from builders import ellipsoid
from cohorts import patient
from fvv.analysis.viewer import LARGEST_EDGE, library, library_licence, patients_to_view, viewer_volumes
from fvv.data import Channel


def scan(
    shape: tuple[int, int, int], affine: np.ndarray, slice_axis: int = 2
) -> tuple[dict, dict[Channel, np.ndarray]]:
    middle = tuple(n / 2 for n in shape)
    brain = ellipsoid(shape, middle, tuple(0.4 * n for n in shape))
    stroke = ellipsoid(shape, tuple(0.6 * n for n in shape), tuple(0.12 * n + 1 for n in shape)) & brain
    masks = dict(zip(Channel, (brain, stroke, stroke & (np.indices(shape)[0] > 0.6 * shape[0])), strict=True))
    grey = np.where(brain, 120, 0).astype(np.uint8)
    return viewer_volumes(grey, affine, masks, masks, slice_axis=slice_axis), masks


def centre_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ np.array([axis.mean() for axis in np.nonzero(mask)]) + affine[:3, 3]


@pytest.mark.parametrize(("shape", "slice_axis"), [((60, 70, 9), 2), ((400, 360, 5), 2), ((350, 6, 380), 1)])
def test_every_mask_stays_where_it_was(shape, slice_axis):
    affine = np.array([[-0.7, 0.02, 0, 90], [0.02, 0.8, 0.1, -100], [0, -0.05, 0.9, -20], [0, 0, 0, 1]])
    volumes, masks = scan(shape, affine, slice_axis)
    assert volumes["b1000"].array.shape[slice_axis] <= shape[slice_axis]
    for name in ("reference", "predicted"):
        volume = volumes[name]
        assert volume.array.dtype == np.uint8
        assert max(volume.array.shape) <= LARGEST_EDGE
        for channel in Channel:
            coarse = volume.array >> channel.value & 1 > 0
            assert centre_mm(coarse, volume.affine) == pytest.approx(centre_mm(masks[channel], affine), abs=1.0)
            ml = coarse.sum() * volume.voxel_volume_ml
            assert ml == pytest.approx(masks[channel].sum() * abs(np.linalg.det(affine[:3, :3])) / 1000, rel=0.1)


def test_small_images_keep_every_voxel_and_nothing_marked_keeps_the_whole_image():
    volumes, masks = scan((60, 70, 9), np.diag([3.0, 3.0, 6.0, 1.0]))
    assert (volumes["reference"].array >> 1 & 1).sum() == masks[Channel.STROKE].sum()
    nothing = dict.fromkeys(Channel, np.zeros((60, 70, 9), dtype=bool))
    empty = viewer_volumes(np.zeros((60, 70, 9), np.uint8), np.eye(4), nothing, nothing, slice_axis=2)
    assert empty["b1000"].array.shape == (60, 70, 9)


def test_of_many_patients_some_from_the_worst_to_the_best_are_viewed():
    patients = [patient(f"p{n:02}", found=10 * (n + 1)) for n in range(9)] + [patient("none", lesion=0, found=0)]
    assert patients_to_view(patients, 24) == [*(f"p{n:02}" for n in range(9)), "none"]
    chosen = patients_to_view(patients, 4)
    assert len(chosen) == 4
    assert (chosen[0], chosen[-1]) == ("p00", "none")
    assert patients_to_view(patients, 0) == []


def test_the_library_is_the_file_that_its_note_names_and_comes_with_its_licence():
    content = gzip.decompress(base64.b64decode(library()))
    note = (files("fvv.analysis") / "niivue" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(content).hexdigest() == re.search(r"[0-9a-f]{64}", note)[0]
    assert "BSD 2-Clause" in library_licence()
    assert b"Niivue" in content
