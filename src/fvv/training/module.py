"""The training step, the validation of an epoch, the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, update_bn

from fvv.config import TrainConfig
from fvv.data import Channel
from fvv.errors import TrainingError
from fvv.io.store import CaseRecord
from fvv.training.augment import apply_changes, draw_changes
from fvv.training.distributed import from_all
from fvv.training.examples import Example, larger_examples, largest_examples
from fvv.training.losses import LossTerms, segmentation_loss
from fvv.training.network import CONTEXT_SLICES, SegmentationNetwork
from fvv.training.validation import PatientValidation, SliceClass, final_masks, judge_patient, summarise

VALIDATION_CHUNK = 32
"""Slices run at once in validation; bounds memory, changes no number."""
PLATEAU: dict[str, Any] = {"factor": 0.1, "patience": 6, "cooldown": 2, "min_lr": 1e-6}
"""The reference's schedule."""
_CHECKPOINT_PLATEAU = "plateau"


class SegmentationModule(lightning.LightningModule):
    """Network, loss and optimiser of one fold.

    All randomness depends on the seed, the epoch and the batch number alone, so a run that is resumed sees what an
    undisturbed one would have seen.

    Args:
        config: settings of the run.
        records: the validation patients, in the order in which the loader numbers them.
        about: what a checkpoint must say of itself (see `checkpoint.py`); epoch and scores are added to it.
        norm_slabs: the batches of training slabs that batch-norm statistics are estimated from before each validation,
            images (B, 2, S + 6, H, W) and labels (B, 3, S, H, W), the same in every process; None: keep the moving
            averages.
    """

    def __init__(
        self,
        config: TrainConfig,
        records: Sequence[CaseRecord],
        about: dict[str, Any],
        norm_slabs: Iterable[tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.records = tuple(records)
        self.about = about
        self.norm_slabs = norm_slabs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            # channels_last: a quarter to a half of the training time on a CPU (docs/explanation/network.md).
            self.network = SegmentationNetwork(config.network)
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: AveragedModel | None = None
        if config.ema_decay > 0:
            self.average = AveragedModel(self.network, avg_fn=_moving_average(config.ema_decay))
            self.average.requires_grad_(requires_grad=False)
        self.patients: list[PatientValidation] = []
        self.examples: dict[SliceClass, Example] = {}
        self.scores: dict[str, float] = {}
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    @property
    def judged(self) -> torch.nn.Module:
        """The network that is judged and kept: with the moving average of the weights, where there is one."""
        return self.network if self.average is None else self.average.module

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One batch of slabs: augment, mark, compare."""
        images, labels = batch  # (B, 2, S + 6, H, W), (B, 3, S, H, W)
        changes = draw_changes(self.config.augment, len(images), self._generator(batch_idx))
        images, labels = apply_changes(images.float(), labels, changes)
        terms = segmentation_loss(self.network(images), labels, self.config.loss)
        self._log_terms(terms, len(images))
        return terms.total

    def on_train_batch_end(self, *_: object) -> None:
        """Let the average follow the weights."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def validation_step(self, batch: tuple[int, Tensor, Tensor]) -> None:
        """One whole patient."""
        number, images, labels = batch  # (2, Z + 6, H, W), (3, Z, H, W)
        logits = mark_volume(self.judged, images.float())  # (3, Z, H, W)
        loss = segmentation_loss(logits[None], labels[None], self.config.loss).total
        record = self.records[number]
        masks, truth = final_masks((logits > 0).cpu().numpy()), labels.cpu().numpy()
        judged = judge_patient(
            masks,
            truth,
            loss=float(loss),
            voxel_volume_ml=record.voxel_volume_ml,
            mismatch=record.participant.dwi_flair_mismatch,
        )
        self.patients.append(judged)
        b1000 = images[0, CONTEXT_SLICES:-CONTEXT_SLICES].cpu().numpy()
        self.examples = largest_examples(self.examples, b1000, masks, truth)

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch; estimate the batch-norm statistics of the weights as they are now."""
        self.patients = []
        self.examples = {}
        if self.norm_slabs is not None:
            update_bn(self._changed(self.norm_slabs), self.judged)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the epoch, of the patients of all processes."""
        # In one order everywhere: processes whose sums differ in the last digit would not agree on the best epoch.
        self.patients = [patient for part in from_all(self.patients) for patient in part]
        self.examples = reduce(larger_examples, from_all(self.examples))
        self.scores = summarise(self.patients)
        self.log_dict(self.scores)

    def on_train_epoch_end(self) -> None:
        """Stop on a loss that is no number; lower the learning rate on a plateau."""
        loss = float(self.trainer.callback_metrics["train/loss"])
        if not np.isfinite(loss):
            raise TrainingError(
                f"the training loss became {loss} in epoch {self.current_epoch}",
                hint="lower train.learning_rate, or look at the input with `fvv verify`",
            )
        if self._plateau is not None:
            self._plateau.step(self.scores["valid/loss"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, and the schedule that the settings name."""
        config = self.config
        optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        if config.schedule == "plateau":
            # Kept here and not given to the trainer, which forgets a plateau scheduler's last step in its checkpoints.
            self._plateau = ReduceLROnPlateau(optimizer, **PLATEAU)
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
            return optimizer
        schedule: LRScheduler = CosineAnnealingLR(optimizer, T_max=steps)
        if config.schedule == "onecycle":
            schedule = OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=steps, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint what it is; plain values only, so that it loads with `weights_only=True`."""
        checkpoint["fvv"] = {**self.about, "epoch": self.current_epoch, "scores": dict(self.scores)}
        if self._plateau is not None:
            checkpoint[_CHECKPOINT_PLATEAU] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the plateau schedule until the optimiser is there."""
        self._plateau_state = checkpoint.get(_CHECKPOINT_PLATEAU)

    def _changed(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """Images changed as in training, the same in every epoch."""
        generator = torch.Generator().manual_seed(self.config.seed)
        for images, labels in batches:
            changes = draw_changes(self.config.augment, len(images), generator)
            yield apply_changes(images.to(self.device).float(), labels.to(self.device), changes)[0]

    def _generator(self, batch: int) -> torch.Generator:
        place = (self.current_epoch, batch) if self.global_rank == 0 else (self.current_epoch, batch, self.global_rank)
        words = np.random.SeedSequence((self.config.seed, *place)).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)

    def _log_terms(self, terms: LossTerms, slabs: int) -> None:
        values = {
            "train/loss": terms.total,
            f"train/loss_{Channel.BRAIN.label}": terms.brain,
            f"train/loss_{Channel.STROKE.label}": terms.stroke,
            f"train/loss_{Channel.FLAIR_VISIBLE.label}": terms.flair_visible,
            "train/loss_dice": terms.dice,
        }
        self.log_dict(
            {name: value.detach() for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            batch_size=slabs,
            sync_dist=self.trainer.world_size > 1,
        )


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Rule of an average that follows fast at first and then with the given decay; the first step is copied."""

    def follow(average: Tensor, weight: Tensor, steps: Tensor | int) -> Tensor:
        return torch.lerp(average, weight, 1.0 - min(decay, (1 + int(steps)) / (10 + int(steps))))

    return follow


def mark_volume(network: torch.nn.Module, images: Tensor) -> Tensor:
    """Run a whole patient through the network, a bounded number of slices at a time.

    Args:
        network: a `SegmentationNetwork`, in evaluation mode.
        images: (2, Z + 6, H, W) float.

    Returns:
        (3, Z, H, W) float logits; the same numbers as in one piece.
    """
    slices = images.shape[1] - 2 * CONTEXT_SLICES
    starts = range(0, slices, VALIDATION_CHUNK)
    stops = [min(start + VALIDATION_CHUNK, slices) + 2 * CONTEXT_SLICES for start in starts]
    parts = [network(images[None, :, start:stop])[0] for start, stop in zip(starts, stops, strict=True)]
    return torch.cat(parts, dim=1)
