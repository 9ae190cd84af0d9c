"""What lies in the folder that a new bundle is to replace, and what of it must not be lost.

A bundle is written as a whole beside its folder and takes the folder's place in the end: a killed conversion leaves the
old one or the new one. Before that, everything that is not the old bundle's own moves along: notes, files of others.
Measurements and the model card stay while they are true: as long as the models are the same files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fvv.errors import InputError, OutputExistsError
from fvv.io.bundle import BUNDLE_FILE, BundleManifest
from fvv.io.golden import GOLDEN_FILE
from fvv.io.ownership import MARKER, claim, claimed
from fvv.system.regular import read_regular_text

log = logging.getLogger(__name__)

CARD_FILE = "MODEL_CARD.md"
"""The model card, which `fvv card` writes and people edit."""
_MEASURED = ("calibration", "cutoff_ml")
"""Fields of bundle.json that other verbs than `convert` fill in, by measuring the models."""
_PASSING = (MARKER, ".fvv.lock", ".partial-", ".replaced-")
"""How names of this program begin that mean nothing to the next bundle."""
_OVERWRITE = "--overwrite replaces it with all that was measured with it; or choose another folder with -o"


@dataclass(frozen=True, slots=True)
class PresentBundle:
    """The bundle in a folder.

    Attributes:
        folder: it lies in.
        manifest: its bundle.json; None where that is damaged.
        own: names in the folder that this program wrote as part of the bundle.
    """

    folder: Path
    manifest: BundleManifest | None
    own: frozenset[str]

    @classmethod
    def find(cls, folder: Path) -> PresentBundle | None:
        """The bundle in a folder; None where the folder is not there, or empty.

        Raises:
            OutputExistsError: the folder cannot be replaced: it holds something other than a bundle, or a damaged one
                of which it is not known what belongs to it, or a process stands in it, or a disk is mounted there.
        """
        if not folder.exists():
            return None
        if not folder.is_dir():
            raise OutputExistsError("expected a folder", file=folder, hint="name another with -o")
        if not any(folder.iterdir()):
            return None
        if not (folder / BUNDLE_FILE).exists():
            raise OutputExistsError("holds something other than a bundle", file=folder, hint="name another with -o")
        if folder.resolve() in {Path.cwd(), *Path.cwd().parents} or os.path.ismount(folder):
            hint = "run from outside of it, or name a folder in it with -o"
            raise OutputExistsError("the current folder, or a disk's root, cannot be replaced", file=folder, hint=hint)
        ours = claimed(folder)
        try:
            manifest = BundleManifest.model_validate_json(read_regular_text(folder / BUNDLE_FILE))
        except (InputError, ValidationError) as error:
            if BUNDLE_FILE not in ours:
                message = "holds a damaged bundle.json: it is not known what else here belongs to it"
                raise OutputExistsError(message, file=folder, hint="name another folder with -o") from error
            return cls(folder, None, ours)
        return cls(folder, manifest, ours | _names_in(manifest))

    def refuse_taken_names(self, names: Iterable[str]) -> None:
        """Refuse to replace what somebody else put there.

        Raises:
            OutputExistsError: a file of such a name is there, and this program did not write it.
        """
        for name in sorted(set(names) - self.own):
            if os.path.lexists(self.folder / name):
                hint = "move it away, or choose another folder with -o"
                raise OutputExistsError("already there, and not written by fvv", file=self.folder / name, hint=hint)

    def refuse_other_runs(self, runs: Mapping[int, tuple[str, int]]) -> None:
        """Refuse before hours of work what `refuse_other_models` would refuse after it.

        Args:
            runs: for each fold to convert, the run and the epoch of its checkpoint.

        Raises:
            OutputExistsError: other checkpoints than those that the bundle was made of.
        """
        if self.manifest is None:
            raise OutputExistsError("holds a damaged bundle", file=self.folder, hint=_OVERWRITE)
        if runs != {model.fold: (model.run_id, model.epoch) for model in self.manifest.models}:
            raise OutputExistsError("holds a bundle of other models", file=self.folder, hint=_OVERWRITE)

    def refuse_other_models(self, new: BundleManifest) -> None:
        """Refuse to lose a model, or what was measured with the models.

        Raises:
            OutputExistsError: a file of a model would change or go, or there are measurements and post-processing
                would change under them.
        """
        if lost := self._lost(new):
            what = f"holds a bundle of other models: {', '.join(lost)} would change or be removed"
            raise OutputExistsError(what, file=self.folder, hint=_OVERWRITE)
        if self._measured() and not self._same_answers(new):
            what = "post-processing would change, and what was measured with it (calibration) would be lost"
            raise OutputExistsError(what, file=self.folder, hint=_OVERWRITE)

    def kept(self, new: BundleManifest) -> BundleManifest:
        """The new bundle.json with what was measured, where the models give the same answers as before."""
        return new.model_copy(update=self._measured()) if self._same_answers(new) else new

    def move_along(self, folder: Path, new: BundleManifest) -> None:
        """Copy into a new folder what must not be lost; the card of other models gets another name.

        Args:
            folder: of the new bundle, before it takes the old one's place.
            new: what the new bundle holds.
        """
        folds = [model.fold or 0 for model in new.models]
        replaced = _names_in(self.manifest) | bundle_names(folds, int8=True, fused=True)
        for item in sorted(self.folder.iterdir()):
            if (item.name in replaced and item.name in self.own) or item.name.startswith(_PASSING):
                continue
            name = item.name
            if name == CARD_FILE and not self._same_answers(new):
                name = f"MODEL_CARD.{self._models_digest()}.md"
                log.warning("%s describes the models before: it is now %s", CARD_FILE, name)
            if item.name in self.own:
                claim(folder, [name])
            _copy(item, folder / name)

    def _models_digest(self) -> str:
        """Eight digits that name the models of the old bundle."""
        return hashlib.sha256(json.dumps(files_of(self.manifest) if self.manifest else {}).encode()).hexdigest()[:8]

    def _lost(self, new: BundleManifest) -> list[str]:
        old, now = files_of(self.manifest) if self.manifest else {}, files_of(new)
        return sorted(name for name, sha256 in old.items() if now.get(name) != sha256)

    def _measured(self) -> dict[str, object]:
        found = {} if self.manifest is None else {name: getattr(self.manifest, name) for name in _MEASURED}
        return {name: value for name, value in found.items() if value}

    def _same_answers(self, new: BundleManifest) -> bool:
        old = self.manifest
        return (
            old is not None and not self._lost(new) and (old.postprocess, old.profile) == (new.postprocess, new.profile)
        )


def _names_in(manifest: BundleManifest | None) -> frozenset[str]:
    """What bundle.json names, and itself."""
    if manifest is None:
        return frozenset()
    golden = {manifest.golden.file} if manifest.golden else set()
    return frozenset({BUNDLE_FILE, *files_of(manifest), *golden})


def files_of(manifest: BundleManifest) -> dict[str, str]:
    """The hash of each model file of a bundle, by name."""
    entries = [*manifest.models, *manifest.fused.values()]
    forms = [*entries, *(model.int8 for model in manifest.models if model.int8 is not None)]
    return {entry.file: entry.sha256 for entry in forms}


def bundle_names(folds: Iterable[int], *, int8: bool, fused: bool) -> frozenset[str]:
    """Names that a bundle has in its folder.

    Args:
        folds: of its models.
        int8: with 8-bit forms.
        fused: with graphs of all models.
    """
    stems = [f"model{fold + 1}" for fold in folds] + (["ensemble"] if fused else [])
    forms = ("", ".int8") if int8 else ("",)
    return frozenset({BUNDLE_FILE, GOLDEN_FILE, *(f"{stem}{form}.onnx" for stem in stems for form in forms)})


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
