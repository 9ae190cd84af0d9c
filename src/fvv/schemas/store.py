"""What `prepare` writes: the store, each examination in it, what is remembered of the split, the report of a shard."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, ConfigDict, PlainSerializer

from fvv.config import PrepareConfig, PreprocessingProfile
from fvv.data import Channel, Finding, FoldRow, InPlaneGrid, Participant, SignalScale
from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT
from fvv.schemas.values import Stored
from fvv.system.shard import Shard


class ArrayDescription(Stored):
    """Axes, channels, unit and data type of an array that each examination in the store has."""

    axes: tuple[str, ...]
    channels: tuple[str, ...]
    unit: str
    dtype: str


class StoreDescription(FileModel):
    """store.json: under which profile the examinations were prepared, and what their arrays hold."""

    kind: ClassVar[str] = "store"
    schema_version: int = CURRENT["store"]
    software: str
    profile: PreprocessingProfile
    images: ArrayDescription
    labels: ArrayDescription


def _with_array(grid: Any) -> Any:
    if not isinstance(grid, Mapping):
        return grid
    return {**grid, "native_affine": np.array(grid["native_affine"], dtype=np.float64)}


class StoredGrid(Stored):
    """`InPlaneGrid` as JSON has it."""

    native_shape: tuple[int, int, int]
    native_affine: tuple[tuple[float, ...], ...]
    orientation: tuple[tuple[int, int], ...]
    scale: float
    size: int


def _as_stored(grid: InPlaneGrid) -> StoredGrid:
    return StoredGrid(
        native_shape=grid.native_shape,
        native_affine=grid.native_affine.tolist(),
        orientation=grid.orientation,
        scale=grid.scale,
        size=grid.size,
    )


def _channels(labels: Any) -> Any:
    if isinstance(labels, frozenset) or not isinstance(labels, Collection):
        return labels
    by_label = {channel.label: channel for channel in Channel}
    return frozenset(by_label.get(label, label) for label in labels)


def _labels(channels: frozenset[Channel]) -> list[str]:
    return [channel.label for channel in Channel if channel in channels]


KnownChannels = Annotated[frozenset[Channel], BeforeValidator(_channels), PlainSerializer(_labels)]
"""The channels of which there is a reference mask; in a file by their labels."""


class CaseRecord(FileModel):
    """The attributes of a stored examination: what is known of it without reading its images.

    Attributes:
        grid: way back to the native grid.
        known: channels with a reference mask, the brain always; of the others the stored labels are 0 and mean nothing.
        stroke_voxels, flair_visible_voxels: lesion voxels on each slice; 0 where unknown.
        pad_value: stands for slices beyond the volume: the minimum over both normalised channels.
        b0_scale, b1000_scale: behind the z-scores.
        image_sha256: hash of the raw b0 and b1000 values, which identifies an examination under any name.
        source_sha256: hash of all that the preparation depends on; where it differs, the preparation is repeated.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    kind: ClassVar[str] = "stored case"
    schema_version: int = CURRENT["stored case"]
    software: str
    profile_sha256: str
    participant: Participant
    grid: Annotated[InPlaneGrid, BeforeValidator(_with_array), PlainSerializer(_as_stored)]
    findings: tuple[Finding, ...]
    known: KnownChannels
    stroke_voxels: tuple[int, ...]
    flair_visible_voxels: tuple[int, ...]
    pad_value: float
    b0_scale: SignalScale | None
    b1000_scale: SignalScale | None
    image_sha256: str
    source_sha256: str

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return len(self.stroke_voxels)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one working-grid voxel."""
        return self.grid.voxel_volume_ml

    @property
    def stroke_ml(self) -> float | None:
        """Volume of the stroke ROI; None where unknown."""
        return self._volume_ml(Channel.STROKE, self.stroke_voxels)

    @property
    def flair_visible_ml(self) -> float | None:
        """Volume of the FLAIR-visible ROI, the reference FVV; None where unknown."""
        return self._volume_ml(Channel.FLAIR_VISIBLE, self.flair_visible_voxels)

    @property
    def teaches_lesions(self) -> bool:
        """Whether more than the brain is known."""
        return self.known != {Channel.BRAIN}

    def _volume_ml(self, channel: Channel, voxels: tuple[int, ...]) -> float | None:
        return sum(voxels) * self.voxel_volume_ml if channel in self.known else None


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """How a split is made: `fvv.cohort.folds.plan_folds` takes the same."""

    kfolds: int
    valid_proportion: float
    seed: int


class SplitMemory(FileModel):
    """split.json: what `prepare` remembers of the split from one run to the next.

    Attributes:
        rows: of folds.tsv, as last seen; empty where there is no split yet.
        edited: people have changed or brought it.
        settings: it was made with; None where that is not known.
        former: rows of examinations that have left the split and may come back.
        removed: examinations that people took out.
    """

    kind: ClassVar[str] = "split"
    schema_version: int = CURRENT["split"]
    rows: tuple[FoldRow, ...] = ()
    edited: bool = False
    settings: SplitSettings | None = None
    former: tuple[FoldRow, ...] = ()
    removed: Annotated[frozenset[str], PlainSerializer(sorted, return_type=list[str])] = frozenset()


class Outcome(Stored):
    """What `prepare` did with one examination.

    Attributes:
        newly: prepared by this run, and not there before.
        reason: why it failed, or None.
        reachable: its files can be opened; one that fails because they cannot stays as it was stored.
    """

    participant: Participant
    newly: bool = False
    reason: str | None = None
    reachable: bool = True


class ShardReport(FileModel):
    """report.json of a shard, for the run that joins the shards.

    Attributes:
        config: its settings; those of all shards must be equal, but for the number of processes.
        cohort_sha256: fingerprint of the whole cohort: names, persons, labels; "" in files of version 1.
    """

    kind: ClassVar[str] = "shard report"
    schema_version: int = CURRENT["shard report"]
    shard: Shard
    config: PrepareConfig
    prune: bool
    cohort_sha256: str
    outcomes: tuple[Outcome, ...] = ()

    def of_one_run(self, other: ShardReport) -> bool:
        """Whether both are parts of one run; the number of processes may differ."""
        own, others = (
            (one.shard.count, one.prune, one.cohort_sha256, one.config.model_dump(exclude={"compute"}))
            for one in (self, other)
        )
        return own == others
