"""When and in which strokes a simulated reader sees FLAIR change, beside what readers saw in people: prints a table.

    fvv simulate -c configs/model.yaml --cases 400 -o input_data
    python experiments/stroke_pace.py input_data

The onset of simulated strokes is log-uniform, that of the patients was not, so the figures agree only roughly.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.simulator.files import read_simulation

WINDOW_H, LATEST_H = 4.5, 12.0
PRE_FLAIR = "0.62 and 0.78 (543 patients: Thomalla et al. 2011, doi 10.1016/S1474-4422(11)70192-2)"
SIZES = "8.9 and 43.1 mL (82 patients: Payabvash et al. 2017, doi 10.1111/jon.12407)"
ONSETS_H = (0.7, 1.5, 3.0, 4.5, 6.0, 9.0, 12.0, 24.0, 72.0)


def share(of: BoolArray) -> str:
    """Mean and its standard error."""
    mean = float(of.mean())
    return f"{mean:.2f} ± {np.sqrt(mean * (1 - mean) / len(of)):.2f} of {len(of)}"


def size(volumes_ml: FloatArray) -> str:
    return f"{volumes_ml.mean():.1f} ± {volumes_ml.std() / np.sqrt(len(volumes_ml)):.1f} mL"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    cohort: Path = parser.parse_args(arguments).cohort
    cases = [read_simulation(path.parent).case for path in sorted(cohort.glob("*/simulation.json"))]
    strokes = [case for case in cases if case.dwi_flair_mismatch is not None]
    if not strokes:
        parser.error(f"no simulated stroke in {cohort}: expected */simulation.json, as `fvv simulate` writes them")
    onset, volume, mismatch = (
        np.array([getattr(case, name) for case in strokes])
        for name in ("onset_h", "lesion_volume_ml", "dwi_flair_mismatch")
    )
    early, late = onset < WINDOW_H, (onset >= WINDOW_H) & (onset < LATEST_H)
    acute = early | late
    print(f"{len(strokes)} strokes of {len(cases)} examinations")
    print(f"mismatch under 4.5 h {share(mismatch[early])}; none at 4.5 to 12 h {share(~mismatch[late])}")
    print(f"  in people {PRE_FLAIR}")
    print(f"under 12 h, with mismatch {size(volume[acute & mismatch])}, without {size(volume[acute & ~mismatch])}")
    print(f"  in people {SIZES}")
    for start, stop in pairwise(ONSETS_H):
        chosen = (onset >= start) & (onset < stop)
        if chosen.any():
            print(f"  {start:4.1f} to {stop:4.1f} h: mismatch {share(mismatch[chosen])}")


if __name__ == "__main__":
    main()
