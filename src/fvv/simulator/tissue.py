"""What each tissue is made of, as an MR scanner sees it.

Proton densities of grey matter, white matter and CSF, and the T2 of white matter, are near BrainWeb's (Kwan et al.
1999, doi 10.1109/42.816072); T1 and T2 at 1.5 and 3 T lie within the range of Wansapura et al. 1999 (doi
10.1002/(SICI)1522-2586(199904)9:4<531::AID-JMRI4>3.0.CO;2-L) and Stanisz et al. 2005 (doi 10.1002/mrm.20605). Muscle,
fat and vitreous are rounded textbook values: they only have to look right around the brain. Every person differs from
these by `PERSON_SPREAD`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

PERSON_SPREAD = 0.08
"""Largest relative difference of T1, T2 and ADC between persons (chosen here)."""


@dataclass(frozen=True, slots=True)
class Tissue:
    """Constants of one tissue.

    Attributes:
        proton_density: relative to CSF.
        t1_ms, t2_ms: relaxation times.
        adc_mm2_s: apparent diffusion coefficient.
    """

    proton_density: float
    t1_ms: float
    t2_ms: float
    adc_mm2_s: float


@dataclass(frozen=True, slots=True)
class TissueSet:
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
    average = nominal_tissues(field_strength_t)
    drawn = {}
    for name in TissueSet.__dataclass_fields__:
        tissue: Tissue = getattr(average, name)
        t1, t2, adc = 1.0 + rng.uniform(-PERSON_SPREAD, PERSON_SPREAD, 3)
        drawn[name] = replace(
            tissue, t1_ms=tissue.t1_ms * t1, t2_ms=tissue.t2_ms * t2, adc_mm2_s=tissue.adc_mm2_s * adc
        )
    return TissueSet(**drawn)
