"""The stages as the harness runs them: small, in order, each with its own command and its own result."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SETTINGS = {
    "simulate": {"cases": 4, "seed": 3, "stroke_free_share": 0, "follow_up_share": 0},
    "prepare": {"kfolds": 2},
    "train": {
        "name": "chaos",
        "epochs": 3,
        "slices_per_epoch": 32,
        "slab_slices": 8,
        "batch_slabs": 2,
        "wandb_mode": "disabled",
        "figures_every_epochs": 1,
        "network": {"widths": [4, 4, 8, 8], "decoder_widths": [8, 4, 4], "resolution": "half"},
    },
    "convert": {"check_patients": 1},
    "evaluate": {"bootstrap_samples": 50},
}

VOLATILE_KEYS = {
    *("seconds", "ms_per_step", "started", "ended", "hours", "time", "machine", "wandb_id"),
    *("workers", "threads", "jobs"),
    *("content_sha256", "results.txt", "metrics.csv", "best.ckpt", "last.ckpt"),
}
"""In JSON files and checkpoints: how long it took, when, where, by how many, and hashes of that. All else must be the
same."""
VOLATILE_COLUMNS = {"seconds", "ms_per_step"}
VOLATILE_FILES = (r"(^|/)tensorboard/", r"(^|/)wandb/", r"\.fvv\.(soft\.)?lock$")
"""Logs of events with their wall-clock times; the lock, which is empty."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One verb on the demo's folders.

    Attributes:
        verb: its name.
        words: after `fvv`; run from the folder that holds all.
        output: the folder it writes.
        workers: the setting that says how many processes share the work; empty where there is none.
    """

    verb: str
    words: tuple[str, ...]
    output: str
    workers: str = ""

    def command(self, workers: int) -> list[str]:
        """The words after `fvv`."""
        shared = ["--set", f"{self.workers}={workers}"] if self.workers else []
        return [*self.words, "-c", "settings.yaml", *shared]


STAGES = (
    Stage("simulate", ("simulate", "-o", "input_data"), "input_data", "compute.workers"),
    Stage("prepare", ("prepare",), "preprocessed_data", "compute.workers"),
    Stage("train", ("train", "--all-folds"), "saved_models", "train.jobs"),
    Stage("convert", ("convert", "-n", "chaos"), "saved_models_ONNX"),
    Stage("evaluate", ("evaluate",), "processed_data"),
    Stage(
        "predict",
        ("predict", "input_data", "-o", "predictions", "--device", "cpu"),
        "predictions",
        "compute.workers",
    ),
)


def contents(folder: Path) -> dict[str, str]:
    """What a stage promises of each of its files: the hash of the bytes, or of what they say without times."""
    return {
        name: _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not is_volatile(name := str(path.relative_to(folder)))
    }


def is_volatile(name: str) -> bool:
    """Whether nothing is promised of a file, by its path in the output."""
    return any(re.search(pattern, name) for pattern in VOLATILE_FILES)


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):  # Damaged: it differs as it is.
            data = json.dumps(_without_times(json.loads(data)), sort_keys=True).encode()
    elif path.suffix == ".ckpt":
        import torch  # noqa: PLC0415 - the harness itself needs it for nothing else

        saved = torch.load(path, weights_only=True, map_location="cpu")
        data = json.dumps(_without_times(saved), sort_keys=True, default=_tensor_digest).encode()
    elif path.suffix == ".yaml":
        data = re.sub(rb"(?m)^ *jobs: .*$", b"", data)
    elif path.suffix == ".csv":
        data = _without_columns(data.decode())
    elif path.suffix == ".txt":
        data = re.sub(rb"(?m)^seconds=.*$", b"", data)
    elif path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".html":
        data = re.sub(rb"\d+(\.\d+)? s\b", b"", data)
    return hashlib.sha256(data).hexdigest()


def _without_times(content: Any) -> Any:
    if isinstance(content, dict):
        kept = {str(key): value for key, value in content.items() if key not in VOLATILE_KEYS}
        return {key: _without_times(value) for key, value in kept.items() if not is_volatile(key)}
    return [_without_times(item) for item in content] if isinstance(content, (list, tuple)) else content


def _tensor_digest(tensor: Any) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()}"


def _without_columns(text: str) -> bytes:
    rows = [line.split(",") for line in text.splitlines()]
    kept = [k for k, name in enumerate(rows[0]) if name not in VOLATILE_COLUMNS] if rows else []
    return "\n".join(",".join(row[k] for k in kept if k < len(row)) for row in rows).encode()
