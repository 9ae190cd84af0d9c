"""Sections that hold for several stages: reading, decision, post-processing, computing, cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fvv.config.base import OneLine, Settings
from fvv.config.profiles import MaskMethod, PreprocessingProfile
from fvv.errors import ConfigError
from fvv.system.extension import ExtensionName

Unlisted = Literal["refuse", "own-person"]
MISMATCH_BELOW = 0.2
"""Without readers' labels: mismatch where less than this share of the lesion is FLAIR-visible (`fvv.cohort.labels`)."""


class PreprocessConfig(Settings):
    """How examinations are read and masked, in every stage that reads images."""

    mask_method: MaskMethod | None = None
    """Method for the brain mask if no mask file is given (default: that of the profile)."""
    mask_command: str = ""
    """Command of another program that makes the brain mask, such as 'mask_tool -i {b0} -m {mask}'."""
    resample_rois: bool = False
    """Resample ROIs and masks to the grid of b1000 (nearest neighbour) if they are on another grid, instead of
    refusing them."""
    resample_b0: bool = False
    """Resample b0 to the grid of b1000 (linear) if it is on another grid, instead of refusing it."""
    b0_index: int | None = None
    """Volume of a 4D b0 file to use, counted from 0."""
    b1000_index: int | None = None
    """Volume of a 4D b1000 file to use, counted from 0."""
    b_value: float | None = Field(default=None, gt=0)
    """b-value (s/mm2) at which b1000 was acquired, if no .bval file states it (default: 1000). Images of 500 to 2500
    that are not within 150 of 1000 are converted to 1000 by their ADC."""
    brain_volume_bounds_ml: tuple[float, float] = (400.0, 2500.0)
    """A mask outside these volumes is no adult brain. Whole adult brains have about 900 to 1,700 mL; the margins are
    for masks that include CSF and for small heads."""
    checks: tuple[ExtensionName, ...] = ()
    """Quality checks of your own, "package.module:name", made after those of fvv (docs/how-to/extend.md)."""
    partial_labels: bool = False
    """Accept examinations without stroke_roi or flairviz_roi, which are otherwise refused; a missing mask is unknown,
    and is used neither in training nor in evaluation."""
    unlisted: Unlisted = "refuse"
    """If participants.tsv has no row for a folder: refuse the table, or count each such folder as a person of its
    own."""

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


class DecisionConfig(Settings):
    """How the FVV becomes an answer, in evaluate, report, predict and decide."""

    cutoff_ml: float = Field(default=0.5, gt=0)
    """FVV (mL) below which a mismatch is likely. 0.5 mL: sensitivity 70 %, specificity 88 % (Benzakoun et al. 2025, doi
    10.1177/23969873251362712)."""
    minimum_lesion_ml: float = Field(default=0.0, ge=0)
    """A stroke of at most this volume (mL) counts as no lesion."""
    prevalence: float | None = Field(default=None, gt=0, lt=1)
    """Share of mismatches among the strokes of your patients, for which P(mismatch) is given (Bayes' rule on the odds;
    default: the share among the patients of the calibration)."""


class PostprocessConfig(Settings):
    """What counts as FLAIR-visible, and what is removed from the fused stroke (`fvv.imaging.postprocess`); by default,
    every logit over 0 counts, and nothing is removed.

    The settings after the third form the evidence rule, which judges every component separately. It is off until
    `minimum_core_mm3` is set. The measured numbers are those of `simulated-v4`, an earlier model in the package, on 14
    predictions of healthy heads by networks that were not trained on them, and on 94 simulated strokes
    (experiments/notes/post-processing.md).
    """

    minimum_lesion_mm3: float = Field(default=0.0, ge=0)
    """Remove connected components of the stroke smaller than this (mm3; 0 = off)."""
    visible_logit: float = 0.0
    """Logit above which a voxel is FLAIR-visible to a model. Under 0, more of a visible lesion counts; to be combined
    with `minimum_visible_share`, which decides whether the lesion is visible at all."""
    minimum_visible_share: float = Field(default=0.0, ge=0, lt=1)
    """Count no voxel as FLAIR-visible in a connected component of the stroke of which less than this share is
    FLAIR-visible to at least half of the models (0 = off). Components whose median ADC is not under
    `maximum_relative_adc` are left as they are: late strokes are visible."""
    minimum_core_mm3: float = Field(default=0.0, ge=0)
    """Remove components with less than this volume (mm3) of voxels in which the models are sure (0 = off, with all
    settings below). False-positive components of healthy heads rarely have a core, strokes nearly always."""
    core_logit: float = 3.0
    """Stroke logit, mean over the models, above which they are sure of a voxel."""
    maximum_relative_adc: float | None = Field(default=None, gt=0)
    """Remove components whose median ADC is at or above this multiple of the brain's median (default: off). Acute
    infarcts have 0.5 to 0.85, false-positive components of healthy heads with a core 0.80 to 1.05."""
    minimum_mirror_drop: float | None = Field(default=None, ge=0)
    """Remove components whose relative ADC is not lower than on the mirrored side by at least this (default: off).
    Normal bright tissue is bright on both sides: false-positive components with a core and a relative ADC under 0.9
    differ by at most 0.02."""
    certain_logit: float = 4.0
    """Stroke logit, mean over the models, above which they are certain of a voxel."""
    certain_core_mm3: float = Field(default=0.0, ge=0)
    """Core of certain voxels (mm3) that is accepted instead of the difference to the mirrored side (bilateral
    strokes). The largest such core of a healthy component with low ADC is 28 mm3."""
    late_core_mm3: float | None = Field(default=None, gt=0)
    """Keep a component with this core of certain voxels (mm3) that is brighter than the mirrored side, whatever its
    ADC: a week after onset the ADC is about normal again (default: off). The largest core of a healthy head is 43
    mm3."""
    late_contrast: float = Field(default=1.5, ge=0)
    """How much brighter than the mirrored side such a component must be (median difference of b1000, z-score). The
    healthy component with the largest core reaches 0.8."""
    satellite_core_mm3: float | None = Field(default=None, gt=0)
    """Where a component with evidence has this core of certain voxels (mm3), keep all others of the stroke, too: emboli
    scatter, and what surrounds a certain stroke needs less evidence (default: off)."""

    @property
    def asks_for_evidence(self) -> bool:
        """Whether components are judged one by one, for which the models' logits are needed."""
        return self.minimum_core_mm3 > 0


class ComputeConfig(Settings):
    """Processors and memory, for every stage but training; no setting here changes a result."""

    device: str = "auto"
    """Device: auto (CUDA if onnxruntime offers it, otherwise the CPU), gpu (the same, with a warning if there is
    none), or the name of a device that must be available (cpu, cuda, tensorrt, openvino, coreml ...)."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of onnxruntime (0 = all cores)."""
    workers: int | None = Field(default=None, ge=0)
    """Parallel processes (0 = one per core; default: one for predict, one per core for the other stages)."""
    chunk_slices: int = Field(default=20, ge=1)
    """Slices in the network at once: bounds the memory."""


class ClusterConfig(Settings):
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
