"""The training step, the validation of an epoch, the optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Self

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from fvv.config import TrainConfig
from fvv.data import Channel
from fvv.errors import TrainingError
from fvv.io.store import CaseRecord
from fvv.training.augment import augmented
from fvv.training.distributed import from_all
from fvv.training.figures import Example, larger_examples, patient_examples
from fvv.training.freezing import freeze
from fvv.training.losses import loss_of
from fvv.training.network import CONTEXT_SLICES, network_of
from fvv.training.validation import PatientValidation, SliceClass, final_masks, judge_patient, summarise

VALIDATION_CHUNK = 32
"""Slices run at once in validation; bounds memory, changes no number."""
_PLATEAU = "plateau"
"""Where a checkpoint holds the state of that schedule."""


class SegmentationModule(lightning.LightningModule):
    """Network, loss and optimiser of one fold.

    All randomness depends on the seed, the epoch and the batch number alone, so a run that is resumed sees what an
    undisturbed one would have seen.

    Args:
        config: settings of the run.
        records: the validation patients, in the order in which the loader numbers them.
    """

    def __init__(self, config: TrainConfig, records: Sequence[CaseRecord]) -> None:
        super().__init__()
        self.config = config
        self.records = tuple(records)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = network_of(config.network)
        self.frozen = freeze(self.network, config.freeze)
        self.loss = loss_of(config.loss)
        self.patients: list[PatientValidation] = []
        self.examples: dict[SliceClass, Example] = {}
        self.scores: dict[str, float] = {}
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - PyTorch's
        """Frozen parts stay in evaluation mode: their batch norms use, and keep, the statistics they came with."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """One batch of slabs: augment, run the network, compare."""
        _, images, labels, known = batch  # (B, 2, S + 6, H, W) float16, (B, 3, S, H, W) and (B, 3) bool
        images, labels = augmented(images.float(), labels, self.config, self._generator(batch_idx))  # H, W: of the crop
        logits = self.network(images)  # (B, 3, S, H, W)
        terms = self.loss(logits, labels, self.config.loss, known)  # scalars
        self.log_dict(
            {name: value.detach() for name, value in terms.named("train/").items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(images),
            sync_dist=self.trainer.world_size > 1,
        )
        return terms.total

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch."""
        self.patients = []
        self.examples = {}

    def validation_step(self, batch: tuple[int, Tensor, Tensor, Tensor]) -> None:
        """One whole patient, by the rule that prediction uses."""
        number, images, labels, known = batch  # (2, Z + 6, H, W) float16, (3, Z, H, W) and (3,) bool
        logits = mark_volume(self.network, images.float())  # (3, Z, H, W)
        loss = float(self.loss(logits[None], labels[None], self.config.loss, known[None]).total)
        predicted, reference = final_masks((logits > 0).cpu().numpy()), labels.cpu().numpy()
        record = self.records[number]
        self.patients.append(
            judge_patient(
                predicted,
                reference,
                loss=loss,
                voxel_volume_ml=record.voxel_volume_ml,
                mismatch=record.participant.dwi_flair_mismatch,
                known=record.known,
            )
        )
        b1000 = images[0, CONTEXT_SLICES:-CONTEXT_SLICES].cpu().numpy()  # (Z, H, W)
        if record.known == frozenset(Channel):
            self.examples = larger_examples(self.examples, patient_examples(b1000, predicted, reference))

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
        rate = config.starting_learning_rate
        trained = [weights for weights in self.network.parameters() if weights.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=rate)
        if config.schedule == "plateau":
            # Kept here and not given to the trainer, which forgets a plateau scheduler's last step in its checkpoints.
            # The reference's numbers.
            self._plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=6, cooldown=2, min_lr=1e-6)
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = OneCycleLR(optimizer, max_lr=rate, total_steps=steps, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the plateau schedule."""
        if self._plateau is not None:
            checkpoint[_PLATEAU] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the plateau schedule until the optimiser is there."""
        self._plateau_state = checkpoint.get(_PLATEAU)

    def _generator(self, batch: int) -> torch.Generator:
        place = (self.current_epoch, batch) if self.global_rank == 0 else (self.current_epoch, batch, self.global_rank)
        words = np.random.SeedSequence((self.config.seed, *place)).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def mark_volume(network: torch.nn.Module, images: Tensor) -> Tensor:
    """Run a whole patient through the network, a bounded number of slices at a time.

    Args:
        network: of `network_of`, in evaluation mode.
        images: (2, Z + 6, H, W) float.

    Returns:
        (3, Z, H, W) float logits; the same numbers as in one piece.
    """
    slices = images.shape[1] - 2 * CONTEXT_SLICES
    starts = range(0, slices, VALIDATION_CHUNK)
    stops = [min(start + VALIDATION_CHUNK, slices) + 2 * CONTEXT_SLICES for start in starts]
    parts = [network(images[None, :, start:stop])[0] for start, stop in zip(starts, stops, strict=True)]
    return torch.cat(parts, dim=1)
