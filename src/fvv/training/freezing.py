"""Parts of the network that training leaves as they are."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from fvv.errors import TrainingError


def freeze(network: nn.Module, names: Iterable[str]) -> tuple[nn.Module, ...]:
    """Give some parts of a network no gradient.

    Args:
        names: of submodules, such as `stages` or `stages.0`.

    Returns:
        The parts. Their batch norms are to stay in evaluation mode.

    Raises:
        TrainingError: no such part, or nothing is left to train.
    """
    parts = dict(network.named_modules())
    frozen = []
    for name in names:
        if not name or name not in parts:
            known = ", ".join(child for child, _ in network.named_children())
            raise TrainingError(f"train.freeze: the network has no part {name!r}", hint=f"its parts are {known}")
        frozen.append(parts[name].requires_grad_(requires_grad=False))
    if frozen and not any(weights.requires_grad for weights in network.parameters()):
        raise TrainingError("train.freeze: nothing is left to train", hint="freeze fewer parts")
    return tuple(frozen)
