"""From tissue to signal: the noise-free b0, b1000 and FLAIR of every point of the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.fields import logistic, smooth_noise
from fvv.simulator.lattice import LATTICE_SHAPE, LATTICE_STEP_MM, LatticeMap, lattice_positions
from fvv.simulator.lesions import StrokeAppearance
from fvv.simulator.old_damage import OldLesion
from fvv.simulator.scanner import Protocol
from fvv.simulator.signal import diffusion_weighted, inversion_recovery, spin_echo
from fvv.simulator.tissue import Tissue, TissueSet

STROKE_EDGE_MM = 0.6
"""Half-width of a stroke's border: sharp, as acute infarcts are."""
TEXTURE = 0.035
"""Standard deviation of T2's fine texture in healthy brain, relative (chosen here)."""
T1_PER_T2_GAIN = 0.35
"""T1 grows with the same water that lengthens T2, but less (chosen here)."""


@dataclass(frozen=True, slots=True)
class Region:
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

    Attributes:
        grey, white, csf: fractions, adding up to 1.
        t1, t2, adc: factors against the person's normal grey and white matter.
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


@dataclass(frozen=True, slots=True)
class Signals:
    """Noise-free signal of the three images, all (n,)."""

    b0: FloatArray
    b1000: FloatArray
    flair: FloatArray


def healthy_tissue(
    points_mm: FloatArray, fractions: tuple[FloatArray, FloatArray, FloatArray], texture: FloatArray
) -> BrainTissue:
    """Normal brain: regional differences and a fine texture of T2 and ADC.

    Args:
        points_mm: (3, n) deformed atlas positions.
        fractions: grey, white, CSF.
        texture: unit-deviation noise on the 2 mm lattice.
    """
    n = points_mm.shape[1]
    t2 = 1.0 + np.float32(TEXTURE) * LatticeMap(texture).sample(points_mm)
    for region in REGIONS:
        x, y, z = region.centre_mm
        a, b, c = region.radii_mm
        squares = ((np.abs(points_mm[0]) - x) / a) ** 2 + ((points_mm[1] - y) / b) ** 2 + ((points_mm[2] - z) / c) ** 2
        inside = squares < 4.0
        t2[inside] *= 1.0 + np.float32(region.t2_factor - 1.0) * np.exp(-0.7 * squares[inside] ** 2)
    adc = 1.0 + np.float32(0.5) * (t2 - 1.0)
    return BrainTissue(*fractions, t1=np.ones(n, dtype=np.float32), t2=t2, adc=np.clip(adc, 0.95, 1.1))


def posterior_fossa_texture(rng: np.random.Generator, spread: float) -> FloatArray:
    """How cerebellum and brainstem differ from the rest in one person, in the units of `healthy_tissue`'s texture.

    Args:
        rng: where randomness comes from.
        spread: standard deviation of the relative T2 of either; half of it from folium to folium.

    Returns:
        (i, j, k) float32 on the 2 mm lattice, 0 above the tentorium.
    """
    x, y, z = lattice_positions()
    # The tentorium, roughly: a tent that slopes sideways and backwards.
    below = logistic((-8.0 - 0.25 * np.abs(x) - 0.35 * np.maximum(-60.0 - y, 0.0) - z) / 2.0)
    cerebellum = logistic((-38.0 - y) / 2.0)
    brainstem = (1.0 - cerebellum) * logistic((18.0 - np.abs(x)) / 2.0)
    # Folia run from side to side: long along x, short along z.
    folia = smooth_noise(rng, LATTICE_SHAPE, (12.0 / LATTICE_STEP_MM, 5.0 / LATTICE_STEP_MM, 3.0 / LATTICE_STEP_MM))
    factor = cerebellum * (rng.normal() + 0.5 * folia) + brainstem * rng.normal()
    return np.asarray(below * factor * np.float32(spread / TEXTURE), dtype=np.float32)


def with_old_damage(tissue: BrainTissue, points_mm: FloatArray, damage: tuple[OldLesion, ...]) -> BrainTissue:
    """Add old lesions to the tissue."""
    grey, white, csf = tissue.grey, tissue.white, tissue.csf
    t1, t2, adc = tissue.t1, tissue.t2, tissue.adc
    for lesion in damage:
        share = logistic(LatticeMap(lesion.depth_mm).sample(points_mm, outside=-40.0) / lesion.edge_mm)
        kept = 1.0 - share * lesion.fluid
        grey, white = grey * kept, white * kept
        csf = 1.0 - grey - white
        t1 = t1 * (1.0 + share * (lesion.t1_factor - 1.0))
        t2 = t2 * (1.0 + share * (lesion.t2_factor - 1.0))
        adc = adc * (1.0 + share * (lesion.adc_factor - 1.0))
    return BrainTissue(grey, white, csf, t1, t2, adc)


@dataclass(frozen=True, slots=True)
class StrokeAtPoints:
    """A stroke as it meets some brain points.

    Attributes:
        touched: (n,) bool over all brain points: where it is felt at all.
        share: (n,) float32, how much of each point is stroke.
        before, after: tissue of the touched points without and with ischaemia; both with the swelling, so that their
            ratio compares the same voxel.
    """

    touched: BoolArray
    share: FloatArray
    before: BrainTissue
    after: BrainTissue


def apply_stroke(
    tissue: BrainTissue,
    points_mm: FloatArray,
    depth_mm: FloatArray,
    *,
    appearance: StrokeAppearance,
    onset_h: float,
    rng: np.random.Generator,
) -> StrokeAtPoints:
    """Lower ADC, lengthen T2 unevenly with time, squeeze the sulci.

    Args:
        tissue: all brain points.
        points_mm: (3, n) their atlas positions.
        depth_mm: the stroke's depth map on the 2 mm lattice.
        appearance: how its tissue behaves.
        onset_h: hours since onset.
        rng: patches of T2 and ADC, drawn on the lattice: the same whatever the scanner.
    """
    patches = smooth_noise(rng, LATTICE_SHAPE, (rng.uniform(8.0, 18.0) / LATTICE_STEP_MM,) * 3)
    depth = LatticeMap(depth_mm).sample(points_mm, outside=-40.0)
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
    swollen = BrainTissue(before.grey * growth, before.white * growth, squeezed, before.t1, before.t2, before.adc)
    after = BrainTissue(
        grey=swollen.grey,
        white=swollen.white,
        csf=swollen.csf,
        t1=before.t1 * (1.0 + np.float32(T1_PER_T2_GAIN) * (gain - 1.0)),
        t2=before.t2 * gain,
        adc=before.adc * (1.0 - lam * (1.0 - lowered)),
    )
    return StrokeAtPoints(touched, share, swollen, after)


def brain_signals(tissue: BrainTissue, tissues: TissueSet, protocol: Protocol) -> Signals:
    """Signals of brain points: each tissue's, weighted by its fraction."""
    csf = _constant_signals(tissues.csf, protocol)
    b0, b1000, flair = (tissue.csf * np.float32(value) for value in csf)
    for share, constants in ((tissue.grey, tissues.grey_matter), (tissue.white, tissues.white_matter)):
        t1 = np.float32(constants.t1_ms) * tissue.t1
        t2 = np.float32(constants.t2_ms) * tissue.t2
        echo = spin_echo(constants.proton_density, t1, t2, te_ms=protocol.te_ms, tr_ms=protocol.tr_ms)
        adc = np.float32(constants.adc_mm2_s) * tissue.adc
        b0 += share * echo
        b1000 += share * diffusion_weighted(echo, adc, b_s_mm2=protocol.b_s_mm2)
        flair += share * _flair(constants.proton_density, t1, t2, protocol)
    return Signals(b0, b1000, flair)


def surroundings_signals(points_mm: FloatArray, model: HeadModel, tissues: TissueSet, protocol: Protocol) -> Signals:
    """Water signals of the points around the brain: muscle, mucosa, eyes."""
    parts = model.surroundings
    b0, b1000, flair = (np.zeros(points_mm.shape[1], dtype=np.float32) for _ in range(3))
    for fraction, constants in (
        (parts.muscle, tissues.muscle),
        (parts.mucosa, tissues.mucosa),
        (parts.vitreous, tissues.vitreous),
    ):
        share = fraction.sample(points_mm)
        s0, weighted, recovered = _constant_signals(constants, protocol)
        b0 += share * np.float32(s0)
        b1000 += share * np.float32(weighted)
        flair += share * np.float32(recovered)
    return Signals(b0, b1000, flair)


def fat_signals(points_mm: FloatArray, model: HeadModel, tissues: TissueSet, protocol: Protocol) -> Signals:
    """Signals of fat, before suppression."""
    share = model.surroundings.fat.sample(points_mm)
    s0, weighted, recovered = _constant_signals(tissues.fat, protocol)
    return Signals(share * np.float32(s0), share * np.float32(weighted), share * np.float32(recovered))


def _constant_signals(constants: Tissue, protocol: Protocol) -> tuple[float, float, float]:
    pd, t1, t2 = constants.proton_density, constants.t1_ms, constants.t2_ms
    s0 = spin_echo(pd, t1, t2, te_ms=protocol.te_ms, tr_ms=protocol.tr_ms)
    weighted = diffusion_weighted(s0, constants.adc_mm2_s, b_s_mm2=protocol.b_s_mm2)
    return float(s0), float(weighted), float(_flair(pd, t1, t2, protocol))


def _flair(pd: float, t1: float | FloatArray, t2: float | FloatArray, protocol: Protocol) -> FloatArray:
    return inversion_recovery(
        pd, t1, t2, te_ms=protocol.flair_te_ms, tr_ms=protocol.flair_tr_ms, ti_ms=protocol.flair_ti_ms
    )
