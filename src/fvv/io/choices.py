"""The user's choice of one checkpoint per fold, in a small YAML file."""

from __future__ import annotations

from pathlib import Path

import yaml

from fvv.errors import ConfigError, InputError
from fvv.io.regular import read_regular_text
from fvv.names import plain


def read_chosen_checkpoints(path: Path) -> dict[int, Path]:
    """Read which checkpoint stands for which fold.

    Args:
        path: YAML file of lines `fold: checkpoint`, such as `0: FVV/fold_0/best.ckpt`; a checkpoint's path is
            taken from the folder of this file.

    Raises:
        ConfigError: unreadable, or something else than folds and paths.
    """
    try:
        content = yaml.safe_load(read_regular_text(path))
    except InputError as error:
        raise ConfigError(f"cannot read the chosen checkpoints: {error.message}", file=path) from error
    # PyYAML lets through what Python says of an impossible date or number.
    except (RecursionError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the chosen checkpoints: {' '.join(str(error).split())}", file=path) from error
    if not isinstance(content, dict) or not content:
        raise ConfigError("expected lines 'fold: checkpoint'", file=path, hint="as 0: FVV/fold_0/best.ckpt")
    chosen: dict[int, Path] = {}
    for fold, checkpoint in content.items():
        if type(fold) is not int or fold < 0 or not isinstance(checkpoint, str) or not checkpoint.isprintable():
            raise ConfigError(f"expected 'fold: checkpoint', got {plain(f'{fold}: {checkpoint}')[:200]!r}", file=path)
        chosen[fold] = path.parent / checkpoint
    return chosen
