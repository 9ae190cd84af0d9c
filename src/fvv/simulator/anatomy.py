"""The average head prepared for sampling, and how one person's head differs from it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray, UInt8Array
from fvv.errors import FvvError, install_hint
from fvv.simulator.space import (
    LATTICE_SHAPE,
    LATTICE_STEP_MM,
    LatticeMap,
    lattice_noise,
    lattice_positions,
    logistic,
    on_lattice,
    smooth_noise,
)

T1_OF_CSF = 75.0
T1_OF_GREY = 160.0
"""Typical intensities of the ICBM152 T1 average, read off its ventricles and where its grey-matter map is 1."""
SHARPENING = 1.2
"""Gain of the unsharp mask that deepens the average's blurred sulci."""
SKULL_MM = 8.0
"""Distance from the brain at which bone ends."""
SCALP_MM = 13.5
"""Distance from the brain to the skin over the vault."""
MASTOID_AIR = 0.6
NASAL_AIR = 0.5
"""Shares of air in the mastoid process, a honeycomb of bone, and between the turbinates and ethmoid walls, too thin to
be resolved: chosen here, for 7 mL of air in a mastoid and 30 mL in nose and ethmoid."""
ELASTIC_STEP = 2
"""Lattice points from one to the next of the elastic deformation."""


@dataclass(frozen=True, slots=True)
class TissueAtlas:
    """Average maps, (i, j, k) uint8, 1 mm, RAS."""

    t1: UInt8Array  # intensity, 0 outside the brain
    white_matter: UInt8Array  # probability times 255
    origin_mm: tuple[float, float, float]  # MNI position of voxel (0, 0, 0)


@dataclass(frozen=True, slots=True)
class HeadSurroundings:
    """Fractions 0..1 outside the brain on the 2 mm lattice.

    Bone and air give no signal; they make the field in which the rest is imaged.
    """

    outline_mm: LatticeMap  # depth below the skin, negative outside the head
    muscle: LatticeMap
    fat: LatticeMap
    mucosa: LatticeMap
    vitreous: LatticeMap
    air: LatticeMap  # inside the head: nose, sinuses, throat, ear canals, mastoid cells; 0 outside the head
    bone: LatticeMap  # vault and skull base, with the walls of the mastoid cells


@dataclass(frozen=True, slots=True)
class HeadModel:
    """All that is sampled to make a person."""

    parenchyma: LatticeMap  # about 0 in CSF and 1 in grey matter, 1 mm, sulci sharpened
    white_matter: LatticeMap  # 0..1, 1 mm
    hull_distance_mm: LatticeMap  # signed distance to the brain's closed surface, negative inside
    ventricle_distance_mm: LatticeMap  # distance to the nearest ventricle
    ventricle_pull: tuple[LatticeMap, ...]  # x, y, z of unit-scaled vectors at the ventricles' walls, pointing inwards
    surroundings: HeadSurroundings
    regions: LatticeMap | None = None  # `Region` numbers, 1 mm; None: the average head, which has none
    name: str | None = None  # of the label map it was made from


@dataclass(frozen=True, slots=True)
class PersonShape:
    """How one person's head differs from the average; the same at every examination."""

    scale: tuple[float, float, float]  # size relative to the atlas along x, y, z
    elastic_mm: FloatArray  # displacement (3, i, j, k) on every `ELASTIC_STEP`-th point of the lattice
    ventricle_growth_mm: float  # outward shift of the ventricles' walls
    csf_threshold: float  # parenchyma below which a voxel is CSF: more means wider sulci
    rim_mm: float  # thickness of the CSF between brain and skull
    tilt_rad: tuple[float, float, float]  # habitual rotations about x, y, z


def load_atlas() -> TissueAtlas:
    """The ICBM152 2009a maps of 152 people that nilearn ships: read from its files, without network.

    Fonov et al. 2011, doi 10.1016/j.neuroimage.2010.07.033.

    Raises:
        FvvError: nilearn is not installed, or no longer carries the maps.
    """
    # Importing nilearn takes seconds and brings scikit-learn; only its files are needed.
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise FvvError("the simulator needs nilearn's tissue maps", hint=install_hint("simulate"))
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    t1, white_matter = (
        _read_map(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") for name in ("t1", "wm")
    )
    x, y, z = t1.affine[:3, 3].tolist()
    return TissueAtlas(np.asarray(t1.dataobj, np.uint8), np.asarray(white_matter.dataobj, np.uint8), (x, y, z))


def _read_map(path: Path) -> nib.Nifti1Image:
    if not path.is_file():
        hint = "pip install 'nilearn>=0.11'"
        raise FvvError("nilearn is installed but does not carry this map", file=path, hint=hint)
    return nib.Nifti1Image.from_filename(path)


@lru_cache(maxsize=1)
def average_head() -> HeadModel:
    """The average head, prepared once in a process (two seconds). Raises as `load_atlas` does."""
    return build_head_model(load_atlas())


def build_head_model(atlas: TissueAtlas) -> HeadModel:
    """Prepare an atlas for sampling."""
    brain = atlas.t1 > 0
    t1 = atlas.t1.astype(np.float32)
    # Blur inside the brain only, or the rim would look brighter than it is.
    weight = np.maximum(ndimage.gaussian_filter(brain.astype(np.float32), 3.0, truncate=2.5), 1e-3)
    sharp = np.where(brain, t1 + SHARPENING * (t1 - ndimage.gaussian_filter(t1, 3.0, truncate=2.5) / weight), 0.0)
    parenchyma = np.clip((sharp - T1_OF_CSF) / (T1_OF_GREY - T1_OF_CSF), 0.0, 1.5).astype(np.float32)
    hull = closed_hull(on_lattice(brain.astype(np.float32), atlas.origin_mm) > 0)
    distance = signed_distance_mm(hull)
    ventricles = _ventricles(on_lattice(parenchyma, atlas.origin_mm), distance)
    white = np.clip((atlas.white_matter.astype(np.float32) / 255.0 - 0.5) * 1.5 + 0.5, 0.0, 1.0)
    return HeadModel(
        parenchyma=LatticeMap(parenchyma, atlas.origin_mm, 1.0),
        white_matter=LatticeMap(white.astype(np.float32), atlas.origin_mm, 1.0),
        hull_distance_mm=LatticeMap(distance),
        ventricle_distance_mm=distance_mm(ventricles),
        ventricle_pull=pull_into(ventricles),
        surroundings=build_surroundings(distance),
    )


def distance_mm(mask: BoolArray) -> LatticeMap:
    """Distance to a mask on the lattice."""
    return LatticeMap((ndimage.distance_transform_edt(~mask) * LATTICE_STEP_MM).astype(np.float32))


def pull_into(ventricles: BoolArray) -> tuple[LatticeMap, ...]:
    """x, y, z of vectors that point into the ventricles, about 1 long at their walls."""
    smooth = ndimage.gaussian_filter(ventricles.astype(np.float32), 1.5)
    # A step blurred by s has slope 1 / (s sqrt(2 pi)) at its edge: divide, so that the pull is about 1 at the wall.
    edge = 1.0 / (1.5 * np.sqrt(2.0 * np.pi))
    return tuple(LatticeMap((component / edge).astype(np.float32)) for component in np.gradient(smooth))


def draw_person_shape(rng: np.random.Generator, *, individual: bool = False) -> PersonShape:
    """Ranges found useful in trials, chosen here: sizes 0.84 to 1.05 by axis, bumps of 1 to 4 mm over 28 to 50 mm.

    An individual anatomy has folds of its own and is bent more widely (1 to 5 mm over 45 to 80 mm), so that few heads
    make many persons and each stays a likely one; its ventricles, which are its own, may shrink as well as grow.
    """
    nx, ny, nz = (-(-n // ELASTIC_STEP) for n in LATTICE_SHAPE)
    step = LATTICE_STEP_MM * ELASTIC_STEP
    wide, fine = rng.uniform(28.0, 50.0) / step, rng.uniform(9.0, 14.0) / step
    amplitude, ripple = rng.uniform(1.0, 3.5), rng.uniform(0.5, 1.1)
    if individual:
        wide, amplitude, ripple = 1.6 * wide, 1.4 * amplitude, 0.7 * ripple
    elastic = [
        amplitude * smooth_noise(rng, (nx, ny, nz), (wide,) * 3) + ripple * smooth_noise(rng, (nx, ny, nz), (fine,) * 3)
        for _ in range(3)
    ]
    atrophy = rng.beta(1.5, 2.0)
    # The ICBM average is larger than an average head.
    size = rng.uniform(0.87, 1.02)
    scale = size * rng.uniform(0.97, 1.03, 3)
    least, range_mm = (-1.5, 3.5) if individual else (-0.6, 4.0)
    return PersonShape(
        scale=tuple(scale.tolist()),
        elastic_mm=np.stack(elastic),
        ventricle_growth_mm=float(least + range_mm * np.clip(atrophy + rng.normal(0, 0.15), 0, 1)),
        csf_threshold=float(0.25 + 0.35 * atrophy),
        rim_mm=float(0.3 + 2.5 * np.clip(atrophy + rng.normal(0, 0.15), 0, 1)),
        tilt_rad=tuple(np.deg2rad(rng.normal(0.0, (4.0, 2.0, 2.0))).tolist()),
    )


def deform(points_mm: FloatArray, model: HeadModel, person: PersonShape) -> FloatArray:
    """Move atlas positions (3, ...) to where this person's anatomy at them is found in the average."""
    step = LATTICE_STEP_MM * ELASTIC_STEP
    moved = points_mm + np.stack([LatticeMap(part, step_mm=step).sample(points_mm) for part in person.elastic_mm])
    pull = np.stack([component.sample(moved) for component in model.ventricle_pull])
    return np.asarray(moved + np.float32(person.ventricle_growth_mm) * pull, dtype=np.float32)


def tissue_fractions(
    points_mm: FloatArray, hull_distance_mm: FloatArray, model: HeadModel, person: PersonShape
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fractions of grey matter, white matter and CSF at deformed atlas positions (3, n); they add up to 1."""
    parenchyma = logistic((model.parenchyma.sample(points_mm) - person.csf_threshold) / 0.07)
    # Beyond the hull there is only the CSF rim.
    parenchyma *= hull_distance_mm < 1.0
    white = parenchyma * model.white_matter.sample(points_mm)
    return parenchyma - white, white, 1.0 - parenchyma


def closed_hull(brain: BoolArray) -> BoolArray:
    """Close gaps up to about 12 mm (sulci, fissures) and fill holes (ventricles)."""
    reach = 6.0 / LATTICE_STEP_MM
    grown = ndimage.distance_transform_edt(~brain) <= reach
    closed = ndimage.distance_transform_edt(grown) > reach
    return np.asarray(ndimage.binary_fill_holes(closed | brain))


def signed_distance_mm(mask: BoolArray) -> FloatArray:
    """Distance to a mask's surface on the lattice, negative inside, float32."""
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    return np.asarray((outside - inside) * LATTICE_STEP_MM, dtype=np.float32)


def _ventricles(parenchyma: FloatArray, hull_distance_mm: FloatArray) -> BoolArray:
    """Deep CSF: ventricles, without the cisterns below and the fissures that reach the surface."""
    x, y, z = lattice_positions()
    box = (np.abs(x) < 40) & (y > -80) & (y < 45) & (z > -12) & (z < 34)
    midline_fissure = (np.abs(x) < 4) & ((y > 20) | (z > 18))
    insula = (np.abs(x) > 24) & (y > -35)
    deep = (parenchyma < 0.45) & (hull_distance_mm < -22) & box & ~midline_fissure & ~insula
    return np.asarray(ndimage.binary_opening(deep, iterations=1) | (deep & (np.abs(x) < 22) & (z > 2)))


def build_surroundings(hull_distance_mm: FloatArray) -> HeadSurroundings:
    """The head around the brain, from simple solids in MNI space.

    It needs to look right only as far as an echo-planar image shows it: fat is suppressed, bone and air give nothing.
    """
    x, y, z = lattice_positions()
    face, nose = _ellipsoid((0, 38, -52), (62, 52, 62)), _ellipsoid((0, 88, -62), (14, 12, 20))
    neck = (((x / 58) ** 2 + ((y + 28) / 66) ** 2) < 1) & (z < -30)
    head = (hull_distance_mm < SCALP_MM) | face | neck | nose
    depth = ndimage.distance_transform_edt(head) - ndimage.distance_transform_edt(~head)
    depth = (ndimage.gaussian_filter(depth, 1.0) * LATTICE_STEP_MM).astype(np.float32)
    beyond_skull = hull_distance_mm > SKULL_MM
    eyes = _pair((33, 57, -39), (12.5, 12, 12))
    orbits = _pair((31, 48, -38), (17, 24, 16)) & ~eyes
    nasal = (np.abs(x) < 15) & (y > 25) & (y < 78) & (z < -30) & (z > -85)
    sinuses = _pair((30, 48, -66), (13, 15, 16))
    sinuses |= _ellipsoid((0, 18, -36), (13, 13, 9)) | _ellipsoid((0, 72, -8), (18, 6, 12))
    mastoids = _pair((54, -34, -46), (10, 15, 18))
    throat = _ellipsoid((0, 2, -92), (15, 9, 30))
    ears = _pair((44, -25, -42), (5, 5, 6)) | ((np.abs(x) > 44) & ((y + 25) ** 2 + (z + 43) ** 2 < 4.5**2))
    # Turbinates: thin, irregular sheets of wet mucosa between air; the same in everyone, deformed with the head.
    folds = lattice_noise(np.random.default_rng(0), 4.0, 14.0, 12.0)
    turbinates = nasal & (np.abs(folds) < 0.35)
    inside = (depth > 0) & (hull_distance_mm > 2.5)
    soft = inside & beyond_skull & ~(nasal | sinuses | mastoids | throat | eyes | orbits)
    skin_fat = soft & (depth < 6)
    jaw = _ellipsoid((0, 30, -92), (52, 52, 14)) & ~_ellipsoid((0, 26, -92), (42, 44, 16))
    muscle = soft & (depth >= 5) & ~jaw & (z < 20)
    fat = skin_fat | (inside & orbits & beyond_skull) | (inside & jaw)
    hollow = inside & (sinuses | throat | ears) & ~eyes
    bone = inside & ~(muscle | fat | eyes | turbinates | hollow)
    cells = bone * (NASAL_AIR * nasal + MASTOID_AIR * (mastoids & ~nasal))
    return HeadSurroundings(
        outline_mm=LatticeMap(depth),
        muscle=_soft(muscle),
        fat=_soft(fat),
        mucosa=_soft(inside & turbinates),
        vitreous=_soft(inside & eyes),
        air=_soft(hollow + cells),
        bone=_soft(bone - cells),
    )


def _ellipsoid(centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> BoolArray:
    x, y, z = lattice_positions()
    (cx, cy, cz), (rx, ry, rz) = centre_mm, radii_mm
    return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1)


def _pair(centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> BoolArray:
    x, y, z = centre_mm
    return _ellipsoid(centre_mm, radii_mm) | _ellipsoid((-x, y, z), radii_mm)


def _soft(share: BoolArray | FloatArray) -> LatticeMap:
    return LatticeMap(ndimage.gaussian_filter(share.astype(np.float32), 0.5).astype(np.float32))
