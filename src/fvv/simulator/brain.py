"""What each point of the brain is made of (healthy tissue, old damage, stroke), and the signal of the head's points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.simulator.anatomy import HeadSurroundings
from fvv.simulator.lesions import OUTSIDE_MM, Lesion, OldLesion
from fvv.simulator.regions import RegionFactors, draw_regions
from fvv.simulator.scanner import Protocol
from fvv.simulator.space import LatticeMap, lattice_noise, lattice_positions, logistic
from fvv.simulator.tissue import Number, Tissue, TissueSet, diffusion_weighted, inversion_recovery, spin_echo

STROKE_EDGE_MM = 0.6
"""Half-width of a stroke's border: sharp, as acute infarcts are."""
TEXTURE = 0.035
"""Standard deviation of T2's fine texture in healthy brain, relative (chosen here)."""
FINE_TEXTURE, DIFFUSION_TEXTURE = 0.03, 0.03
"""The same of individual anatomies: T2 from point to point, ADC from place to place (chosen here)."""
T1_PER_T2_GAIN = 0.35
"""T1 grows with the same water that lengthens T2, but less (chosen here)."""


class Region(NamedTuple):
    """An ellipsoid of normal brain that differs from the rest; mirrored at the midline."""

    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    t2_factor: float


REGIONS = (
    Region((19.0, -5.0, -1.0), (6.0, 10.0, 7.0), 0.74),  # pallidum: iron
    Region((9.0, -18.0, -12.0), (6.0, 6.0, 5.0), 0.78),  # red nucleus and substantia nigra: iron
    Region((17.0, -58.0, -36.0), (7.0, 6.0, 5.0), 0.80),  # dentate nucleus: iron
    Region((23.0, -16.0, 12.0), (4.0, 7.0, 14.0), 1.10),  # corticospinal tract
    Region((38.0, 0.0, 0.0), (6.0, 24.0, 18.0), 1.08),  # insular cortex
    Region((4.0, 30.0, 20.0), (5.0, 24.0, 22.0), 1.08),  # cingulate cortex
)
"""Known unevenness of healthy brain on T2 and b1000; sizes and factors chosen here."""


@dataclass(frozen=True, slots=True)
class BrainTissue:
    """What each of n brain points is made of; all arrays (n,) float32.

    Fractions of grey and white matter and CSF, adding up to 1; T1, T2 and ADC as factors against the person's normal
    grey and white matter.
    """

    grey: FloatArray
    white: FloatArray
    csf: FloatArray
    t1: FloatArray
    t2: FloatArray
    adc: FloatArray

    def at(self, chosen: BoolArray) -> BrainTissue:
        """Some of the points."""
        return BrainTissue(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def healthy_tissue(
    points_mm: FloatArray, fractions: tuple[FloatArray, FloatArray, FloatArray], texture: FloatArray
) -> BrainTissue:
    """Normal brain: regional differences and a fine texture of T2 and ADC.

    Args:
        points_mm: (3, n) deformed atlas positions.
        fractions: grey, white, CSF.
        texture: unit-deviation noise on the 2 mm lattice.
    """
    t2 = 1.0 + np.float32(TEXTURE) * LatticeMap(texture).sample(points_mm)
    for (x, y, z), (a, b, c), t2_factor in REGIONS:
        squares = ((np.abs(points_mm[0]) - x) / a) ** 2 + ((points_mm[1] - y) / b) ** 2 + ((points_mm[2] - z) / c) ** 2
        inside = squares < 4.0
        t2[inside] *= 1.0 + np.float32(t2_factor - 1.0) * np.exp(-0.7 * squares[inside] ** 2)
    adc = 1.0 + np.float32(0.5) * (t2 - 1.0)
    return BrainTissue(*fractions, t1=np.ones_like(t2), t2=t2, adc=np.clip(adc, 0.95, 1.1))


@dataclass(frozen=True, slots=True)
class PersonTexture:
    """What is uneven in the healthy brain of one person with an individual anatomy."""

    factors: RegionFactors
    water: FloatArray  # fine unit-deviation noise on the 2 mm lattice: ADC rises and T2 with it
    diffusion: FloatArray  # broad unit-deviation noise on the 2 mm lattice: ADC alone


def draw_person_texture(rng: np.random.Generator) -> PersonTexture:
    """One person's regions and textures; the same at every examination."""
    return PersonTexture(draw_regions(rng), lattice_noise(rng, 3.5), lattice_noise(rng, 16.0))


def individual_tissue(
    points_mm: FloatArray,
    fractions: tuple[FloatArray, FloatArray, FloatArray],
    texture: FloatArray,
    regions: LatticeMap,
    person: PersonTexture,
) -> BrainTissue:
    """Normal brain of an individual anatomy: each region has its own T2 and ADC, both uneven within it.

    Args:
        points_mm: (3, n) deformed atlas positions.
        fractions: grey, white, CSF.
        texture: unit-deviation noise on the 2 mm lattice.
        regions: `Region` numbers.
        person: of this person.
    """
    region = regions.nearest(points_mm)
    water = LatticeMap(np.float32(TEXTURE) * texture + np.float32(FINE_TEXTURE) * person.water).sample(points_mm)
    diffusion = LatticeMap(np.float32(DIFFUSION_TEXTURE) * person.diffusion).sample(points_mm)
    t2 = person.factors.t2[region] * (1.0 + water)
    adc = person.factors.adc[region] * (1.0 + np.float32(0.5) * water + diffusion)
    return BrainTissue(*fractions, t1=np.ones_like(t2), t2=t2, adc=adc)


def posterior_fossa_texture(rng: np.random.Generator, spread: float) -> FloatArray:
    """How cerebellum and brainstem differ from the rest in one person, in the units of `healthy_tissue`'s texture.

    `spread` is the standard deviation of the relative T2 of either; half of it is from folium to folium. The result is
    (i, j, k) float32 on the 2 mm lattice, 0 above the tentorium.
    """
    x, y, z = lattice_positions()
    # The tentorium, roughly: a tent that slopes sideways and backwards.
    below = logistic((-8.0 - 0.25 * np.abs(x) - 0.35 * np.maximum(-60.0 - y, 0.0) - z) / 2.0)
    cerebellum = logistic((-38.0 - y) / 2.0)
    brainstem = (1.0 - cerebellum) * logistic((18.0 - np.abs(x)) / 2.0)
    # Folia run from side to side: long along x, short along z.
    folia = lattice_noise(rng, 12.0, 5.0, 3.0)
    factor = cerebellum * (rng.normal() + 0.5 * folia) + brainstem * rng.normal()
    return np.asarray(below * factor * np.float32(spread / TEXTURE), dtype=np.float32)


def with_old_damage(tissue: BrainTissue, points_mm: FloatArray, damage: tuple[OldLesion, ...]) -> BrainTissue:
    """Add old lesions to the tissue."""
    for lesion in damage:
        share = logistic(LatticeMap(lesion.depth_mm).sample(points_mm, outside=OUTSIDE_MM) / lesion.edge_mm)
        kept = 1.0 - share * lesion.fluid
        grey, white = tissue.grey * kept, tissue.white * kept
        tissue = BrainTissue(
            grey,
            white,
            csf=1.0 - grey - white,
            t1=tissue.t1 * (1.0 + share * (lesion.t1_factor - 1.0)),
            t2=tissue.t2 * (1.0 + share * (lesion.t2_factor - 1.0)),
            adc=tissue.adc * (1.0 + share * (lesion.adc_factor - 1.0)),
        )
    return tissue


@dataclass(frozen=True, slots=True)
class StrokeAtPoints:
    """A stroke as it meets some brain points.

    `before` and `after` are the touched points without and with ischaemia; both have the swelling, so that their ratio
    compares the same voxel.
    """

    touched: BoolArray  # (n,) over all brain points: where it is felt at all
    share: FloatArray  # (n,) how much of each point is stroke
    before: BrainTissue
    after: BrainTissue


def apply_stroke(
    tissue: BrainTissue, points_mm: FloatArray, lesion: Lesion, *, onset_h: float, rng: np.random.Generator
) -> StrokeAtPoints:
    """Lower ADC, lengthen T2 unevenly with time, squeeze the sulci.

    Args:
        tissue: all brain points.
        points_mm: (3, n) their atlas positions.
        lesion: where it is and how its tissue behaves.
        onset_h: hours since onset.
        rng: patches of T2 and ADC, on the lattice: the same whatever the scanner.
    """
    appearance = lesion.appearance
    patches = lattice_noise(rng, rng.uniform(8.0, 18.0))
    depth = LatticeMap(lesion.depth_mm).sample(points_mm, outside=OUTSIDE_MM)
    share = logistic(depth / STROKE_EDGE_MM)
    touched = share > 0.01
    lam, patch = share[touched], LatticeMap(patches).sample(points_mm[:, touched])
    # 0 at the rim to 1 in the core; the core is taken as deep as the 90th percentile of depth.
    scale = max(float(np.quantile(depth[touched], 0.9)), 1.0) if touched.any() else 1.0
    core = np.clip(depth[touched] / scale, 0.0, 1.0)
    uneven = np.clip(1.0 + appearance.core_to_rim * (2.0 * core - 1.0) + appearance.patchiness * patch, 0.05, 3.0)
    gain = 1.0 + lam * uneven * np.float32(appearance.t2_gain(onset_h))
    lowered = appearance.adc_factor * (1.0 + 0.07 * patch) + 0.08 * (1.0 - core)
    before = tissue.at(touched)
    squeezed = before.csf * (1.0 - lam * np.float32(appearance.effacement))
    growth = (1.0 - squeezed) / np.maximum(1.0 - before.csf, 1e-3)
    full = before.csf > 0.98
    growth[full], squeezed[full] = 1.0, before.csf[full]
    swollen = replace(before, grey=before.grey * growth, white=before.white * growth, csf=squeezed)
    after = replace(
        swollen,
        t1=before.t1 * (1.0 + np.float32(T1_PER_T2_GAIN) * (gain - 1.0)),
        t2=before.t2 * gain,
        adc=before.adc * (1.0 - lam * (1.0 - lowered)),
    )
    return StrokeAtPoints(touched, share, swollen, after)


def signals(proton_density: float, t1_ms: Number, t2_ms: Number, adc_mm2_s: Number, protocol: Protocol) -> FloatArray:
    """Noise-free b0, b1000 and FLAIR of tissue with these constants, (3, ...)."""
    b0 = spin_echo(proton_density, t1_ms, t2_ms, te_ms=protocol.te_ms, tr_ms=protocol.tr_ms)
    b1000 = diffusion_weighted(b0, adc_mm2_s, b_s_mm2=protocol.b_s_mm2)
    flair = inversion_recovery(
        proton_density,
        t1_ms,
        t2_ms,
        te_ms=protocol.flair_te_ms,
        tr_ms=protocol.flair_tr_ms,
        ti_ms=protocol.flair_ti_ms,
    )
    return np.stack([b0, b1000, flair])


def brain_signals(points: BrainTissue, tissues: TissueSet, protocol: Protocol) -> FloatArray:
    """Signals (3, n) of brain points: each tissue's, weighted by its fraction."""
    total = _shared(points.csf, tissues.csf, protocol)
    for share, tissue in ((points.grey, tissues.grey_matter), (points.white, tissues.white_matter)):
        t1, t2 = np.float32(tissue.t1_ms) * points.t1, np.float32(tissue.t2_ms) * points.t2
        adc = np.float32(tissue.adc_mm2_s) * points.adc
        total += share * signals(tissue.proton_density, t1, t2, adc, protocol)
    return total


def surroundings_signals(
    points_mm: FloatArray, parts: HeadSurroundings, tissues: TissueSet, protocol: Protocol
) -> FloatArray:
    """Water signals (3, n) around the brain, at deformed atlas positions (3, n): muscle, mucosa, eyes."""
    total = _shared(parts.muscle.sample(points_mm), tissues.muscle, protocol)
    total += _shared(parts.mucosa.sample(points_mm), tissues.mucosa, protocol)
    total += _shared(parts.vitreous.sample(points_mm), tissues.vitreous, protocol)
    return total


def fat_signals(points_mm: FloatArray, parts: HeadSurroundings, tissues: TissueSet, protocol: Protocol) -> FloatArray:
    """Signals (3, n) of fat before suppression, at deformed atlas positions (3, n)."""
    return _shared(parts.fat.sample(points_mm), tissues.fat, protocol)


def _shared(share: FloatArray, tissue: Tissue, protocol: Protocol) -> FloatArray:
    return np.multiply.outer(signals(*tissue, protocol).astype(np.float32), share)
