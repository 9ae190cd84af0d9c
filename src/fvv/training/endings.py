"""The ways in which training ends before its time, each said in one line that tells what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fvv.config import TrainConfig
from fvv.errors import FvvError, TrainingError
from fvv.io.runs import FoldRun
from fvv.training.dataset import loader_processes
from fvv.training.distributed import uses_gpu

# torch raises plain RuntimeErrors: only their words tell what happened.
_CPU_OUT_OF_MEMORY = re.compile(r"not enough memory|can't allocate memory|Cannot allocate memory")
_SHARED_MEMORY = re.compile(r"shared memory|shm|unable to (?:write|open|resize|mmap)|Bus error|Too many open files")
_LOADER_DIED = re.compile(r"DataLoader worker.*(?:exited unexpectedly|is killed by signal)")
_RESUME = "then run the same command again: it resumes after the last finished epoch"
_FROM_LOADER = "Caught "
"""How torch begins the message of an error that it carries over from a loader process."""


@contextmanager
def clear_endings(run: FoldRun, config: TrainConfig) -> Iterator[None]:
    """Say what to do where memory or the disk ends or a loader process dies, and let Ctrl-C through.

    Raises:
        TrainingError: instead of what Python and torch raise.
        KeyboardInterrupt: instead of Lightning's silent exit.
    """
    try:
        yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    except FvvError as error:
        if error.message.startswith(_FROM_LOADER):
            # The last line of the traceback that a loader process sent: the error itself, without its class.
            last = error.message.strip().splitlines()[-1]
            raise type(error)(last.split(": ", 1)[-1]) from error
        if isinstance(error.__cause__, OSError):
            error.hint = error.hint or f"solve this, {_RESUME}"
        raise
    except (OSError, MemoryError, RuntimeError) as error:
        if (clear := _clear(error, run, config)) is None:
            raise
        raise clear from error


def _clear(error: Exception, run: FoldRun, config: TrainConfig) -> TrainingError | None:
    said = " ".join(str(error).split())
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or _CPU_OUT_OF_MEMORY.search(said)
    cut_off = "PytorchStreamWriter" in said and isinstance(error.__cause__ or error.__context__, OSError)
    if out_of_memory:
        slabs = f"{config.batch_slabs} slabs of {config.slab_slices} slices"
        return TrainingError(f"memory ran out with batches of {slabs}", hint=_memory_hint(config))
    if isinstance(error, OSError) or cut_off:
        why = getattr(error, "strerror", None) or said[:150]
        return TrainingError(f"cannot read or write: {why}", file=run.folder, hint=f"solve this, {_RESUME}")
    if loader_processes(config) and _SHARED_MEMORY.search(said):
        return TrainingError(
            "the loader processes found no room in shared memory",
            file=run.folder,
            hint="give the container more (--shm-size), or load in the training process: --set train.workers=0",
        )
    if _LOADER_DIED.search(said):
        return TrainingError(
            f"a loader process died: {said[:150]}",
            file=run.folder,
            hint=f"memory may have run out: use --set train.workers=0, or fewer; {_RESUME}",
        )
    return None


def _memory_hint(config: TrainConfig) -> str:
    ways = ["lower train.batch_slabs" if config.batch_slabs > 1 else "lower train.slab_slices"]
    ways += ["set train.preload_ram=false"] if config.preload_ram and not uses_gpu(config) else []
    ways += ["train fewer folds at once (--jobs)"] if config.jobs > 1 else []
    ways += ["set train.network.resolution=half"] if config.network.resolution == "full" else []
    return ", or ".join(ways)
