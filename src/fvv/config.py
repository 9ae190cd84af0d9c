"""Settings of every stage: one frozen model each, with unit and reason beside each default.

A YAML file holds any of the sections below by name; the command line overrides single values
(`--set train.epochs=10`). Unknown keys are refused.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

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
)

from fvv.errors import ConfigError
from fvv.names import is_plain
from fvv.system.regular import read_yaml

MaskMethod = Literal["otsu", "robust", "given", "command"]
Precision = Literal["fp32", "int8"]
PrecisionChoice = Literal["auto", "fp32", "int8"]


Unlisted = Literal["refuse", "own-person"]


def _one_line(text: str) -> str:
    if not is_plain(text):
        raise ValueError("expected one line of printable characters")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]
"""Text that is shown: a control character in it could forge other lines."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, about: ValidationInfo) -> Any:
        """`true` would count as 1, in mL or in seconds."""
        if isinstance(value, bool) and about.field_name is not None:
            kind = cls.model_fields[about.field_name].annotation
            if {int, float} & {kind, *get_args(kind)} and bool not in {kind, *get_args(kind)}:
                raise ValueError("a number is expected, not a truth value")
        return value


class PreprocessingProfile(_Settings):
    """How images become network input. Stored with the prepared data and with all weights."""

    name: str
    mask_method: MaskMethod
    mask_command: str = ""
    """Template of an outside tool, used with mask_method "command": "mri_synthstrip -i {b0} -m {mask}"."""
    outlier_robust_zscore: bool
    """Leave voxels over median + 3 * 1.4826 * MAD of b1000 out of mean and deviation (a large infarct shifts them)."""
    scale_mask: Literal["brain", "robust"] = "brain"
    """Where mean and deviation are taken: in the brain mask, which may be a file's; or always in the mask that method
    robust finds, so that z-scores are the same with and without a mask file."""
    orientation: Literal["as-stored", "ras"] = "as-stored"
    """as-stored: axial images whose first axis runs left to right or right to left are kept so, as the reference does;
    ras: every image is turned to right, anterior, superior, so that one head gives one answer however it is stored."""
    grid_size: int = Field(256, ge=64, le=1024)
    """Edge of the in-plane grid, voxels."""
    clip: float = Field(10.0, ge=1, le=100)
    """z-scores are cut to +- this."""
    zscore_dtype: Literal["float16", "float32"] = "float16"
    """float16 as in the store, so that a new patient is seen exactly as a stored one. The reference rounds only what it
    stores: published models, which never meet our store, get float32."""
    context_slices: int = Field(3, ge=3, le=3)
    """Slices the network sees on each side of the one it marks: every network here takes seven."""

    @property
    def label(self) -> str:
        """The name, and enough of the hash to tell it from a profile of the same name with other settings."""
        return f"{self.name} ({self.sha256[:8]})"

    @property
    def sha256(self) -> str:
        """Hash of all fields: two profiles are the same if and only if this is."""
        fields = self.model_dump(mode="json")
        # As before there was a choice: what was made then is still good.
        for name, before in (("scale_mask", "brain"), ("orientation", "as-stored")):
            if fields[name] == before:
                del fields[name]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


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
    """Choices about reading and masking that `prepare` and `predict` share."""

    mask_method: MaskMethod | None = None
    """Brain mask where no mask file is given; None: the profile's own."""
    mask_command: str = ""
    resample_rois: bool = False
    """Resample ROIs and masks that lie on another grid onto b1000's (nearest), in place of refusing them."""
    resample_b0: bool = False
    """Resample a b0 that lies on another grid onto b1000's (linear), in place of refusing it."""
    b0_index: int | None = None
    """Which volume of a 4D b0 file, 0-based."""
    b1000_index: int | None = None
    """Which volume of a 4D b1000 file, 0-based."""
    brain_volume_bounds_ml: tuple[float, float] = (400.0, 2500.0)
    """A mask outside these is no adult brain. Whole brains in adults: about 900 to 1,700 mL; margins for masks that
    hold CSF and for small heads."""

    def applied_to(self, profile: PreprocessingProfile) -> PreprocessingProfile:
        """The profile with the user's choice of mask in it.

        Raises:
            ConfigError: masks come from an outside tool, and the user has not typed its command: a program that only a
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


class SimulateConfig(_Settings):
    """A synthetic cohort."""

    cases: int = Field(24, ge=1)
    seed: int = Field(0, ge=0)
    only: int | None = Field(None, ge=1)
    """Make this case alone (from 1): the same bytes as in the whole cohort."""
    sites: int = Field(3, ge=1, le=3)
    """Hospitals, each with its own scanner."""
    stroke_free_share: float = Field(0.12, ge=0, le=1)
    """Share of persons without a stroke."""
    follow_up_share: float = Field(0.1, ge=0, lt=1)
    """Probability that a case is the second examination of the person before it."""
    onset_range_h: tuple[float, float] = (0.7, 72.0)
    """Hours from onset to a person's first examination, log-uniform."""
    visible_ratio: float = Field(1.15, gt=1)
    """FLAIR over the same voxel's normal FLAIR from which it counts as visible: the signal intensity ratio that
    MR WITNESS used (Schwamm et al. 2018, doi 10.1002/ana.25235)."""
    mismatch_fraction: float = Field(0.2, gt=0, lt=1)
    """The simulated reader sees a mismatch where less than this share of the lesion is visible."""
    reader_noise: float = Field(0.04, ge=0)
    """Standard deviation of the reader's error about that share (chosen here)."""
    minimum_contrast_to_noise: float = Field(2.0, ge=0)
    """A stroke fainter than this on b1000 is drawn anew: no reader would outline it."""
    minimum_brightening: float = Field(1.2, ge=1)
    """So is one whose b1000 is less than this many times that of the same tissue without it, on average. 1.2 is what
    grey matter (ADC 0.82) gains at 0.62 x 10-3 mm2/s, the usual threshold of an infarct's core (Purushotham et al.
    2015, doi 10.1111/ijs.12068)."""
    skull_stripped_share: float = Field(0.2, ge=0, le=1)
    """Share of cases whose b0 and b1000 come without the head around the brain."""
    large_lesion_share: float | None = Field(None, ge=0, le=1)
    """Share of strokes over 80 mL; none: what the stroke patterns give, about 0.16."""
    t2_amplitude_range: tuple[float, float] = (0.25, 1.4)
    """Relative T2 gain of a stroke long after onset, log-uniform; more than 1.4 makes late lesions as bright as the
    brightest seen in practice."""
    pace_by_size: bool = True
    """T2 rises sooner and faster in larger strokes, as the sizes of mismatches say; false: alike in all."""
    reader_threshold: float = Field(0.0, ge=0, lt=1)
    """Readers leave out of the stroke ROI what is hardly brighter on b1000: less than this share of the lesion's median
    excess, such as the sulci that run through it. 0: the whole infarct; 0.3 to 0.5: an outline near half height."""
    distractors: bool = True
    """White-matter hyperintensities, old infarcts and T2 shine-through: what looks like stroke and is not."""
    near_air: Literal["none", "smooth", "bands"] = "smooth"
    """Distortion near air: none; broad bumps of the field at fixed places; or these displaced and resized, with some
    dozens of narrow ones, whose bright bands and voids differ at every examination."""
    posterior_fossa_spread: float = Field(0.0, ge=0, le=0.3)
    """Standard deviation between persons of T2 in cerebellum and brainstem, relative; half of it inside them, folium
    by folium. 0: as the rest of the brain (chosen here, useful to 0.15)."""
    vary_appearance: bool = True
    """Timings, b, SNR, coil bias, blur, ghost, gamma and scale differ by examination; false: one protocol for all."""
    oblique_share: float = Field(0.5, ge=0, le=1)
    """Share of examinations whose slices are tilted against the magnet."""
    thin_slice_share: float = Field(0.0, ge=0, le=1)
    """Share of examinations with slices of 2 to 3 mm, up to 80 of them."""
    write_mask: bool = True
    """Write mask.nii.gz, the true brain: the network learns the brain from it."""
    workers: int = Field(0, ge=0)
    """Processes; 0: one per core."""


class PrepareConfig(_Settings):
    """From input_data to the store."""

    kfolds: int = Field(10, ge=2)
    valid_proportion: float = Field(0.2, gt=0, lt=1)
    """Share of each fold's remaining persons that select the checkpoint."""
    seed: int = Field(0, ge=0)
    profile: ProfileName = "robust-v3"
    preprocess: PreprocessConfig = PreprocessConfig()
    quality: Literal["refuse", "warn"] = "refuse"
    """An examination that quality control finds not assessable is left out, or stored with a warning."""
    unlisted: Unlisted = "refuse"
    """A folder without a row where there is a participants.tsv: the table is refused, or the folder is a person who
    is not listed elsewhere."""
    workers: int = Field(0, ge=0)
    """Processes; 0: one per core."""


class NetworkConfig(_Settings):
    """The 2.5D network (see docs/explanation/network.md)."""

    widths: tuple[int, int, int, int] = (16, 32, 64, 112)
    """Channels at strides 2, 4, 8, 16 of the encoder."""
    decoder_widths: tuple[int, int, int] = (80, 48, 24)
    """Channels of the decoder at strides 8, 4, 2."""
    resolution: Literal["full", "half"] = "half"
    """half: the network sees the image averaged over 2 x 2 voxels and its logits are interpolated back. A quarter of
    the time of full, and at equal short time no worse; where training is longer, full marks small strokes better
    (docs/explanation/network.md)."""


class LossConfig(_Settings):
    """loss = brain + lesion + FLAIR-visible, weighted cross-entropies, the last two inside the brain; + Dice.

    The loss of the reference pipeline is label_smoothing 0.02, normalisation brain, dice_weight 0.
    """

    label_smoothing: float = Field(0.01, ge=0, lt=0.5)
    """s: labels 0 and 1 become s/2 and 1 - s/2. The reference states 0.01 and means the labels 0.01 and 0.99, which is
    0.02 here."""
    normalisation: Literal["all", "brain"] = "all"
    """What the lesion and FLAIR-visible terms, summed inside the brain, are divided by: all voxels of the batch; or
    those of the brain, as in the reference, which makes these terms about 4.5 times as large."""
    brain_weight: float = 1.0
    stroke_weight: float = 1.0
    flair_visible_weight: float = 100.0
    """The reference's weight, under its normalisation (brain)."""
    dice_weight: float = Field(1.0, ge=0)
    """Weight of the soft Dice of each slab, averaged over the three channels, added to the cross-entropies; the
    reference has none (0). Without it training is slower (docs/explanation/network.md)."""


class AugmentConfig(_Settings):
    """Random changes of training slabs; none at validation. Defaults are the reference's."""

    enabled: bool = True
    brightness: float = 0.15
    """Largest shift, as a share of the channel's standard deviation."""
    contrast: float = 0.15
    """Largest relative change about the channel's minimum."""
    flip_left_right: float = 0.5
    flip_slice_order: float = 0.5
    rotation_deg: float = 8.0
    translation: float = 0.04
    """Share of the grid's edge."""
    scale: float = 1.1
    """Zoom is drawn between 1/scale and scale."""
    shear_deg: float = 8.0


class TrainConfig(_Settings):
    """One training run."""

    name: str = Field("FVV", pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
    wandb_project: OneLine = "FVV"
    wandb_mode: Literal["online", "offline", "disabled"] = "offline"
    """Offline writes a run folder that `wandb sync` can send later; nothing leaves the machine by itself."""
    seed: int = Field(0, ge=0)
    epochs: int = Field(75, ge=1)
    slices_per_epoch: int = Field(16384, ge=1)
    """Supervised slices in one epoch."""
    slab_slices: int = Field(16, ge=1)
    """Slices supervised by one slab; the slab holds 2 x 3 more for context."""
    batch_slabs: int = Field(2, ge=1)
    """Slabs in a batch: 2 x 16 = the reference's 32 slices."""
    stroke_share: float = Field(0.5, ge=0, le=1)
    """Share of the slabs centred on a slice with stroke."""
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["plateau", "onecycle"] = "plateau"
    workers: int | None = Field(None, ge=0)
    """Loader processes; 0: load in the training process. None: 0 on a CPU, and on a GPU, which would wait for one, all
    cores. With preload_ram there are none."""
    preload_ram: bool = False
    """Hold all patients of the fold in memory: 14 MB for 30 slices."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """auto: bf16 autocast on a GPU, float32 on a CPU."""
    max_time: str | None = Field(None, pattern=r"^\d+:\d\d:\d\d:\d\d$")
    """Start no epoch after this much training of a fold, all sessions together, "DD:HH:MM:SS"; the best epoch so far
    stands."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many epochs without a better one; none: do all."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Judge and keep an exponential moving average of the weights, with this decay a step (0.999); 0: off."""
    norm_slabs: int = Field(64, ge=0)
    """Before each validation estimate the batch-norm statistics again, from so many training slabs; 0: keep the moving
    averages of the last steps."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: a GPU where there is one."""
    devices: int = Field(1, ge=1)
    """GPUs of a node that train one fold together; each takes batch_slabs slabs a step."""
    nodes: int = Field(1, ge=1)
    """Machines that train one fold together, started by a launcher that Lightning knows (SLURM, torchrun)."""
    jobs: int = Field(1, ge=1)
    """Folds trained side by side, each in a process of its own; each needs the memory of one."""
    figures_every_epochs: int = Field(1, ge=1)
    """Epochs between two drawings of the validation figures; the last epoch is always drawn."""
    debug: bool = False
    """Two batches of everything, nothing kept, nothing logged."""
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()


class PostprocessConfig(_Settings):
    """What is taken out of the fused stroke; all off by default. See `fvv.imaging.postprocess`."""

    adc_gate: float | None = Field(None, gt=0)
    """Keep voxels whose apparent diffusion, smoothed in plane, is under this share of the brain's median (0.8 to 0.9);
    none: off."""
    minimum_lesion_mm3: float = Field(0.0, ge=0)
    """Drop separate pieces of the stroke smaller than this; 0: off."""


class ConvertConfig(_Settings):
    """From checkpoints to a bundle of ONNX models."""

    check_patients: int = Field(2, ge=1)
    """Patients of each fold's test part on which onnxruntime is compared with PyTorch, whole volumes."""
    logit_tolerance: float = Field(1e-3, gt=0)
    """Largest logit difference accepted; float32 rounding gives about 1e-5."""
    int8: bool = False
    """Write each model in 8 bits too: a third of the size and nine tenths of the time, for a loss that is measured."""
    calibration_patients: int = Field(8, ge=1)
    """Training patients of the fold whose activations set the 8-bit scales."""
    int8_check_patients: int = Field(6, ge=1)
    """Patients of the fold's test part on which INT8 is compared with float32, whole volumes."""
    minimum_int8_dice: float = Field(0.98, ge=0, le=1)
    """Lowest Dice accepted between the strokes that INT8 and float32 mark, those patients' voxels together."""
    fused: bool = False
    """Write all folds as one graph too, which `predict` then prefers: one file to open."""
    postprocess: PostprocessConfig = PostprocessConfig()
    """Stated in the bundle, and then done wherever its models are used."""
    notice: OneLine = ""
    """What everybody who uses the models should know; kept in the bundle and said at every prediction."""
    largest_mb: float | None = Field(None, gt=0)
    """Most megabytes (10^6 bytes) of model files: where both forms are larger the 8-bit ones are left out, and where
    float32 alone still is, float32. Both are measured before. None: no limit."""


class DoctorConfig(_Settings):
    """A bundle's check on the machine that is to use it."""

    device: str = "auto"
    threads: int = Field(0, ge=0)
    """onnxruntime threads; 0: one per core."""


class DecisionConfig(_Settings):
    """From FVV to an answer: one section for `evaluate`, `report`, `predict` and `decide`."""

    cutoff_ml: float = Field(0.5, gt=0)
    """Benzakoun et al. 2025, doi 10.1177/23969873251362712: at 0.5 mL sensitivity 70 %, specificity 88 %."""
    minimum_lesion_ml: float = Field(0.0, ge=0)
    """A stroke of no more than this volume counts as no lesion."""
    prevalence: float | None = Field(None, gt=0, lt=1)
    """Share of mismatches among the strokes of your patients: P(mismatch) is given for it (Bayes' rule on the odds).
    None: the share among the patients on whom the models were calibrated."""


class EvaluateConfig(_Settings):
    """Test out of fold, or of the whole ensemble on external patients."""

    preprocess: PreprocessConfig = PreprocessConfig()
    """Of external patients; out of fold the store's hold."""
    unlisted: Unlisted = "refuse"
    """As in prepare, of external patients."""
    postprocess: PostprocessConfig | None = None
    """Steps not named here, and None: as the bundle says."""
    decision: DecisionConfig = DecisionConfig()
    """Filled from the section `decision`, which every stage shares."""
    own_masks: bool = False
    """Show external patients to the models through a brain mask of our own, as new patients who come without one; a
    given mask is then only what the predicted brain is compared with."""
    bootstrap_samples: int = Field(2000, ge=1)
    """Draws of persons behind every bootstrap interval."""
    seed: int = Field(0, ge=0)
    visible_fraction_label: float = Field(0.2, gt=0, le=1)
    """Without readers' labels: mismatch where less than this share of the lesion ROI is FLAIR-visible."""
    operating_specificity: float = Field(0.9, gt=0, le=1)
    """Beside the cut-off and Youden's, the cut-off that keeps this specificity is judged."""
    pseudo_volume_ml: float = Field(0.1, gt=0)
    """P(mismatch) is a logistic curve on log(FVV + this): a fifth of the cut-off, so that 0 mL has a logarithm and
    volumes of a few voxels count alike."""
    calibrate: bool = False
    """Write the curve of P(mismatch) into the bundle, where `predict` finds it."""
    heatmaps: bool = True
    """Write a picture and a colour image of every patient; the report shows the worst and the best. Without, it
    has no viewer."""
    viewer_patients: int = Field(24, ge=0)
    """Patients in the page's scrollable viewer, 0.2 to 0.6 MB each; of more, some from the lowest to the highest stroke
    Dice are taken."""
    device: str = "auto"
    """As in predict."""
    threads: int = Field(0, ge=0)
    """onnxruntime threads; 0: one per core."""
    precision: PrecisionChoice = "auto"
    """int8: test the bundle's 8-bit models. auto: float32, or 8 bits where the bundle has nothing else."""
    chunk_slices: int = Field(32, ge=1)
    """Slices run through the network at once: bounds memory, changes no number."""


class CardConfig(_Settings):
    """What a model card says and no file does."""

    training_data: str = ""
    """On whom the models were trained, in a paragraph."""
    limits: tuple[str, ...] = ()
    """What is known not to work, a sentence each."""
    commands: tuple[str, ...] = ()
    """What makes the card's numbers again."""


class PredictConfig(_Settings):
    """A new patient."""

    preprocess: PreprocessConfig = PreprocessConfig()
    postprocess: PostprocessConfig | None = None
    """Steps not named here, and None: as the bundle says."""
    decision: DecisionConfig = DecisionConfig()
    """Filled from the section `decision`, which every stage shares."""
    device: str = "auto"
    """auto: CUDA where onnxruntime offers it, else the CPU; gpu: the same, with a warning; any other name (cpu, cuda,
    tensorrt, openvino, coreml ...) must be there."""
    threads: int = Field(0, ge=0)
    """onnxruntime threads; 0: one per core."""
    precision: PrecisionChoice = "auto"
    """int8: the bundle's 8-bit models. auto: float32, or 8 bits where the bundle has nothing else."""
    folds: int = Field(0, ge=0)
    """Fuse only the first so many models; 0: all."""
    fast: bool = False
    """At most 3 models, in 8 bits where the bundle has them and precision names no other."""
    overwrite: bool = False
    """Replace results of other images, models or settings; never files that fvv did not write."""
    resume: bool = True
    """Always so, kept for older settings: the results of patients whose images, models and settings are those of now
    are kept, the others are predicted."""
    workers: int = Field(1, ge=0)
    """Patients side by side, each in a process with its own models; 0: one per core."""
    layout: Literal["folders", "bids"] = "folders"
    """folders: one a patient; bids: a BIDS derivative data set."""
    series: tuple[int, ...] = ()
    """DICOM: SeriesNumber of the series to take b0 and b1000 from; empty: chosen by b-value."""
    chunk_slices: int = Field(32, ge=1)
    """Slices run through the network at once: bounds memory, changes no number."""


class Config(_Settings):
    """Every stage's settings: what a YAML file may hold."""

    simulate: SimulateConfig = SimulateConfig()
    prepare: PrepareConfig = PrepareConfig()
    train: TrainConfig = TrainConfig()
    convert: ConvertConfig = ConvertConfig()
    doctor: DoctorConfig = DoctorConfig()
    decision: DecisionConfig = DecisionConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    card: CardConfig = CardConfig()
    predict: PredictConfig = PredictConfig()

    @model_serializer(mode="wrap")
    def _as_in_a_file(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What a YAML file holds: the shared section stands once."""
        content: dict[str, Any] = handler(self)
        for stage in SHARE_DECISION:
            content.get(stage, {}).pop("decision", None)
        return content


SHARE_DECISION = ("evaluate", "predict")
"""Sections that are given the section `decision` when settings are loaded."""


def load_config(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Config:
    """Read settings from a YAML file, then apply overrides.

    Args:
        path: YAML file with any of the sections of `Config`, or None for the defaults.
        overrides: dotted name to value, as {"train.epochs": 3}.

    Raises:
        ConfigError: unreadable file, unknown key or value out of range; the message names them.
    """
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
    _refuse_moved(content, path)
    try:
        return _with_shared_decision(Config.model_validate(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        more = f" and {error.error_count() - 1} more" if error.error_count() > 1 else ""
        unknown = first["type"] == "extra_forbidden"
        # reprlib: a few lines of YAML can stand for a value of gigabytes.
        what = "no such setting" if unknown else f"{first['msg']}, got {reprlib.repr(first.get('input'))[:100]}"
        raise ConfigError(f"{where}: {what}{more}", file=path) from error


def _refuse_moved(content: dict[Any, Any], path: Path | None) -> None:
    """A cut-off set for one stage alone would not reach the others."""
    for stage in SHARE_DECISION:
        section = content.get(stage)
        if isinstance(section, dict) and "decision" in section:
            inside = section["decision"]
            named = next(iter(inside), "cutoff_ml") if isinstance(inside, dict) else "cutoff_ml"
            raise ConfigError(
                f"{stage}.decision is no setting: evaluate, report, predict and decide share one section",
                file=path,
                hint=f"set decision.{named}",
            )


def _with_shared_decision(config: Config) -> Config:
    given = {"decision": config.decision}
    stages = {stage: getattr(config, stage).model_copy(update=given) for stage in SHARE_DECISION}
    return config.model_copy(update=stages)
