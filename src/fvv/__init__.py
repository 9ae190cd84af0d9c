"""FLAIR Visibility Volume: predict, from diffusion MRI alone, how much of a stroke lesion is visible on FLAIR.

Public names load on first use, so that `import fvv` and `fvv --help` stay quick and never import torch. Type checkers
see the imports below; a test holds both lists to each other.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fvv.api.cohort import CohortResults as CohortResults
    from fvv.api.cohort import read_results as read_results
    from fvv.api.cohort import simulate_case as simulate_case
    from fvv.api.measures import MaskComparison as MaskComparison
    from fvv.api.measures import agreement as agreement
    from fvv.api.measures import auc as auc
    from fvv.api.measures import compare_masks as compare_masks
    from fvv.api.measures import kappa as kappa
    from fvv.api.predictor import Predictor as Predictor
    from fvv.api.predictor import predict as predict
    from fvv.api.show import plot as plot
    from fvv.api.sources import read as read
    from fvv.config import ComputeConfig as ComputeConfig
    from fvv.config import DecisionConfig as DecisionConfig
    from fvv.config import PredictConfig as PredictConfig
    from fvv.config import PreprocessConfig as PreprocessConfig
    from fvv.config import SimulateConfig as SimulateConfig
    from fvv.data import Case as Case
    from fvv.data import Channel as Channel
    from fvv.data import Decision as Decision
    from fvv.data import DecisionState as DecisionState
    from fvv.data import FoldPlan as FoldPlan
    from fvv.data import Prediction as Prediction
    from fvv.data import PreparedCase as PreparedCase
    from fvv.data import Volume as Volume
    from fvv.errors import FvvError as FvvError
    from fvv.imaging.preprocess import preprocess_case as preprocess_case
    from fvv.recipes.segment import segment_case as segment_case
    from fvv.schemas.results import Answer as Answer
    from fvv.schemas.summary import Agreement as Agreement
    from fvv.schemas.summary import Estimate as Estimate
    from fvv.simulator.case import SimulatedCase as SimulatedCase

__version__ = "0.2.0.dev0"

# Nothing leaves the machine unless its user says so. Told before they are first imported, onnxruntime (from 1.29 on)
# sends its maker no machine, model names and hashes, and W&B, also when offline, reports no errors of its own.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

_HOMES = {
    "fvv.api.cohort": ("CohortResults", "read_results", "simulate_case"),
    "fvv.api.measures": ("MaskComparison", "agreement", "auc", "compare_masks", "kappa"),
    "fvv.api.predictor": ("Predictor", "predict"),
    "fvv.api.show": ("plot",),
    "fvv.api.sources": ("read",),
    "fvv.config": ("ComputeConfig", "DecisionConfig", "PredictConfig", "PreprocessConfig", "SimulateConfig"),
    "fvv.data": (
        "Case", "Channel", "Decision", "DecisionState", "FoldPlan", "Prediction", "PreparedCase", "Volume",
    ),
    "fvv.errors": ("FvvError",),
    "fvv.imaging.preprocess": ("preprocess_case",),
    "fvv.recipes.segment": ("segment_case",),
    "fvv.schemas.results": ("Answer",),
    "fvv.schemas.summary": ("Agreement", "Estimate"),
    "fvv.simulator.case": ("SimulatedCase",),
}  # fmt: skip
_PUBLIC = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'fvv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *_PUBLIC})
