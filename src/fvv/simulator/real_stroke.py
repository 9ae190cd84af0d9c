"""A simulated stroke written into a real head.

The tissue's share of each voxel is told from its own diffusion; its T2 grows and its ADC falls as in `apply_stroke`.
What the scanner added (noise, distortion, shading, ghosts) stays as it was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.config import SimulateConfig
from fvv.errors import InputError
from fvv.imaging.adc import WATER
from fvv.simulator.brain import BrainTissue, apply_stroke
from fvv.simulator.case import READER_BLUR_MM
from fvv.simulator.lesions import OUTSIDE_MM, Lesion
from fvv.simulator.patient import outlined
from fvv.simulator.real_heads import RealHead
from fvv.simulator.space import LatticeMap
from fvv.simulator.tissue import inversion_recovery, nominal_tissues, nulling_inversion_time_ms, spin_echo

FIELD_STRENGTH_T = 3.0
TE_MS = 80.0
TR_MS = 6000.0
FLAIR_TE_MS = 120.0
FLAIR_TR_MS = 9000.0
"""Assumed of every head, since the images do not say it (chosen here): what T2 does to b0 depends on it. b0's T1
weighting is left as it is: at this TR it changes by less than a hundredth."""
MOST_FLUID = 0.8
"""Voxels with a larger share of CSF hold too little tissue to grow."""
SUBPOINT_MM = 1.5
"""Largest distance of the points by which a voxel's share of the stroke is found."""
LEAST_TISSUE = 0.25
"""Voxels with a smaller share of tissue in their b0 belong to no stroke."""
WIENER_VOXELS = (5, 5, 1)
WIENER_NOISE = 1.5
"""Window of the filter that tells signal from noise, and the noise variance that it takes away over the measured one:
the window's own variance scatters about the noise's."""


@dataclass(frozen=True, slots=True)
class WrittenStroke:
    """A real head with a stroke; arrays (i, j, k).

    Attributes:
        b0, b1000: float64.
        roi: the stroke as a reader outlines it.
        flair_visible: where FLAIR would show it.
        contrast_to_noise, brightening: as of simulated heads.
    """

    b0: FloatArray
    b1000: FloatArray
    roi: BoolArray
    flair_visible: BoolArray
    contrast_to_noise: float
    brightening: float


class _Effect(NamedTuple):
    """A stroke in n voxels with s points each: its share of each point, and factors of T1, T2 and ADC, all (n, s)."""

    where: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
    share: FloatArray
    t1: FloatArray
    t2: FloatArray
    adc: FloatArray


def write_stroke(
    head: RealHead, lesion: Lesion, *, onset_h: float, rng: np.random.Generator, config: SimulateConfig
) -> WrittenStroke:
    """Write a stroke into a head.

    b0' = b0 exp(TE/T2 (1 - 1/g)) and b1000' = b0' exp(-b ADC f), for T2 grown by g and ADC lowered to f, in the share
    of tissue of each voxel. Only the signal that is told from noise is changed, and the noise is added to it again; the
    signal is corrected for the bias of magnitude images first (Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618).

    Args:
        head: a healthy one.
        lesion: in atlas space.
        onset_h: hours since onset.
        rng: of the patches inside the lesion.
        config: the reader's threshold and the visible ratio.
    """
    effect = _effect(head, lesion, onset_h=onset_h, rng=rng)
    b0, b1000, fraction = _changed_images(head, effect, lesion.appearance.effacement)
    rise = b1000 - head.b1000
    roi = np.zeros(b0.shape, dtype=bool)
    roi[effect.where] = (effect.share.mean(axis=1) > 0.5) & (fraction > LEAST_TISSUE)
    roi = outlined(roi, rise, head.b1000, head.noise[1], config)
    visible = roi & _shows_on_flair(head, effect, fraction, config.visible_ratio)
    contrast = float(rise[roi].mean() / max(head.noise[1], 1e-9)) if roi.any() else 0.0
    brightening = float(b1000[roi].mean() / head.b1000[roi].mean()) if roi.any() else 1.0
    return WrittenStroke(b0, b1000, roi, visible, contrast, brightening)


def _effect(head: RealHead, lesion: Lesion, *, onset_h: float, rng: np.random.Generator) -> _Effect:
    """What the stroke does at the points in and around it."""
    where, points = _subpoints(head, lesion)
    normal = np.ones(points[0].size, dtype=np.float32)
    none = np.zeros_like(normal)
    tissue = BrainTissue(grey=none, white=normal, csf=none, t1=normal, t2=normal, adc=normal)
    stroke = apply_stroke(tissue, points.reshape(3, -1), lesion, onset_h=onset_h, rng=rng)
    factors = np.ones((3, normal.size))
    factors[:, stroke.touched] = stroke.after.t1, stroke.after.t2, stroke.after.adc
    t1, t2, adc = factors.reshape(3, *points.shape[1:])
    share = np.where(stroke.touched, stroke.share, 0.0).reshape(points.shape[1:])
    return _Effect(where, share, t1, t2, adc)


def _changed_images(head: RealHead, effect: _Effect, effacement: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """b0 and b1000 with the stroke; share of tissue (n,) in the b0 of the voxels that it meets."""
    smooth0, smooth1 = (
        denoised(image, noise)[effect.where] for image, noise in zip((head.b0, head.b1000), head.noise, strict=True)
    )
    fraction, adc = tissue_share(smooth0, smooth1, typical_adc(head), b_s_mm2=head.b_s_mm2)
    brighter = np.exp(TE_MS / brain_times()[1] * (1.0 - 1.0 / effect.t2))
    slower = brighter * np.exp(head.b_s_mm2 * adc[:, None] * (1.0 - effect.adc))
    # Swelling squeezes the CSF out, and tissue takes its room.
    left = 1.0 - effacement * effect.share.mean(axis=1)
    growth = tissue_growth(fraction, left)
    b0, b1000 = head.b0.copy(), head.b1000.copy()
    tissue0, fluid0 = fraction * smooth0, (1.0 - fraction) * smooth0
    b0[effect.where] += tissue0 * (growth * brighter.mean(axis=1) - 1.0) + fluid0 * (left - 1.0)
    floor = head.noise[1] ** 2
    before = np.sqrt(np.maximum(smooth1**2 - floor, 0.0))
    fluid1 = np.minimum(fluid0 * np.exp(-head.b_s_mm2 * WATER), before)
    after = (before - fluid1) * growth * slower.mean(axis=1) + fluid1 * left
    b1000[effect.where] += np.sqrt(after**2 + floor) - np.sqrt(before**2 + floor)
    return b0, b1000, fraction


def _shows_on_flair(head: RealHead, effect: _Effect, fraction: FloatArray, visible_ratio: float) -> BoolArray:
    """Where FLAIR, blurred as a reader sees it, would exceed the same tissue's normal FLAIR by the ratio, (i, j, k)."""
    seen, expected = np.zeros((2, *head.brain.shape))
    seen[head.brain] = expected[head.brain] = 1.0
    expected[effect.where] = fraction
    seen[effect.where] = fraction * flair_factor(effect.t2, effect.t1).mean(axis=1)
    sigma = [READER_BLUR_MM / edge for edge in head.spacing_mm[:2]]
    seen, expected = (ndimage.gaussian_filter(image, (*sigma, 0.0), truncate=2.5) for image in (seen, expected))
    return np.asarray(seen > visible_ratio * np.maximum(expected, 1e-6))


def tissue_share(b0: FloatArray, b1000: FloatArray, typical: float, *, b_s_mm2: float) -> tuple[FloatArray, FloatArray]:
    """Share of b0's signal that is tissue, beside free water, and the tissue's ADC in mm^2/s; arrays of one shape.

    Up to 1.25 of the head's typical ADC (chosen here) a voxel is tissue alone; beyond it holds CSF.
    """
    ratio = np.clip(b1000 / np.maximum(b0, 1e-9), 1e-3, 1.0)
    adc = np.clip(-np.log(ratio) / b_s_mm2, 0.3 * typical, 1.25 * typical)
    water = np.exp(-b_s_mm2 * WATER)
    share = (ratio - water) / (np.exp(-b_s_mm2 * adc) - water)
    return np.clip(share, 0.0, 1.0), adc


def tissue_growth(fraction: FloatArray, left: FloatArray) -> FloatArray:
    """How much more tissue a voxel holds when only a share `left` of its CSF is left; (n,).

    `fraction` is the tissue's share of b0's signal; its share of the volume follows from the assumed signals of both.
    """
    t1_ms, t2_ms = brain_times()
    tissues, times = nominal_tissues(FIELD_STRENGTH_T), {"te_ms": TE_MS, "tr_ms": TR_MS}
    density = (tissues.grey_matter.proton_density + tissues.white_matter.proton_density) / 2.0
    fluid = spin_echo(tissues.csf.proton_density, tissues.csf.t1_ms, tissues.csf.t2_ms, **times)
    rooms = fraction, (1.0 - fraction) * spin_echo(density, t1_ms, t2_ms, **times) / fluid
    csf = rooms[1] / (rooms[0] + rooms[1])
    return np.asarray(np.where(csf < MOST_FLUID, (1.0 - csf * left) / np.maximum(1.0 - csf, 1e-3), 1.0))


def typical_adc(head: RealHead) -> float:
    """Median ADC of the brain's tissue in mm^2/s, CSF left out."""
    b0, b1000 = head.b0[head.brain], head.b1000[head.brain]
    known = (b0 > b1000) & (b1000 > 0)
    adc = np.log(b0[known] / b1000[known]) / head.b_s_mm2
    adc = adc[adc < 1.2e-3]
    if not adc.size:
        raise InputError(
            "b1000 is too dark beside b0: no brain tissue has an ADC under 1.2e-3 mm^2/s",
            examination_id=head.examination_id,
            hint="b0 and b1000 must have one gain",
        )
    return float(np.median(adc))


def flair_factor(t2_factor: FloatArray, t1_factor: FloatArray) -> FloatArray:
    """Signal of an assumed FLAIR of tissue with longer T2 and T1 over that of normal tissue, any shape."""
    t1_ms, t2_ms = brain_times()
    csf = nominal_tissues(FIELD_STRENGTH_T).csf.t1_ms
    times = {"te_ms": FLAIR_TE_MS, "tr_ms": FLAIR_TR_MS, "ti_ms": nulling_inversion_time_ms(csf, FLAIR_TR_MS)}
    changed = inversion_recovery(1.0, t1_ms * t1_factor, t2_ms * t2_factor, **times)
    return np.asarray(changed / inversion_recovery(1.0, t1_ms, t2_ms, **times))


def brain_times() -> tuple[float, float]:
    """Assumed T1 and T2 of brain in ms: halfway between grey and white matter."""
    tissues = nominal_tissues(FIELD_STRENGTH_T)
    grey, white = tissues.grey_matter, tissues.white_matter
    return (grey.t1_ms + white.t1_ms) / 2.0, (grey.t2_ms + white.t2_ms) / 2.0


def denoised(image: FloatArray, noise: float) -> FloatArray:
    """Signal without noise: Wiener's filter with the local mean and variance, in the plane."""
    mean = ndimage.uniform_filter(image, WIENER_VOXELS)
    variance = ndimage.uniform_filter((image - mean) ** 2, WIENER_VOXELS)
    kept = np.clip(1.0 - WIENER_NOISE * noise**2 / np.maximum(variance, 1e-12), 0.0, 1.0)
    return np.asarray(mean + kept * (image - mean))


def _subpoints(
    head: RealHead, lesion: Lesion
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]], FloatArray]:
    """Voxels of the brain near the lesion, and atlas positions (3, n, s) of s points within each of them."""
    to_atlas = head.to_atlas @ head.affine
    index = np.stack(np.nonzero(head.brain))
    centres = (to_atlas[:3, :3] @ index + to_atlas[:3, 3:]).astype(np.float32)
    reach = float(np.linalg.norm(to_atlas[:3, :3])) / 2.0 + 4.0
    near = index[:, LatticeMap(lesion.depth_mm).sample(centres, outside=OUTSIDE_MM) > -reach]
    offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in (int(np.ceil(edge / SUBPOINT_MM)) for edge in head.spacing_mm)]
    within = np.stack(np.meshgrid(*offsets, indexing="ij")).reshape(3, 1, -1)
    points = np.tensordot(to_atlas[:3, :3], near[:, :, None] + within, axes=1) + to_atlas[:3, 3][:, None, None]
    return (near[0], near[1], near[2]), points.astype(np.float32)
