"""The user's choice of one checkpoint per fold, in a small YAML file."""

from __future__ import annotations

from pathlib import Path

from fvv.errors import ConfigError
from fvv.names import plain
from fvv.system.regular import read_yaml


def read_chosen_checkpoints(path: Path) -> dict[int, Path]:
    """Read which checkpoint stands for which fold.

    Args:
        path: YAML file of lines `fold: checkpoint`, such as `0: FVV/fold_0/best.ckpt`; a checkpoint's path is
            taken from the folder of this file.

    Raises:
        ConfigError: unreadable, or content other than folds and paths.
    """
    content = read_yaml(path, what="the checkpoints chosen")
    if not isinstance(content, dict) or not content:
        raise ConfigError("expected lines 'fold: checkpoint'", file=path, hint="as 0: FVV/fold_0/best.ckpt")
    chosen: dict[int, Path] = {}
    for fold, checkpoint in content.items():
        if type(fold) is not int or fold < 0 or not isinstance(checkpoint, str) or not checkpoint.isprintable():
            raise ConfigError(f"expected 'fold: checkpoint', got {plain(f'{fold}: {checkpoint}')[:200]!r}", file=path)
        chosen[fold] = path.parent / checkpoint
    return chosen
