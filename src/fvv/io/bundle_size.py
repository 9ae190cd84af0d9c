"""Keeping a bundle small: which forms of its models stay when there is only so much room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fvv.errors import ModelError
from fvv.io.bundle import ModelEntry

MEGABYTE = 1e6


def leave_out_forms(
    folder: Path, models: Sequence[ModelEntry], largest_mb: float | None
) -> tuple[tuple[ModelEntry, ...], bool]:
    """Delete model files of one form until the rest fits. float32 is kept where it can be: it is the same everywhere.

    Args:
        folder: of the files.
        models: entries, in one form or two.
        largest_mb: of all model files together, 10^6 bytes; None: no limit.

    Returns:
        Entries of what is left, and whether that is 8-bit models only.

    Raises:
        ModelError: no form fits.
    """
    full = [folder / model.file for model in models]
    small = [folder / model.int8.file for model in models if model.int8 is not None]
    if largest_mb is None or _size_mb([*full, *small]) <= largest_mb:
        return tuple(models), False
    if _size_mb(full) <= largest_mb:
        _delete(small)
        return tuple(model.model_copy(update={"int8": None}) for model in models), False
    if len(small) == len(full) and _size_mb(small) <= largest_mb:
        _delete(full)
        return tuple(models), True
    raise ModelError(
        f"the models take {_size_mb(full):.1f} MB in float32, the limit is {largest_mb:g} MB",
        file=folder,
        hint="convert with --int8, train fewer folds or a smaller network, or raise convert.largest_mb",
    )


def _size_mb(files: Sequence[Path]) -> float:
    return sum(file.stat().st_size for file in files) / MEGABYTE


def _delete(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink()
