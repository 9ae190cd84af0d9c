"""Where metrics go beside metrics.csv: TensorBoard always, Weights & Biases unless switched off."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from fvv.config import TrainConfig
from fvv.io.runs import FoldRun
from fvv.training.distributed import rank

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

log = logging.getLogger(__name__)

_STRICTNESS = ("online", "offline", "disabled")


@contextmanager
def open_loggers(run: FoldRun, config: TrainConfig) -> Iterator[list[Logger]]:
    """The loggers of one fold, closed when the block ends, whichever way it ends; none in debug mode.

    Of several processes that train one fold together, the first alone logs.
    """
    if config.debug or rank() > 0:
        yield []
        return
    loggers: list[Logger] = [TensorBoardLogger(run.folder, name="", version="tensorboard")]
    mode = wandb_mode(config)
    if mode == "disabled":
        yield loggers
        return
    import wandb  # noqa: PLC0415 - slow to import, and not needed when switched off

    try:
        wandb_run = _start_wandb(run, config, mode)
    except wandb.Error as error:  # no answer, no right: the rest of the log is as good
        log.warning("Weights & Biases is left out of this session: %s", error)
        yield loggers
        return
    try:
        yield [*loggers, WandbLogger(experiment=wandb_run)]
    finally:
        # Left open, the next fold would write into this fold's run.
        wandb_run.finish()


def wandb_mode(config: TrainConfig) -> str:
    """The settings' mode, made stricter by WANDB_MODE but never looser; offline where there is no account."""
    asked = os.environ.get("WANDB_MODE", "online")
    mode = max(config.wandb_mode, asked if asked in _STRICTNESS else "online", key=_STRICTNESS.index)
    if mode == "online":
        import wandb  # noqa: PLC0415 - slow to import, and not needed when switched off

        if not wandb.login(prompt=False, verify=False):
            log.warning(
                "no Weights & Biases account on this machine: the run is written offline (`wandb sync` sends it)"
            )
            return "offline"
    return mode


def _start_wandb(run: FoldRun, config: TrainConfig, mode: str) -> Run:
    import wandb  # noqa: PLC0415

    if mode == "offline":
        # W&B starts another folder each session. A fold keeps one: `MetricsTable` writes the epochs so far again.
        run.clear_offline_sessions()
    # Metrics, settings and figures only: no host, path, code, command line or console, any of which may hold a name.
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
    )
    wandb_run = wandb.init(
        project=config.wandb_project,
        name=f"{config.name}/fold_{run.fold}",
        group=config.name,
        id=run.wandb_id,
        resume="allow",
        mode="offline" if mode == "offline" else "online",
        dir=run.folder,
        config=config.model_dump(mode="json"),
        settings=settings,
    )
    wandb_run.define_metric("trainer/global_step")
    wandb_run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return wandb_run
