"""Settings of every stage: one frozen model each, with unit and reason in the docstring of each field.

A YAML file holds any sections of `Config` by name; the command line overrides single values (`--set train.epochs=10`).
Unknown keys are refused. The docstrings are also the help of the command line and the comments of default.yaml.
"""

from fvv.config.base import AETitle, DestinationText, OneLine
from fvv.config.listen import ListenConfig
from fvv.config.load import SHARED, STAGES, Config, load_config
from fvv.config.profiles import PROFILES, MaskMethod, PreprocessingProfile, ProfileName
from fvv.config.shared import (
    MISMATCH_BELOW,
    ClusterConfig,
    ComputeConfig,
    DecisionConfig,
    PostprocessConfig,
    PreprocessConfig,
    Unlisted,
)
from fvv.config.simulate import SimulateConfig
from fvv.config.stages import CardConfig, ConvertConfig, EvaluateConfig, LabelConfig, PredictConfig, PrepareConfig
from fvv.config.train import AugmentConfig, LossConfig, NetworkConfig, TrainConfig

__all__ = [
    "MISMATCH_BELOW",
    "PROFILES",
    "SHARED",
    "STAGES",
    "AETitle",
    "AugmentConfig",
    "CardConfig",
    "ClusterConfig",
    "ComputeConfig",
    "Config",
    "ConvertConfig",
    "DecisionConfig",
    "DestinationText",
    "EvaluateConfig",
    "LabelConfig",
    "ListenConfig",
    "LossConfig",
    "MaskMethod",
    "NetworkConfig",
    "OneLine",
    "PostprocessConfig",
    "PredictConfig",
    "PrepareConfig",
    "PreprocessConfig",
    "PreprocessingProfile",
    "ProfileName",
    "SimulateConfig",
    "TrainConfig",
    "Unlisted",
    "load_config",
]
