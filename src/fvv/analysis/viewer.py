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
from fvv.data import Channel, Prediction, Volume
from fvv.imaging.fusion import channel_masks
from fvv.schemas.patient import PatientResult

LARGEST_EDGE = 160
"""In-plane voxels of a volume in the page; finer images are averaged by a whole factor."""
LARGEST_PREDICTED = 384
"""The same for a prediction: every voxel of the usual matrices (chosen here)."""
PAGE_FRAMES = ("b1000", "ADC", "b0", "masks")
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
    factors, coarse_affine = _coarsened(window, affine, slice_axis, LARGEST_EDGE)
    images = {"b1000": _grey(grey[window], factors)}
    for name, masks in (("reference", reference), ("predicted", predicted)):
        images[name] = _codes(masks, window, factors)
    return {name: Volume(array, coarse_affine) for name, array in images.items()}


def page_volume(
    images: Mapping[str, UInt8Array], affine: Affine, prediction: Prediction, *, slice_axis: int
) -> tuple[UInt8Array, Affine]:
    """What the page's viewer shows of one prediction, cut in plane to the brain.

    Args:
        images: (i, j, k) grey levels by name, from `reader_images`.
        affine: (4, 4) voxel to RAS+ mm.
        prediction: masks on the same grid; none where nothing was measured.
        slice_axis: axis across which the slices are stacked. In plane, images of more than `LARGEST_PREDICTED` voxels
            are averaged by a whole factor.

    Returns:
        (i, j, k, frame) uint8 in the order of `PAGE_FRAMES`: b1000, ADC (0 where there is none), b0, and the masks as 1
        for brain + 2 for stroke + 4 for FLAIR-visible; and its affine.
    """
    zero = np.zeros_like(images["b1000"])
    masks = dict.fromkeys(Channel, zero.astype(bool))
    if prediction.brain is not None and prediction.stroke is not None and prediction.flair_visible_votes is not None:
        votes, n_models = prediction.flair_visible_votes, prediction.n_models
        masks = channel_masks(prediction.brain, prediction.stroke, votes, n_models)
    # All slices stay: their numbers are those of the table.
    window = tuple(
        slice(0, zero.shape[axis]) if axis == slice_axis else part
        for axis, part in enumerate(_window(masks[Channel.BRAIN], affine))
    )
    factors, coarse_affine = _coarsened(window, affine, slice_axis, LARGEST_PREDICTED)
    frames = [_grey(images.get(name, zero)[window], factors) for name in PAGE_FRAMES[:-1]]
    return np.stack([*frames, _codes(masks, window, factors)], axis=-1), coarse_affine


def _coarsened(window: tuple[slice, ...], affine: Affine, slice_axis: int, largest: int) -> tuple[list[int], Affine]:
    """By which whole factor each axis of a part of the image is coarsened, and the affine of what that gives."""
    factors = [1 if axis == slice_axis else -(-(part.stop - part.start) // largest) for axis, part in enumerate(window)]
    # A coarse voxel's centre is the mean of the centres of those it stands for.
    place = np.diag([*factors, 1.0])
    place[:3, 3] = np.array([part.start for part in window]) + (np.array(factors) - 1) / 2
    return factors, np.asarray(affine @ place)


def _codes(masks: Mapping[Channel, BoolArray], window: tuple[slice, ...], factors: Sequence[int]) -> UInt8Array:
    """1 for brain + 2 for stroke + 4 for FLAIR-visible; uint8."""
    parts = [_mask(masks[one][window], factors).astype(np.uint8) << one.value for one in Channel]
    return np.asarray(sum(parts), dtype=np.uint8)


def _grey(image: UInt8Array, factors: Sequence[int]) -> UInt8Array:
    """Grey levels, averaged over blocks."""
    return image if set(factors) == {1} else np.rint(_blocks(image, factors)).astype(np.uint8)


def _mask(mask: BoolArray, factors: Sequence[int]) -> BoolArray:
    """Blocks of which half or more is in the mask."""
    return mask if set(factors) == {1} else np.asarray(_blocks(mask, factors) >= 0.5)


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
