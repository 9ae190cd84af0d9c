"""A raw data set of nnU-Net as a labelled cohort: the way back from `fvv export --nnunet`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.data import Channel, Failure
from fvv.errors import InputError, OutputExistsError
from fvv.imaging.geometry import same_grid
from fvv.io.atomic import atomic_write
from fvv.io.lock import only_writer
from fvv.io.nifti import read_volume, write_volume
from fvv.io.nnunet import DATASET, IMAGES, LABELS
from fvv.io.ownership import claim, claimed
from fvv.io.tables import failure_of, write_table
from fvv.names import first_few, plain
from fvv.system.parallel import attempt, track
from fvv.system.regular import read_regular_text, refuse_unsafe_name

IMAGE_NAMES = {"b1000": "b1000", "dwi": "b1000", "b0": "b0", "adc": "adc"}
"""Names of nnU-Net's channels, without case, and the stem of the image in a patient's folder."""
ROI_STEMS = {Channel.STROKE: "stroke_roi", Channel.FLAIR_VISIBLE: "flairviz_roi"}
FILE_ENDINGS = (".nii.gz", ".nii")
IGNORE = "ignore"
"""nnU-Net's label of voxels that nobody has judged."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What was imported.

    Attributes:
        channels: that have a mask.
    """

    folder: Path
    imported: tuple[str, ...]
    channels: tuple[Channel, ...]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """A few lines for the console."""
        held = " and ".join(channel.title for channel in self.channels)
        return (
            f"{len(self.imported)} examinations, masks of {held} -> {self.folder}\n"
            f"nnU-Net knows no persons: where one has several examinations, give them one patient_id in "
            f"{PARTICIPANTS_FILE} before `fvv prepare`"
        )


@dataclass(frozen=True, slots=True)
class _Dataset:
    """What dataset.json says.

    Attributes:
        ending: of the image files.
        images: for each channel number, the stem of the image in a patient's folder.
        masks: for each channel with a mask, the values of the label map that belong to it.
        values: that a label map may hold; a voxel of the label `ignore` belongs to none.
    """

    ending: str
    images: Mapping[int, str]
    masks: Mapping[Channel, frozenset[int]]
    values: frozenset[int]


def import_nnunet(
    dataset: str | Path, output: str | Path, *, labels: str | Path | None = None, overwrite: bool = False
) -> ImportResult:
    """Write a raw data set of nnU-Net v2 as a cohort: a folder for each examination, and participants.tsv.

    Images are copied as they are. Channels are known by name: `b1000` or `dwi`, with `b0` or `adc`. Labels named
    `stroke` and `flair_visible` become masks of these names; a single foreground label of any name is the stroke. An
    examination without an image or a label map, or with voxels to ignore, is a failure. An import that was cut short is
    not taken for a cohort; the same call starts it again.

    Args:
        dataset: folder with dataset.json, imagesTr and labelsTr.
        output: cohort to write.
        labels: folder of other label maps, such as nnU-Net's own predictions (`fold_0/validation`); those examinations
            alone are imported, and `fvv agreement` then compares them with the reference.
        overwrite: replace an earlier import, all of it.

    Raises:
        InputError: no such data set, or channels or labels that cannot be told apart.
        OutputExistsError: a cohort is there, or files that this program did not write.
    """
    dataset, output = Path(dataset), Path(output)
    described = _read_description(dataset / DATASET)
    folder = dataset / LABELS if labels is None else Path(labels)
    if not folder.is_dir():
        raise InputError("no folder of label maps", file=folder)
    names = _names(folder, described.ending)
    if not names:
        raise InputError(f"no label map (*{described.ending})", file=folder)
    if labels is None:
        names |= {
            name for number in described.images for name in _names(dataset / IMAGES, f"_{number:04}{described.ending}")
        }
    for name in sorted(names):
        refuse_unsafe_name(name, folder)
    with only_writer(output):
        earlier = claimed(output, stage="import") - {PARTICIPANTS_FILE}
        claim(output, (*names, PARTICIPANTS_FILE), stage="import")
        if (output / PARTICIPANTS_FILE).exists() and not overwrite:
            raise OutputExistsError("a cohort is there", file=output, hint="--overwrite replaces it")
        (output / PARTICIPANTS_FILE).unlink(missing_ok=True)  # Written last: a cohort without it is not whole.
        for name in earlier:  # Masks of an earlier import would count as masks of this one.
            shutil.rmtree(output / name, ignore_errors=True)
        work = partial(_import_one, dataset / IMAGES, folder, output, described)
        done, failures = [], []
        for name in track(sorted(names), "import", len(names)):
            if (error := attempt(work, name)) is None:
                done.append(name)
            else:
                failures.append(failure_of(name, error))
        if not done:
            raise InputError(f"nothing could be imported; the first: {failures[0].reason}", file=dataset)
        write_table(output / PARTICIPANTS_FILE, [{"participant_id": name, "patient_id": name} for name in done])
    return ImportResult(output, tuple(done), tuple(described.masks), tuple(failures))


def _names(folder: Path, ending: str) -> set[str]:
    return {path.name.removesuffix(ending) for path in folder.glob(f"*{ending}")}


def _import_one(images: Path, labels: Path, output: Path, described: _Dataset, name: str) -> None:
    """Copy the images and split the label map: a whole folder, or none."""
    ending = described.ending
    sources = {stem: images / f"{name}_{number:04}{ending}" for number, stem in described.images.items()}
    for stem, source in sources.items():
        if not source.is_file():
            raise InputError(f"no image of the channel {stem}", file=source, examination_id=name)
    file = labels / f"{name}{ending}"
    if not file.is_file():
        raise InputError("no label map", file=file, examination_id=name)
    b1000, label_map = read_volume(sources["b1000"], finite=False), read_volume(file)
    if not same_grid(label_map, b1000):
        raise InputError("the label map is on another grid than the images", file=file, examination_id=name)
    if unknown := {*np.unique(label_map.array).tolist()} - described.values:
        message = f"voxels of the label map belong to no class of {DATASET}: values {_listed(unknown)}"
        raise InputError(message, file=file, examination_id=name)
    with atomic_write(output / name) as folder:
        folder.mkdir()
        for stem, source in sources.items():
            shutil.copyfile(source, folder / f"{stem}{ending}")
        for channel, meant in described.masks.items():
            mask = np.isin(label_map.array, [*meant]).astype(np.uint8)
            write_volume(folder / f"{ROI_STEMS[channel]}.nii.gz", mask, b1000.affine)


def _read_description(path: Path) -> _Dataset:
    if not path.is_file():
        raise InputError("no such file: not a raw data set of nnU-Net v2", file=path)
    try:
        content = json.loads(read_regular_text(path))
        channels = {int(number): str(name) for number, name in content["channel_names"].items()}
        written: dict[str, int | list[int]] = dict(content["labels"])
        ending = str(content["file_ending"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"cannot be read as dataset.json of nnU-Net v2 ({type(error).__name__}: {plain(str(error))})"
        raise InputError(message, file=path) from error
    if ending not in FILE_ENDINGS:
        message = f"images are {plain(ending)}; only {' and '.join(FILE_ENDINGS)} are imported"
        raise InputError(message, file=path, hint="convert them, and change file_ending")
    labels = _labels(written, path)
    declared = (values for name, values in labels.items() if name != IGNORE)
    return _Dataset(ending, _images(channels, path), _masks(labels, path), frozenset({0}).union(*declared))


def _labels(written: Mapping[str, int | list[int]], path: Path) -> dict[str, frozenset[int]]:
    """The values of each label: a region of nnU-Net has several."""
    try:
        return {
            name: frozenset(map(int, value if isinstance(value, list) else [value])) for name, value in written.items()
        }
    except (TypeError, ValueError) as error:
        message = f"labels must be numbers, or lists of numbers; found {plain(str(written))}"
        raise InputError(message, file=path) from error


def _images(channels: Mapping[int, str], path: Path) -> dict[int, str]:
    found = {number: IMAGE_NAMES[name.lower()] for number, name in channels.items() if name.lower() in IMAGE_NAMES}
    stems = sorted(found.values())
    if stems.count("b1000") != 1 or len(stems) != len(set(stems)) or not {"b0", "adc"} & set(stems):
        message = (
            f"expected one channel named b1000 or dwi, and one named b0 or adc; found {_listed(channels.values())}"
        )
        raise InputError(message, file=path, hint="correct channel_names")
    if "b0" in stems:
        found = {number: stem for number, stem in found.items() if stem != "adc"}  # A measured b0 is better.
    return found


def _masks(labels: Mapping[str, frozenset[int]], path: Path) -> dict[Channel, frozenset[int]]:
    foreground = {name: values for name, values in labels.items() if name not in {"background", IGNORE}}
    masks = {channel: foreground[channel.label] for channel in ROI_STEMS if channel.label in foreground}
    if not masks and len(foreground) == 1:
        masks = {Channel.STROKE: next(iter(foreground.values()))}
    if Channel.STROKE not in masks:
        message = f"expected a label named {Channel.STROKE.label}, or a single label; found {_listed(foreground)}"
        raise InputError(message, file=path, hint="correct labels")
    if not masks.get(Channel.FLAIR_VISIBLE, frozenset()) <= masks[Channel.STROKE]:
        message = "labels: flair_visible is part of the stroke, but its values are not all values of stroke"
        raise InputError(message, file=path, hint="write them as regions, such as stroke: [1, 2], flair_visible: 2")
    return masks


def _listed(names: Iterable[str]) -> str:
    return first_few(sorted(names)) or "none"
