"""How good are the FLAIR-visible drafts of `fvv label` on simulated examinations: prints a table and a summary.

    python experiments/label_drafts.py COHORT [COHORT ...]

Each FLAIR is turned and shifted, as if the head had moved, and stored on a grid of its own; it is registered back and
compared with the mirrored side within the reference stroke, so that the models' stroke is of no account.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fvv.analysis.statistics import Bootstrap
from fvv.config import LabelConfig
from fvv.data import Volume
from fvv.imaging.geometry import resample_onto
from fvv.imaging.overlap import Overlap
from fvv.imaging.rigid import register
from fvv.imaging.visibility import flipped, visible_on_flair
from fvv.io.nifti import read_volume
from fvv.simulator.space import rotation_matrix

TURN_DEG, SHIFT_MM = 2.5, 3.0
"""Standard deviations about and along each axis."""
MUCH_ML, DICE, LITTLE_ML = 1.0, 0.8, 0.5
"""A draft is good with a Dice of 0.8 where more than 1 mL is visible, and with less than 0.5 mL where nothing is."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+", help="folders that `fvv simulate` wrote")
    cohorts = {cohort: sorted(cohort.glob("sim_*")) for cohort in parser.parse_args().cohorts}
    for cohort in (cohort for cohort, folders in cohorts.items() if not folders):
        parser.error(f"{cohort}: no examinations of `fvv simulate` (sim_*)")
    print(f"{'examination':<28}{'stroke':>8}{'visible':>9}{'proposed':>10}{'Dice':>7}{'misplaced':>11}")
    found = []
    for folder in (folder for folders in cohorts.values() for folder in folders):
        if read_volume(folder / "stroke_roi.nii.gz").array.any():
            numbers = examine(folder)
            found.append(numbers)
            print(
                "{:<28}{:>8.2f}{:>9.2f}{:>10.2f}{:>7.2f}{:>8.1f} mm".format(
                    f"{folder.parent.name}/{folder.name}", *numbers
                )
            )

    print(summary(np.array(found).reshape(-1, 5)))


def summary(found: np.ndarray) -> str:
    """Of rows as `examine` gives them: strokes with much and with nothing to see."""
    _, visible, proposed, dice, _ = found.T
    much, none = dice[visible > MUCH_ML], proposed[visible == 0]
    lines = [f"over {MUCH_ML:g} mL visible: no stroke", "nothing visible: no stroke"]
    if len(much):
        bootstrap = Bootstrap(2000, np.random.default_rng(0))
        mean = bootstrap.interval(np.arange(len(much)), lambda drawn: float(much[drawn].mean()))
        lines[0] = (
            f"over {MUCH_ML:g} mL visible: Dice {mean.value:.2f} on average [{mean.low:.2f} to {mean.high:.2f}], "
            f"{DICE:g} or more in {(much >= DICE).sum()} of {len(much)}"
        )
    if len(none):
        little = f"{(none < LITTLE_ML).sum()} of {len(none)}, {none.max():.2f} mL at most"
        lines[1] = f"nothing visible: under {LITTLE_ML:g} mL proposed in {little}"
    return "\n".join(lines)


def examine(folder: Path) -> tuple[float, float, float, float, float]:
    """Volumes of stroke, visible and proposed in mL; Dice; mean distance of the registration from the made motion."""
    names = ("b0", "b1000", "flair", "mask", "stroke_roi", "flairviz_roi")
    b0, b1000, flair, *masks = (read_volume(folder / f"{name}.nii.gz") for name in names)
    brain, stroke, visible = (mask.array > 0 for mask in masks)
    rng = np.random.default_rng(int(folder.name.rpartition("_")[2]))
    made = np.eye(4)
    turn = np.deg2rad(rng.normal(0, TURN_DEG, 3))
    made[:3, :3], made[:3, 3] = rotation_matrix((turn[0], turn[1], turn[2])), rng.normal(0, SHIFT_MM, 3)
    spacing = np.array([0.75, 0.75, rng.uniform(3.5, 5.5)])
    shape = np.array([300, 300, round(165 / spacing[2])])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (shape - 1) / 2
    moved = resample_onto(Volume(flair.array, made @ flair.affine), Volume(np.zeros(shape), affine), order=1)
    motion, to_mirror = register(moved, b0, brain), register(flipped(b0), b0, brain)
    ratio = LabelConfig().visible_ratio
    back = motion.onto(moved, b0)
    proposed = visible_on_flair(back, b0, b1000, brain, stroke, to_mirror=to_mirror, ratio=ratio)
    volumes = (float(mask.sum()) * b0.voxel_volume_ml for mask in (stroke, visible, proposed))
    apart = (motion.to_moving - made) @ b0.affine @ np.vstack([np.argwhere(brain).T, np.ones(int(brain.sum()))])
    distance = float(np.linalg.norm(apart[:3], axis=0).mean())
    return (*volumes, Overlap.of_masks(visible, proposed).dice_coefficient, distance)  # type: ignore[return-value]


if __name__ == "__main__":
    main()
