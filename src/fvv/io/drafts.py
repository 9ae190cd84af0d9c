"""A folder of draft masks: the layout that `fvv prepare` reads, but refused by it until a reader accepts.

of one          b0.nii.gz  b1000.nii.gz  [mask.nii.gz  b1000.bval]  as every stage reads them, from the first on
                fvv_adc.nii.gz  flair.nii.gz (registered to b0)  to look at
                labels.nii.gz  the label map to edit: 0 nothing, 1 stroke, 2 stroke that is FLAIR-visible
                labels.txt  names and colours of the labels for ITK-SNAP
                draft.nii.gz  the label map as proposed;  draft.png;  draft.json
                stroke_roi.nii.gz  flairviz_roi.nii.gz  written when labels.nii.gz is accepted
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fvv.arrays import Affine, UInt8Array
from fvv.data import Channel, Volume
from fvv.errors import InputError, OutputExistsError
from fvv.imaging.geometry import same_grid
from fvv.io.atomic import atomic_write, write_text
from fvv.io.nifti import read_volume, write_volume
from fvv.io.sealed import read_record, verify_files, write_sealed
from fvv.names import plain
from fvv.schemas.labels import DraftRecord
from fvv.system.fingerprint import file_sha256

RECORD, LABELS, DRAFT, PICTURE, NAMES = "draft.json", "labels.nii.gz", "draft.nii.gz", "draft.png", "labels.txt"
MASKS = {Channel.STROKE: "stroke_roi.nii.gz", Channel.FLAIR_VISIBLE: "flairviz_roi.nii.gz"}
VALUES = {Channel.STROKE: 1, Channel.FLAIR_VISIBLE: 2}
"""Of the label map; what is FLAIR-visible is stroke too."""
_INT16 = np.iinfo(np.int16)


def refuse_draft(folder: Path) -> None:
    """Refuse masks that are a draft, or that were edited after they were accepted. Other folders pass.

    Raises:
        InputError: so it is, or draft.json is damaged.
    """
    if not (folder / RECORD).exists():
        return
    record = read_record(folder / RECORD, DraftRecord)
    hint = f"look at {LABELS}, correct it, then: fvv label --accept {plain(str(folder.parent))} {plain(folder.name)}"
    hint += " --reader NAME"
    if not record.acceptances:
        raise InputError("a draft: no reader has accepted these masks", file=folder, hint=hint)
    last = record.acceptances[-1]
    if file_sha256(folder / LABELS) != last.labels_sha256:
        raise InputError(f"{LABELS} was edited after {last.reader} accepted it", file=folder, hint=hint)
    verify_files(folder, last.files, hint=hint)


def refuse_to_replace(folder: Path) -> None:
    """Refuse to write a draft where a reader's work lies, or anything that this program did not write.

    Raises:
        OutputExistsError: so it is; no option overrides it.
    """
    if not folder.exists():
        return
    hint = "move the folder away, or name another -o"
    try:
        record = read_record(folder / RECORD, DraftRecord)
        worked_on = bool(record.acceptances) or file_sha256(folder / LABELS) != record.labels_sha256
    except InputError as error:
        raise OutputExistsError(f"already there, and no draft: {error.message}", file=folder, hint=hint) from error
    if worked_on:
        raise OutputExistsError("a reader has worked on this draft", file=folder, hint=hint)
    ours = {*record.files, LABELS, RECORD}
    others = sorted(item.name for item in folder.iterdir() if item.name not in ours and not item.name.startswith("."))
    if others:
        raise OutputExistsError(f"holds {plain(others[0])}, which fvv did not write", file=folder, hint=hint)


def write_draft(
    folder: Path, record: DraftRecord, images: Mapping[str, Volume], labels: UInt8Array, *, picture: bytes, b_value: str
) -> None:
    """Write the folder of one draft, whole or not at all.

    Args:
        record: without its hashes.
        images: by file name, all on the grid of b1000.
        labels: (i, j, k) uint8, 0, 1 and 2.
        b_value: of b1000 in s/mm^2, as a .bval file holds it; "": not known.

    Raises:
        OutputExistsError: see `refuse_to_replace`.
    """
    refuse_to_replace(folder)
    affine = images["b1000.nii.gz"].affine
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        for name, volume in images.items():
            write_volume(temporary / name, _compact(volume.array), volume.affine)
        for name in (DRAFT, LABELS):
            write_volume(temporary / name, labels, affine)
        write_text(temporary / NAMES, snap_labels())
        if b_value:
            write_text(temporary / "b1000.bval", b_value + "\n")
        (temporary / PICTURE).write_bytes(picture)
        names = sorted(item.name for item in temporary.iterdir() if item.name != LABELS)
        files = {name: file_sha256(temporary / name) for name in names}
        about = {"labels_sha256": file_sha256(temporary / LABELS), "files": files}
        write_sealed(temporary / RECORD, record.model_copy(update=about))


def read_labels(folder: Path, name: str = LABELS) -> Volume:
    """The label map of a draft, (i, j, k) uint8 of 0, 1 and 2, on the grid of the draft.

    Raises:
        InputError: another value is in it, or it lies on another grid.
    """
    volume = read_volume(folder / name)
    values = np.unique(volume.array)
    if not np.isin(values, (0, 1, 2)).all():
        found = ", ".join(f"{value:g}" for value in values[:10])
        hint = "1 is stroke, 2 is stroke that is FLAIR-visible; there is no other label"
        raise InputError(f"expected the labels 0, 1 and 2, found {found}", file=folder / name, hint=hint)
    if name != DRAFT and not same_grid(volume, read_volume(folder / DRAFT)):
        hint = "export it on the grid of b1000, as it was opened"
        raise InputError(f"not on the grid of {DRAFT}", file=folder / name, hint=hint)
    return Volume(volume.array.astype(np.uint8), volume.affine)


def write_masks(folder: Path, labels: UInt8Array, affine: Affine, *, visible_known: bool) -> dict[str, str]:
    """Write the masks that `prepare` reads from an accepted label map; gives each file's SHA-256.

    Args:
        visible_known: write the FLAIR-visible mask too; otherwise what FLAIR shows is unknown, not empty.
    """
    written = {}
    for channel, name in MASKS.items():
        if channel is Channel.STROKE or visible_known:
            write_volume(folder / name, labels >= VALUES[channel], affine)
            written[name] = file_sha256(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    return written


def snap_labels() -> str:
    """The label description of ITK-SNAP: number, red, green, blue, opacity, shown, shown in 3D, name."""
    lines = ["# ITK-SNAP label description", '0 0 0 0 0 0 0 "Nothing"']
    for channel, value in VALUES.items():
        colour = " ".join(str(int(channel.colour[at : at + 2], 16)) for at in (1, 3, 5))
        lines.append(f'{value} {colour} 1 1 1 "{channel.title}"')
    return "\n".join(lines) + "\n"


def _compact(array: np.ndarray) -> np.ndarray:
    """The same values in fewer bytes: int16 where they are such whole numbers, else float32 where that is exact."""
    if array.dtype.kind != "f":
        return array
    low, high = array.min(), array.max()  # NaN is no limit.
    if _INT16.min <= low and high <= _INT16.max and (array == np.rint(array)).all():
        return array.astype(np.int16)
    single = array.astype(np.float32)
    return single if np.array_equal(single, array, equal_nan=True) else array
