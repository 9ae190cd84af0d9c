"""Which files hold the weights that a training starts from: a checkpoint, or the models of a bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fvv.errors import ModelError
from fvv.io.bundle import ModelBundle
from fvv.io.shipped import shipped_bundle, shipped_or_refuse
from fvv.schemas.bundle import ModelEntry
from fvv.system.fingerprint import file_sha256, fingerprint
from fvv.system.regular import refuse_irregular

SHIPPED = "shipped"
"""What names the model in the package, whatever its own name is."""
_NUMBERED = re.compile(r"(?P<folder>.+)#(?P<number>[1-9]\d*)")


@dataclass(frozen=True, slots=True)
class InitialFiles:
    """The files of weights to start from.

    Attributes:
        path: the checkpoint, or the folder of the bundle.
        bundle: None for a checkpoint.
        models: of the bundle, those to start from; fold f takes number f modulo their number, counted from 0.
        identity: hash of their content.
    """

    path: Path
    bundle: ModelBundle | None
    models: tuple[ModelEntry, ...]
    identity: str

    @classmethod
    def find(cls, init: str) -> InitialFiles:
        """Find what `train.init` names: a file or folder of that name comes before a model's number.

        Raises:
            ModelError: nothing there, a bundle that is damaged or does not say on whom it was trained, or no such
                number in it.
            InputError: no regular file.
        """
        path, number = _path_of(init), None
        if not path.exists() and (numbered := _NUMBERED.fullmatch(init)):
            path, number = _path_of(numbered["folder"]), int(numbered["number"])
        if path.is_dir():
            bundle = ModelBundle.open(path)
            if number is not None and number > len(bundle.models):
                raise ModelError(f"no model {number}: the bundle has {len(bundle.models)}", file=path)
            models = bundle.models if number is None else (bundle.models[number - 1],)
            return cls(path, bundle, models, fingerprint(models=[model.sha256 for model in models]))
        if not path.exists() or number is not None:
            hint = f"name a checkpoint, a folder of models, or {SHIPPED}, the model in the package"
            raise ModelError("no weights to start from", file=path, hint=hint)
        refuse_irregular(path)
        return cls(path, None, (), file_sha256(path))

    def model_of(self, fold: int) -> ModelEntry:
        """The model of a bundle that a fold starts from; all folds start from the first, whose validation is theirs."""
        return self.models[max(fold, 0) % len(self.models)]


def _path_of(name: str) -> Path:
    shipped = shipped_bundle()
    if name == SHIPPED or (shipped is not None and name == shipped.name and not Path(name).exists()):
        return shipped or shipped_or_refuse()
    return Path(name)
