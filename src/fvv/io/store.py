"""The store of prepared patients: written by `prepare`, read by training and evaluation.

    preprocessed_data/
      store.json              what the store is: schema, software, profile, axes, units, channels
      folds.tsv               the split, readable and editable
      split.json              what `prepare` knows of the split: how it was made, who has left it, what people changed
      failures.csv            patients that could not be prepared
      cases/<patient>.zarr/   images (channel, slice, i, j) float16; labels (channel, slice, i, j) bool; attributes

Zarr v3, one shard a patient and array with one chunk a slice, so that a slab is read without the rest of the patient
and 3,600 patients stay a few files each. Everything about a patient is in its own attributes. Chunks and attributes
carry checksums: what was damaged on disk is refused, never read as another number.
"""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import BaseZarrError

from fvv import __version__
from fvv.arrays import BoolArray, FloatArray
from fvv.config import PreprocessingProfile
from fvv.data import Channel, FoldPlan, Participant, PreparedCase
from fvv.errors import InputError, StoreError
from fvv.io.atomic import atomic_write
from fvv.io.folds import FOLDS_FILE, read_folds
from fvv.io.sealed import SEAL, read_record, sealed, write_sealed
from fvv.io.shards import refuse_ungathered
from fvv.schemas.store import ArrayDescription, CaseRecord, StoreDescription
from fvv.system.fingerprint import file_sha256, fingerprint

__all__ = ["CASES_FOLDER", "IMAGE_CHANNELS", "STORE_FILE", "CaseRecord", "CaseStore"]

STORE_FILE, CASES_FOLDER = "store.json", "cases"
IMAGE_CHANNELS = ("b1000", "b0")
"""Order of the network's input channels."""
_AXES = ("channel", "slice", "i", "j")
_IMAGES = ArrayDescription(axes=_AXES, channels=IMAGE_CHANNELS, unit="z-score", dtype="float16")
_LABELS = ArrayDescription(axes=_AXES, channels=tuple(channel.label for channel in Channel), unit="", dtype="bool")
_SHARD = "c/0/0/0/0"
"""The one file that holds an array's voxels."""
_SOFTWARE = f"fvv {__version__}"
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, BaseZarrError, InputError)
"""What reading a damaged Zarr group raises."""


class CaseStore:
    """A store on disk. Open it with `CaseStore.open`; make it with `CaseStore.create`."""

    def __init__(self, path: Path, profile: PreprocessingProfile) -> None:
        self.path = path
        self.profile = profile

    @classmethod
    def open(cls, path: Path) -> CaseStore:
        """Open a finished store."""
        file = path / STORE_FILE
        refuse_ungathered(path, "prepare")
        if not file.exists() and not file.is_symlink():
            hint = "run `fvv prepare` first, or name its output folder"
            raise StoreError("no prepared data here", file=path, hint=hint)
        try:
            return cls(path, read_record(file, StoreDescription).profile)
        except InputError as error:
            raise StoreError(error.message, file=file, hint=error.hint or "run `fvv prepare` again") from error

    @classmethod
    def create(cls, path: Path, profile: PreprocessingProfile) -> CaseStore:
        """Describe a store on disk, keeping the patients in it; those of another profile are refused when read."""
        described = StoreDescription(software=_SOFTWARE, profile=profile, images=_IMAGES, labels=_LABELS)
        write_sealed(path / STORE_FILE, described)
        return cls(path, profile)

    @cached_property
    def participants(self) -> tuple[str, ...]:
        """Folder names of the prepared patients, sorted."""
        return tuple(sorted(item.name.removesuffix(".zarr") for item in (self.path / CASES_FOLDER).glob("[!.]*.zarr")))

    @cached_property
    def folds(self) -> FoldPlan:
        """The split, checked against the patients that are really here."""
        plan = read_folds(self.path / FOLDS_FILE)
        missing = sorted({row.examination_id for row in plan.rows} - set(self.participants))
        if missing:
            message = f"the split names patients that are not prepared: {', '.join(missing[:5])}"
            raise StoreError(message, file=self.path)
        return plan

    def identity(self) -> str:
        """Hash over all that training takes from the store: profile, patients, split; read from disk at each call.

        It reads each patient's description and no image: half a second for 3,600 patients. What was prepared again
        with the same result on the same version keeps its identity.
        """
        store = CaseStore.open(self.path)  # A new one: nothing cached.
        cases = {}
        for patient in store.participants:
            try:
                cases[patient] = file_sha256(self._case_path(patient) / "zarr.json")
            except InputError as error:
                raise self._damaged(patient, error) from error
        rows = {row.examination_id: row for row in store.folds.rows}
        return fingerprint(profile=store.profile.sha256, rows=rows, cases=cases)

    def write(self, case: PreparedCase, participant: Participant, *, image_sha256: str, source_sha256: str) -> None:
        """Write one patient, atomically: it is whole, or not there. A channel without a mask is stored as unknown."""
        # (i, j, k) to (channel, k, i, j)
        images = np.stack([np.moveaxis(image, 2, 0) for image in (case.b1000, case.b0)])
        masks, nothing = case.masks, np.zeros_like(case.brain)
        labels = np.stack([np.moveaxis(masks.get(channel, nothing), 2, 0) for channel in Channel])
        record = CaseRecord(
            software=_SOFTWARE,
            profile_sha256=self.profile.sha256,
            participant=participant,
            grid=case.grid,
            findings=case.findings,
            known=frozenset(masks),
            stroke_voxels=labels[Channel.STROKE.value].sum(axis=(1, 2)).tolist(),
            flair_visible_voxels=labels[Channel.FLAIR_VISIBLE.value].sum(axis=(1, 2)).tolist(),
            pad_value=float(images.min()),
            b0_scale=case.b0_scale,
            b1000_scale=case.b1000_scale,
            image_sha256=image_sha256,
            source_sha256=source_sha256,
        )
        with atomic_write(self._case_path(case.examination_id)) as temporary:
            group = zarr.create_group(store=temporary, attributes=sealed(record.model_dump(mode="json")))
            for name, array in (("images", images), ("labels", labels)):
                group.create_array(
                    name,
                    data=array,
                    chunks=(array.shape[0], 1, *array.shape[2:]),
                    shards=array.shape,
                    # Without the checksum a flipped bit would be another brightness, silently.
                    compressors=(BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()),
                    dimension_names=_AXES,
                )

    def record(self, patient: str) -> CaseRecord:
        """What is known of a patient without reading its images."""
        return self._open(patient)[1]

    def read(self, patient: str) -> PreparedCase:
        """One whole patient; without a mask of what is unknown."""
        group, record = self._open(patient)
        arrays = self._arrays(group, record, 0, record.n_slices)
        images, labels = (np.ascontiguousarray(np.moveaxis(array, 1, 3)) for array in arrays)
        b1000, b0 = images
        brain, stroke, flair_visible = labels
        return PreparedCase(
            examination_id=patient,
            b0=b0,
            b1000=b1000,
            brain=brain,
            grid=record.grid,
            stroke=stroke if Channel.STROKE in record.known else None,
            flair_visible=flair_visible if Channel.FLAIR_VISIBLE in record.known else None,
            findings=record.findings,
            b0_scale=record.b0_scale,
            b1000_scale=record.b1000_scale,
        )

    def read_slab(self, patient: str, start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        """Neighbouring slices of one patient.

        Args:
            start, stop: slices [start, stop); those beyond the volume hold the pad value, and no label.

        Returns:
            images (2, stop - start, 256, 256) float16, channels b1000 and b0; labels (3, stop - start, 256, 256) bool,
            in `Channel` order, without a label where a channel is unknown (`CaseRecord.known`).
        """
        group, record = self._open(patient)
        first, last = max(start, 0), min(stop, record.n_slices)
        images, labels = self._arrays(group, record, first, last)
        pads = ((0, 0), (first - start, stop - last), (0, 0), (0, 0))
        return np.pad(images, pads, constant_values=record.pad_value), np.pad(labels, pads)

    def remove(self, patient: str) -> None:
        """Take a patient out of the store."""
        path = self._case_path(patient)
        if path.exists():
            # Renaming first makes it atomic: a half-deleted patient is never seen.
            aside = path.with_name(f".removed-{path.name}")
            path.rename(aside)
            shutil.rmtree(aside)

    def _case_path(self, patient: str) -> Path:
        return self.path / CASES_FOLDER / f"{patient}.zarr"

    def _open(self, patient: str) -> tuple[zarr.Group, CaseRecord]:
        path = self._case_path(patient)
        if not path.exists():
            raise StoreError("not in the store", examination_id=patient, file=self.path)
        try:
            group = zarr.open_group(path, mode="r")
            stored = dict(group.attrs)
            if sealed(stored) != stored:
                raise ValueError("its description has changed since it was written")
            del stored[SEAL]
            record = CaseRecord.parse(stored, path)
        except _BROKEN as error:
            raise self._damaged(patient, error) from error
        if record.participant.examination_id != patient:
            raise self._damaged(patient, f"it is {record.participant.examination_id!a}, under another name")
        if record.profile_sha256 != self.profile.sha256:
            message = f"prepared under another profile than the store's, {self.profile.name}"
            hint = "an earlier `fvv prepare` was not finished: run it again"
            raise StoreError(message, examination_id=patient, file=path, hint=hint)
        return group, record

    def _arrays(self, group: zarr.Group, record: CaseRecord, start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        patient, size = record.participant.examination_id, record.grid.size
        try:
            arrays = dict(group.arrays())
            for name, channels in (("images", len(IMAGE_CHANNELS)), ("labels", len(Channel))):
                if arrays[name].shape != (channels, record.n_slices, size, size):
                    raise ValueError(f"{name} has shape {arrays[name].shape}")
                shard = self._case_path(patient) / name / _SHARD
                if not shard.is_file() or not shard.stat().st_size:  # Zarr would read it as zeros.
                    raise ValueError(f"{name} has lost its voxels")
            return np.asarray(arrays["images"][:, start:stop]), np.asarray(arrays["labels"][:, start:stop])
        except _BROKEN as error:
            raise self._damaged(patient, error) from error

    def _damaged(self, patient: str, error: object) -> StoreError:
        return StoreError(
            f"damaged: {' '.join(str(error).split())[:200]}",
            examination_id=patient,
            file=self._case_path(patient),
            hint="run `fvv prepare` again: it prepares this patient once more",
        )
