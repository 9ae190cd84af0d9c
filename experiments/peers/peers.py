"""Who is compared: networks and their recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fvv.cli.settings import PACKAGED
from fvv.config import Config, EvaluateConfig, PostprocessConfig, load_config

FOLD = 0
"""Trained, and tested on its test part."""
FIRST_PEER = "ours"
"""The AUC of the others is compared with that of this one."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What is trained, by fvv or, with a configuration of it, by nnU-Net."""

    settings: str = "model"
    changes: Mapping[str, Any] = field(default_factory=dict)
    nnunet: str = ""


REFERENCE_BATCH = 8
"""Slices in a batch of the reference (chosen here): one takes 1 GB in training; the published 32 would take 34."""
PEERS = {
    "ours": Peer(),
    "ours-full": Peer(changes={"train.network.resolution": "full"}),
    "reference": Peer(
        "reference",
        {"train.network.module": "reference_network:ReferenceNetwork", "train.batch_slabs": REFERENCE_BATCH},
    ),
    "segresnet": Peer(changes={"train.network.module": "plain_network:PlainNetwork"}),
    "nnunet-2d": Peer(nnunet="2d"),
    "nnunet-3d": Peer(nnunet="3d_fullres"),
}


def settings_of(peer: str, seed: int, epochs: int, slices: int) -> Config:
    """All settings of a run that fvv trains."""
    about = PEERS[peer]
    run = {
        "train.name": f"{peer}-seed{seed}",
        "train.seed": seed,
        "train.epochs": epochs,
        "train.slices_per_epoch": slices,
        "train.jobs": 1,
        "train.workers": 0,
        "train.precision": "32",
        "train.device": "cpu",
        "train.wandb_mode": "disabled",
        "train.figures_every_epochs": max(epochs, 1),
    }
    return load_config(PACKAGED[about.settings], {**about.changes, **run})


def evaluation_settings() -> EvaluateConfig:
    return EvaluateConfig(heatmaps=False, postprocess=PostprocessConfig(), compute={"threads": 1, "workers": 1})
