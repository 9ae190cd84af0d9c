"""The model that comes with the package: used where the user names none."""

from __future__ import annotations

import logging
from importlib.resources import files
from pathlib import Path

from fvv.errors import ModelError
from fvv.io.bundle import BUNDLE_FILE

log = logging.getLogger(__name__)

MODELS_FOLDER = Path(str(files("fvv"))) / "models"
"""Holds one bundle, in a folder that has the model's name."""
OWN_MODELS = Path("saved_models_ONNX")
"""What `fvv convert` writes, in the folder where one works."""


def shipped_bundle() -> Path | None:
    """Folder of the bundle in the package; None where the package holds none."""
    found = sorted(file.parent for file in MODELS_FOLDER.glob(f"*/{BUNDLE_FILE}"))
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise ModelError(f"the package holds several models: {names}", file=MODELS_FOLDER, hint="name one with -m")
    return found[0] if found else None


def models_to_use(named: Path | None) -> Path:
    """The models that are meant: those named, else one's own in `saved_models_ONNX`, else those in the package."""
    return own_models(named) if named is not None or OWN_MODELS.is_dir() else shipped_or_refuse()


def own_models(named: Path | None) -> Path:
    """The models named, else one's own in `saved_models_ONNX`, where the model in the package will not do."""
    if named is not None:
        return named
    log.info("no --models given: those in %s", OWN_MODELS)
    return OWN_MODELS


def shipped_or_refuse() -> Path:
    """Folder of the bundle in the package."""
    shipped = shipped_bundle()
    if shipped is None:
        raise ModelError("no models: this package holds none", hint="name a folder of models with -m (--models)")
    log.info("no --models given: using the model in the package, %s", shipped.name)
    return shipped
