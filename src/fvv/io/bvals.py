"""b-values of an image's volumes: the `.bval` file beside it or, in BIDS, higher up.

Inheritance: a file applies to all images below its folder that have its entities (Gorgolewski et al. 2016,
doi 10.1038/sdata.2016.44; "The Inheritance Principle" of the specification). The nearest one counts.
"""

from __future__ import annotations

from pathlib import Path

from fvv.errors import InputError
from fvv.system.regular import read_regular_text


def bval_beside(image: Path) -> Path:
    """Where an image's own `.bval` file would lie."""
    return image.with_name(f"{image.name.removesuffix('.gz').removesuffix('.nii')}.bval")


def find_bval(image: Path) -> Path | None:
    """The `.bval` file that applies to an image; None where there is none."""
    beside = bval_beside(image)
    if beside.exists() or beside.is_symlink():
        return beside
    entities = set(beside.stem.split("_"))
    subject = next((entity for entity in entities if entity.startswith("sub-")), None)
    if subject is None or subject not in image.parent.parts:
        return None
    for folder in image.parents:
        found = [path for path in sorted(folder.glob("*dwi.bval")) if set(path.stem.split("_")) <= entities]
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise InputError(f"{names} both apply to {image.name}", file=folder, hint="keep only one of them")
        if found:
            return found[0]
        if subject not in folder.parts:  # The root of the data set.
            break
    return None


def read_bvals(image: Path) -> list[float]:
    """b-values in s/mm^2 of an image's volumes; empty where no file states them.

    Raises:
        InputError: the file is a broken link or no regular file, or holds something other than numbers.
    """
    path = find_bval(image)
    if path is None:
        return []
    text = read_regular_text(path, encoding="latin-1", most_bytes=2**20)
    try:
        return [float(word) for word in text.split()]
    except ValueError as error:
        raise InputError(f"expected numbers: {error}", file=path) from error
