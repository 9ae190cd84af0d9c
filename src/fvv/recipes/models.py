"""The models of a bundle as prediction uses them, opened once for many examinations."""

from __future__ import annotations

from fvv.config import PredictConfig
from fvv.inference.ensemble import OnnxEnsemble, open_ensemble
from fvv.io.bundle import ModelBundle
from fvv.recipes.examine import Settings


def models_and_settings(bundle: ModelBundle, config: PredictConfig) -> tuple[OnnxEnsemble, Settings]:
    """Open the models that the user asks for, and settle all else that an answer depends on.

    Raises:
        ConfigError: masks come from an outside tool, and the user has not typed its command.
        ModelError: more folds than the bundle has, a model that cannot be opened, or a device that is not there.
    """
    ensemble = open_ensemble(bundle, config)
    about = bundle.manifest.description(len(ensemble))
    return ensemble, Settings.of(bundle.profile, config, bundle.manifest, models=about)
