"""Logs beside metrics.csv: none of them ever ends a training, and what fails is said once."""

import threading

import pytest
import wandb

from fvv.stages.train import train_fold
from fvv.training.loggers import RunLog, open_logs
from store_builders import TINY, write_store

QUICK = TINY.model_copy(update={"epochs": 2, "slices_per_epoch": 8, "figures_every_epochs": 1, "wandb_mode": "offline"})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("loggers") / "store"
    write_store(path)
    return path


def test_a_log_that_fails_is_said_once_and_left_out(caplog):
    calls, forgotten = [], []

    def fail(row, _):
        calls.append(row)
        raise ConnectionResetError("Connection\x1b[31m lost")

    run_log = RunLog("Weights & Biases", fail, close=lambda: calls.append("closed"), forget=lambda: forgotten.append(1))
    for step in range(3):
        run_log.write({"step": step}, {})
    run_log.end()
    assert calls == [{"step": 0}]
    assert forgotten == [1]
    assert [record.message for record in caplog.records] == [
        "Weights & Biases is off for the rest of this session: ConnectionResetError: Connection\\x1b[31m lost"
    ]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("getpwuid(): uid not found: 54321"),
        RuntimeError("Could not determine home directory."),
        PermissionError(13, "Permission denied"),
        wandb.Error("no answer"),
    ],
)
def test_wandb_that_does_not_start_ends_no_training(store, tmp_path, monkeypatch, caplog, error):
    def fail(**_):
        raise error

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "init", fail)
    result = train_fold(store, tmp_path, 0, QUICK.model_copy(update={"epochs": 1}))
    assert result.complete
    assert [record.message for record in caplog.records if "is off for the rest" in record.message] == [
        f"Weights & Biases is off for the rest of this session: {type(error).__name__}: {error}"
    ]


def test_logs_that_break_in_training_end_no_training(store, tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.EventFileWriter.add_event", fail)
    result = train_fold(store, tmp_path, 0, QUICK.model_copy(update={"wandb_mode": "disabled"}))
    assert result.epochs == 2
    assert [record.message for record in caplog.records if "is off for the rest" in record.message] == [
        "TensorBoard is off for the rest of this session: OSError: [Errno 28] No space left on device"
    ]


def test_a_full_disk_in_a_writers_thread_prints_no_traceback(tmp_path, capfd):
    def fail():
        raise OSError(28, "No space left on device")

    class Run:
        folder = tmp_path

    with open_logs(Run(), QUICK.model_copy(update={"wandb_mode": "disabled"})):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert "Traceback" not in capfd.readouterr().err
