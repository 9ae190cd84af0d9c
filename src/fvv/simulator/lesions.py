"""Strokes and old damage in atlas space: arterial territories, sizes, shapes, and what the tissue does.

A shape is a *depth map*: about the distance in mm to the lesion's edge, positive inside. Smooth in itself, it keeps its
edge sharp on any image grid. Territories are boxes in MNI millimetres, simplified here from what anatomy atlases show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.config import SimulateConfig
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.space import (
    LATTICE_ORIGIN_MM,
    LATTICE_SHAPE,
    LATTICE_STEP_MM,
    lattice_noise,
    lattice_positions,
    log_uniform,
    smooth_noise,
)

OUTSIDE_MM = -40.0
LARGE_ML = 80.0
VOXEL_ML = LATTICE_STEP_MM**3 / 1000.0
Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


class Territory(NamedTuple):
    """Where one artery's strokes begin and how far they reach (right side; mirrored for the left)."""

    seeds: Box  # x, y, z in which a lesion is centred
    reach: Box  # a lesion does not leave it
    infratentorial: bool = False  # cerebellum and brainstem, or everything above


MCA = Territory(((36, 56), (-45, 25), (-8, 38)), ((12, 85), (-68, 48), (-42, 60)))
MCA_DEEP = Territory(((19, 31), (-18, 14), (-2, 24)), ((12, 42), (-32, 30), (-10, 34)))
MCA_BRANCH = Territory(((34, 62), (-60, 38), (-14, 56)), ((18, 85), (-70, 48), (-30, 66)))
ACA = Territory(((4, 14), (-10, 56), (4, 62)), ((1, 24), (-40, 75), (-16, 78)))
PCA = Territory(((8, 30), (-96, -58), (-6, 14)), ((2, 48), (-108, -30), (-24, 34)))
THALAMUS = Territory(((6, 17), (-28, -8), (0, 15)), ((1, 24), (-36, 0), (-6, 20)))
CORONA_RADIATA = Territory(((19, 29), (-30, 16), (14, 36)), ((12, 40), (-45, 35), (6, 48)))
BORDER_ZONE = Territory(((22, 38), (-70, 45), (24, 52)), ((12, 55), (-90, 60), (10, 66)))
CEREBELLUM = Territory(((8, 42), (-84, -48), (-56, -22)), ((0, 62), (-105, -36), (-72, -8)), infratentorial=True)
BRAINSTEM = Territory(((0, 9), (-38, -20), (-52, -12)), ((0, 18), (-46, -10), (-70, -4)), infratentorial=True)


class StrokePattern(NamedTuple):
    """A kind of stroke: territories to choose from, volume (log-uniform), number of foci, relative frequency."""

    name: str
    territories: tuple[Territory, ...]
    volume_ml: tuple[float, float]
    foci: tuple[int, int]
    weight: float
    exact: bool = False  # volumes are met below the lattice's resolution, too

    @property
    def infratentorial(self) -> bool:
        """All of it lies in cerebellum and brainstem."""
        return all(territory.infratentorial for territory in self.territories)


PATTERNS = (
    StrokePattern("large_mca", (MCA,), (50.0, 250.0), (1, 1), 0.22),
    StrokePattern("medium_mca", (MCA, MCA_BRANCH), (8.0, 60.0), (1, 2), 0.22),
    StrokePattern("small_cortical", (MCA_BRANCH, MCA_BRANCH, PCA, ACA), (0.5, 8.0), (1, 2), 0.12),
    StrokePattern("deep", (MCA_DEEP,), (1.0, 25.0), (1, 1), 0.10),
    StrokePattern("lacune", (MCA_DEEP, THALAMUS, CORONA_RADIATA), (0.1, 2.0), (1, 1), 0.09),
    StrokePattern("shower", (MCA_BRANCH, BORDER_ZONE, ACA, PCA, CEREBELLUM), (0.6, 15.0), (3, 14), 0.09),
    StrokePattern("aca", (ACA,), (3.0, 60.0), (1, 1), 0.04),
    StrokePattern("pca", (PCA,), (3.0, 80.0), (1, 2), 0.06),
    StrokePattern("cerebellum", (CEREBELLUM,), (1.0, 50.0), (1, 2), 0.06),
    StrokePattern("brainstem", (BRAINSTEM,), (0.1, 3.0), (1, 1), 0.04),
)
"""Shares and ranges chosen here: log-spread from 0.1 to 250 mL with many large ones, which trials found too rare."""
PUNCTATE_PATTERNS = (
    StrokePattern("lacune_brainstem", (BRAINSTEM,), (0.02, 0.5), (1, 1), 0.2, exact=True),
    StrokePattern("lacune_deep", (MCA_DEEP, THALAMUS, CORONA_RADIATA), (0.02, 0.5), (1, 1), 0.25, exact=True),
    StrokePattern("punctate_cortical", (MCA_BRANCH, ACA, PCA, CEREBELLUM), (0.02, 0.5), (1, 2), 0.25, exact=True),
    StrokePattern(
        "punctate_shower", (MCA_BRANCH, BORDER_ZONE, ACA, PCA, CEREBELLUM), (0.06, 1.5), (3, 12), 0.3, exact=True
    ),
)
"""Strokes of a few voxels, on request (`SimulateConfig.punctate_share`); shares and ranges chosen here."""
T2_DELAY_H = (0.5, 3.0)
T2_TIME_CONSTANT_H = (7.0, 19.0)
"""Of a stroke of 10 mL; see `draw_appearance`."""


@dataclass(frozen=True, slots=True)
class StrokeAppearance:
    """What ischaemia does to the tissue; T2 gain is amplitude (1 - exp(-(t - delay) / constant))."""

    adc_factor: float  # ADC over normal ADC in the core, lowered from the start
    t2_amplitude: float  # relative T2 gain long after onset
    t2_delay_h: float
    t2_time_constant_h: float
    core_to_rim: float  # how much more of the gain the core has than the rim, 0..1
    patchiness: float  # deviation of the gain inside the lesion
    effacement: float  # share of the sulcal CSF that swelling squeezes out

    def t2_gain(self, onset_h: float) -> float:
        """Mean relative T2 gain at a time since onset."""
        elapsed = max(onset_h - self.t2_delay_h, 0.0)
        return float(self.t2_amplitude * (1.0 - np.exp(-elapsed / self.t2_time_constant_h)))


@dataclass(frozen=True, slots=True)
class Lesion:
    """One stroke: the name of its kind, its depth map on the 2 mm lattice, how its tissue behaves."""

    pattern: str
    depth_mm: FloatArray
    appearance: StrokeAppearance
    mask: str | None = None  # name of the mask file that gave the shape


def draw_lesion(
    rng: np.random.Generator, model: HeadModel, config: SimulateConfig, *, atlas_share: float, punctate: bool = False
) -> Lesion:
    """One stroke of a cohort; `atlas_share` is the atlas volume over the person's volume."""
    share = config.posterior_fossa_share
    infratentorial = None if share is None else bool(rng.random() < share)
    if punctate:
        pattern = _draw_pattern(rng, PUNCTATE_PATTERNS, infratentorial=infratentorial)
        volume_ml = log_uniform(rng, *pattern.volume_ml)
    else:
        # No stroke of cerebellum or brainstem is large.
        large_share = None if infratentorial else config.large_lesion_share
        pattern, volume_ml = draw_pattern_and_volume(rng, large_share, infratentorial=infratentorial)
    appearance = appearance_of_size(rng, volume_ml, config)
    return Lesion(pattern.name, stroke_depth(rng, pattern, volume_ml, model, atlas_share=atlas_share), appearance)


def draw_pattern_and_volume(
    rng: np.random.Generator, large_share: float | None, *, infratentorial: bool | None = None
) -> tuple[StrokePattern, float]:
    """Choose a kind of stroke by weight, and its volume in mL.

    Args:
        rng: chooses.
        large_share: share of strokes over `LARGE_ML`; None leaves it to the patterns.
        infratentorial: only patterns of cerebellum and brainstem, or only others; None: all.
    """
    large = None if large_share is None else rng.random() < large_share
    while True:
        pattern = _draw_pattern(rng, PATTERNS, infratentorial=infratentorial)
        volume_ml = log_uniform(rng, *pattern.volume_ml)
        if large is None or (volume_ml > LARGE_ML) == large:
            return pattern, volume_ml


def _draw_pattern(
    rng: np.random.Generator, patterns: tuple[StrokePattern, ...], *, infratentorial: bool | None
) -> StrokePattern:
    among = [one for one in patterns if infratentorial is None or one.infratentorial == infratentorial]
    weights = np.array([one.weight for one in among])
    return among[rng.choice(len(among), p=weights / weights.sum())]


def pace_of_size(volume_ml: float) -> float:
    """How much faster T2 rises in a stroke of this size than in one of 10 mL: by the root of the volume, 1/4 to 4.

    Strokes that FLAIR shows are larger than others of the same age (Thomalla et al. 2009, Ann Neurol 65:724), and
    mismatches smaller: 8.9 against 43.1 mL within 12 h (Payabvash et al. 2017, doi 10.1111/jon.12407). Power and bounds
    are chosen here; what they give stands beside it in docs/explanation/simulation.md.
    """
    return float(np.clip(np.sqrt(volume_ml / 10.0), 0.25, 4.0))


def appearance_of_size(rng: np.random.Generator, volume_ml: float, config: SimulateConfig) -> StrokeAppearance:
    """`draw_appearance` for a stroke of this volume in the person, as the settings want it."""
    pace = pace_of_size(volume_ml) if config.pace_by_size else 1.0
    return draw_appearance(rng, config.t2_amplitude_range, config.adc_factor_range, pace=pace)


def draw_appearance(
    rng: np.random.Generator,
    t2_amplitude_range: tuple[float, float] = (0.25, 1.4),
    adc_factor_range: tuple[float, float] = (0.4, 0.72),
    *,
    pace: float = 1.0,
) -> StrokeAppearance:
    """How the lesion's tissue behaves.

    Delay and time constant are fitted, with `pace_of_size`, to what readers see: in PRE-FLAIR 62 % of the strokes
    scanned within 4.5 h were mismatches, and 22 % of those scanned between 4.5 and 12 h (Thomalla et al. 2011, doi
    10.1016/S1474-4422(11)70192-2). T2 itself was measured to rise more slowly, by some 2 % an hour (Damion et al. 2019,
    doi 10.1088/1361-6560/ab1442), which would make nearly all strokes under 4.5 h mismatches. `pace` shortens delay and
    time constant.
    """
    mild = rng.random() < 0.25
    return StrokeAppearance(
        adc_factor=float(rng.uniform(0.65, 0.85) if mild else rng.uniform(*adc_factor_range)),
        t2_amplitude=log_uniform(rng, *t2_amplitude_range),
        t2_delay_h=float(rng.uniform(*T2_DELAY_H)) / pace,
        t2_time_constant_h=float(rng.uniform(*T2_TIME_CONSTANT_H)) / pace,
        core_to_rim=float(rng.uniform(0.0, 0.7)),
        patchiness=float(rng.uniform(0.15, 0.5)),
        effacement=float(rng.uniform(0.1, 0.9)),
    )


def stroke_depth(
    rng: np.random.Generator, pattern: StrokePattern, volume_ml: float, model: HeadModel, *, atlas_share: float = 1.0
) -> FloatArray:
    """A lesion's shape: depth map in mm on the 2 mm lattice, float32.

    All foci together have `volume_ml` in the person's space; the atlas has `atlas_share` of that space's volume.
    """
    n = int(rng.integers(pattern.foci[0], pattern.foci[1] + 1))
    shares = rng.dirichlet(np.full(n, 1.5))
    depth = np.full(LATTICE_SHAPE, OUTSIDE_MM, dtype=np.float32)
    side = 1.0 if rng.random() < 0.5 else -1.0
    for share in shares:
        territory = pattern.territories[rng.integers(len(pattern.territories))]
        # Showers from the heart reach both sides.
        this_side = side if n < 3 or rng.random() < 0.7 else -side
        focus_ml = volume_ml * share if pattern.exact else max(0.05, volume_ml * share)
        focus = _one_focus(rng, territory, this_side, focus_ml * atlas_share, model, exact=pattern.exact)
        np.maximum(depth, focus, out=depth)
    return depth


def _one_focus(
    rng: np.random.Generator,
    territory: Territory,
    side: float,
    volume_ml: float,
    model: HeadModel,
    *,
    exact: bool,
) -> FloatArray:
    seed = np.array([rng.uniform(*extent) for extent in territory.seeds])
    seed[0] *= side
    radius = float(np.cbrt(3.0 * volume_ml / (4.0 * np.pi)) * 10.0)
    x, y, z = lattice_positions()
    stretch = rng.uniform(0.7, 1.45, 3)
    stretch /= np.cbrt(stretch.prod())
    window = _window(seed, 2.2 * radius + 10.0)
    x, y, z = x[window[0]], y[:, window[1]], z[:, :, window[2]]
    squares = ((x - seed[0]) / stretch[0]) ** 2 + ((y - seed[1]) / stretch[1]) ** 2 + ((z - seed[2]) / stretch[2]) ** 2
    shape = (x.shape[0], y.shape[1], z.shape[2])
    coarse, fine = max(radius * 0.9, 5.0) / LATTICE_STEP_MM, max(radius * 0.3, 4.0) / LATTICE_STEP_MM
    ragged = 0.28 * smooth_noise(rng, shape, (coarse,) * 3) + 0.10 * smooth_noise(rng, shape, (fine,) * 3)
    reach = (sorted(side * limit for limit in territory.reach[0]), *territory.reach[1:])
    beyond = sum(
        np.maximum(0.0, np.maximum(low - axis, axis - high)) for axis, (low, high) in zip((x, y, z), reach, strict=True)
    )
    tentorium = tentorium_mm(x)
    # In front of the tentorium, the temporal lobes reach further down.
    floor = np.where(y > -35, -60.0, tentorium)
    beyond = beyond + np.maximum(0.0, (z - tentorium) if territory.infratentorial else (floor - z))
    depth = -np.sqrt(squares) + radius * ragged - 1.5 * beyond
    hull = model.hull_distance_mm.array[window]
    allowed = (hull < 0) & (model.ventricle_distance_mm.array[window] > 1.0)
    if exact:
        threshold = volume_threshold(depth, allowed, volume_ml)
    else:
        values = np.sort(depth[allowed])
        wanted = min(max(round(volume_ml / VOXEL_ML), 1), max(values.size - 1, 1))
        threshold = float(values[-wanted]) - 1e-3 if values.size else 0.0
    inside = np.where(allowed, depth - threshold, np.minimum(depth - threshold, -1.0))
    out = np.full(LATTICE_SHAPE, OUTSIDE_MM, dtype=np.float32)
    out[window] = inside
    return out


def tentorium_mm(x_mm: FloatArray) -> FloatArray:
    """Height z of the tentorium in MNI mm at these x, roughly: it climbs towards the midline."""
    return -6.0 - 0.22 * np.abs(x_mm)


def volume_threshold(depth_mm: FloatArray, allowed: BoolArray, volume_ml: float) -> float:
    """The depth beyond which a lesion has this volume, linearly interpolated between the lattice's points.

    Args:
        depth_mm: (i, j, k) part of the 2 mm lattice.
        allowed: (i, j, k) where the lesion may lie.
        volume_ml: wanted.

    Returns:
        Depth in mm; where there is less room than wanted, that of all of it.
    """
    values = np.sort(depth_mm[allowed])
    if not values.size:
        return 0.0
    # The cells that count, with twice the volume: only these are divided, the more finely, the fewer they are.
    near = allowed & (depth_mm >= values[-min(round(2.0 * volume_ml / VOXEL_ML) + 64, values.size)])
    parts = 4 if near.sum() < 4000 else 1
    offsets = (np.arange(parts) + 0.5) / parts - 0.5
    within = np.stack(np.meshgrid(offsets, offsets, offsets, indexing="ij")).reshape(3, 1, -1)
    points = np.stack(np.nonzero(near))[:, :, None] + within
    fine = np.sort(ndimage.map_coordinates(depth_mm, points.reshape(3, -1), order=1, mode="nearest"))
    return float(fine[-min(max(round(volume_ml / VOXEL_ML * parts**3), 1), fine.size)])


def _window(centre_mm: FloatArray, reach_mm: float) -> tuple[slice, slice, slice]:
    bounds = []
    for centre, origin, n in zip(centre_mm, LATTICE_ORIGIN_MM, LATTICE_SHAPE, strict=True):
        low = int(np.clip((centre - reach_mm - origin) // LATTICE_STEP_MM, 0, n - 8))
        high = int(np.clip((centre + reach_mm - origin) // LATTICE_STEP_MM + 1, low + 8, n))
        bounds.append(slice(low, high))
    return bounds[0], bounds[1], bounds[2]


@dataclass(frozen=True, slots=True)
class OldLesion:
    """Old disease, which looks like stroke and is not; T1, T2 and ADC against normal tissue, in its middle."""

    name: str
    depth_mm: FloatArray  # depth map on the 2 mm lattice
    t2_factor: float
    t1_factor: float
    adc_factor: float
    fluid: float = 0.0  # share of the tissue that is gone and replaced by CSF
    edge_mm: float = 1.5  # width of the soft edge


def draw_old_damage(rng: np.random.Generator, model: HeadModel) -> tuple[OldLesion, ...]:
    """Old disease of one person, the same at every examination; shares chosen here."""
    found: list[OldLesion] = []
    if rng.random() < 0.75:
        found.append(_white_matter_hyperintensities(rng, model))
    if rng.random() < 0.22:
        found.append(_old_infarct(rng, model))
    if rng.random() < 0.15:
        found.append(_shine_through(rng, model))
    return tuple(found)


def _white_matter_hyperintensities(rng: np.random.Generator, model: HeadModel) -> OldLesion:
    """Caps and bands at the ventricles and spots in the deep white matter, 0.5 to 40 mL."""
    spots, patches = lattice_noise(rng, 7.0), lattice_noise(rng, 22.0)
    periventricular = rng.uniform(0.1, 0.35)
    depth = 2.2 * spots + 2.2 * patches - periventricular * model.ventricle_distance_mm.array
    deep = (model.hull_distance_mm.array < -12.0) & (model.ventricle_distance_mm.array < 34.0)
    values = np.sort(depth[deep])
    volume_ml = log_uniform(rng, 0.5, 40.0)
    threshold = values[-min(round(volume_ml / VOXEL_ML), values.size // 2)]
    t2 = rng.uniform(1.25, 1.8)
    return OldLesion(
        name="white_matter_hyperintensities",
        depth_mm=np.where(deep, depth - threshold, OUTSIDE_MM).astype(np.float32),
        t2_factor=float(t2),
        t1_factor=float(1.0 + 0.4 * (t2 - 1.0)),
        # Free water diffuses faster: this holds the signal of b1000 near the surroundings'.
        adc_factor=float(rng.uniform(1.15, 1.5)),
        edge_mm=0.9,
    )


def _old_infarct(rng: np.random.Generator, model: HeadModel) -> OldLesion:
    volume_ml = log_uniform(rng, 0.3, 60.0)
    return OldLesion(
        name="old_infarct",
        depth_mm=stroke_depth(rng, _pattern_for(rng, volume_ml), volume_ml, model),
        t2_factor=float(rng.uniform(1.3, 1.8)),
        t1_factor=1.3,
        adc_factor=float(rng.uniform(1.3, 1.7)),
        fluid=float(rng.uniform(0.5, 0.95)),
    )


def _shine_through(rng: np.random.Generator, model: HeadModel) -> OldLesion:
    """Subacute or gliotic tissue: long T2 makes b1000 bright although diffusion is normal."""
    volume_ml = log_uniform(rng, 0.3, 15.0)
    t2 = rng.uniform(1.3, 1.7)
    return OldLesion(
        name="t2_shine_through",
        depth_mm=stroke_depth(rng, _pattern_for(rng, volume_ml), volume_ml, model),
        t2_factor=float(t2),
        t1_factor=float(1.0 + 0.3 * (t2 - 1.0)),
        adc_factor=float(rng.uniform(1.0, 1.2)),
    )


def _pattern_for(rng: np.random.Generator, volume_ml: float) -> StrokePattern:
    fitting = [p for p in PATTERNS if p.volume_ml[0] <= volume_ml <= p.volume_ml[1] and p.foci[1] < 3]
    return fitting[rng.integers(len(fitting))]
