"""The store of prepared patients: written by `prepare`, read by training and evaluation.

    preprocessed_data/
      store.json              what the store is: schema, software, profile, axes, units, channels, split settings
      folds.tsv               the split, readable and editable
      split.json              what `prepare` knows of the split: how it was made, who has left it, what people changed
      failures.csv            patients that could not be prepared
      cases/<patient>.zarr/   images (channel, slice, i, j) float16; labels (channel, slice, i, j) bool; attributes

Zarr v3, one shard a patient and array with one chunk a slice, so that a slab is read without the rest of the patient
and 3,600 patients stay a few files each. Everything about a patient is in its own attributes. Chunks and attributes
carry checksums: what was damaged on disk is refused, never read as another number.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import BaseZarrError

from fvv import __version__
from fvv.arrays import BoolArray, FloatArray
from fvv.config import PreprocessingProfile
from fvv.data import Channel, Finding, FoldPlan, InPlaneGrid, Participant, PreparedCase, Severity, SignalScale
from fvv.errors import InputError, StoreError
from fvv.io.atomic import atomic_write, write_text
from fvv.io.manifest import FOLDS_FILE, read_folds
from fvv.system.regular import read_regular_text

SCHEMA_VERSION = 1
IMAGE_CHANNELS = ("b1000", "b0")
"""Order of the network's input channels."""
_CHECKSUM = "attributes_sha256"
_PROFILE_IN_RECORDS = "profile_in_records"
"""In store.json: every patient says under which profile it was prepared."""
_SHARD = "c/0/0/0/0"
"""The one file that holds an array's voxels."""


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """What is known of a prepared patient without reading its images.

    Attributes:
        participant: who it is and what the readers said.
        grid: way back to the native grid.
        findings: what preparation noticed.
        n_slices: number of slices.
        stroke_voxels, flair_visible_voxels: lesion voxels on each slice.
        pad_value: what stands for slices beyond the volume: the minimum over both normalised channels.
        image_sha256: hash of the raw b0 and b1000 values, which knows a patient again under another name.
        source_sha256: hash of everything the preparation depended on; another one means it must be redone.
        scales: behind the z-scores of b1000 and b0; empty where they were not kept (earlier versions).
    """

    participant: Participant
    grid: InPlaneGrid
    findings: tuple[Finding, ...]
    n_slices: int
    stroke_voxels: tuple[int, ...]
    flair_visible_voxels: tuple[int, ...]
    pad_value: float
    image_sha256: str
    source_sha256: str
    scales: tuple[SignalScale, ...] = ()

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one working-grid voxel, mL."""
        return self.grid.voxel_volume_ml

    @property
    def stroke_ml(self) -> float:
        """Volume of the stroke ROI."""
        return sum(self.stroke_voxels) * self.voxel_volume_ml

    @property
    def flair_visible_ml(self) -> float:
        """Volume of the FLAIR-visible ROI: the true FVV."""
        return sum(self.flair_visible_voxels) * self.voxel_volume_ml


class CaseStore:
    """A store on disk. Open it with `CaseStore.open`; make it with `CaseStore.create`."""

    def __init__(self, path: Path, profile: PreprocessingProfile, *, profile_in_records: bool = True) -> None:
        self.path = path
        self.profile = profile
        self._profile_in_records = profile_in_records

    @classmethod
    def open(cls, path: Path) -> CaseStore:
        """Open a finished store.

        Raises:
            StoreError: no store there, or one this version cannot read.
        """
        content = read_store_json(path)
        if content is None:
            raise StoreError(
                "no prepared data here", file=path, hint="run `fvv prepare` first, or name its output folder"
            )
        if content.get("schema_version") != SCHEMA_VERSION:
            raise StoreError(
                f"store of schema {content.get('schema_version')}, this version reads {SCHEMA_VERSION}",
                file=path,
                hint="run `fvv prepare` again",
            )
        try:
            profile = PreprocessingProfile.model_validate(content.get("profile"))
            return cls(path, profile, profile_in_records=content.get(_PROFILE_IN_RECORDS) is True)
        except ValidationError as error:
            raise StoreError(
                "store.json names no preprocessing profile", file=path, hint="run `fvv prepare` again"
            ) from error

    @classmethod
    def create(cls, path: Path, profile: PreprocessingProfile, split: dict[str, Any]) -> CaseStore:
        """Describe a store on disk, keeping the patients that are already in it.

        Those of another profile stay on disk and are refused when read.
        """
        try:
            before = read_store_json(path) or {}
        except StoreError:  # Damaged: everything in it is known anyway.
            before = {}
        # Patients that an earlier version wrote do not say under which profile: they can only have this one's.
        in_records = not before or before.get(_PROFILE_IN_RECORDS) is True
        in_records |= before.get("profile_sha256") != profile.sha256
        content = {
            "schema_version": SCHEMA_VERSION,
            "software": f"fvv {__version__}",
            "profile": profile.model_dump(mode="json"),
            "profile_sha256": profile.sha256,
            _PROFILE_IN_RECORDS: in_records,
            "images": {
                "axes": ["channel", "slice", "i", "j"],
                "channels": IMAGE_CHANNELS,
                "unit": "z-score",
                "dtype": "float16",
            },
            "labels": {"axes": ["channel", "slice", "i", "j"], "channels": [channel.label for channel in Channel]},
            "split": split,
        }
        write_text(path / "store.json", json.dumps(content, indent=2) + "\n")
        return cls(path, profile, profile_in_records=in_records)

    @cached_property
    def participants(self) -> tuple[str, ...]:
        """Folder names of the prepared patients, sorted."""
        return tuple(sorted(item.name.removesuffix(".zarr") for item in (self.path / "cases").glob("[!.]*.zarr")))

    @cached_property
    def folds(self) -> FoldPlan:
        """The split, checked against the patients that are really here."""
        plan = read_folds(self.path / FOLDS_FILE)
        missing = sorted({row.participant for row in plan.rows} - set(self.participants))
        if missing:
            raise StoreError(
                f"the split names patients that are not prepared: {', '.join(missing[:5])}", file=self.path
            )
        return plan

    def identity(self) -> str:
        """Hash over all that training takes from the store: profile, patients, split; read from disk at each call.

        It reads each patient's description and no image: half a second for 3,600 patients. What was prepared again
        with the same result on the same version keeps its identity.

        Raises:
            StoreError: the store, its split or a patient's description is missing or damaged.
        """
        store = CaseStore.open(self.path)  # A fresh one: nothing cached.
        rows = sorted((row.participant, row.person, [role.value for role in row.roles]) for row in store.folds.rows)
        digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, store.profile.sha256, rows]).encode())
        for patient in store.participants:
            try:
                description = (self._case_path(patient) / "zarr.json").read_bytes()
            except OSError as error:
                raise self._damaged(patient, error) from error
            digest.update(f"\n{patient}\n{hashlib.sha256(description).hexdigest()}".encode())
        return digest.hexdigest()

    def write(self, case: PreparedCase, participant: Participant, *, image_sha256: str, source_sha256: str) -> None:
        """Write one patient, atomically: it is whole, or not there. The case must carry both ROIs."""
        if case.stroke is None or case.flair_visible is None:
            raise StoreError("only labelled patients can be stored", patient=case.patient)
        images = np.stack([_to_slices(case.b1000), _to_slices(case.b0)])
        labels = np.stack([_to_slices(mask) for mask in (case.brain, case.stroke, case.flair_visible)])
        grid = case.grid
        attributes = {
            "schema_version": SCHEMA_VERSION,
            "software": f"fvv {__version__}",
            "profile_sha256": self.profile.sha256,
            "participant": asdict(participant),
            "grid": {
                "native_shape": grid.native_shape,
                "native_affine": grid.native_affine.tolist(),
                "orientation": grid.orientation,
                "scale": grid.scale,
                "size": grid.size,
            },
            "spacing_mm": grid.spacing_mm,
            "findings": [[finding.code, finding.message, finding.severity.value] for finding in case.findings],
            "stroke_voxels": labels[Channel.STROKE.value].sum(axis=(1, 2)).tolist(),
            "flair_visible_voxels": labels[Channel.FLAIR_VISIBLE.value].sum(axis=(1, 2)).tolist(),
            "pad_value": float(images.min()),
            "signal_scales": [asdict(scale) for scale in (case.b1000_scale, case.b0_scale) if scale is not None],
            "image_sha256": image_sha256,
            "source_sha256": source_sha256,
        }
        attributes = json.loads(json.dumps(attributes))
        attributes[_CHECKSUM] = _checksum(attributes)
        with atomic_write(self._case_path(case.patient)) as temporary:
            group = zarr.create_group(store=temporary, attributes=attributes)
            for name, array in (("images", images), ("labels", labels)):
                group.create_array(
                    name,
                    data=array,
                    chunks=(array.shape[0], 1, *array.shape[2:]),
                    shards=array.shape,
                    # Without the checksum a flipped bit would be another brightness, silently.
                    compressors=(BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()),
                    dimension_names=("channel", "slice", "i", "j"),
                )

    def record(self, patient: str) -> CaseRecord:
        """What is known of a patient without reading its images.

        Raises:
            StoreError: not there, damaged, or prepared under another profile than the store's.
        """
        group = self._group(patient)
        try:
            stored: dict[str, Any] = dict(group.attrs)
            if stored.pop(_CHECKSUM, None) not in {None, _checksum(stored)}:  # None: written before there was one
                raise ValueError("its description has changed since it was written")
            if stored["participant"]["participant"] != patient:
                raise ValueError(f"it is {stored['participant']['participant']!a}, under another name")
            self._refuse_other_profile(patient, stored.get("profile_sha256"))
            grid = stored["grid"]
            return CaseRecord(
                participant=Participant(**stored["participant"]),
                grid=InPlaneGrid(
                    native_shape=tuple(grid["native_shape"]),
                    native_affine=np.array(grid["native_affine"], dtype=np.float64),
                    orientation=tuple((int(axis), int(flip)) for axis, flip in grid["orientation"]),
                    scale=float(grid["scale"]),
                    size=int(grid["size"]),
                ),
                findings=tuple(Finding(code, text, Severity(level)) for code, text, level in stored["findings"]),
                n_slices=len(stored["stroke_voxels"]),
                stroke_voxels=tuple(stored["stroke_voxels"]),
                flair_visible_voxels=tuple(stored["flair_visible_voxels"]),
                pad_value=float(stored["pad_value"]),
                image_sha256=stored["image_sha256"],
                source_sha256=stored["source_sha256"],
                scales=tuple(SignalScale(**scale) for scale in stored.get("signal_scales", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(patient, error) from error

    def _refuse_other_profile(self, patient: str, sha256: str | None) -> None:
        if sha256 == self.profile.sha256 or (sha256 is None and not self._profile_in_records):
            return
        raise StoreError(
            f"prepared under another profile than the store's, {self.profile.name}",
            patient=patient,
            file=self._case_path(patient),
            hint="an earlier `fvv prepare` was not finished: run it again",
        )

    def read(self, patient: str) -> PreparedCase:
        """One whole patient."""
        record = self.record(patient)
        images, labels = self._arrays(patient, record, 0, record.n_slices)
        b1000, b0 = (_from_slices(channel) for channel in images)
        brain, stroke, flair_visible = (_from_slices(channel) for channel in labels)
        b1000_scale, b0_scale = record.scales or (None, None)
        return PreparedCase(
            patient, b0, b1000, brain, record.grid, stroke, flair_visible, record.findings, b0_scale, b1000_scale
        )

    def read_slab(self, patient: str, start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        """Neighbouring slices of one patient.

        Args:
            patient: folder name.
            start, stop: slices [start, stop); those beyond the volume hold the pad value, and no label.

        Returns:
            images (2, stop - start, 256, 256) float16, channels b1000 and b0; labels (3, stop - start, 256, 256) bool,
            in `Channel` order.
        """
        record = self.record(patient)
        first, last = max(start, 0), min(stop, record.n_slices)
        images, labels = self._arrays(patient, record, first, last)
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
        return self.path / "cases" / f"{patient}.zarr"

    def _group(self, patient: str) -> zarr.Group:
        try:
            return zarr.open_group(self._case_path(patient), mode="r")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, BaseZarrError) as error:
            if not self._case_path(patient).exists():
                raise StoreError("not in the store", patient=patient, file=self.path) from error
            raise self._damaged(patient, error) from error

    def _arrays(self, patient: str, record: CaseRecord, start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        group = self._group(patient)
        try:
            arrays = dict(group.arrays())
            for name, channels in (("images", len(IMAGE_CHANNELS)), ("labels", len(Channel))):
                size = record.grid.size
                if arrays[name].shape != (channels, record.n_slices, size, size):
                    raise ValueError(f"{name} has shape {arrays[name].shape}")
                shard = self._case_path(patient) / name / _SHARD
                if not shard.is_file() or not shard.stat().st_size:  # Zarr would read it as zeros.
                    raise ValueError(f"{name} has lost its voxels")
            return np.asarray(arrays["images"][:, start:stop]), np.asarray(arrays["labels"][:, start:stop])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, BaseZarrError) as error:
            raise self._damaged(patient, error) from error

    def _damaged(self, patient: str, error: BaseException) -> StoreError:
        return StoreError(
            f"damaged: {' '.join(str(error).split())[:200]}",
            patient=patient,
            file=self._case_path(patient),
            hint="run `fvv prepare` again: it prepares this patient once more",
        )


def read_store_json(path: Path) -> dict[str, Any] | None:
    """store.json, or None where there is none.

    Raises:
        StoreError: it is there but cannot be read.
    """
    file = path / "store.json"
    if not file.exists() and not file.is_symlink():
        return None
    try:
        content = json.loads(read_regular_text(file))
    except InputError as error:
        raise StoreError(error.message, file=file, hint=error.hint) from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"cannot be read: {error}", file=file, hint="run `fvv prepare` again") from error
    if not isinstance(content, dict):
        raise StoreError("expected a JSON object", file=file, hint="run `fvv prepare` again")
    return content


def _checksum(attributes: dict[str, Any]) -> str:
    """SHA-256 of a patient's attributes: numbers that nothing else would miss."""
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()


def _to_slices(array: np.ndarray) -> np.ndarray:
    """(i, j, k) to (k, i, j)."""
    return np.moveaxis(array, 2, 0)


def _from_slices(array: np.ndarray) -> np.ndarray:
    """(k, i, j) to (i, j, k)."""
    return np.ascontiguousarray(np.moveaxis(array, 0, 2))
