"""The folder behind the column of real heads in the model card, laid out for `fvv evaluate --external`.

    python experiments/real_cohort.py DIR [DIR ...] [--person PREFIX ...] [--brain EXAMINATION=MASK ...] -o real_heads

A DIR is an examination (`b0.nii.gz`, `b1000.nii.gz`) or holds examinations at any depth. One in a folder named
`healthy` is stated to be free of stroke; every other one needs `lesion.nii.gz` or `stroke_roi.nii.gz`. Where there is
no `flairviz_roi.nii.gz`, the FLAIR-visible part stays unknown. Examinations whose names begin with one `--person`
PREFIX are of one person. A `--brain` mask of another tool is brought to that examination's grid by nearest neighbour,
to compare the predicted brain with; other masks are not copied, for a new head comes without. Then

    fvv evaluate --external real_heads --set evaluate.own_masks=true -m BUNDLE -o real_results
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import nibabel as nib
from nibabel.processing import resample_from_to

from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.io.tables import write_table

STROKES = ("lesion", "stroke_roi")


def gather(
    folders: Iterable[Path], output: Path, *, persons: Sequence[str] = (), brains: Mapping[str, Path] | None = None
) -> list[dict[str, str]]:
    """Copy the examinations and write participants.tsv; gives its rows."""
    rows = []
    for folder in folders:
        for b1000 in sorted(folder.rglob("b1000.nii.gz")):
            name = b1000.parent.name
            person = next((prefix for prefix in persons if name.startswith(prefix)), name)
            free = "healthy" in b1000.parts
            _copy(b1000.parent, output / name, stroke_free=free)
            rows.append({"participant_id": name, "patient_id": person, "stroke_free": str(int(free))})
    for name, mask in (brains or {}).items():
        image = nib.load(output / name / "b1000.nii.gz")
        nib.save(resample_from_to(nib.load(mask), (image.shape, image.affine), order=0), output / name / "mask.nii.gz")
    rows.sort(key=lambda row: row["participant_id"])
    write_table(output / PARTICIPANTS_FILE, rows)
    return rows


def _copy(source: Path, target: Path, *, stroke_free: bool) -> None:
    target.mkdir(parents=True)  # Two examinations of one name are refused.
    files = {name: source / f"{name}.nii.gz" for name in ("b0", "b1000")}
    if not stroke_free:
        found = next((file for name in STROKES if (file := source / f"{name}.nii.gz").is_file()), None)
        if found is None:
            raise SystemExit(f"{source}: neither healthy nor with lesion.nii.gz or stroke_roi.nii.gz")
        files["stroke_roi"] = found
        if (visible := source / "flairviz_roi.nii.gz").is_file():
            files["flairviz_roi"] = visible
    for name, file in files.items():
        shutil.copy(file, target / f"{name}.nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="examinations, at any depth")
    parser.add_argument("--person", action="append", default=[], metavar="PREFIX", help="one person's examinations")
    parser.add_argument("--brain", action="append", default=[], metavar="EXAMINATION=MASK", help="a brain mask")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    brains = {name: Path(file) for name, _, file in (pair.partition("=") for pair in options.brain)}
    rows = gather(options.folders, options.output, persons=options.person, brains=brains)
    people = len({row["patient_id"] for row in rows})
    free = sum(row["stroke_free"] == "1" for row in rows)
    print(f"{len(rows)} examinations of {people} persons, {free} stroke-free: {options.output}")


if __name__ == "__main__":
    main()
