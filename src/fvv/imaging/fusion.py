"""From the masks of n models to one answer (the reference pipeline's rule)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fvv.arrays import BoolArray, UInt8Array
from fvv.data import Channel, Finding, FusedSegmentation, InPlaneGrid
from fvv.imaging.brain import largest_component
from fvv.imaging.geometry import restore_to_native

StrokeFilter = Callable[[BoolArray, BoolArray], tuple[BoolArray, tuple[Finding, ...]]]
"""From a fused stroke and a fused brain to the voxels of the stroke that stay, and what is to be said of it."""
VisibleFilter = Callable[[BoolArray, BoolArray, UInt8Array, int], tuple[BoolArray, tuple[Finding, ...]]]
"""From that stroke, the brain, the models' votes for FLAIR-visible in the stroke and the number of models to the voxels
of the stroke in which FLAIR-visible counts, and what is to be said of it."""


def fuse_folds(
    masks: Iterable[BoolArray], keep: StrokeFilter | None = None, keep_visible: VisibleFilter | None = None
) -> FusedSegmentation:
    """Fuse what n models predict, one model in memory at a time.

    Brain: each model's largest component, then the voxels that at least half of the models call brain. Stroke: what at
    least half call stroke, within that brain. FLAIR-visible voxels: the mean over models of those inside that stroke,
    where they count.

    Args:
        masks: of each model (3, i, j, k) bool, channels in `Channel` order; at least one.
        keep: what stays of the fused stroke, called once, after the last model; the FLAIR-visible voxels are counted in
            what is left.
        keep_visible: in which part of that they are counted.
    """
    brain_votes = stroke_votes = np.zeros((), dtype=np.uint8)
    packed: list[UInt8Array] = []  # One bit a voxel: the stroke they are cut to is known only after the last model.
    for mask in masks:
        brain_votes = brain_votes + largest_component(mask[Channel.BRAIN.value])
        stroke_votes = stroke_votes + mask[Channel.STROKE.value]
        # Slice by slice, as a network gives them: in another order than the memory's it takes fifty times as long.
        packed.append(np.packbits(np.moveaxis(mask[Channel.FLAIR_VISIBLE.value], 2, 0)))
    n = len(packed)
    brain = np.asarray(brain_votes >= n / 2)
    stroke = np.asarray(stroke_votes >= n / 2) & brain
    findings: tuple[Finding, ...] = ()
    if keep is not None:
        stroke, findings = keep(stroke, brain)
    votes, per_model = _visible(packed, stroke)
    if keep_visible is not None:
        counted, more = keep_visible(stroke, brain, votes, n)
        findings = (*findings, *more)
        if not np.array_equal(counted, stroke):
            votes, per_model = _visible(packed, counted)
    return FusedSegmentation(
        n_models=n,
        brain=brain,
        stroke=stroke,
        flair_visible_votes=votes,
        flair_visible_voxels=sum(per_model) / n,
        flair_visible_voxels_per_model=per_model,
        findings=findings,
        stroke_votes=np.where(stroke, stroke_votes, 0).astype(np.uint8),
    )


def _visible(packed: Sequence[UInt8Array], within: BoolArray) -> tuple[UInt8Array, tuple[int, ...]]:
    """Votes for FLAIR-visible within a mask, and the voxels of each model."""
    i, j, k = within.shape
    votes, per_model = np.zeros_like(within, dtype=np.uint8), []
    for bits in packed:
        slices = np.unpackbits(bits, count=within.size).view(bool).reshape(k, i, j)
        visible = np.moveaxis(slices, 0, 2) & within
        votes += visible
        per_model.append(int(visible.sum()))
    return votes, tuple(per_model)


def restore_segmentation(
    fused: FusedSegmentation, grid: InPlaneGrid, *, as_reference: bool = False
) -> tuple[BoolArray, BoolArray, UInt8Array]:
    """Bring a fused segmentation back to the native grid.

    Masks go back by nearest neighbour, votes linearly: at the stroke's edge the two differ by up to a voxel. No vote
    lies outside the stroke on the working grid, so what the interpolation spills over the native edge is set to 0.

    Args:
        fused: on the working grid.
        grid: of the case.
        as_reference: keep the votes that spill over, as the reference pipeline does (profile `reference-v1`).

    Returns:
        (i, j, k) on the native grid: brain bool, stroke bool, FLAIR-visible votes uint8 (0..n_models).
    """
    brain, stroke, votes = (
        restore_to_native(mask, grid) for mask in (fused.brain, fused.stroke, fused.flair_visible_votes)
    )
    if not as_reference:
        votes = np.where(stroke, votes, 0).astype(votes.dtype)
    return brain, stroke, votes


def channel_masks(brain: BoolArray, stroke: BoolArray, votes: UInt8Array, n_models: int) -> dict[Channel, BoolArray]:
    """What `restore_segmentation` gives, as one mask for each channel; FLAIR-visible lies within the stroke."""
    visible = visible_to_half(votes, n_models) & stroke
    return {Channel.BRAIN: brain, Channel.STROKE: stroke, Channel.FLAIR_VISIBLE: visible}


def visible_to_half(votes: UInt8Array, n_models: int) -> BoolArray:
    """FLAIR-visible as one mask: to at least half of the models, and to one.

    Votes go to the native grid before this, not the mask after: they are interpolated (`restore_to_native`).

    Args:
        votes: (i, j, k) uint8, models that call a voxel FLAIR-visible; on either grid.
        n_models: how many were asked.
    """
    return np.asarray((votes > 0) & (2 * votes.astype(int) >= n_models))
