"""How uneven healthy brain is on b1000, in real heads beside simulated ones: prints one table for each folder.

    fvv simulate --set simulate.stroke_free_share=1 --set simulate.distractors=false --cases 12 -o simulated
    python experiments/healthy_statistics.py real/healthy simulated

Every subfolder with b0 and b1000 of b = 1000 is a head. All is measured on what the project's own preprocessing
(profile robust-v3) makes of it. Simulated heads with a stroke or old damage are counted as they are: leave both out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fvv.arrays import FloatArray
from fvv.config import PROFILES, PreprocessConfig
from fvv.data import Case, PreparedCase
from fvv.errors import FvvError
from fvv.imaging.adc import relative_adc
from fvv.imaging.postprocess import mirrored
from fvv.imaging.preprocess import preprocess_case
from fvv.io.case import read_case

BRIGHT_Z = 3.0
LOW_ADC = 0.8
DETAIL_MM = 4.0
"""Fine contrast is what a Gaussian of this width (standard deviation, in plane) takes away; chosen here."""
OTHER_B_VALUES = ("_b1500", "_b2500")
"""Names of heads that are not of b = 1000."""


class HeadStatistics(NamedTuple):
    """Of the voxels of the brain mask."""

    bright: float  # % with z(b1000) over 3
    low_adc: float  # % with ADC under 0.8 of the brain's median; NaN without an ADC
    fine: float  # SD of z(b1000) less its blur inside the brain
    asymmetry: float  # SD of blurred z(b1000) less that of the mirrored side


def statistics(case: PreparedCase) -> HeadStatistics:
    """Measure one prepared head."""
    brain, z = case.brain, case.b1000.astype(np.float32)
    adc, assumed = relative_adc(case, brain)
    difference = ndimage.gaussian_filter(z, (2.0, 2.0, 0.5)) - mirrored(z, brain)
    both = brain & np.nan_to_num(mirrored(brain.astype(np.float32), brain) > 0.9)
    return HeadStatistics(
        bright=100 * float((z[brain] > BRIGHT_Z).mean()),
        low_adc=float("nan") if assumed else 100 * float((adc[brain] < LOW_ADC).mean()),
        fine=float(fine_contrast(case)[brain].std()),
        asymmetry=float(difference[both].std()),
    )


def fine_contrast(case: PreparedCase) -> FloatArray:
    """z(b1000) less its mean within `DETAIL_MM`, taken over brain alone; (i, j, k) float32, 0 outside the brain."""
    sigma = (*(DETAIL_MM / mm for mm in case.grid.spacing_mm[:2]), 0.0)
    inside = case.brain.astype(np.float32)
    z = case.b1000.astype(np.float32) * inside
    weight = np.maximum(ndimage.gaussian_filter(inside, sigma), 1e-3)
    return np.asarray((z - ndimage.gaussian_filter(z, sigma) / weight) * inside)


def heads_in(folder: Path) -> Iterator[tuple[str, HeadStatistics]]:
    """Name and statistics of every head under a folder, in order; those that cannot be prepared are named and left."""
    for b1000 in sorted(folder.rglob("b1000.nii.gz")):
        name = b1000.parent.name
        if name.endswith(OTHER_B_VALUES):
            continue
        try:
            read = read_case(b1000.parent, PreprocessConfig(), labelled=False)
            # Every head gets the mask that preparation finds itself, whether one comes with it or not.
            case = Case(name, read.b0, read.b1000, b_value=read.b_value)
            yield name, statistics(preprocess_case(case, PROFILES["robust-v3"]))
        except FvvError as error:
            print(f"  left out: {error}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    for folder in parser.parse_args(arguments).folders:
        print(f"{folder}\n  {'head':28} z > 3, %   ADC < 0.8, %   fine SD   asymmetry SD")
        rows = []
        for name, row in heads_in(folder):
            rows.append(row)
            print(f"  {name:28} {row.bright:8.2f} {row.low_adc:14.2f} {row.fine:9.2f} {row.asymmetry:14.2f}")
        if rows:
            middle, spread = np.nanmedian(rows, axis=0), np.nanstd(rows, axis=0)
            texts = " ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(middle, spread, strict=True))
            print(f"  median ± SD of {len(rows)}: {texts}")


if __name__ == "__main__":
    main()
