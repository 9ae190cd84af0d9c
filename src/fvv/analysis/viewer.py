"""What the page's scrollable viewer shows: b1000 and the masks, small enough to lie inside the page."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files

import nibabel as nib
import numpy as np
from scipy import ndimage

from fvv.arrays import Affine, BoolArray, UInt8Array
from fvv.data import Channel, Volume
from fvv.schemas.patient import PatientResult

LARGEST_EDGE = 160
"""In-plane voxels of a volume in the page; finer images are averaged by a whole factor."""
_MARGIN_MM = 8.0


def viewer_volumes(
    grey: UInt8Array,
    affine: Affine,
    reference: Mapping[Channel, BoolArray],
    predicted: Mapping[Channel, BoolArray],
    *,
    slice_axis: int,
) -> dict[str, Volume]:
    """One patient for the viewer, cut to the brain and coarsened in plane.

    Args:
        grey: (i, j, k) grey levels 0..255.
        affine: (4, 4) voxel to RAS+ mm.
        reference: (i, j, k) bool mask of each channel.
        predicted: the same, predicted.
        slice_axis: axis across which the slices are stacked; it is left as it is.

    Returns:
        `b1000`, and `reference` and `predicted` with 1 for brain + 2 for stroke + 4 for FLAIR-visible; uint8, on one
        grid.
    """
    window = _window(np.any([*reference.values(), *predicted.values()], axis=0), affine)
    factors = [
        1 if axis == slice_axis else -(-(part.stop - part.start) // LARGEST_EDGE) for axis, part in enumerate(window)
    ]
    start = np.array([part.start for part in window], dtype=float)
    # A coarse voxel's centre is the mean of the centres of those it stands for.
    place = np.diag([*factors, 1.0])
    place[:3, 3] = start + (np.array(factors) - 1) / 2
    coarse_affine = affine @ place
    images = {"b1000": np.rint(_blocks(grey[window], factors)).astype(np.uint8)}
    for name, masks in (("reference", reference), ("predicted", predicted)):
        images[name] = sum(
            (_blocks(masks[channel][window], factors) >= 0.5).astype(np.uint8) << channel.value for channel in Channel
        )
    return {name: Volume(array, coarse_affine) for name, array in images.items()}


def _window(shown: BoolArray, affine: Affine) -> tuple[slice, ...]:
    """The box around what is shown, with a margin; everything where there is nothing."""
    box = next(iter(ndimage.find_objects(shown.astype(np.uint8))), tuple(slice(0, n) for n in shown.shape))
    margins = np.ceil(_MARGIN_MM / nib.affines.voxel_sizes(affine)).astype(int)
    return tuple(
        slice(max(part.start - margin, 0), min(part.stop + margin, length))
        for part, margin, length in zip(box, margins.tolist(), shown.shape, strict=True)
    )


def _blocks(array: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Means over blocks of voxels; what does not fill a last block is left out."""
    counts = [n // factor for n, factor in zip(array.shape, factors, strict=True)]
    whole = array[tuple(slice(n * factor) for n, factor in zip(counts, factors, strict=True))]
    blocks = whole.reshape([length for pair in zip(counts, factors, strict=True) for length in pair])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def patients_to_view(patients: Sequence[PatientResult], most: int) -> list[str]:
    """Names of at most so many patients, from the lowest to the highest stroke Dice; undefined ones come last."""
    dice = {patient.examination_id: patient.stroke.dice_coefficient for patient in patients}
    ranked = sorted(dice, key=lambda name: (math.isnan(dice[name]), dice[name], name))
    if len(ranked) <= most:
        return ranked
    places = np.rint(np.linspace(0, len(ranked) - 1, most)).astype(int)
    return [ranked[place] for place in places]


def library() -> str:
    """NiiVue, gzipped, as base64; its licence goes into the page beside it."""
    return base64.b64encode((files("fvv.analysis") / "niivue" / "niivue.umd.js.gz").read_bytes()).decode("ascii")


def library_licence() -> str:
    """Licence of the viewer."""
    return (files("fvv.analysis") / "niivue" / "LICENSE").read_text(encoding="utf-8")
