"""FLAIR Visibility Volume: predict, from diffusion MRI alone, how much of a stroke lesion would show on FLAIR.

Public names load on first use, so that `import fvv` and `fvv --help` stay quick and never import torch.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# Nothing leaves the machine unless its user says so. Told before they are first imported, onnxruntime (from 1.29 on)
# sends its maker no machine, model names and hashes, and W&B, also when offline, reports no errors of its own.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

_PUBLIC = {
    "Case": "fvv.data",
    "Channel": "fvv.data",
    "Decision": "fvv.data",
    "DecisionState": "fvv.data",
    "FoldPlan": "fvv.data",
    "FvvError": "fvv.errors",
    "PreparedCase": "fvv.data",
    "Prediction": "fvv.data",
    "Volume": "fvv.data",
    "predict": "fvv.api",
    "preprocess_case": "fvv.imaging.preprocess",
    "segment_case": "fvv.recipes.segment",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'fvv' has no attribute {name!r}")
