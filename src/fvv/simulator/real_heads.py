"""Real healthy heads: who they are, their images, and where they lie in the atlas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from fvv.arrays import Affine, BoolArray, FloatArray
from fvv.cohort.participants import read_participants
from fvv.config import PreprocessConfig
from fvv.data import Participant, Volume
from fvv.errors import FvvError, MaskError
from fvv.imaging.brain import robust_mask
from fvv.io.case import case_files, hash_files, read_case
from fvv.protocol import TARGET_B
from fvv.simulator.anatomy import HeadModel, average_head
from fvv.simulator.registration import fit_to_atlas
from fvv.system.fingerprint import fingerprint

FLUID_ADC_MM2_S = 1.7e-3
"""A voxel of the brain whose ADC is higher holds mostly CSF (chosen here)."""


@dataclass(frozen=True, slots=True)
class RealHead:
    """A healthy person's images, and where they lie in the atlas; arrays (i, j, k) on one grid.

    Attributes:
        examination_id: name of its folder.
        person_id: who it is.
        b0, b1000: float64, as read.
        brain: bool mask.
        affine: (4, 4), voxel to RAS+ mm.
        to_atlas: (4, 4), RAS+ mm to atlas mm.
        noise: standard deviation of b0's and b1000's noise.
        b_s_mm2: of b1000.
        site: where it was scanned, or nothing.
    """

    examination_id: str
    person_id: str
    b0: FloatArray
    b1000: FloatArray
    brain: BoolArray
    affine: Affine
    to_atlas: Affine
    noise: tuple[float, float]
    b_s_mm2: float = TARGET_B
    site: str = ""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edges along i, j, k."""
        return Volume(self.b0, self.affine).spacing_mm

    @property
    def atlas_share(self) -> float:
        """Atlas volume over the person's volume."""
        return float(abs(np.linalg.det(self.to_atlas[:3, :3])))


def heads_digest(folder: Path) -> str:
    """One hash of the heads in a folder: who they are, and the contents of their images.

    Raises:
        InputError: no head is there, or participants.tsv cannot be used.
    """
    people = read_participants(folder)
    heads = {name: (one.person_id, one.site, hash_files(case_files(folder / name))) for name, one in people.items()}
    return fingerprint(heads=heads)


def choose_head(people: Mapping[str, Participant], number: int, rng: np.random.Generator) -> Participant:
    """The head of case `number`: persons take turns, and one of their examinations is chosen at random."""
    persons = sorted({one.person_id for one in people.values()})
    person = persons[(number - 1) % len(persons)]
    theirs = [people[name] for name in sorted(people) if people[name].person_id == person]
    return theirs[rng.integers(len(theirs))]


def known_head(folder: Path, person_id: str, site: str) -> RealHead:
    """`load_head` with the average head of the package: as long as its files stay, it is read once in a process."""
    files = [path.stat() for path in case_files(folder)]
    return _known_head(folder, person_id, site, tuple((file.st_mtime_ns, file.st_size) for file in files))


@lru_cache(maxsize=16)
def _known_head(folder: Path, person_id: str, site: str, _files: tuple[tuple[int, int], ...]) -> RealHead:
    return load_head(folder, person_id, average_head(), site=site)


def load_head(folder: Path, person_id: str, model: HeadModel, *, site: str = "") -> RealHead:
    """Read a healthy head and find its place in the atlas.

    Args:
        folder: b0, b1000 and perhaps mask, `.nii.gz` or `.nii`.
        person_id: who it is.
        model: the average head.
        site: where it was scanned.

    Raises:
        FvvError: unreadable images, no brain found, or the brain does not fit into the atlas.
    """
    case = read_case(folder, PreprocessConfig(), labelled=False, finite=True)
    try:
        b0, b1000 = case.b0.array, case.b1000.array
        brain = robust_mask(b0, b1000) if case.mask is None else case.mask.array.astype(bool)
        if not brain.any():
            raise MaskError("no brain found", hint="add mask.nii.gz")
        b_s_mm2 = case.b_value or TARGET_B
        fluid = brain & (b1000 < b0 * np.exp(-b_s_mm2 * FLUID_ADC_MM2_S))
        to_atlas = fit_to_atlas(brain, fluid, case.b0.affine, model)
        noise = noise_level(b0, brain), noise_level(b1000, brain)
        return RealHead(folder.name, person_id, b0, b1000, brain, case.b0.affine, to_atlas, noise, b_s_mm2, site)
    except FvvError as error:
        raise error.for_examination(folder.name) from error


def noise_level(image: FloatArray, brain: BoolArray) -> float:
    """Standard deviation of the noise in the brain, by the in-plane Laplacian of Immerkaer 1996 (doi
    10.1006/cviu.1996.0060); the median instead of the mean, so that edges do not count.

    Args:
        image: (i, j, k); noise is taken to be independent between voxels, which zero-filling makes it not: too little
            is found then.
        brain: (i, j, k), where to look.
    """
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])[:, :, None]
    response = np.abs(ndimage.convolve(image, kernel)[brain])
    return float(np.median(response) / 0.6745 / 6.0)
