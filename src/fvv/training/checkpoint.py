"""Checkpoints: written by training, read by conversion and by training that goes on."""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from pydantic import ConfigDict, ValidationError
from torch import Tensor, nn

from fvv.errors import InputError, ModelError, TrainingError
from fvv.io.atomic import write_bytes
from fvv.io.runs import BEST, LAST, FoldRun
from fvv.schemas.checkpoint import CheckpointDescription
from fvv.schemas.migrations import migrated
from fvv.system.regular import refuse_irregular
from fvv.training.distributed import rank
from fvv.training.network import network_of

log = logging.getLogger(__name__)

DESCRIPTION: Final = "fvv"
"""The key of the description in a checkpoint."""
_NETWORK: Final = "network."
"""What the names of the network's weights begin with."""
# A file that is no checkpoint stumbles torch's unpickler in many ways.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


class TrainedModel(CheckpointDescription):
    """One fold's network as a checkpoint holds it: the description with the weights.

    Attributes:
        path: the checkpoint.
        weights: of the network: those that validation judged, the moving average where there is one.
        own_network: network of the user's own that the settings of this run name; code that only a checkpoint names is
            not run.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    path: Path
    weights: dict[str, Tensor]
    own_network: str | None = None

    def build(self) -> nn.Module:
        """The network with its weights, in evaluation mode on the CPU.

        Raises:
            ModelError: the weights do not fit the network, or it is code that the user has not named.
        """
        named = self.network.module
        if named not in {None, self.own_network}:
            raise ModelError(
                f"its network is {named}, code that no file runs by itself",
                file=self.path,
                hint=f"if you trust that code, name it yourself: --set train.network.module={named}",
            )
        network = network_of(self.network)
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise ModelError(f"weights and network differ: {_short(error)}", file=self.path) from error
        return network.eval()


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all. Lightning's own way does so on the disk of /tmp only."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ARG002 - Lightning's
    ) -> None:
        """Write one; the trainer calls this in one process.

        Raises:
            FvvError: it cannot be written.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_bytes(Path(path), content.getvalue())


def read_checkpoint(path: Path, own_network: str | None = None) -> TrainedModel:
    """Read a checkpoint of this package; no code in the file is run.

    Args:
        own_network: the network of their own that the user's settings name, "package.module:Name".

    Raises:
        ModelError: missing, not a regular file, damaged, not ours or of a newer version.
    """
    try:
        refuse_irregular(path)
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums that it writes.
            if (damaged := archive.testzip()) is not None:
                raise ModelError(f"damaged: the checksum of {damaged} is wrong", file=path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        about = content.get(DESCRIPTION) if isinstance(content, dict) else None
        if not isinstance(about, dict):
            raise ModelError("not a checkpoint of this software", file=path)
        state = content["state_dict"].items()
        weights = {name.removeprefix(_NETWORK): tensor for name, tensor in state if name.startswith(_NETWORK)}
        more = {"path": path, "weights": weights, "own_network": own_network}
        return TrainedModel.model_validate({**migrated("checkpoint", about, path), **more})
    except InputError as error:
        raise ModelError(error.message, file=path, hint=error.hint) from error
    except ValidationError as error:
        raise ModelError(f"incomplete: {_short(error)}", file=path) from error
    except _UNREADABLE as error:
        raise ModelError(f"cannot be read: {_short(error)}", file=path) from error


def resume_point(run: FoldRun) -> Path | None:
    """The checkpoint to go on from; None: the fold begins.

    Both checkpoints hold all that training needs. Where the last one is damaged or gone, training goes on from the best
    one, and the epochs after it are done again, with the same numbers: all randomness depends on seed, epoch and batch
    alone.

    Raises:
        ModelError: no checkpoint can be used.
        TrainingError: a checkpoint is of another run, or the best one is lost and cannot be made again.
    """
    last, best = _usable(run, LAST), _usable(run, BEST)
    if isinstance(last, TrainedModel):
        if not isinstance(best, TrainedModel):
            _make_best_again(run, last, best)
        return last.path
    if isinstance(best, TrainedModel):
        why = "missing" if last is None else last.message
        text = "%s: %s; training resumes from %s, the epochs after it are repeated"
        log.warning(text, run.folder / LAST, why, BEST)
        return best.path
    if lost := last or best:
        raise lost
    return None


def _usable(run: FoldRun, name: str) -> TrainedModel | ModelError | None:
    """A checkpoint of the run, why it cannot be read, or None where there is none."""
    path = run.folder / name
    if not path.exists() and not path.is_symlink():
        return None
    try:
        model = read_checkpoint(path)
    except ModelError as error:
        error.hint = error.hint or "delete it to train from what else is there, or from the start"
        return error
    if (model.run_id, model.fold) != (run.about.run_id, run.about.fold):
        raise TrainingError(
            f"of run {model.run_name} {model.run_id}, fold {model.fold}: not of this one, {run.about.run_id}",
            file=path,
            hint="give this run another name (--name), or delete the folder to train again from the start",
        )
    return model


def _make_best_again(run: FoldRun, last: TrainedModel, lost: ModelError | None) -> None:
    if last.epoch != last.best_epoch:  # Otherwise no epoch before it has a better score.
        raise TrainingError(
            "the best epoch's checkpoint is missing" if lost is None else f"the best epoch's checkpoint: {lost}",
            file=run.best,
            hint="restore it, or delete the folder to train again; "
            f"`fvv convert --model {run.about.fold}={last.path}` takes the last epoch",
        )
    log.warning("%s is %s; it is made again from %s", BEST, "missing" if lost is None else "damaged", LAST)
    if rank() == 0:
        write_bytes(run.best, last.path.read_bytes())


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
