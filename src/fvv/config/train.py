"""Settings of a training: network, loss, augmentation, schedule."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from fvv.config.base import OneLine, Settings
from fvv.system.extension import ExtensionName


class NetworkConfig(Settings):
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


class LossConfig(Settings):
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


class AugmentConfig(Settings):
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


class TrainConfig(Settings):
    """One training run."""

    name: str = Field(default="FVV", pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
    """Name of the run."""
    wandb_project: OneLine = "FVV"
    """Project on Weights & Biases."""
    wandb_mode: Literal["online", "offline", "disabled"] = "offline"
    """Whether data are sent to Weights & Biases: online, disabled, or offline (a run folder is written, which `wandb
    sync` can send later)."""
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
    crop: tuple[int, int] | None = None
    """In-plane size of the part of a slab that trains, around the brain, multiples of 32: left to right, and back to
    front. 192 x 224 takes about half of the time of the whole grid of 256 x 256, which is the default. Validation and
    prediction use the whole grid."""
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
    """Hold all examinations of the fold in memory (14 MB per examination of 30 slices)."""
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

    @field_validator("crop")
    @classmethod
    def _crop_fits_network_and_grid(cls, crop: tuple[int, int] | None) -> tuple[int, int] | None:
        if crop and any(edge % 32 or not 32 <= edge <= 256 for edge in crop):
            raise ValueError("the edges of the crop must be multiples of 32, from 32 to 256")
        return crop

    @property
    def starting_learning_rate(self) -> float:
        """The learning rate of this run."""
        return self.init_learning_rate if self.init else self.learning_rate
