"""Signal equations. Times in ms, diffusion in mm^2/s, b in s/mm^2; every argument may be an array, all broadcast."""

from __future__ import annotations

import math

import numpy as np

from fvv.arrays import FloatArray

Number = float | FloatArray


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
