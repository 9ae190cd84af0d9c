"""The values that pass from one step to the next. All are frozen and checked when they are made.

Frames: arrays are (i, j, k); affines map voxel centres to RAS+ millimetres (NIfTI's convention). The *working grid* is
the 256 x 256 x slices grid the network sees; the *native grid* is the one of the input files.
"""

from fvv.data.answer import Decision, DecisionState, FusedSegmentation, Prediction
from fvv.data.channels import Channel
from fvv.data.examination import Case, PreparedCase, SignalScale
from fvv.data.findings import Failure, Finding, Severity
from fvv.data.folds import ALL_FOLDS, FoldPlan, FoldRow, Participant, Role, hashed_ids
from fvv.data.space import InPlaneGrid, Orientation, Volume

__all__ = [
    "ALL_FOLDS",
    "Case",
    "Channel",
    "Decision",
    "DecisionState",
    "Failure",
    "Finding",
    "FoldPlan",
    "FoldRow",
    "FusedSegmentation",
    "InPlaneGrid",
    "Orientation",
    "Participant",
    "Prediction",
    "PreparedCase",
    "Role",
    "Severity",
    "SignalScale",
    "Volume",
    "hashed_ids",
]
