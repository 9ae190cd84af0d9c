"""BIDS data sets in: `sub-*/[ses-*]/dwi/*_dwi.nii.gz` with the `.bval` files that apply to them.

The names are those of the standard (Gorgolewski et al. 2016, doi 10.1038/sdata.2016.44). So are the public stroke data
sets ISLES'22 (doi 10.1038/s41597-022-01875-5) and ISLES'24 (doi 10.48550/arXiv.2408.11142): without a `.bval` file, an
image with `*_adc.nii.gz` beside it is b1000, and b0 is computed; `derivatives/` holds the stroke masks.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fvv.errors import InputError
from fvv.io.case import CaseFiles
from fvv.io.listing import paths
from fvv.io.nifti import SUFFIXES, bval_beside, find_image, read_bvals
from fvv.names import first_few, plain
from fvv.protocol import TARGET_B, Shell, b0_volumes, b1000_volumes, is_near_b1000

log = logging.getLogger(__name__)
_PART = re.compile(r"_part-(phase|real|imag)_")
"""Of a complex image, beside its magnitude."""


RAW_FOLDERS = ("rawdata", "raw_data")
"""Where a data set may keep its subjects, beside its derivatives."""
_STROKE_MASKS = ("msk", "lesion-msk")
"""Last part of a stroke mask's name: of ISLES'22, of ISLES'24."""


def is_bids(folder: Path) -> bool:
    """Whether a folder is a BIDS data set: it says so, or holds a subject with diffusion images."""
    return (folder / "dataset_description.json").is_file() or any(_diffusion_folders(raw_folder(folder)))


def find_labelled_bids(root: Path) -> list[CaseFiles]:
    """`find_bids` with the stroke mask of each examination, where there is one; empty where this is no BIDS data set.

    A folder of patients as `prepare` knows them, b1000 in each, is none, whatever else lies in these folders.
    """
    bids = root.is_dir() and any(_diffusion_folders(raw_folder(root)))
    if not bids or any((path / f"b1000{suffix}").exists() for path in paths(root) for suffix in SUFFIXES):
        return []
    masks = _masks(root)
    return [_with_mask(files, masks.get(files.examination_id, [])) for files in find_bids(root)]


def find_bids(root: Path) -> list[CaseFiles]:
    """One examination for each file with b0 and b1000 volumes; two files that hold one each are taken together.

    b1000 without a b0 goes with an ADC map beside it, also where no .bval file states its b-value.

    A subject whose folder is a link to nothing or empty (not fetched), and a session whose images cannot be used, are
    examinations too, which refuse to be read: so they are listed among the failures.
    """
    root = raw_folder(root)
    folders = list(_diffusion_folders(root))
    found = [files for folder in folders for files in _of_session(folder)]
    if not found:
        hint = "expected sub-*/[ses-*]/dwi/*_dwi.nii.gz with .bval"
        raise InputError("no diffusion images", file=root, hint=hint)
    with_images = {folder.relative_to(root).parts[0] for folder in folders}
    there = (path for path in _subjects(root) if path.is_dir() and any(path.iterdir()))
    if without := sorted(path.name for path in there if path.name not in with_images):
        log.warning("%d subjects have no folder dwi: %s", len(without), first_few(without))
    refused = [CaseFiles(name, b1000=place, refusal=why) for name, place, why in _unusable(root, folders)]
    return sorted([*found, *refused], key=lambda files: files.examination_id)


def _diffusion_folders(root: Path) -> Iterator[Path]:
    """In order, and no further than is asked for."""
    for subject in _subjects(root):
        found = [subject / "dwi", *sorted(subject.glob("ses-*/dwi"))]
        yield from (path for path in found if path.is_dir())


def _subjects(root: Path) -> list[Path]:
    try:
        return [path for path in paths(root) if path.name.startswith("sub-")]
    except OSError:
        return []


def raw_folder(root: Path) -> Path:
    """Where the subjects of a data set lie: in its own folder, or in one for raw data."""
    inside = (root / name for name in RAW_FOLDERS)
    return next((folder for folder in (root, *inside) if any(_diffusion_folders(folder))), root)


def _masks(root: Path) -> dict[str, list[Path]]:
    """Stroke masks of the derivatives, by the examination that their name begins with."""
    beside = root.parent if root.name in RAW_FOLDERS else root
    masks: dict[str, list[Path]] = {}
    for suffix in SUFFIXES:
        for path in sorted((beside / "derivatives").rglob(f"sub-*msk{suffix}")):
            *entities, last = path.name.removesuffix(suffix).split("_")
            if last in _STROKE_MASKS:
                masks.setdefault("_".join(entities), []).append(path)
    return masks


def _with_mask(files: CaseFiles, masks: list[Path]) -> CaseFiles:
    if len(masks) > 1 and not files.refusal:
        names = " and ".join(plain(str(path)) for path in masks)
        return replace(files, refusal=f"two stroke masks, keep only one of them: {names}")
    return replace(files, stroke_roi=masks[0]) if masks else files


def _adc_of(image: Path) -> Path | None:
    """The ADC map of an image, beside it under the same name."""
    return find_image(image.parent, image.name.partition("_dwi.")[0] + "_adc")


def _unusable(root: Path, folders: list[Path]) -> Iterator[tuple[str, Path, str]]:
    """Name, place and reason of what would be passed over: not fetched, misnamed, or without a diffusion image."""
    for subject in _subjects(root):
        below = (path for pattern in ("ses-*", "dwi", "ses-*/dwi") for path in sorted(subject.glob(pattern)))
        for path in (subject, *below):
            name = _session_name(path / "dwi" if path.name != "dwi" else path)
            if path.is_symlink() and not path.exists():
                yield name, path, f"a broken link to {path.readlink()}"
            elif path.is_dir() and not any(path.iterdir()):
                yield name, path, "an empty folder: not fetched?"
    for path in paths(root):
        if path.is_dir() and path.name.lower().startswith("sub-") and not path.name.startswith("sub-"):
            yield path.name, path, "a subject's folder is named sub-... in small letters (rename it)"
    for folder in folders:
        if any(folder.iterdir()) and not _images(folder):
            yield _session_name(folder), folder, "no image named ..._dwi.nii.gz or ..._dwi.nii among its files"


def _images(folder: Path) -> list[Path]:
    return sorted(path for suffix in SUFFIXES for path in folder.glob(f"*_dwi{suffix}"))


def _session_name(folder: Path) -> str:
    return "_".join(part for part in folder.parts[-3:-1] if part.startswith(("sub-", "ses-")))


def _of_session(folder: Path) -> list[CaseFiles]:
    session = _session_name(folder)
    images = _images(folder)
    stated = {path: {part for part in path.name.split("_") if part.startswith(("sub-", "ses-"))} for path in images}
    if strangers := [path.name for path in images if not stated[path] <= set(session.split("_"))]:
        # Whose images these are, the file's name and the folder's tell differently.
        refusal = f"{plain(strangers[0])} lies in a folder of {session}: rename the file or move it"
        return [CaseFiles(session, b1000=folder / strangers[0], refusal=refusal)]
    images = [path for path in images if not _PART.search(path.name)]
    both: list[tuple[Path, Shell | None]] = []  # None: cannot be told.
    only_b1000: list[tuple[Path, Shell | None]] = []
    only_b0, seen = [], []
    with_adc: list[CaseFiles] = []
    unknown = False
    for image in images:
        try:
            bvals = read_bvals(image)
        except InputError:  # Who reads this examination says so, and the others go on.
            both.append((image, None))
            continue
        if not bvals and (adc := _adc_of(image)) is not None:
            with_adc.append(CaseFiles(session, b1000=image, adc=adc))
            continue
        if not bvals:
            log.warning("%s: no .bval file applies to it", image.name)
            unknown = True
            seen.append(f"{image.name} has no {bval_beside(image).name}, nor one higher up")
            continue
        b0, b1000 = b0_volumes(bvals), b1000_volumes(bvals)
        seen.append(f"{image.name} holds b = {', '.join(f'{b:g}' for b in sorted(set(bvals)))}")
        if b0 and b1000:
            both.append((image, b1000))
        elif b0:
            only_b0.append(image)
        elif b1000:
            only_b1000.append((image, b1000))
    if both:
        # Several runs of one session are told apart by their whole name.
        runs = _nearest(both, alone=True)
        names = [session] if len(runs) == 1 else [image.name.partition("_dwi.")[0] for image in runs]
        return [CaseFiles(name, b1000=image, b0=image) for name, image in zip(names, runs, strict=True)]
    if len(only_b0) == len(weighted := _nearest(only_b1000, alone=not unknown)) == 1:
        return [CaseFiles(session, b1000=weighted[0], b0=only_b0[0])]
    with_adc += [CaseFiles(session, image, adc=adc) for image in weighted if (adc := _adc_of(image)) is not None]
    if with_adc and not only_b0:
        names = [session] if len(with_adc) == 1 else [one.b1000.name.partition("_dwi.")[0] for one in with_adc]
        return [replace(one, examination_id=name) for one, name in zip(with_adc, names, strict=True)]
    if not images:
        return []
    refusal = f"no b0 and one image near b = {TARGET_B:g} s/mm^2 in this session: {'; '.join(seen)}"
    return [CaseFiles(session, b1000=images[0], refusal=refusal)]


def _nearest(images: list[tuple[Path, Shell | None]], *, alone: bool) -> list[Path]:
    """Those with a shell near b = 1000; where there is none, all, if no other image of the session may have it."""
    near = [image for image, shell in images if shell is None or is_near_b1000(shell.b_value)]
    return near or [image for image, _ in images if alone]
