"""Where metrics go beside metrics.csv: TensorBoard always, Weights & Biases unless switched off.

Neither ever ends a training: what fails is said once and left out of the rest of the session.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure

from fvv.config import TrainConfig
from fvv.io.runs import FoldRun
from fvv.names import plain
from fvv.training.distributed import rank

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

log = logging.getLogger(__name__)

_STRICTNESS = ("online", "offline", "disabled")
_WANDB = "Weights & Biases"


class RunLog(Logger):
    """Passes all on to one of Lightning's loggers until that fails.

    Args:
        inner: the logger.
        title: its name in messages.
    """

    def __init__(self, inner: TensorBoardLogger | WandbLogger, title: str) -> None:
        super().__init__()
        self.inner = inner
        self.title = title
        self.broken = False

    @property
    def name(self) -> str | None:
        """As the logger itself says."""
        return self.inner.name

    @property
    def version(self) -> int | str | None:
        """As the logger itself says."""
        return self.inner.version

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Pass on."""
        self.attempt(lambda: self.inner.log_metrics(dict(metrics), step))

    def log_hyperparams(self, *arguments: Any, **options: Any) -> None:
        """Pass on."""
        self.attempt(lambda: self.inner.log_hyperparams(*arguments, **options))

    def save(self) -> None:
        """Pass on."""
        self.attempt(self.inner.save)

    def finalize(self, status: str) -> None:
        """Pass on."""
        self.attempt(lambda: self.inner.finalize(status))

    def show(self, name: str, figure: Figure, path: Path, step: int) -> None:
        """Log a picture, which lies at a path too."""
        if isinstance(self.inner, TensorBoardLogger):
            board = self.inner
            self.attempt(lambda: board.experiment.add_figure(name, figure, step))
        else:
            run = self.inner
            self.attempt(lambda: run.log_image(name, [str(path)], step=step))

    def tell_again(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Log the epochs of earlier sessions, where the log is one that every session begins anew (W&B offline)."""

        def tell() -> None:
            if isinstance(self.inner, WandbLogger) and self.inner.experiment.offline:
                for row in rows:
                    self.inner.log_metrics(dict(row), step=int(row["step"]))

        self.attempt(tell)

    def attempt(self, action: Callable[[], object]) -> None:
        """Do something with the logger, unless it has failed before; a failure is said, and ends no training."""
        if self.broken:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - services, disks and networks fail in every way there is
            self.broken = True
            _say_left_out(self.title, error)


@contextmanager
def open_loggers(run: FoldRun, config: TrainConfig) -> Iterator[list[RunLog]]:
    """The loggers of one fold, closed when the block ends, whichever way it ends; none in debug mode.

    Of several processes that train one fold together, the first alone logs.
    """
    if config.debug or rank() > 0:
        yield []
        return
    loggers = [RunLog(TensorBoardLogger(run.folder, name="", version="tensorboard"), "TensorBoard")]
    wandb_run = _open_wandb(run, config)
    if wandb_run is not None:
        loggers.append(RunLog(WandbLogger(experiment=wandb_run), _WANDB))
    try:
        with _quiet_writer_threads():
            yield loggers
    finally:
        if wandb_run is not None:
            _close_wandb(wandb_run, loggers[-1])


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


def _open_wandb(run: FoldRun, config: TrainConfig) -> Run | None:
    try:
        mode = wandb_mode(config)
        return None if mode == "disabled" else _start_wandb(run, config, mode)
    # No answer, no right, no home, no user of this number, no room: the rest of the log is as good.
    except Exception as error:  # noqa: BLE001
        _say_left_out(_WANDB, error)
        return None


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


def _close_wandb(wandb_run: Run, run_log: RunLog) -> None:
    # Left open, the next fold would write into this fold's run.
    run_log.attempt(wandb_run.finish)
    if run_log.broken:
        import wandb  # noqa: PLC0415

        # Its service is gone: forget it, or W&B ends with a traceback when Python does, and starts no other.
        with suppress(Exception):
            wandb.teardown()


def _say_left_out(title: str, error: Exception) -> None:
    why = plain(" ".join(str(error).split())[:200])
    log.warning("%s is left out of this session from now on: %s: %s", title, type(error).__name__, why)


@contextmanager
def _quiet_writer_threads() -> Iterator[None]:
    """TensorBoard's thread raises what it also hands to us: no traceback of a thread on the console."""
    before = threading.excepthook

    def hook(raised: threading.ExceptHookArgs) -> None:
        if isinstance(raised.exc_value, OSError):
            log.debug("a thread ended: %s", raised.exc_value)
        else:
            before(raised)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
