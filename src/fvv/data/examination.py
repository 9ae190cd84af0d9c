"""One examination: as its files are read, and as the network sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fvv.arrays import BoolArray, FloatArray
from fvv.data.channels import Channel
from fvv.data.findings import Finding
from fvv.data.space import InPlaneGrid, Volume
from fvv.errors import GeometryError


@dataclass(frozen=True, slots=True)
class Case:
    """One examination as read: b0, b1000 and the reference masks, all on one grid.

    Attributes:
        examination_id: name of its folder.
        b0, b1000: float64 images.
        stroke_roi, flair_visible_roi: bool volumes, None where there is no file (a new patient).
        mask: bool brain mask given by the user, or None.
        b1000_file: where b1000 came from; what is written takes its q-form and s-form from there.
        b_value: of b1000, s/mm^2, where a file states it.
        notes: what the reader had to say ("flairviz_roi.nii.gz resampled onto b1000").
        warnings: what of it makes the volumes worth a look.
        b0_computed: b0 was computed from b1000 and an ADC map.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> image = fvv.Volume(np.zeros((8, 8, 4)), np.diag([2.0, 2.0, 5.0, 1.0]))
        >>> fvv.Case("anna", b0=image, b1000=image).b_value is None
        True
    """

    examination_id: str
    b0: Volume
    b1000: Volume
    stroke_roi: Volume | None = None
    flair_visible_roi: Volume | None = None
    mask: Volume | None = None
    b1000_file: Path | None = None
    b_value: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    b0_computed: bool = False


@dataclass(frozen=True, slots=True)
class SignalScale:
    """What takes z-scores back to raw intensities: signal = z * deviation + mean."""

    mean: float
    deviation: float

    def signal(self, zscore: float) -> float:
        """The raw intensity that has this z-score."""
        return self.mean + zscore * self.deviation


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """One examination on the working grid, as the network sees it.

    Attributes:
        examination_id: name of its folder.
        b0, b1000: (256, 256, slices) float16 (float32 for published models), z-scores clipped to +-10.
        brain: (256, 256, slices) bool, the preprocessing mask.
        stroke, flair_visible: (256, 256, slices) bool; None where unknown: of a new patient, or never outlined.
        grid: way back to the native grid.
        findings: what preparation noticed.
        b0_scale, b1000_scale: behind the z-scores; None where they were not kept (stores written before they were).

    Examples:
        >>> import fvv
        >>> [name for name in fvv.PreparedCase.__dataclass_fields__ if name.startswith("b")]
        ['b0', 'b1000', 'brain', 'b0_scale', 'b1000_scale']
    """

    examination_id: str
    b0: FloatArray
    b1000: FloatArray
    brain: BoolArray
    grid: InPlaneGrid
    stroke: BoolArray | None = None
    flair_visible: BoolArray | None = None
    findings: tuple[Finding, ...] = ()
    b0_scale: SignalScale | None = None
    b1000_scale: SignalScale | None = None

    def __post_init__(self) -> None:
        for name in ("b0", "b1000", "brain", "stroke", "flair_visible"):
            array = getattr(self, name)
            if array is not None and array.shape != self.grid.working_shape:
                raise GeometryError(
                    f"{name} has shape {array.shape}, expected {self.grid.working_shape}",
                    examination_id=self.examination_id,
                )

    @property
    def masks(self) -> dict[Channel, BoolArray]:
        """The reference mask of each known channel; the preprocessing mask stands for the brain."""
        masks = {Channel.BRAIN: self.brain, Channel.STROKE: self.stroke, Channel.FLAIR_VISIBLE: self.flair_visible}
        return {channel: mask for channel, mask in masks.items() if mask is not None}

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return self.grid.oriented_shape[2]

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one working-grid voxel in mL."""
        return self.grid.voxel_volume_ml
