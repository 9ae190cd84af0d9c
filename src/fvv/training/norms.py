"""Batch-norm statistics from training slabs: of weights that train, and of weights that come without any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fvv.training.augment import augmented
from fvv.training.dataset import Batch

if TYPE_CHECKING:
    from fvv.training.module import SegmentationModule

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
"""The second on several GPUs, where the trainer replaces the first by it."""


def changed_images(module: SegmentationModule, batches: Iterable[Batch]) -> Iterator[Tensor]:
    """Images augmented as in training, the same each time: (B, 2, S + 6, H, W) float32 on the module's device."""
    generator = torch.Generator().manual_seed(module.config.seed)
    for _, images, labels, _ in batches:
        yield augmented(images.to(module.device).float(), labels.to(module.device), module.config, generator)[0]


@torch.no_grad()
def estimate_norms(module: SegmentationModule, images: Iterable[Tensor]) -> None:
    """Estimate the statistics of the network's batch norms again, but for those of frozen parts.

    Like `torch.optim.swa_utils.update_bn`, which knows no frozen parts.

    Args:
        images: (B, 2, S + 6, H, W) float32 each.
    """
    was_training = module.training
    module.train()
    norms = [norm for norm in module.network.modules() if isinstance(norm, _NORMS) and norm.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # A plain mean over the batches.
    for batch in images:
        module.network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.train(was_training)


@torch.no_grad()
def centre_norms(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Give batch norms the statistics of their inputs, and leave what the network computes as it is.

    With mean m and variance v of a norm's input, gain and offset become those for which the norm does to its input what
    it did before: in evaluation mode the function stays, and in training mode it is near, since the statistics of a
    batch are near m and v.

    Args:
        network: in evaluation mode, which it stays in.
        images: (B, 2, S + 6, H, W) float32 each, at least one.
    """
    norms = [norm for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {norm: [] for norm in norms}

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        seen[norm].append((mean.double(), variance.double()))

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    weights = [float(batch.shape[0]) for batch in images if network(batch) is not None]
    for hook in hooks:
        hook.remove()
    shares = torch.tensor(weights, dtype=torch.float64)[:, None] / sum(weights)
    for norm in norms:
        means, variances = (torch.stack(parts).cpu() for parts in zip(*seen[norm], strict=True))  # (batches, C)
        mean = (shares * means).sum(0)
        variance = (shares * (variances + means**2)).sum(0) - mean**2
        _keep_function(norm, mean, variance.clamp(min=0))


def _keep_function(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics has no function to keep")
    slope = norm.weight.double().cpu() / torch.sqrt(norm.running_var.double().cpu() + norm.eps)
    shift = norm.bias.double().cpu() - norm.running_mean.double().cpu() * slope
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    # From what is stored, in float32: the function stays to rounding.
    norm.weight.copy_(slope * torch.sqrt(norm.running_var.double().cpu() + norm.eps))
    norm.bias.copy_(shift + norm.running_mean.double().cpu() * slope)
