"""Individual heads from label maps: each becomes a `HeadModel` in MNI coordinates, as the average head is one."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fvv.arrays import Affine, BoolArray, FloatArray
from fvv.config import SimulateConfig
from fvv.errors import InputError
from fvv.io.nifti import SUFFIXES
from fvv.simulator import label_maps as labels
from fvv.simulator.anatomy import (
    HeadModel,
    HeadSurroundings,
    average_head,
    build_surroundings,
    closed_hull,
    distance_mm,
    pull_into,
    signed_distance_mm,
)
from fvv.simulator.label_maps import LabelArray, is_one_of, read_labels, to_mni
from fvv.simulator.regions import REGION_OF_LABEL, Region, region_map, white_share
from fvv.simulator.space import (
    LATTICE_ORIGIN_MM,
    LATTICE_SHAPE,
    LATTICE_STEP_MM,
    LatticeMap,
    lattice_noise,
    smooth_noise,
)
from fvv.simulator.visits import Purpose, random_stream
from fvv.system.fingerprint import file_sha256

FINE_ORIGIN_MM = (LATTICE_ORIGIN_MM[0] - 0.5, LATTICE_ORIGIN_MM[1] - 0.5, LATTICE_ORIGIN_MM[2] - 0.5)
"""Of the 1 mm lattice whose voxels, two along each axis, fill those of the 2 mm lattice."""
BRAIN_BOX = ((16, 186), (20, 220), (20, 198))
"""Voxels of the 1 mm lattice that hold every brain; as far from the left edge as from the right."""
EDGE_MM = 0.7
"""Blur of the edge between tissue and CSF, standard deviation: half a voxel of the label maps, and a little more."""
FISSURE, FOLIA_MM = 0.55, (24.0, 6.0, 5.0)
"""How much of the tissue a fissure of the cerebellum takes, and the size of the folia along x, y, z (chosen here)."""
CAVITY = 0.8
"""Distance from the brain at which the CSF around it ends, in the units of `PersonShape.rim_mm` (chosen here)."""
WIDEST_CSF_MM = 12.0
SCALP_FAT_MM = 5.5
"""Depth below the air to which soft tissue is fat; the label maps do not tell it from muscle (chosen here)."""
ORBIT_MM = 24.0
"""Distance from an eye's centre within which soft tissue is fat (chosen here)."""
EYE_RADIUS_MM = 12.0
CLOSED_MM = 8.0
"""Openings of the head (nostrils, ear canals, mouth) up to twice as wide count as inside it."""
NECK_VOXELS = 100
FEWEST_OUTSIDE = 100_000
"""Voxels of 1 mm outside the brain from which on a label map counts as one of a whole head."""
KEPT_HEADS = 24
"""Prepared heads that a process keeps, 80 MB each."""


class AnatomyFile(NamedTuple):
    """One label map."""

    path: Path
    sha256: str


def anatomy_files(config: SimulateConfig) -> tuple[AnatomyFile, ...]:
    """The label maps that a cohort is made from, ordered by content: their names and folder do not matter.

    Raises:
        InputError: the folder holds none, or not the named ones.
    """
    if config.anatomies is None:
        return ()
    found = {path.name: path for path in sorted(config.anatomies.glob("*")) if path.name.endswith(SUFFIXES)}
    names = config.anatomy_files or tuple(found)
    if missing := sorted(set(names) - found.keys()):
        raise InputError(f"no such label map: {', '.join(missing)}", file=config.anatomies, hint=f"found {len(found)}")
    if not names:
        hint = "expected label maps with FreeSurfer's numbers, *.nii.gz or *.nii"
        raise InputError("holds no label map", file=config.anatomies, hint=hint)
    files = (AnatomyFile(found[name], _hash_of(found[name])) for name in sorted(set(names)))
    return tuple(sorted(files, key=lambda file: file.sha256))


def _hash_of(path: Path) -> str:
    state = path.stat()
    return _known_hash((path, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=1024)
def _known_hash(file: tuple[Path, int, int]) -> str:
    """Of a file as it is now; read again where its size or time has changed."""
    return file_sha256(file[0])


def head_of_person(person: int, config: SimulateConfig) -> HeadModel:
    """The head that a person of a cohort differs from: the average, or one of the anatomies, as it is or mirrored.

    Raises:
        InputError: a label map cannot be used.
    """
    files = anatomy_files(config)
    if not files:
        return average_head()
    rng = random_stream(config.seed, person, Purpose.ANATOMY)
    chosen = files[rng.integers(len(files))]
    head = _prepared(chosen)
    return mirrored(head) if rng.random() < 0.5 else head


@lru_cache(maxsize=KEPT_HEADS)
def _prepared(file: AnatomyFile) -> HeadModel:
    found, affine = read_labels(file.path)
    return replace(build_individual_head(found, affine), name=file.path.name)


def mirrored(head: HeadModel) -> HeadModel:
    """A head with left and right exchanged."""
    across, *along = (part.mirrored() for part in head.ventricle_pull)
    around = {name: getattr(head.surroundings, name).mirrored() for name in HeadSurroundings.__dataclass_fields__}
    return replace(
        head,
        parenchyma=head.parenchyma.mirrored(),
        white_matter=head.white_matter.mirrored(),
        hull_distance_mm=head.hull_distance_mm.mirrored(),
        ventricle_distance_mm=head.ventricle_distance_mm.mirrored(),
        ventricle_pull=(replace(across, array=-across.array), *along),
        surroundings=HeadSurroundings(**around),
        regions=None if head.regions is None else head.regions.mirrored(),
    )


def build_individual_head(found: LabelArray, affine: Affine) -> HeadModel:
    """Prepare a label map for sampling.

    Args:
        found: (i, j, k), upright as `read_labels` gives them.
        affine: (4, 4), voxel to RAS+ mm.
    """
    whole = _with_neck(found, affine)
    fine = _in_mni(*(whole or (found, affine)), to_mni(found, affine))
    box = tuple(slice(*edges) for edges in BRAIN_BOX)
    origin = tuple(float(start + edges[0]) for start, edges in zip(FINE_ORIGIN_MM, BRAIN_BOX, strict=True))
    corner = (origin[0], origin[1], origin[2])
    regions = region_map(fine[box], corner)
    is_tissue = REGION_OF_LABEL[fine] > 0
    tissue = is_tissue[box].astype(np.float32)
    soft = ndimage.gaussian_filter(tissue, EDGE_MM, truncate=3.0)
    white = ndimage.gaussian_filter(white_share(regions) * tissue, EDGE_MM, truncate=3.0) / np.maximum(soft, 0.05)
    soft *= 1.0 - np.float32(FISSURE) * (regions == Region.CEREBELLAR_CORTEX) * _fissures(soft.shape)
    brain = _share(is_tissue & ((fine < labels.FIRST_OUTSIDE) | (fine >= labels.FIRST_PARCEL))) > 0.5
    ventricles = _share(is_one_of(fine, labels.LATERAL_VENTRICLES + labels.OTHER_VENTRICLES[:3])) > 0.5
    distance = _hull_distance(brain, _share(is_one_of(fine, labels.OUTER_CSF)) > 0.5)
    return HeadModel(
        parenchyma=_counted(soft, corner),
        white_matter=_counted(white, corner),
        hull_distance_mm=LatticeMap(distance),
        ventricle_distance_mm=distance_mm(ventricles),
        ventricle_pull=pull_into(ventricles),
        surroundings=build_surroundings(distance) if whole is None else _surroundings(fine),
        regions=LatticeMap(regions, corner, 1.0),
    )


def _fissures(shape: tuple[int, int, int]) -> FloatArray:
    """Thin sheets from side to side, 0..1 on the 1 mm lattice: fissures between cerebellar folia.

    The same in everyone, deformed with the head.
    """
    folds = smooth_noise(np.random.default_rng(0), shape, FOLIA_MM)
    return np.asarray(np.exp(-((folds / np.float32(0.25)) ** 2)))


def _with_neck(found: LabelArray, affine: Affine) -> tuple[LabelArray, Affine] | None:
    """A label map whose lowest slice is repeated downwards, as if the neck went on; None without a head around."""
    outside = (found >= labels.FIRST_OUTSIDE) & (found < labels.FIRST_PARCEL)
    if outside.sum() < FEWEST_OUTSIDE:
        return None
    area = outside.sum(axis=(0, 1))
    lowest = int(np.flatnonzero(area > 0.3 * area.max())[0])
    end = found[:, :, lowest].copy()
    end[(end > 0) & ~outside[:, :, lowest] & (end != labels.OUTER_CSF[0])] = labels.SPINAL_CORD
    downwards = np.eye(4)
    downwards[2, 3] = lowest - NECK_VOXELS
    below = np.repeat(end[:, :, None], NECK_VOXELS, axis=2)
    return np.concatenate([below, found[:, :, lowest:]], axis=2), affine @ downwards


def _in_mni(found: LabelArray, affine: Affine, to_mm: Affine) -> LabelArray:
    """The nearest label at each point of the 1 mm lattice, int16."""
    lattice = np.eye(4)
    lattice[:3, 3] = FINE_ORIGIN_MM
    index = np.linalg.inv(to_mm @ affine) @ lattice
    shape = tuple(2 * n for n in LATTICE_SHAPE)
    return np.asarray(ndimage.affine_transform(found, index, output_shape=shape, order=0, output=np.int16))


def _share(mask: BoolArray) -> FloatArray:
    """Share of each lattice cell that a mask on the 1 mm lattice fills, float32."""
    count = np.zeros(LATTICE_SHAPE, dtype=np.uint8)
    for i, j, k in np.ndindex(2, 2, 2):
        count += mask[i::2, j::2, k::2]
    return count.astype(np.float32) / np.float32(8.0)


def _hull_distance(brain: BoolArray, csf: BoolArray) -> FloatArray:
    """Distance to the brain's closed surface, negative inside; in the CSF around it, it ends at `CAVITY`.

    A person's `rim_mm` then says how much of the space between brain and skull is filled, wide cisterns and all.
    """
    distance = signed_distance_mm(closed_hull(brain))
    cavity = (distance <= 0) | (csf & (distance < WIDEST_CSF_MM))
    to_wall = signed_distance_mm(cavity)
    within = CAVITY * distance / np.maximum(distance - to_wall, 1e-3)
    beyond = np.minimum(distance, CAVITY + to_wall)
    return np.where(distance <= 0, distance, np.where(cavity, within, beyond)).astype(np.float32)


def _surroundings(fine: LabelArray) -> HeadSurroundings:
    """The head around the brain on the 2 mm lattice, from labels on the 1 mm lattice."""
    head, _ = ndimage.label(_share(fine > 0) > 0.5)
    head = head == np.argmax(np.bincount(head.ravel())[1:]) + 1
    reach = CLOSED_MM / LATTICE_STEP_MM
    grown = ndimage.distance_transform_edt(~head) <= reach
    head |= ndimage.distance_transform_edt(grown) > reach
    for k in range(head.shape[2]):
        head[:, :, k] = ndimage.binary_fill_holes(head[:, :, k])
    depth = ndimage.gaussian_filter(signed_distance_mm(~head), 0.5)
    eyes = _share(fine == labels.EYES)
    in_orbit = np.zeros(LATTICE_SHAPE, dtype=bool)
    if (eyes > 0.5).any():
        in_orbit = distance_mm(eyes > 0.5).array < ORBIT_MM - EYE_RADIUS_MM
    soft = _share((fine == labels.SOFT_TISSUE) | (fine == labels.SKIN))
    # Fat between and in the muscles of face and neck: the same in everyone, deformed with the head.
    streaks = lattice_noise(np.random.default_rng(0), 14.0) > 0.9
    is_fat = (depth < SCALP_FAT_MM) | in_orbit | streaks
    muscle = soft * ~is_fat + _share((fine == labels.EYE_MUSCLES) | (fine == labels.OPTIC_NERVES))
    hollow = _share(fine == 0) * (depth > LATTICE_STEP_MM)
    marrow = _share(fine == labels.MARROW)
    bone = _share(fine == labels.CORTICAL_BONE) + marrow
    return HeadSurroundings(
        outline_mm=LatticeMap(depth),
        muscle=_in_bytes(muscle),
        fat=_in_bytes(soft * is_fat + marrow),
        mucosa=_in_bytes(_share(fine == labels.MUCOSA)),
        vitreous=_in_bytes(eyes),
        air=LatticeMap(hollow),
        bone=LatticeMap(bone),
    )


def _in_bytes(share: FloatArray) -> LatticeMap:
    """A map of 0..1 on the 2 mm lattice, stored in a byte a voxel."""
    return LatticeMap(np.rint(255.0 * share).astype(np.uint8), unit=1.0 / 255.0)


def _counted(share: FloatArray, origin_mm: tuple[float, float, float]) -> LatticeMap:
    """A map of 0..1 on the 1 mm lattice, stored in a byte a voxel."""
    return LatticeMap(np.rint(255.0 * share).astype(np.uint8), origin_mm, 1.0, unit=1.0 / 255.0)
