"""What a checkpoint says of itself, written by training and read by conversion."""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from pydantic import ValidationError
from torch import Tensor

from fvv import __version__
from fvv.config import NetworkConfig, PreprocessingProfile, TrainConfig
from fvv.data import Channel, hashed_ids
from fvv.errors import InputError, ModelError
from fvv.io.atomic import write_bytes
from fvv.io.store import IMAGE_CHANNELS, CaseRecord
from fvv.names import plain
from fvv.system.regular import refuse_irregular
from fvv.training.network import SegmentationNetwork
from fvv.training.validation import SCORE, selection_key

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
NETWORK, AVERAGE = "network.", "average.module."
"""What the names of a checkpoint's weights begin with: those that are trained, and their moving average."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """One fold's network as a checkpoint holds it.

    Attributes:
        path: the checkpoint.
        fold: its fold.
        n_folds: folds of the split.
        run_name, run_id: the run; the id is the same for all folds of one run and for no other.
        epoch: 0-based.
        score: what chose it (see `validation.SCORE`).
        is_best: no epoch before it has a better score: `best.ckpt` may be made of it again.
        software: version that trained it.
        network: settings of the network.
        profile: preprocessing that its input needs.
        training_person_ids: hashed ids of the persons that trained or selected it.
        training_image_ids: hashed fingerprints of their images.
        weights: of `SegmentationNetwork`: those that validation judged, the moving average where there is one.
    """

    path: Path
    fold: int
    n_folds: int
    run_name: str
    run_id: str
    epoch: int
    score: float
    is_best: bool
    software: str
    network: NetworkConfig
    profile: PreprocessingProfile
    training_person_ids: tuple[str, ...]
    training_image_ids: tuple[str, ...]
    weights: dict[str, Tensor]

    def build(self) -> SegmentationNetwork:
        """The network with its weights, in evaluation mode on the CPU.

        Raises:
            ModelError: the weights do not fit the network.
        """
        network = SegmentationNetwork(self.network)
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise ModelError(
                f"weights and network differ: {' '.join(str(error).split())[:200]}", file=self.path
            ) from error
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


def describe_training(
    config: TrainConfig,
    profile: PreprocessingProfile,
    *,
    fold: int,
    n_folds: int,
    run_id: str,
    records: Sequence[CaseRecord],
) -> dict[str, Any]:
    """What every checkpoint of a fold says of itself; plain values only.

    Args:
        config: settings of the run.
        profile: of the store.
        fold, n_folds: which of how many.
        run_id: the run.
        records: patients that train or select. A checkpoint chosen on a person is no fairer a judge of that person.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "software": f"fvv {__version__}",
        "fold": fold,
        "n_folds": n_folds,
        "run_name": config.name,
        "run_id": run_id,
        "score_name": SCORE,
        "config": config.model_dump(mode="json"),
        "profile": profile.model_dump(mode="json"),
        "input_channels": list(IMAGE_CHANNELS),
        "output_channels": [channel.label for channel in Channel],
        "training_person_ids": list(hashed_ids(record.participant.person for record in records)),
        "training_image_ids": list(hashed_ids(record.image_sha256 for record in records)),
    }


def read_checkpoint(path: Path) -> TrainedModel:
    """Read a checkpoint of this package; no code in the file is run.

    Of the settings it was trained with only the network's are needed: a version that names others differently reads it.

    Raises:
        ModelError: missing, not a regular file, damaged, not ours or of another schema.
    """
    try:
        refuse_irregular(path)
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums that it writes.
            if (damaged := archive.testzip()) is not None:
                raise ModelError(f"damaged: the checksum of {damaged} is wrong", file=path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError as error:
        raise ModelError(error.message, file=path, hint=error.hint) from error
    # A file that is no checkpoint stumbles torch's unpickler in many ways.
    except (
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
    ) as error:
        raise ModelError(f"cannot be read: {' '.join(str(error).split())[:200]}", file=path) from error
    about = content.get("fvv") if isinstance(content, dict) else None
    if not isinstance(about, dict) or about.get("schema_version") != SCHEMA_VERSION:
        raise ModelError(f"not a checkpoint of this software's schema {SCHEMA_VERSION}", file=path)
    try:
        config = dict(about["config"])
        if unknown := sorted(set(config) - set(TrainConfig.model_fields)):
            log.info("%s was trained with settings that this version does not know: %s", path, ", ".join(unknown)[:200])
        return TrainedModel(
            path=path,
            fold=int(about["fold"]),
            n_folds=int(about["n_folds"]),
            run_name=plain(str(about["run_name"])),
            run_id=str(about["run_id"]),
            epoch=int(about["epoch"]),
            score=float(about["scores"][about["score_name"]]),
            is_best=_is_best(content, int(about["epoch"])),
            software=plain(str(about["software"])),
            network=NetworkConfig.model_validate(config["network"]),
            profile=PreprocessingProfile.model_validate(about["profile"]),
            training_person_ids=tuple(about["training_person_ids"]),
            training_image_ids=tuple(about["training_image_ids"]),
            weights=_judged_weights(content["state_dict"]),
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ModelError(f"incomplete: {' '.join(str(error).split())[:200]}", file=path) from error


def _is_best(content: dict[str, Any], epoch: int) -> bool:
    """Whether the table of epochs that travels in a checkpoint ranks its own epoch highest."""
    rows = content.get("callbacks", {}).get("MetricsTable", {}).get("rows", [])
    return bool(rows) and int(max(rows, key=selection_key)["epoch"]) == epoch


def _judged_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = AVERAGE if any(name.startswith(AVERAGE) for name in state) else NETWORK
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
