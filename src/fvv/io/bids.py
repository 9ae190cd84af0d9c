"""BIDS data sets in: `sub-*/[ses-*]/dwi/*_dwi.nii.gz` with their `.bval` files.

The names are those of the standard (Gorgolewski et al. 2016, doi 10.1038/sdata.2016.44).
"""

from __future__ import annotations

import logging
from pathlib import Path

from fvv.errors import InputError
from fvv.io.case import EXPECTED_B, CaseFiles
from fvv.io.nifti import B0_TOLERANCE, SUFFIXES, read_bvals

log = logging.getLogger(__name__)
NEAREST_B = (700.0, 1300.0)
"""s/mm^2: which shell may stand for b1000 at all; quality control judges how far it is."""


def is_bids(folder: Path) -> bool:
    """Whether a folder is a BIDS data set: it says so, or holds a subject with diffusion images."""
    return (folder / "dataset_description.json").is_file() or any(_diffusion_folders(folder))


def find_bids(root: Path) -> list[CaseFiles]:
    """One examination for each file with b0 and b1000 volumes; two files that hold one each are taken together.

    Args:
        root: of the data set.

    Raises:
        InputError: no diffusion images there.
    """
    found: list[CaseFiles] = []
    for folder in _diffusion_folders(root):
        found += _of_session(folder)
    if not found:
        raise InputError("no diffusion images", file=root, hint="expected sub-*/[ses-*]/dwi/*_dwi.nii.gz with .bval")
    return found


def _diffusion_folders(root: Path) -> list[Path]:
    return sorted(path for pattern in ("sub-*/dwi", "sub-*/ses-*/dwi") for path in root.glob(pattern) if path.is_dir())


def _of_session(folder: Path) -> list[CaseFiles]:
    session = "_".join(part for part in folder.parts[-3:-1] if part.startswith(("sub-", "ses-")))
    images = sorted(path for suffix in SUFFIXES for path in folder.glob(f"*_dwi{suffix}"))
    both, only_b0, only_b1000 = [], [], []
    for image in images:
        try:
            bvals = read_bvals(image)
        except InputError:  # Who reads this examination says so, and the others go on.
            both.append(image)
            continue
        if bvals is None:
            log.warning("%s: left out, no .bval file beside it", image.name)
            continue
        has_b0 = bool((bvals <= B0_TOLERANCE).any())
        has_b1000 = bool(((bvals >= NEAREST_B[0]) & (bvals <= NEAREST_B[1])).any())
        if has_b0 and has_b1000:
            both.append(image)
        elif has_b0:
            only_b0.append(image)
        elif has_b1000:
            only_b1000.append(image)
    if both:
        # Several runs of one session are told apart by their whole name.
        names = [session] if len(both) == 1 else [image.name.partition("_dwi.")[0] for image in both]
        return [CaseFiles(name, b1000=image, b0=image) for name, image in zip(names, both, strict=True)]
    if len(only_b0) == len(only_b1000) == 1:
        return [CaseFiles(session, b1000=only_b1000[0], b0=only_b0[0])]
    if images:
        log.warning("%s: left out, no file with b = 0 and b near %g", session, EXPECTED_B)
    return []
