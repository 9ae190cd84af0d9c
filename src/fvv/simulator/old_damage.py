"""What looks like stroke and is not: old disease of the brain, the same at every examination of a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fvv.arrays import FloatArray
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.fields import smooth_noise
from fvv.simulator.lattice import LATTICE_SHAPE, LATTICE_STEP_MM
from fvv.simulator.lesions import OUTSIDE_MM, PATTERNS, VOXEL_ML, StrokePattern, stroke_depth


@dataclass(frozen=True, slots=True)
class OldLesion:
    """One kind of old damage.

    Attributes:
        depth_mm: depth map on the 2 mm lattice.
        t2_factor, t1_factor, adc_factor: against normal tissue, in the middle of the lesion.
        fluid: share of the tissue that is gone and replaced by CSF.
        edge_mm: width of the soft edge.
    """

    name: str
    depth_mm: FloatArray
    t2_factor: float
    t1_factor: float
    adc_factor: float
    fluid: float
    edge_mm: float


def draw_old_damage(rng: np.random.Generator, model: HeadModel) -> tuple[OldLesion, ...]:
    """White-matter hyperintensities in most, old infarcts and T2 shine-through in some; shares chosen here."""
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
    step = LATTICE_STEP_MM
    spots = smooth_noise(rng, LATTICE_SHAPE, (7.0 / step,) * 3)
    patches = smooth_noise(rng, LATTICE_SHAPE, (22.0 / step,) * 3)
    periventricular = rng.uniform(0.1, 0.35)
    depth = 2.2 * spots + 2.2 * patches - periventricular * model.ventricle_distance_mm.array
    deep = (model.hull_distance_mm.array < -12.0) & (model.ventricle_distance_mm.array < 34.0)
    values = np.sort(depth[deep])
    volume_ml = float(np.exp(rng.uniform(np.log(0.5), np.log(40.0))))
    threshold = values[-min(round(volume_ml / VOXEL_ML), values.size // 2)]
    t2 = rng.uniform(1.25, 1.8)
    return OldLesion(
        name="white_matter_hyperintensities",
        depth_mm=np.where(deep, depth - threshold, OUTSIDE_MM).astype(np.float32),
        t2_factor=float(t2),
        t1_factor=float(1.0 + 0.4 * (t2 - 1.0)),
        # Free water diffuses faster: this holds the signal of b1000 near the surroundings'.
        adc_factor=float(rng.uniform(1.15, 1.5)),
        fluid=0.0,
        edge_mm=0.9,
    )


def _old_infarct(rng: np.random.Generator, model: HeadModel) -> OldLesion:
    volume_ml = float(np.exp(rng.uniform(np.log(0.3), np.log(60.0))))
    return OldLesion(
        name="old_infarct",
        depth_mm=stroke_depth(rng, _pattern_for(rng, volume_ml), volume_ml, model),
        t2_factor=float(rng.uniform(1.3, 1.8)),
        t1_factor=1.3,
        adc_factor=float(rng.uniform(1.3, 1.7)),
        fluid=float(rng.uniform(0.5, 0.95)),
        edge_mm=1.5,
    )


def _shine_through(rng: np.random.Generator, model: HeadModel) -> OldLesion:
    """Subacute or gliotic tissue: long T2 makes b1000 bright although diffusion is normal."""
    volume_ml = float(np.exp(rng.uniform(np.log(0.3), np.log(15.0))))
    t2 = rng.uniform(1.3, 1.7)
    return OldLesion(
        name="t2_shine_through",
        depth_mm=stroke_depth(rng, _pattern_for(rng, volume_ml), volume_ml, model),
        t2_factor=float(t2),
        t1_factor=float(1.0 + 0.3 * (t2 - 1.0)),
        adc_factor=float(rng.uniform(1.0, 1.2)),
        fluid=0.0,
        edge_mm=1.5,
    )


def _pattern_for(rng: np.random.Generator, volume_ml: float) -> StrokePattern:
    fitting = [p for p in PATTERNS if p.volume_ml[0] <= volume_ml <= p.volume_ml[1] and p.foci[1] < 3]
    return fitting[rng.integers(len(fitting))]
