"""Settings of every stage: one frozen model each, with unit and reason in the docstring of each field.

A YAML file holds any sections of `Config` by name; the command line overrides single values (`--set train.epochs=10`).
Unknown keys are refused. The docstrings are also the help of the command line and the comments of default.yaml.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from fvv.errors import ConfigError
from fvv.names import did_you_mean, is_plain
from fvv.system.extension import ExtensionName
from fvv.system.regular import read_yaml

MaskMethod = Literal["otsu", "robust", "given", "command"]
Unlisted = Literal["refuse", "own-person"]


def _one_line(text: str) -> str:
    if not is_plain(text):
        raise ValueError("expected one line of printable characters")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]
"""Text that is shown: a control character in it could forge other lines."""


def _matching(pattern: str, expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


_AET = r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?"
AETitle = Annotated[str, _matching(_AET, "up to 16 printable characters without backslash, no blank at an end")]
"""DICOM AE (PS3.5 6.2)."""
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
DestinationText = Annotated[
    str,
    _matching(
        rf"[\w-]{{1,32}}=[!-?A-\[\]-~]{{1,16}}@[\w.:-]+:{_PORT}",
        "NAME=AET@HOST:PORT, such as pacs=ARCHIVE@10.0.0.2:104",
    ),
]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, about: ValidationInfo) -> Any:
        """`true` would count as 1, in mL or in seconds."""
        if isinstance(value, bool) and about.field_name is not None:
            kind = cls.model_fields[about.field_name].annotation
            if {int, float} & {kind, *get_args(kind)} and bool not in {kind, *get_args(kind)}:
                raise ValueError("expected a number, not true or false")
        return value


class PreprocessingProfile(_Settings):
    """How images become network input. Stored with the prepared data and with all weights."""

    name: str
    """Name of the profile."""
    mask_method: MaskMethod
    """Brain mask where no mask file is given."""
    mask_command: str = ""
    """Command of an outside tool, used with mask_method "command": "mri_synthstrip -i {b0} -m {mask}"."""
    outlier_robust_zscore: bool
    """Exclude voxels over median + 3 * 1.4826 * MAD of b1000 from mean and deviation (a large infarct shifts them)."""
    scale_mask: Literal["brain", "robust"] = "brain"
    """Mask used for z-score statistics: the brain mask (possibly user-supplied), or always the automatic mask of method
    robust, so that z-scores are the same with and without a mask file."""
    orientation: Literal["as-stored", "ras"] = "as-stored"
    """as-stored: axial images whose first axis runs left to right or right to left keep it, as in the reference; ras:
    every image is reoriented to right, anterior, superior, so that one head gives one answer however it is stored."""
    grid_size: int = Field(default=256, ge=64, le=1024)
    """Edge of the in-plane grid, voxels."""
    clip: float = Field(default=10.0, ge=1, le=100)
    """z-scores are clipped to +- this."""
    zscore_dtype: Literal["float16", "float32"] = "float16"
    """float16 as in the store, so that the network sees a new examination exactly as a stored one. The reference rounds
    only what it stores: published models get float32."""
    context_slices: int = Field(default=3, ge=3, le=3)
    """Slices on each side of the segmented slice that the network sees: every network here takes seven."""

    @property
    def label(self) -> str:
        """The name and the start of the hash, which differs between profiles of one name with other settings."""
        return f"{self.name} ({self.sha256[:8]})"

    @property
    def sha256(self) -> str:
        """Hash of all fields: two profiles are equal if and only if their hashes are."""
        fields = self.model_dump(mode="json")
        # Fields that were added later do not change the hash of profiles without them.
        for name, before in (("scale_mask", "brain"), ("orientation", "as-stored")):
            if fields[name] == before:
                del fields[name]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


MISMATCH_BELOW = 0.2
"""Without readers' labels: mismatch where less than this share of the lesion is FLAIR-visible (`fvv.cohort.labels`)."""

PROFILES: dict[str, PreprocessingProfile] = {
    "reference-v1": PreprocessingProfile(name="reference-v1", mask_method="otsu", outlier_robust_zscore=False),
    "robust-v1": PreprocessingProfile(name="robust-v1", mask_method="robust", outlier_robust_zscore=True),
    "robust-v2": PreprocessingProfile(
        name="robust-v2", mask_method="robust", outlier_robust_zscore=True, scale_mask="robust"
    ),
    "robust-v3": PreprocessingProfile(
        name="robust-v3", mask_method="robust", outlier_robust_zscore=True, scale_mask="robust", orientation="ras"
    ),
}
ProfileName = Literal["reference-v1", "robust-v1", "robust-v2", "robust-v3"]


class PreprocessConfig(_Settings):
    """How examinations are read and masked, in every stage that reads images."""

    mask_method: MaskMethod | None = None
    """Brain mask where no mask file is given (default: the method of the profile)."""
    mask_command: str = ""
    """Command of an outside tool that makes the brain mask, as 'mask_tool -i {b0} -m {mask}'."""
    resample_rois: bool = False
    """Resample ROIs and masks on another grid to the grid of b1000 (nearest neighbour) instead of refusing them."""
    resample_b0: bool = False
    """Resample a b0 on another grid to the grid of b1000 (linear) instead of refusing it."""
    b0_index: int | None = None
    """Volume of a 4D b0 file to use, counted from 0."""
    b1000_index: int | None = None
    """Volume of a 4D b1000 file to use, counted from 0."""
    b_value: float | None = Field(default=None, gt=0)
    """b-value (s/mm2) at which b1000 was acquired, where no .bval file states it (default: 1000). Images of 500 to 2500
    are brought to 1000 by their ADC."""
    brain_volume_bounds_ml: tuple[float, float] = (400.0, 2500.0)
    """A mask outside these volumes is no adult brain. Whole adult brains have about 900 to 1,700 mL; the margins are
    for masks that include CSF and for small heads."""
    checks: tuple[ExtensionName, ...] = ()
    """Quality checks of your own, "package.module:name", made after those of fvv (docs/how-to/extend.md)."""
    partial_labels: bool = False
    """Accept examinations without stroke_roi or flairviz_roi: what is missing is unknown, and is neither learned nor
    measured; otherwise they are refused."""
    unlisted: Unlisted = "refuse"
    """Folders without a row in participants.tsv, where that file exists: refuse the table, or count each such folder as
    a person of its own."""

    def applied_to(self, profile: PreprocessingProfile) -> PreprocessingProfile:
        """The profile with the user's choice of mask.

        Raises:
            ConfigError: masks come from an outside tool whose command the user has not typed: a command that only a
                file names is not run.
        """
        changes: dict[str, Any] = {}
        if self.mask_command:
            changes = {"mask_method": "command", "mask_command": self.mask_command}
        elif self.mask_method == "command":
            raise ConfigError("mask method 'command' needs a command", hint="give --mask-command 'tool {b0} {mask}'")
        elif self.mask_method is not None:
            changes = {"mask_method": self.mask_method}
        elif profile.mask_method == "command":
            raise ConfigError(
                f"the models expect masks of an outside tool, {profile.mask_command!r}",
                hint="type it yourself with --mask-command, or choose another --mask-method",
            )
        return profile.model_copy(update=changes)


class DecisionConfig(_Settings):
    """How the FVV becomes an answer, in evaluate, report, predict and decide."""

    cutoff_ml: float = Field(default=0.5, gt=0)
    """FVV (mL) below which a mismatch is likely. 0.5 mL: sensitivity 70 %, specificity 88 % (Benzakoun et al. 2025, doi
    10.1177/23969873251362712)."""
    minimum_lesion_ml: float = Field(default=0.0, ge=0)
    """A stroke of at most this volume (mL) counts as no lesion."""
    prevalence: float | None = Field(default=None, gt=0, lt=1)
    """Share of mismatches among the strokes of your patients, for which P(mismatch) is given (Bayes' rule on the odds;
    default: the share among the patients of the calibration)."""


class PostprocessConfig(_Settings):
    """What is removed from the fused stroke; all off by default. See `fvv.imaging.postprocess`.

    The settings after the first form the evidence rule, which judges every component separately. It is off until
    `minimum_core_mm3` is set. The numbers are those of the model in the package, on 12 acquisitions of healthy heads
    and 113 simulated strokes (docs/how-to/shipped-model.md).
    """

    minimum_lesion_mm3: float = Field(default=0.0, ge=0)
    """Remove connected components of the stroke smaller than this (mm3; 0 = off)."""
    minimum_core_mm3: float = Field(default=0.0, ge=0)
    """Remove components with less than this volume (mm3) of voxels in which the models are sure (0 = off, with all
    settings below). False-positive components of healthy heads rarely have a core, strokes nearly always."""
    core_logit: float = 3.0
    """Stroke logit, mean over the models, above which they are sure of a voxel."""
    maximum_relative_adc: float | None = Field(default=None, gt=0)
    """Remove components whose median ADC is at or above this multiple of the brain's median (default: off). Acute
    infarcts have 0.5 to 0.85, false-positive components of healthy heads 0.75 to 1.1."""
    minimum_mirror_drop: float | None = Field(default=None, ge=0)
    """Remove components whose relative ADC is not lower than on the mirrored side by at least this (default: off).
    Normal bright tissue is bright on both sides: false-positive components with a core differ by at most 0.04, strokes
    by 0.055 and more."""
    certain_logit: float = 4.0
    """Stroke logit, mean over the models, above which they are certain of a voxel."""
    certain_core_mm3: float = Field(default=0.0, ge=0)
    """Core of certain voxels (mm3) that is accepted instead of the difference to the mirrored side (bilateral strokes),
    and instead of the ADC where b0 and b1000 have different scales. The largest such core of a healthy component with
    low ADC is 36 mm3."""
    late_core_mm3: float | None = Field(default=None, gt=0)
    """Keep a component with this core of certain voxels (mm3) that is brighter than the mirrored side, whatever its
    ADC: a week after onset the ADC is about normal again (default: off). The largest core of a healthy head is 760
    mm3."""
    late_contrast: float = Field(default=1.5, ge=0)
    """How much brighter than the mirrored side such a component must be (median difference of b1000, z-score). The
    healthy components with the largest cores reach 1.0."""

    @property
    def asks_for_evidence(self) -> bool:
        """Whether components are judged one by one, for which the models' logits are needed."""
        return self.minimum_core_mm3 > 0


class ComputeConfig(_Settings):
    """Processors and memory, for every stage but training; no setting here changes a result."""

    device: str = "auto"
    """Device: auto (CUDA where onnxruntime offers it, otherwise the CPU), gpu (the same, with a warning when there is
    none), or the name of one that must be there (cpu, cuda, tensorrt, openvino, coreml ...)."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of onnxruntime (0 = all cores)."""
    workers: int | None = Field(default=None, ge=0)
    """Parallel processes (0 = one per core; default: one for predict, one per core for the other stages)."""
    chunk_slices: int = Field(default=32, ge=1)
    """Slices in the network at once: bounds the memory."""


class ClusterConfig(_Settings):
    """The engine that processes a cohort, and what a job of SLURM may use; no setting here changes a result."""

    engine: str = Field(default="local", pattern=r"^(local|slurm|dask://[\w.\-\[\]:]+:[0-9]{1,5})$")
    """Engine: local (processes on this machine), slurm (jobs), or dask://HOST:PORT (workers of that Dask scheduler)."""
    folder: Path = Path("fvv_jobs")
    """Folder for the jobs' logs and what they hand over, on a disk that all nodes share."""
    batch: int = Field(default=20, ge=1)
    """Largest number of examinations that one job processes: each start of a job costs some seconds. Chosen here."""
    jobs: int = Field(default=100, ge=1, le=1000)
    """Largest number of jobs in the queue at once. Chosen here."""
    cores: int = Field(default=1, ge=1)
    """CPU cores of a job; of training, of each of its processes."""
    memory_gb: float = Field(default=4.0, gt=0)
    """Memory of a job on each node, GB."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of a job on each node."""
    time_min: int = Field(default=60, ge=1)
    """Time limit of a job, minutes; training is requeued where it ends, and resumes after its last finished epoch."""
    account: OneLine = ""
    """Account that the jobs are charged to."""
    partition: OneLine = ""
    """Partition of the cluster."""
    directives: tuple[Annotated[OneLine, Field(pattern=r"^[a-z][a-z0-9-]*(=.+)?$")], ...] = ()
    """Further directives of sbatch, such as "qos=long" or "exclusive"."""


class SimulateConfig(_Settings):
    """A simulated cohort."""

    cases: int = Field(default=24, ge=1)
    """Number of examinations."""
    seed: int = Field(default=0, ge=0)
    """Seed of the cohort: the same seed gives the same bytes."""
    only: int | None = Field(default=None, ge=1)
    """Simulate this case alone, counted from 1: the same bytes as in the whole cohort."""
    sites: int = Field(default=3, ge=1, le=3)
    """Number of hospitals, each with its own scanner."""
    stroke_free_share: float = Field(default=0.12, ge=0, le=1)
    """Share of persons without a stroke."""
    follow_up_share: float = Field(default=0.1, ge=0, lt=1)
    """Probability that a case is the second examination of the previous person."""
    onset_range_h: tuple[float, float] = (0.7, 72.0)
    """Hours from onset to a person's first examination, log-uniform."""
    visible_ratio: float = Field(default=1.15, gt=1)
    """FLAIR signal-intensity ratio (lesion/normal) above which a voxel is FLAIR-visible, as in MR WITNESS (Schwamm et
    al. 2018, doi 10.1002/ana.25235)."""
    mismatch_fraction: float = Field(default=0.2, gt=0, lt=1)
    """The simulated reader sees a mismatch where less than this share of the lesion is FLAIR-visible."""
    reader_noise: float = Field(default=0.04, ge=0)
    """Standard deviation of the reader's error about that share (chosen here)."""
    minimum_contrast_to_noise: float = Field(default=2.0, ge=0)
    """A stroke with less contrast to noise on b1000 is replaced by another random one: no reader would outline it."""
    minimum_brightening: float = Field(default=1.2, ge=1)
    """Strokes whose mean b1000 is below this multiple of normal tissue are replaced, too. 1.2 is what grey matter
    (ADC 0.82) gains at 0.62 x 10-3 mm2/s, the usual threshold of an infarct's core (Purushotham et al. 2015, doi
    10.1111/ijs.12068)."""
    skull_stripped_share: float = Field(default=0.2, ge=0, le=1)
    """Share of cases whose b0 and b1000 come without the head around the brain."""
    large_lesion_share: float | None = Field(default=None, ge=0, le=1)
    """Share of strokes over 80 mL (default: what the stroke patterns give, about 0.16)."""
    t2_amplitude_range: tuple[float, float] = (0.25, 1.4)
    """Relative T2 gain of a stroke long after onset, log-uniform; more than 1.4 makes late lesions as bright as the
    brightest seen in practice."""
    adc_factor_range: tuple[float, float] = (0.4, 0.72)
    """ADC of a stroke's core over normal, in three of four strokes; in the fourth 0.65 to 0.85."""
    pace_by_size: bool = True
    """Let T2 rise sooner and faster in larger strokes, as the sizes of mismatches suggest; false: the same in all."""
    lesions: Path | None = None
    """Folder of masks of real strokes in MNI space, NIfTI files of 0 and 1, one stroke each: a share of the simulated
    strokes takes position, shape and size from them (default: all shapes are computed)."""
    lesion_files: tuple[str, ...] = ()
    """Names of the mask files to use, such as those that are not kept for testing (default: all of the folder)."""
    lesion_mask_share: float = Field(default=0.5, ge=0, le=1)
    """Share of strokes that take their shape from the masks, where a folder of masks is given."""
    heads: Path | None = None
    """Folder of real healthy heads, one folder each with b0 and b1000 (and mask, where there is one): strokes are
    simulated in them (default: heads are simulated). With participants.tsv, several may be of one person."""
    punctate_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the computed shapes that are lacunes in brainstem and basal ganglia, punctate cortical infarcts and
    showers of them, 0.02 to 1.5 mL, in addition to those of the usual patterns."""
    minimum_stroke_ml: float = Field(default=0.1, gt=0)
    """A stroke smaller than this on the image (mL), or of fewer than 3 voxels, is replaced by another random one."""
    reader_threshold: float = Field(default=0.0, ge=0, lt=1)
    """Voxels of the infarct whose b1000 excess is less than this share of the lesion's median are left out of the
    stroke ROI, such as sulci. 0: the whole infarct; 0.3 to 0.5: an outline near half height."""
    distractors: bool = True
    """Add white-matter hyperintensities, old infarcts and T2 shine-through, which only look like a stroke."""
    anatomies: Path | None = None
    """Folder of label maps of whole heads or brains, with FreeSurfer's numbers as SynthSeg writes them: every person
    has the anatomy of one of them, deformed (default: the average head of the package)."""
    anatomy_files: tuple[str, ...] = ()
    """Names of the label maps to use, so that others are kept for testing (default: all of the folder)."""
    near_air: Literal["none", "smooth", "bands", "physics"] = "smooth"
    """Distortion near air: none; smooth bumps of the field at fixed places; bands: the same bumps moved and resized,
    with some dozens of narrow ones, whose bright bands and voids differ at every examination; or physics: the field
    that the head's own air and bone make in the magnet, shimmed, seen through a realistic echo train."""
    receive_coil: Literal["smooth", "array"] = "smooth"
    """Shading and noise of the receive coil: smooth shading, the same noise everywhere; or array: of 10 to 32 elements
    around the head, with the noise that parallel imaging amplifies in the middle of the head."""
    posterior_fossa_spread: float = Field(default=0.0, ge=0, le=0.3)
    """Relative standard deviation between persons of T2 in cerebellum and brainstem; half of it within them, folium by
    folium. 0: as in the rest of the brain (chosen here, useful to 0.15)."""
    vary_appearance: bool = True
    """Vary timings, b-value, SNR, coil bias, blur, ghost, gamma and scale between examinations; false: one protocol."""
    oblique_share: float = Field(default=0.5, ge=0, le=1)
    """Share of examinations whose slices are tilted against the magnet."""
    thin_slice_share: float = Field(default=0.0, ge=0, le=1)
    """Share of examinations with slices of 2 to 3 mm, up to 80 of them."""
    isotropic_share: float = Field(default=0.0, ge=0, le=1)
    """Share of examinations with isotropic voxels of 2 to 3.5 mm, as in research protocols."""
    write_mask: bool = True
    """Write mask.nii.gz, the simulated brain, from which the network learns the brain."""
    compute: ComputeConfig = ComputeConfig()


class PrepareConfig(_Settings):
    """From input_data to the store."""

    kfolds: int = Field(default=10, ge=2)
    """Number of folds."""
    valid_proportion: float = Field(default=0.2, gt=0, lt=1)
    """Share of the other persons of each fold that are used for validation, which selects the checkpoint."""
    seed: int = Field(default=0, ge=0)
    """Seed of the split into folds."""
    profile: ProfileName = "robust-v3"
    """Preprocessing profile."""
    quality: Literal["refuse", "warn"] = "refuse"
    """Examinations that quality control finds not assessable: leave them out, or store them with a warning."""
    preprocess: PreprocessConfig = PreprocessConfig()
    compute: ComputeConfig = ComputeConfig()


class NetworkConfig(_Settings):
    """The 2.5D network (see docs/explanation/network.md)."""

    module: ExtensionName | None = None
    """Network of your own, "package.module:Name", a torch.nn.Module instead of the one described here
    (docs/how-to/extend.md)."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 112)
    """Channels of the encoder at strides 2, 4, 8, 16."""
    decoder_widths: tuple[int, int, int] = (80, 48, 24)
    """Channels of the decoder at strides 8, 4, 2."""
    resolution: Literal["full", "half"] = "half"
    """half: the network sees the image averaged over 2 x 2 voxels, and its logits are interpolated back. It takes a
    quarter of the time of full, and after a short training it is no worse; after a longer one, full finds more small
    strokes (docs/explanation/network.md)."""


class LossConfig(_Settings):
    """Loss: weighted cross-entropies of brain, lesion and FLAIR-visible part (the last two inside the brain), and Dice.

    The loss of the reference pipeline is label_smoothing 0.02, normalisation brain, dice_weight 0.
    """

    function: ExtensionName | None = None
    """Loss of your own, "package.module:name", instead of the one described here (docs/how-to/extend.md)."""
    label_smoothing: float = Field(default=0.01, ge=0, lt=0.5)
    """s: labels 0 and 1 become s/2 and 1 - s/2. The reference states 0.01 and means the labels 0.01 and 0.99, which is
    0.02 here."""
    normalisation: Literal["all", "brain"] = "all"
    """Divisor of the lesion and FLAIR-visible terms, which are summed inside the brain: all voxels of the batch, or
    those of the brain, as in the reference, which makes these terms about 4.5 times as large."""
    brain_weight: float = 1.0
    """Weight of the brain term."""
    stroke_weight: float = 1.0
    """Weight of the lesion term."""
    flair_visible_weight: float = 100.0
    """Weight of the FLAIR-visible term; 100 is the reference's, under its normalisation (brain)."""
    dice_weight: float = Field(default=1.0, ge=0)
    """Weight of the soft Dice of each slab, averaged over the three channels, added to the cross-entropies; the
    reference has none (0). Without it training is slower (docs/explanation/network.md)."""


class AugmentConfig(_Settings):
    """Random changes of training slabs; none at validation. Defaults are the reference's."""

    enabled: bool = True
    """Augment training slabs."""
    brightness: float = 0.15
    """Largest shift, as a share of the channel's standard deviation."""
    contrast: float = 0.15
    """Largest relative change about the channel's minimum."""
    flip_left_right: float = 0.5
    """Probability of a left-right flip."""
    flip_slice_order: float = 0.5
    """Probability that the slice order is reversed."""
    rotation_deg: float = 8.0
    """Largest rotation in plane, degrees."""
    translation: float = 0.04
    """Largest translation, as a share of the grid's edge."""
    scale: float = 1.1
    """Zoom between 1/scale and scale."""
    shear_deg: float = 8.0
    """Largest shear, degrees."""


class TrainConfig(_Settings):
    """One training run."""

    name: str = Field(default="FVV", pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
    """Name of the run."""
    wandb_project: OneLine = "FVV"
    """Project on Weights & Biases."""
    wandb_mode: Literal["online", "offline", "disabled"] = "offline"
    """What Weights & Biases gets: offline writes a run folder that `wandb sync` can send later; nothing leaves the
    machine by itself."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, sampling and augmentation."""
    epochs: int = Field(default=75, ge=1)
    """Largest number of epochs."""
    slices_per_epoch: int = Field(default=16384, ge=1)
    """Supervised slices in one epoch."""
    slab_slices: int = Field(default=16, ge=1)
    """Slices supervised by one slab; the slab holds 2 x 3 more for context."""
    batch_slabs: int = Field(default=2, ge=1)
    """Slabs in a batch: 2 x 16 = the reference's 32 slices."""
    stroke_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the slabs centred on a slice with stroke."""
    init: OneLine = ""
    """Weights to start from: a checkpoint, a folder of models, or `shipped`, the model in the package (its name works,
    too). Of k models fold f starts from number f modulo k, counted from 0; `FOLDER#2` names model2 for every fold
    (default: random weights)."""
    init_learning_rate: float = Field(default=1e-4, gt=0)
    """Learning rate of a run that starts from weights (init), instead of learning_rate: a tenth of its default, so that
    the first steps do not undo what the weights know. Chosen here."""
    freeze: tuple[OneLine, ...] = ()
    """Parts of the network that keep the weights and batch-norm statistics of init: stages (the encoder), mixing,
    decoder, head, or a piece of one such as stages.0."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of a run from random weights; the highest one where the schedule changes it."""
    schedule: Literal["plateau", "onecycle"] = "plateau"
    """Learning-rate schedule; plateau is the reference's."""
    workers: int | None = Field(default=None, ge=0)
    """Data-loader processes; 0: load in the training process (default: 0 on a CPU, all cores on a GPU). With
    preload_ram there are none."""
    preload_ram: bool = False
    """Hold all examinations of the fold in memory: 14 MB for 30 slices."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """auto: bf16 autocast on a GPU, float32 on a CPU and on Apple's GPU."""
    max_time: str | None = Field(default=None, pattern=r"^\d+:\d\d:\d\d:\d\d$")
    """Start no new epoch after this total training time of a fold (DD:HH:MM:SS); the best epoch so far is kept."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many epochs without a better one (default: train all epochs)."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Validate and keep an exponential moving average of the weights, with this decay per step (0.999); 0: off."""
    norm_slabs: int = Field(default=64, ge=0)
    """Before each validation estimate the batch-norm statistics again from this many training slabs; 0: keep the moving
    averages of the last steps."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: a GPU where there is one, NVIDIA's or AMD's (cuda) or Apple's (mps)."""
    devices: int = Field(default=1, ge=1)
    """GPUs of a node that train one fold together; each takes batch_slabs slabs a step."""
    nodes: int = Field(default=1, ge=1)
    """Machines that train one fold together, started by a launcher that Lightning knows (SLURM, torchrun)."""
    jobs: int = Field(default=1, ge=1)
    """Folds trained in parallel, each in its own process; every process needs the memory of one training."""
    figures_every_epochs: int = Field(default=1, ge=1)
    """Epochs between validation figures; the last epoch always has them."""
    debug: bool = False
    """Run two batches of training and of validation; keep and log nothing."""
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _frozen_weights_come_from_somewhere(self) -> Self:
        if self.freeze and not self.init:
            raise ValueError("freeze keeps weights of init, and no init is given")
        return self

    @property
    def starting_learning_rate(self) -> float:
        """The learning rate of this run."""
        return self.init_learning_rate if self.init else self.learning_rate


class ConvertConfig(_Settings):
    """From checkpoints to a bundle of ONNX models."""

    check_patients: int = Field(default=2, ge=1)
    """Examinations of each fold's test part on which onnxruntime is compared with PyTorch, whole volumes."""
    logit_tolerance: float = Field(default=1e-3, gt=0)
    """Largest accepted difference of a logit; float32 rounding gives about 1e-5."""
    notice: OneLine = ""
    """A sentence for everybody who uses the models; stored in the bundle and printed at every prediction."""
    postprocess: PostprocessConfig = PostprocessConfig()


class EvaluateConfig(_Settings):
    """Evaluate out of fold, or the whole ensemble on held-out examinations (--external)."""

    own_masks: bool = False
    """With --external only: give the models an automatic brain mask, as for new patients without a mask file; a given
    mask is then only the reference of the predicted brain."""
    bootstrap_samples: int = Field(default=2000, ge=1)
    """Bootstrap samples of persons behind every bootstrap interval."""
    seed: int = Field(default=0, ge=0)
    """Seed of the bootstrap."""
    visible_fraction_label: float = Field(default=MISMATCH_BELOW, gt=0, le=1)
    """Without readers' labels: mismatch where less than this share of the reference lesion is FLAIR-visible."""
    operating_specificity: float = Field(default=0.9, gt=0, le=1)
    """Besides the cut-off and Youden's, the cut-off that keeps this specificity is evaluated."""
    pseudo_volume_ml: float = Field(default=0.1, gt=0)
    """P(mismatch) is a logistic curve on log(FVV + this): a fifth of the cut-off, so that 0 mL has a logarithm and
    volumes of a few voxels count alike."""
    calibrate: bool = False
    """Store the fitted calibration of P(mismatch) in the bundle."""
    heatmaps: bool = True
    """Write a picture and a colour image of every examination; the report shows the worst and the best. Without them
    the report has no viewer."""
    viewer_patients: int = Field(default=24, ge=0)
    """Examinations in the report's scrollable viewer, 0.2 to 0.6 MB each; larger cohorts are sampled evenly by stroke
    Dice."""
    metrics: tuple[ExtensionName, ...] = ()
    """Metrics of your own, "package.module:name", measured beside those of fvv (docs/how-to/extend.md)."""
    preprocess: PreprocessConfig = PreprocessConfig()
    """With --external only: a store holds its examinations as they were read."""
    decision: DecisionConfig = DecisionConfig()
    postprocess: PostprocessConfig | None = None
    compute: ComputeConfig = ComputeConfig()


class CardConfig(_Settings):
    """Text of a model card that no file contains."""

    training_data: str = ""
    """Paragraph on the patients whose images trained the models."""
    limits: tuple[str, ...] = ()
    """Known limits, one sentence each."""
    name_examinations: bool = False
    """Name the examinations of --real in the card's table of them; otherwise they are numbered. For public data."""
    commands: tuple[str, ...] = ()
    """Commands that reproduce the card's numbers."""


class PredictConfig(_Settings):
    """Prediction of new patients."""

    folds: int = Field(default=0, ge=0)
    """Use only the first models of the ensemble, this many (0 = all)."""
    overwrite: bool = False
    """Replace results of other images, models or settings; never files that fvv did not write."""
    layout: Literal["folders", "bids"] = "folders"
    """Output layout: a folder for each examination, or a BIDS derivative data set."""
    probabilities: bool = False
    """Write the ensemble's probabilities of brain, stroke and FLAIR-visible; every model runs twice."""
    parquet: bool = False
    """Write the rows of results.csv also as results.parquet, with types; needs the extra `parquet`."""
    label_map: Literal["none", "nrrd", "mha"] = "none"
    """Write one label map for 3D Slicer and ITK programs, too (1 brain, 2 stroke, 3 the part of it that at least half
    of the models predict FLAIR-visible): segmentation.seg.nrrd or segmentation.mha. Needs SimpleITK, and the layout
    `folders`."""
    readers: tuple[ExtensionName, ...] = ()
    """Readers of your own file formats, "package.module:name", asked before those of fvv (docs/how-to/extend.md)."""
    series: tuple[int, ...] = ()
    """DICOM: SeriesNumber of the series that hold b0 and b1000 (default: chosen by b-value)."""
    preprocess: PreprocessConfig = PreprocessConfig()
    decision: DecisionConfig = DecisionConfig()
    postprocess: PostprocessConfig | None = None
    compute: ComputeConfig = ComputeConfig()


class LabelConfig(_Settings):
    """Draft masks for readers."""

    visible_ratio: float = Field(default=1.15, gt=1)
    """FLAIR over the FLAIR expected without a stroke, above which a voxel is proposed as FLAIR-visible: the ratio of MR
    WITNESS (Schwamm et al. 2018, doi 10.1002/ana.25235)."""
    readers: tuple[ExtensionName, ...] = ()
    """Readers of your own file formats, "package.module:name", asked before those of fvv (docs/how-to/extend.md)."""
    preprocess: PreprocessConfig = PreprocessConfig()
    postprocess: PostprocessConfig | None = None
    compute: ComputeConfig = ComputeConfig()


class ListenConfig(_Settings):
    """The DICOM node of `fvv listen`."""

    port: int = Field(default=11112, ge=1, le=65535)
    """TCP port to listen on."""
    aet: AETitle = "FVV"
    """Application entity title of the node; senders must call it by this name."""
    bind: OneLine = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every network interface."""
    send_to: tuple[DestinationText, ...] = ()
    """Destination of the results, NAME=AET@HOST:PORT; may be repeated."""
    peers: tuple[AETitle, ...] = ()
    """Application entity title that may send; may be repeated (default: any). A title is no proof of who sends: TLS
    with authorities, or a firewall, is."""
    quiet_s: float = Field(default=30.0, gt=0)
    """Seconds without a further object after which a study is complete; a storage commitment request that names all its
    objects completes it at once."""
    silent_s: float = Field(default=120.0, gt=0)
    """The same while the sender of its last object keeps its association open, where this is longer; a minute later a
    silent association is ended."""
    aborted_s: float = Field(default=600.0, gt=0)
    """Seconds that a study whose transfer was cut off waits for the sender to repeat it; then it is reported as
    incomplete, or answered where the sender did not abort it but the node was stopped."""
    keep_days: float = Field(default=7.0, ge=0)
    """Days after which a finished study is removed from the spool."""
    keep_failed_days: float = Field(default=30.0, ge=0)
    """Days after which a study that failed is removed from the spool."""
    send_days: float = Field(default=7.0, gt=0)
    """Days over which a result that a destination does not take is offered again."""
    series: tuple[OneLine, ...] = ()
    """Only objects whose SeriesDescription matches one of these patterns, such as "*dwi*"; case does not count."""
    stations: tuple[OneLine, ...] = ()
    """Only objects whose StationName matches one of these patterns."""
    body_parts: tuple[OneLine, ...] = ()
    """Only objects whose BodyPartExamined matches one of these patterns; "" is a missing one."""
    report_unanswered: bool = True
    """Send a report with the reason for a study that has no answer (no diffusion images, not assessable)."""
    max_object_mb: float = Field(default=1024.0, gt=0)
    """Largest image that is accepted, MB; a longer one is refused with status 0xC000. No object is held in memory."""
    min_free_mb: float = Field(default=2048.0, ge=0)
    """Free disk space below which objects are refused with status 0xA700, MB."""
    page: int = Field(default=0, ge=0, le=65535)
    """TCP port of a page with the queue, for a browser on this machine alone; 0: no page."""
    answer_s: float = Field(default=1800.0, gt=0)
    """Seconds after which a worker is ended; a study that ends three workers has failed."""
    tls_certificate: OneLine = ""
    """PEM file of the node's certificate; with it only TLS connections are accepted (DICOM PS3.15, BCP 195)."""
    tls_key: OneLine = ""
    """PEM file of the certificate's private key."""
    tls_authorities: OneLine = ""
    """PEM file of the authorities that sign the certificates of senders and destinations."""
    send_tls: bool = False
    """Send results over TLS."""


class Config(_Settings):
    """The settings of all stages: what a YAML file may hold."""

    seed: int = Field(default=0, ge=0)
    """Seed of every stage that does not set its own."""
    preprocess: PreprocessConfig = PreprocessConfig()
    decision: DecisionConfig = DecisionConfig()
    postprocess: PostprocessConfig | None = None
    """What is removed from the fused stroke: convert stores it in the bundle; in evaluate and predict it replaces the
    setting of the bundle (default: use that of the bundle)."""
    compute: ComputeConfig = ComputeConfig()
    cluster: ClusterConfig = ClusterConfig()
    simulate: SimulateConfig = SimulateConfig()
    prepare: PrepareConfig = PrepareConfig()
    train: TrainConfig = TrainConfig()
    convert: ConvertConfig = ConvertConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    card: CardConfig = CardConfig()
    predict: PredictConfig = PredictConfig()
    label: LabelConfig = LabelConfig()
    listen: ListenConfig = ListenConfig()

    @model_serializer(mode="wrap")
    def _as_in_a_file(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As a YAML file holds it: each shared section once."""
        content: dict[str, Any] = handler(self)
        for stage in STAGES:
            for section in SHARED:
                content.get(stage, {}).pop(section, None)
        return content


SHARED = ("preprocess", "decision", "postprocess", "compute")
"""Sections that hold for every stage: a file states them once, `load_config` gives them to each stage."""
STAGES = ("simulate", "prepare", "train", "convert", "evaluate", "card", "predict", "label", "listen")
"""Sections of one stage each."""


def load_config(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read settings from a YAML file, then apply overrides.

    Args:
        path: YAML file with any of the sections of `Config`, or None for the defaults.
        overrides: dotted name to value, as {"train.epochs": 3}.

    Raises:
        ConfigError: unreadable file, unknown key or value out of range; the message names them.
    """
    path = None if path is None else Path(path)
    content: Any = {}
    if path is not None:
        content = read_yaml(path) or {}
        if not isinstance(content, dict):
            raise ConfigError("expected a mapping of sections", file=path, hint="see configs/default.yaml")
    for dotted, value in (overrides or {}).items():
        *sections, last = dotted.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{dotted}: {section} is no section", file=path)
        place[last] = value
    try:
        return Config.model_validate(_given_to_stages(content, path))
    except ValidationError as error:
        raise ConfigError(_first_error(error), file=path) from error


def _given_to_stages(content: Mapping[Any, Any], path: Path | None) -> dict[Any, Any]:
    """The content with the shared sections in every stage that uses them, and the seed in those without their own."""
    spread = dict(content)
    for stage in STAGES:
        section = content.get(stage, {})
        if not isinstance(section, dict):
            continue
        fields = Config.model_fields[stage].annotation.model_fields  # type: ignore[union-attr]  # Models, all of them.
        for name in SHARED:
            if name in section:
                key = (
                    f"{name}.{next(iter(section[name]))}" if isinstance(section[name], dict) and section[name] else name
                )
                raise ConfigError(
                    f"{stage}.{name} is no setting: the stages share one section", file=path, hint=f"set {key}"
                )
        shared = {name: content[name] for name in SHARED if name in fields and content.get(name) is not None}
        seed = {"seed": content["seed"]} if "seed" in fields and "seed" in content else {}
        if shared or seed or stage in content:
            spread[stage] = {**seed, **section, **shared}
    return spread


def _first_error(error: ValidationError) -> str:
    """The first of what pydantic found, in one line; what a shared section holds counts once."""
    first = error.errors()[0]
    found = list(dict.fromkeys(_where(each["loc"]) for each in error.errors()))
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    unknown = first["type"] == "extra_forbidden"
    # reprlib: a few lines of YAML can stand for a value of gigabytes.
    got = f"{first['msg']}, got {reprlib.repr(first.get('input'))[:100]}"
    what = f"no such setting{_moved(found[0]) or _nearest(found[0])}" if unknown else got
    return f"{found[0]}: {what}{more}"


def _moved(key: str) -> str:
    """Where a setting stands that was asked for in the section of a stage, but is shared."""
    stage, _, name = key.partition(".")
    sections: dict[str, type[BaseModel]] = {"preprocess": PreprocessConfig, "compute": ComputeConfig}
    homes = [section for section, model in sections.items() if stage in STAGES and name in model.model_fields]
    return f": the stages share one section, set {homes[0]}.{name}" if homes else ""


def _nearest(key: str) -> str:
    """The setting of the same name elsewhere, or the one spelt most alike; "" where there is none."""
    known = list(_names(Config))
    section, _, last = key.rpartition(".")
    for among in ([name for name in known if name.rpartition(".")[0] == section], known):
        by_last = {name.rpartition(".")[2]: name for name in reversed(among)}
        if near := get_close_matches(last, by_last, n=1):
            return f", did you mean {by_last[near[0]]!r}?"
    return did_you_mean(key, known)


def _names(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Dotted names of all settings and sections; what a shared section holds counts there alone."""
    for name, field in model.model_fields.items():
        if before and name in SHARED:
            continue
        yield f"{before}{name}"
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _names(kind, f"{before}{name}.")


def _where(location: tuple[int | str, ...]) -> str:
    shared = len(location) > 1 and location[0] in STAGES and location[1] in SHARED
    return ".".join(str(part) for part in location[shared:])
