"""From the masks of n models to one answer (the reference pipeline's rule)."""

from __future__ import annotations

import numpy as np

from fvv.arrays import BoolArray
from fvv.data import Channel, FusedSegmentation
from fvv.imaging.brain import largest_component


def fuse_folds(masks: BoolArray) -> FusedSegmentation:
    """Fuse what n models marked (logit > 0).

    Brain: each model's largest component, then the voxels that at least half of the models call brain. Stroke: what at
    least half call stroke, within that brain. FLAIR-visible voxels: the mean over models of those inside that stroke.

    Args:
        masks: (n, 3, i, j, k) bool, channels in `Channel` order.
    """
    n = masks.shape[0]
    brain_votes = sum(largest_component(mask).astype(np.uint8) for mask in masks[:, Channel.BRAIN.value])
    brain = np.asarray(brain_votes >= n / 2)
    stroke = (masks[:, Channel.STROKE.value].sum(axis=0) >= n / 2) & brain
    visible = masks[:, Channel.FLAIR_VISIBLE.value] & stroke
    per_model = tuple(int(mask.sum()) for mask in visible)
    return FusedSegmentation(
        n_models=n,
        brain=brain,
        stroke=stroke,
        flair_visible_votes=visible.sum(axis=0, dtype=np.uint8),
        flair_visible_voxels=sum(per_model) / n,
        flair_visible_voxels_per_model=per_model,
    )
