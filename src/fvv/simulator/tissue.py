"""What each tissue is made of, as an MR scanner sees it, and the equations of its signal.

Proton densities of grey matter, white matter and CSF, and the T2 of white matter, are near BrainWeb's (Kwan et al.
1999, doi 10.1109/42.816072); T1 and T2 at 1.5 and 3 T lie within the range of Wansapura et al. 1999 (doi
10.1002/(SICI)1522-2586(199904)9:4<531::AID-JMRI4>3.0.CO;2-L) and Stanisz et al. 2005 (doi 10.1002/mrm.20605). Muscle,
fat and vitreous are rounded textbook values: they only have to look right around the brain. Every person differs from
these by `PERSON_SPREAD`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fvv.arrays import FloatArray

Number = float | FloatArray
"""Times in ms, diffusion in mm^2/s, b in s/mm^2; every argument of an equation may be an array, all broadcast."""

PERSON_SPREAD = 0.08
"""Largest relative difference of T1, T2 and ADC between persons (chosen here)."""


class Tissue(NamedTuple):
    """Constants of one tissue."""

    proton_density: float  # relative to CSF
    t1_ms: float
    t2_ms: float
    adc_mm2_s: float


class TissueSet(NamedTuple):
    """All tissues of one person at one field strength."""

    grey_matter: Tissue
    white_matter: Tissue
    csf: Tissue
    muscle: Tissue
    mucosa: Tissue
    vitreous: Tissue
    fat: Tissue


_AT_FIELD = {
    1.5: TissueSet(
        grey_matter=Tissue(0.86, 1050.0, 100.0, 0.82e-3),
        white_matter=Tissue(0.77, 680.0, 80.0, 0.73e-3),
        csf=Tissue(1.0, 4000.0, 1500.0, 3.0e-3),
        muscle=Tissue(0.80, 1000.0, 40.0, 1.4e-3),
        mucosa=Tissue(0.85, 1200.0, 90.0, 1.5e-3),
        vitreous=Tissue(1.0, 3900.0, 1000.0, 2.9e-3),
        fat=Tissue(0.9, 290.0, 75.0, 0.05e-3),
    ),
    3.0: TissueSet(
        grey_matter=Tissue(0.86, 1450.0, 88.0, 0.82e-3),
        white_matter=Tissue(0.77, 880.0, 70.0, 0.73e-3),
        csf=Tissue(1.0, 4300.0, 1200.0, 3.0e-3),
        muscle=Tissue(0.80, 1400.0, 33.0, 1.4e-3),
        mucosa=Tissue(0.85, 1500.0, 80.0, 1.5e-3),
        vitreous=Tissue(1.0, 4200.0, 900.0, 2.9e-3),
        fat=Tissue(0.9, 370.0, 65.0, 0.05e-3),
    ),
}


def nominal_tissues(field_strength_t: float) -> TissueSet:
    """The average person at 1.5 or 3 T."""
    return _AT_FIELD[field_strength_t]


def draw_tissues(rng: np.random.Generator, field_strength_t: float) -> TissueSet:
    """One person's tissues: T1, T2 and ADC each off the average by up to `PERSON_SPREAD`.

    The draws do not depend on the field strength, so that one person examined twice keeps the same deviations.
    """
    return TissueSet(*(_of_one_person(tissue, rng) for tissue in nominal_tissues(field_strength_t)))


def _of_one_person(average: Tissue, rng: np.random.Generator) -> Tissue:
    t1, t2, adc = 1.0 + rng.uniform(-PERSON_SPREAD, PERSON_SPREAD, 3)
    return Tissue(average.proton_density, average.t1_ms * t1, average.t2_ms * t2, average.adc_mm2_s * adc)


def spin_echo(proton_density: Number, t1_ms: Number, t2_ms: Number, *, te_ms: float, tr_ms: float) -> FloatArray:
    """PD (1 - exp(-TR/T1)) exp(-TE/T2): the b0 image of a spin-echo EPI."""
    return np.asarray(proton_density * (1.0 - np.exp(-tr_ms / t1_ms)) * np.exp(-te_ms / t2_ms))


def diffusion_weighted(b0: Number, adc_mm2_s: Number, *, b_s_mm2: float) -> FloatArray:
    """S0 exp(-b ADC): Stejskal and Tanner 1965, doi 10.1063/1.1695690."""
    return np.asarray(b0 * np.exp(-b_s_mm2 * adc_mm2_s))


def inversion_recovery(
    proton_density: Number, t1_ms: Number, t2_ms: Number, *, te_ms: float, tr_ms: float, ti_ms: float
) -> FloatArray:
    """PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2): magnitude of an ideal inversion recovery (FLAIR)."""
    recovery = np.abs(1.0 - 2.0 * np.exp(-ti_ms / t1_ms) + np.exp(-tr_ms / t1_ms))
    return np.asarray(proton_density * recovery * np.exp(-te_ms / t2_ms))


def nulling_inversion_time_ms(t1_ms: float, tr_ms: float) -> float:
    """The TI at which `inversion_recovery` gives nothing for this T1: T1 ln(2 / (1 + exp(-TR/T1)))."""
    return t1_ms * math.log(2.0 / (1.0 + math.exp(-tr_ms / t1_ms)))
