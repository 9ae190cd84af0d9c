"""The folder behind the column of real patients in the card of the model in the package: one head, one person.

    python experiments/real_patient.py CASE [CASE ...] --brain BRAIN_MASK -o real_patients

Every CASE is a folder with b0, b1000, stroke_roi and flairviz_roi of the same examination, resampled or not; another
tool's brain mask (`.nii.gz`) is brought to each one's grid by nearest neighbour. participants.tsv says that all are one
person, so that no interval is given over them. The card's are Subject01 of the public sample of the ADS tool at 256 x
256 and 192 x 192, with that tool's masks. Then

    fvv evaluate --external real_patients --set evaluate.own_masks=true -m BUNDLE -o real_results
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
from nibabel.processing import resample_from_to

from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.io.tables import write_table

IMAGES = ("b0", "b1000", "stroke_roi", "flairviz_roi")


def gather(cases: Sequence[Path], brain: Path, output: Path) -> None:
    """Copy the cases, give each the brain mask on its own grid, and say that they are one person."""
    mask = nib.load(brain)
    for case in cases:
        (output / case.name).mkdir(parents=True)
        for image in IMAGES:
            shutil.copy(case / f"{image}.nii.gz", output / case.name)
        b1000 = nib.load(case / "b1000.nii.gz")
        nib.save(resample_from_to(mask, (b1000.shape, b1000.affine), order=0), output / case.name / "mask.nii.gz")
    rows = [{"participant_id": case.name, "patient_id": "one person"} for case in cases]
    write_table(output / PARTICIPANTS_FILE, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="+", help="folders of one examination")
    parser.add_argument("--brain", type=Path, required=True, help="another tool's brain mask")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    gather(options.cases, options.brain, options.output)
    print(f"{len(options.cases)} examinations of one person: {options.output}")


if __name__ == "__main__":
    main()
