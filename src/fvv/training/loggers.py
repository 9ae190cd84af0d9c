"""Where metrics and figures go beside metrics.csv.

PNG files are always written; TensorBoard and, unless it is switched off, Weights & Biases where these are installed.

No log ever ends a training: what fails is said once and left out of the rest of the session.
"""

# ruff: noqa: ARG002 - the arguments of callbacks are Lightning's
from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import lightning
from matplotlib.figure import Figure

from fvv.config import TrainConfig
from fvv.errors import install_hint
from fvv.io.atomic import atomic_write
from fvv.io.runs import FoldRun
from fvv.names import plain
from fvv.training.callbacks import MetricsTable
from fvv.training.distributed import rank
from fvv.training.figures import confusion_figure, example_figure, kappa_figure, progress_figure
from fvv.training.module import SegmentationModule

log = logging.getLogger(__name__)

_STRICTNESS = ("online", "offline", "disabled")
_WANDB = "Weights & Biases"
Row: TypeAlias = Mapping[str, float]
Figures: TypeAlias = Mapping[str, tuple[Figure, Path]]


@dataclass
class RunLog:
    """A log of one fold that is written until it fails.

    Attributes:
        title: its name in messages.
        send: writes an epoch: its row of metrics.csv, its figures by name and the files in which these lie.
        close: ends the session.
        forget: called at the end where the log has failed.
        new_each_session: the epochs of earlier sessions are written again.
    """

    title: str
    send: Callable[[Row, Figures], None]
    close: Callable[[], object]
    forget: Callable[[], object] = lambda: None
    new_each_session: bool = False
    broken: bool = False

    def write(self, row: Row, figures: Figures) -> None:
        """Write an epoch, unless the log has failed before; a failure is said, and ends no training."""
        self._attempt(lambda: self.send(row, figures))

    def end(self) -> None:
        """Close it, whatever happened."""
        self._attempt(self.close)
        if self.broken:
            with suppress(Exception):
                self.forget()

    def _attempt(self, action: Callable[[], object]) -> None:
        if self.broken:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - services, disks and networks fail in every way there is
            self.broken = True
            _say_left_out(self.title, error)


@dataclass(eq=False)
class RunReport(lightning.Callback):
    """Writes progress.png every epoch, the figures now and then, and passes both and the numbers on to the logs.

    Attributes:
        folder: of the fold; each epoch replaces the figures of the last.
        table: the epochs so far; comes before this one in the trainer's list.
        logs: to write.
        title: of progress.png.
        every_epochs: how often the figures; in the last epoch always.
    """

    folder: Path
    table: MetricsTable
    logs: Sequence[RunLog]
    title: str
    every_epochs: int

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the epochs before this session to the logs that lack them."""
        for run_log in self.logs:
            for row in self.table.rows if run_log.new_each_session else ():
                run_log.write(row, {})

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Make the figures, save and log them."""
        _save(progress_figure(self.table.rows, self.title), self.folder / "progress.png")
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        figures: dict[str, tuple[Figure, Path]] = {}
        if isinstance(pl_module, SegmentationModule) and (last or (trainer.current_epoch + 1) % self.every_epochs == 0):
            made = {
                "examples": example_figure(pl_module.examples),
                "slice_classes": confusion_figure(pl_module.patients),
                "kappa": kappa_figure(pl_module.patients),
            }
            figures = {name: (figure, self.folder / "figures" / f"{name}.png") for name, figure in made.items()}
            for figure, path in figures.values():
                _save(figure, path)
        for run_log in self.logs:
            run_log.write(self.table.rows[-1], figures)


@contextmanager
def open_logs(run: FoldRun, config: TrainConfig) -> Iterator[list[RunLog]]:
    """The logs of one fold, closed when the block ends, whichever way it ends; none in debug mode.

    Of several processes that train one fold together, the first alone logs.
    """
    if config.debug or rank() > 0:
        yield []
        return
    logs = []
    for title, opened in (("TensorBoard", _open_tensorboard), (_WANDB, _open_wandb)):
        try:
            logs += opened(run, config)
        except ModuleNotFoundError as error:  # Each is an extra of the same name.
            log.warning("%s is left out (to add it, %s)", title, install_hint(error.name or "all"))
        # No answer, no right, no home, no user of this number, no room: the rest of the logs is as good.
        except Exception as error:  # noqa: BLE001
            _say_left_out(title, error)
    try:
        with _quiet_writer_threads():
            yield logs
    finally:
        for run_log in logs:
            run_log.end()


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


def _open_tensorboard(run: FoldRun, _: TrainConfig) -> list[RunLog]:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra

    writer = SummaryWriter(run.folder / "tensorboard")

    def send(row: Row, figures: Figures) -> None:
        for name, value in row.items():
            writer.add_scalar(name, value, int(row["step"]))
        for name, (figure, _) in figures.items():
            writer.add_figure(f"figures/{name}", figure, int(row["step"]))
        writer.flush()

    return [RunLog("TensorBoard", send, writer.close)]


def _open_wandb(run: FoldRun, config: TrainConfig) -> list[RunLog]:
    if (mode := wandb_mode(config)) == "disabled":
        return []
    import wandb  # noqa: PLC0415

    if mode == "offline":
        # W&B starts another folder each session; a fold keeps one, to which the epochs so far are written again.
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
        name=f"{config.name}/fold_{run.about.fold}",
        group=config.name,
        id=run.about.wandb_id,
        resume="allow",
        mode="offline" if mode == "offline" else "online",
        dir=run.folder,
        config=config.model_dump(mode="json"),
        settings=settings,
    )
    wandb_run.define_metric("step")
    wandb_run.define_metric("*", step_metric="step", step_sync=True)

    def send(row: Row, figures: Figures) -> None:
        images = {f"figures/{name}": wandb.Image(str(path)) for name, (_, path) in figures.items()}
        wandb_run.log({**row, **images})

    # Left open, the next fold would write into this fold's run. A run whose service is gone would end Python with a
    # traceback, and W&B would start no other.
    return [RunLog(_WANDB, send, wandb_run.finish, forget=wandb.teardown, new_each_session=wandb_run.offline)]


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _say_left_out(title: str, error: Exception) -> None:
    why = plain(" ".join(str(error).split())[:200])
    log.warning("%s is off for the rest of this session: %s: %s", title, type(error).__name__, why)


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
