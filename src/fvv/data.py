"""The values that pass from one step to the next. All are frozen and checked when they are made.

Frames: arrays are (i, j, k); affines map voxel centres to RAS+ millimetres (NIfTI's convention). The *working grid* is
the 256 x 256 x slices grid the network sees; the *native grid* is the one of the input files.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Final, Self

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import FileBasedImage
from nibabel.nifti1 import Nifti1Image
from nibabel.spatialimages import SpatialImage

from fvv.arrays import Affine, BoolArray, FloatArray, UInt8Array
from fvv.errors import GeometryError, StoreError

Orientation = tuple[tuple[int, int], ...]
"""nibabel's orientation: for every stored axis, (RAS axis, +1 or -1)."""


class Channel(Enum):
    """What the network marks: the one source of channel order.

    Examples:
        >>> import fvv
        >>> [channel.label for channel in fvv.Channel]
        ['brain', 'stroke', 'flair_visible']
    """

    BRAIN = 0
    STROKE = 1
    FLAIR_VISIBLE = 2

    @property
    def label(self) -> str:
        """Name used in files: brain, stroke, flair_visible."""
        return self.name.lower()

    @property
    def title(self) -> str:
        """Name for people: Brain, Stroke, FLAIR-visible."""
        return ("Brain", "Stroke", "FLAIR-visible")[self.value]

    @property
    def colour(self) -> str:
        """Colour in every picture, page and DICOM object, "#rrggbb": bluish green, sky blue, vermillion.

        From Okabe and Ito's palette, distinct in every common form of colour blindness
        (https://jfly.uni-koeln.de/color/).
        """
        return ("#009e73", "#56b4e9", "#d55e00")[self.value]


class Role(Enum):
    """What a patient is for in one fold."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Volume:
    """A 3D image in space.

    Attributes:
        array: (i, j, k), any dtype.
        affine: (4, 4) float64, voxel index to RAS+ mm.

    Raises:
        GeometryError: not 3D, or the affine is singular, sheared or not finite.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> volume = fvv.Volume(np.zeros((4, 4, 2)), np.diag([2.0, 2.0, 5.0, 1.0]))
        >>> volume.spacing_mm, volume.voxel_volume_ml
        ((2.0, 2.0, 5.0), 0.02)
    """

    array: np.ndarray
    affine: Affine

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise GeometryError(f"expected a 3D image, got shape {self.array.shape}")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise GeometryError("expected a finite 4 x 4 affine")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:
            raise GeometryError("the affine is singular: the voxels have no volume")
        if abs(np.linalg.det(self.affine[:3, :3])) < 0.99 * np.prod(self.spacing_mm):
            # Volumes and distances are products of voxel edges, which is only true of bricks.
            raise GeometryError(
                "the affine is sheared: the voxels have no right angles", hint="resample the image onto an upright grid"
            )

    @classmethod
    def from_nibabel(cls, image: FileBasedImage) -> Self:
        """The image that nibabel has opened, as float64 with its scaling applied.

        Args:
            image: 3D; further axes of length 1 are dropped.

        Raises:
            GeometryError: not 3D, of colours or complex numbers, or without an affine.

        Examples:
            >>> import nibabel
            >>> import numpy as np
            >>> import fvv
            >>> fvv.Volume.from_nibabel(nibabel.Nifti1Image(np.ones((4, 4, 2), np.int16), np.eye(4))).array.dtype
            dtype('float64')
        """
        if not isinstance(image, SpatialImage) or image.affine is None:
            raise GeometryError(f"expected an image with an affine, got {type(image).__name__}")
        if image.get_data_dtype().kind not in "biuf":
            raise GeometryError(f"expected an image of numbers, got data type {image.get_data_dtype()}")
        # In C order, as files are read: sums of voxels in another order differ in their last digit.
        array = np.asarray(image.dataobj, dtype=np.float64, order="C")
        while array.ndim > 3 and array.shape[-1] == 1:
            array = array[..., 0]
        return cls(np.ascontiguousarray(array), np.array(image.affine, dtype=np.float64))

    def to_nibabel(self) -> Nifti1Image:
        """The same as a NIfTI image of nibabel, in mm; bool becomes uint8, float16 becomes float32.

        Examples:
            >>> import numpy as np
            >>> import fvv
            >>> fvv.Volume(np.zeros((4, 4, 2), bool), np.eye(4)).to_nibabel().get_data_dtype()
            dtype('uint8')
        """
        kind = {"bool": np.uint8, "float16": np.float32}.get(self.array.dtype.name, self.array.dtype)
        image = Nifti1Image(self.array.astype(kind), self.affine, dtype=kind)
        image.header.set_xyzt_units("mm")
        return image

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths along i, j, k."""
        i, j, k = voxel_sizes(self.affine).tolist()
        return i, j, k

    @property
    def voxel_volume_ml(self) -> float:
        """Product of the three edge lengths, in mL."""
        return float(np.prod(self.spacing_mm)) / 1000.0


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
class InPlaneGrid:
    """The invertible way from the native grid to the working grid (256 x 256, slices untouched).

    Attributes:
        native_shape: (i, j, k) of the input files.
        native_affine: (4, 4) affine of the input files, voxel to RAS+ mm.
        orientation: how the stored axes are reordered and flipped first; identity for the usual axial image.
        scale: in-plane zoom applied to every slice (1.0 where none).
        size: edge of the working grid in voxels.
    """

    native_shape: tuple[int, int, int]
    native_affine: Affine
    orientation: Orientation
    scale: float
    size: int = 256

    @property
    def oriented_shape(self) -> tuple[int, int, int]:
        """Shape after reorientation, before scaling."""
        shape = [0, 0, 0]
        for stored_axis, (axis, _) in enumerate(self.orientation):
            shape[axis] = self.native_shape[stored_axis]
        return shape[0], shape[1], shape[2]

    @property
    def scaled_shape(self) -> tuple[int, int, int]:
        """Shape after scaling, before padding or cropping (scikit-image's rounding)."""
        nx, ny, nz = self.oriented_shape
        if self.scale == 1.0:
            return nx, ny, nz
        return int(np.round(nx * self.scale)), int(np.round(ny * self.scale)), nz

    @property
    def working_shape(self) -> tuple[int, int, int]:
        """(size, size, slices)."""
        return self.size, self.size, self.oriented_shape[2]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edges of the working grid."""
        dx, dy, dz = self._oriented_spacing_mm
        return dx / self.scale, dy / self.scale, dz

    @property
    def _oriented_spacing_mm(self) -> tuple[float, float, float]:
        native = voxel_sizes(self.native_affine)
        oriented = [0.0, 0.0, 0.0]
        for stored_axis, (axis, _) in enumerate(self.orientation):
            oriented[axis] = float(native[stored_axis])
        return oriented[0], oriented[1], oriented[2]

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one working-grid voxel, mL: (dx dy dz) / 1000 / scale^2."""
        dx, dy, dz = self._oriented_spacing_mm  # In one order however stored: products differ in their last digit.
        return float(dx * dy * dz / 1000.0 / self.scale**2)


class Severity(Enum):
    """How much a finding matters."""

    NOTE = "note"
    WARNING = "warning"
    NOT_ASSESSABLE = "not assessable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing quality control has to say: a stable code, a sentence for people, a severity."""

    code: str
    message: str
    severity: Severity


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


@dataclass(frozen=True, slots=True)
class Failure:
    """A patient that could not be done, and why; a row of failures.csv."""

    examination_id: str
    reason: str


class DecisionState(Enum):
    """The four answers, never a fifth."""

    MISMATCH_LIKELY = "mismatch likely"
    MISMATCH_UNLIKELY = "mismatch unlikely"
    NO_LESION_FOUND = "no lesion found"
    NOT_ASSESSABLE = "not assessable"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is said about a patient, and why.

    Attributes:
        state: one of the four answers.
        cutoff_ml: the FVV under which a mismatch is called likely.
        reasons: the findings that led there, or that the reader should know.
        minimum_lesion_ml: a stroke of no more than this counted as no lesion.

    Examples:
        >>> import fvv
        >>> fvv.Decision(fvv.DecisionState.NO_LESION_FOUND, cutoff_ml=0.5).state.value
        'no lesion found'
    """

    state: DecisionState
    cutoff_ml: float
    reasons: tuple[Finding, ...] = ()
    minimum_lesion_ml: float = 0.0


@dataclass(frozen=True, slots=True)
class FusedSegmentation:
    """What n models say together about one patient, on the working grid.

    Attributes:
        n_models: number of models fused.
        brain, stroke: (256, 256, slices) bool, majority votes; stroke lies within brain.
        flair_visible_votes: (256, 256, slices) uint8, number of models (0..n) inside the stroke.
        flair_visible_voxels: mean over models of the FLAIR-visible voxels inside the stroke.
        flair_visible_voxels_per_model: the same for each model, in model order.
        findings: what the post-processing removed, could not judge or doubts.
        stroke_votes: (256, 256, slices) uint8, number of models (0..n) that call a voxel of the stroke stroke.
    """

    n_models: int
    brain: BoolArray
    stroke: BoolArray
    flair_visible_votes: UInt8Array
    flair_visible_voxels: float
    flair_visible_voxels_per_model: tuple[int, ...]
    findings: tuple[Finding, ...] = ()
    stroke_votes: UInt8Array | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one patient. Volumes are None where nothing could be measured: never 0.

    Attributes:
        examination_id: name of its folder.
        decision: the answer and its reasons.
        voxel_volume_ml: volume of one working-grid voxel.
        brain_voxels, stroke_voxels, flair_visible_voxels: counts on the working grid, as the reference reports them.
        brain, stroke: (i, j, k) bool on the native grid.
        flair_visible_votes: (i, j, k) uint8 on the native grid, 0..n_models.
        stroke_votes: (i, j, k) uint8 on the native grid, models that call a voxel stroke, 0..n_models.
        adc: (i, j, k) float32 on the native grid, mm^2/s, NaN where not measured; None: no common gain.
        fvv_per_model_ml: FVV of each model, within the fused stroke.
        mismatch_probability: P(mismatch), where the models are calibrated.
        calibration_source: patients the curve behind it was fitted on: "simulated", "people", "unknown"; "" without
            P(mismatch).
        mismatch_prevalence: share of mismatches among strokes for which P(mismatch) holds; None where unknown.
        lesion_adc: median, 10th percentile (10^-6 mm^2/s) and median relative to the brain of the ADC in the stroke.
        provider: the onnxruntime provider that really ran.
        models: which models ran, and what their bundle wants everybody to know of them.
        seconds: time of each step.
        b1000: (i, j, k) image that the masks lie on, for `fvv.plot`; from `fvv.predict` alone, None in a cohort's run.

    Examples:
        >>> import fvv
        >>> decision = fvv.Decision(fvv.DecisionState.MISMATCH_LIKELY, cutoff_ml=0.5)
        >>> fvv.Prediction("anna", decision, n_models=3, voxel_volume_ml=0.01, flair_visible_voxels=20).fvv_ml
        0.2
    """

    examination_id: str
    decision: Decision
    n_models: int
    voxel_volume_ml: float
    brain_voxels: int | None = None
    stroke_voxels: int | None = None
    flair_visible_voxels: float | None = None
    brain: BoolArray | None = None
    stroke: BoolArray | None = None
    flair_visible_votes: UInt8Array | None = None
    stroke_votes: UInt8Array | None = None
    adc: FloatArray | None = None
    fvv_per_model_ml: tuple[float, ...] = ()
    mismatch_probability: float | None = None
    calibration_source: str = ""
    mismatch_prevalence: float | None = None
    lesion_adc: tuple[float, float, float] | None = None
    provider: str = ""
    models: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    b1000: Volume | None = None

    def volume_ml(self, channel: Channel) -> float | None:
        """Volume of a channel in mL; None where it could not be measured."""
        voxels = {
            Channel.BRAIN: self.brain_voxels,
            Channel.STROKE: self.stroke_voxels,
            Channel.FLAIR_VISIBLE: self.flair_visible_voxels,
        }[channel]
        return None if voxels is None else float(voxels) * self.voxel_volume_ml

    @property
    def fvv_ml(self) -> float | None:
        """FLAIR Visibility Volume in mL; None where it could not be measured."""
        return self.volume_ml(Channel.FLAIR_VISIBLE)

    def at_prevalence(self, prevalence: float | None) -> Prediction:
        """The same with P(mismatch) for another prevalence (Bayes' rule on the odds); None: as it is.

        Where the prevalence it holds for is unknown, there is no P(mismatch) for another one.
        """
        if prevalence is None or self.mismatch_probability is None:
            return self
        here = self.mismatch_prevalence
        if here is None:
            return replace(self, mismatch_probability=None, calibration_source="")
        change = prevalence / (1 - prevalence) * (1 - here) / here
        changed = self.mismatch_probability * change
        return replace(
            self,
            mismatch_probability=changed / (changed + 1 - self.mismatch_probability),
            mismatch_prevalence=prevalence,
        )

    def without_images(self) -> Prediction:
        """The numbers alone, for tables of a whole cohort."""
        return replace(self, brain=None, stroke=None, flair_visible_votes=None, stroke_votes=None, adc=None, b1000=None)

    def _repr_html_(self) -> str:
        """A small table for notebooks; every text in it is escaped."""
        volumes = {channel.title: self.volume_ml(channel) for channel in Channel}
        probability, fitted_on = self.mismatch_probability, self.calibration_source or "unknown"
        rows = [
            ("Answer", f"{self.decision.state.value} (cut-off {self.decision.cutoff_ml:g} mL)"),
            *((title, "not measured" if ml is None else f"{ml:.3g} mL") for title, ml in volumes.items()),
            *([] if probability is None else [("P(mismatch)", f"{probability:.2f} (fitted on: {fitted_on})")]),
            ("Models", self.models or str(self.n_models)),
            *((f"{one.severity.value}: {one.code}", one.message) for one in self.decision.reasons),
        ]
        cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows)
        title = f"<caption>{html.escape(self.examination_id)} (for research use only)</caption>"
        return f'<table style="text-align:left">{title}{cells}</table>'

    @property
    def agreement(self) -> float | None:
        """Share of the models whose FVV within the fused stroke lies on the same side of the cut-off.

        None where nothing was measured. It says nothing of how far their strokes agree.
        """
        if self.fvv_ml is None or not self.fvv_per_model_ml:
            return None
        cutoff = self.decision.cutoff_ml
        same = [(fvv < cutoff) == (self.fvv_ml < cutoff) for fvv in self.fvv_per_model_ml]
        return sum(same) / len(same)


@dataclass(frozen=True, slots=True)
class Participant:
    """One row of participants.tsv: what is known of an examination beside its images.

    Attributes:
        examination_id: name of its folder.
        person_id: who was examined; several examinations may be of one person.
        site: hospital or scanner, "" where unknown.
        dwi_flair_mismatch: the readers' label, None where there is none.
        simulated: whether the simulator made the images; None: unknown.
        stroke_free: stated to show no stroke: there is nothing to outline, and ROI files may be left out.
    """

    examination_id: str
    person_id: str
    site: str = ""
    dwi_flair_mismatch: bool | None = None
    simulated: bool | None = field(default=None, compare=False)
    stroke_free: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class FoldRow:
    """One patient's part in every fold: `roles[f]` is its role in fold f."""

    examination_id: str
    person_id: str
    roles: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """Who trains, selects and tests in every fold. No person is ever on two sides of one fold: checked here.

    Attributes:
        rows: one per patient folder.

    Raises:
        StoreError: no patient, one patient twice, one person on two sides, or a fold without training or test patient.

    Examples:
        >>> import fvv
        >>> from fvv.data import FoldRow, Role
        >>> rows = [FoldRow("anna", "1", (Role.TRAIN,)), FoldRow("bert", "2", (Role.TEST,))]
        >>> fvv.FoldPlan(tuple(rows)).participants(0, Role.TEST)
        ('bert',)
    """

    rows: tuple[FoldRow, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise StoreError("the split holds no patient")
        names = [row.examination_id for row in self.rows]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise StoreError(f"patients listed more than once in the split: {', '.join(twice[:5])}")
        if len({len(row.roles) for row in self.rows}) != 1:
            raise StoreError("every row of the split needs a role in every fold")
        roles_of_person: dict[str, FoldRow] = {}
        for row in self.rows:
            first = roles_of_person.setdefault(row.person_id, row)
            if first.roles != row.roles:
                raise StoreError(
                    f"{first.examination_id} and {row.examination_id} are one person but have different roles",
                    hint="give all folders of a person the same role in each fold of the split file",
                )
            if row.roles.count(Role.TEST) > 1:
                raise StoreError(f"{row.examination_id} is a test patient of more than one fold")
        for fold in range(self.n_folds):
            for role in (Role.TRAIN, Role.TEST):
                if not self.participants(fold, role):
                    raise StoreError(f"fold {fold} has no {role.value} patient")

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.rows[0].roles)

    def participants(self, fold: int, role: Role) -> tuple[str, ...]:
        """Folders with a role in a fold, in the order of the split file.

        In `ALL_FOLDS` nobody tests: those who validate in fold 0 validate, and all others train.

        Raises:
            StoreError: no such fold.
        """
        if fold == ALL_FOLDS:
            validating = self.participants(0, Role.VALID)
            known = set(validating)
            training = tuple(row.examination_id for row in self.rows if row.examination_id not in known)
            return {Role.TRAIN: training, Role.VALID: validating, Role.TEST: ()}[role]
        if not 0 <= fold < self.n_folds:
            raise StoreError(f"no fold {fold}: the split has folds 0 to {self.n_folds - 1}")
        return tuple(row.examination_id for row in self.rows if row.roles[fold] is role)

    def person_of(self, participant: str) -> str:
        """The person behind a folder."""
        for row in self.rows:
            if row.examination_id == participant:
                return row.person_id
        raise StoreError(f"{participant} is not in the split file")


ALL_FOLDS: Final = -1
"""Stands for a fold of one model for everybody, which no examination of the split can test."""


def hashed_ids(ids: Iterable[str]) -> tuple[str, ...]:
    """Ids as they may leave the store: the first 16 hex digits of SHA-256, sorted, each once."""
    return tuple(sorted({hashlib.sha256(f"fvv:{name}".encode()).hexdigest()[:16] for name in ids}))
