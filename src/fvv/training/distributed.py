"""Which of the processes this is that train one fold together, and what the others found; alone, all is trivial."""

from __future__ import annotations

from typing import TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from fvv.config import TrainConfig

Value = TypeVar("Value")


def torch_device(config: TrainConfig) -> str:
    """The kind of device that training runs on here: `cuda`, `mps` (Apple's GPU) or `cpu`."""
    if config.device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def uses_gpu(config: TrainConfig) -> bool:
    """Whether training runs on a GPU here."""
    return torch_device(config) != "cpu"


def rank() -> int:
    """Number of this process, 0-based; before the processes have met, what its launcher told it."""
    return distributed.get_rank() if _have_met() else int(getattr(rank_zero_only, "rank", None) or 0)


def world_size() -> int:
    """How many processes train together; 1 before they have met."""
    return distributed.get_world_size() if _have_met() else 1


def from_all(mine: Value) -> list[Value]:
    """This value of every process, in the order of their ranks: the same list everywhere."""
    if world_size() == 1:
        return [mine]
    gathered = [mine] * world_size()
    distributed.all_gather_object(gathered, mine)
    return gathered


def _have_met() -> bool:
    return distributed.is_available() and distributed.is_initialized()
