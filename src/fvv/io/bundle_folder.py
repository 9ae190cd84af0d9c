"""What lies in the folder that a new bundle is to replace, and what of it must not be lost.

A bundle is written as a whole beside its folder and takes the folder's place in the end: a killed conversion leaves the
old one or the new one. Before that, everything that is not the old bundle's own moves along: notes, files of others.
Calibration and model card stay while they are true: as long as the models are the same files.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fvv.errors import FvvError, OutputExistsError
from fvv.io.bundle import BUNDLE_FILE, GOLDEN_FILE, read_manifest
from fvv.io.ownership import MARKER, claim, claimed
from fvv.schemas.bundle import BundleManifest
from fvv.system.fingerprint import fingerprint

log = logging.getLogger(__name__)

CARD_FILE = "MODEL_CARD.md"
"""The model card, which `fvv card` writes and people edit."""
_PASSING = (MARKER, ".fvv.lock", ".partial-", ".replaced-")
"""How names of this program begin that mean nothing to the next bundle."""
_OVERWRITE = "--overwrite replaces it with all that was measured with it; or choose another folder with -o"


def bundle_names(folds: Iterable[int]) -> frozenset[str]:
    """Names that a bundle of these folds' models has in its folder."""
    return frozenset({BUNDLE_FILE, GOLDEN_FILE, *map(model_file, folds)})


def model_file(fold: int) -> str:
    """Name of the model of a fold; the one of all folds stands alone in its bundle."""
    return f"model{max(fold, 0) + 1}.onnx"


@dataclass(frozen=True, slots=True)
class PresentBundle:
    """The bundle in a folder.

    Attributes:
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
            manifest = read_manifest(folder / BUNDLE_FILE)
        except FvvError as error:
            if BUNDLE_FILE not in ours:
                message = "holds a damaged bundle.json: it is not known what else here belongs to it"
                raise OutputExistsError(message, file=folder, hint="name another folder with -o") from error
            return cls(folder, None, ours)
        return cls(folder, manifest, ours | _names_in(manifest))

    def refuse_to_replace(
        self, names: Iterable[str], runs: Mapping[int, tuple[str, int]], *, overwrite: bool = False
    ) -> None:
        """Refuse, before the work, what would lose something.

        Args:
            runs: for each fold to convert, the run and the epoch of its checkpoint.

        Raises:
            OutputExistsError: a file of such a name that this program did not write; a damaged bundle; or models of
                other checkpoints.
        """
        for name in sorted(set(names) - self.own):
            if os.path.lexists(self.folder / name):
                hint = "move it away, or choose another folder with -o"
                raise OutputExistsError("already there, and not written by fvv", file=self.folder / name, hint=hint)
        if overwrite:
            return
        if self.manifest is None:
            raise OutputExistsError("holds a damaged bundle", file=self.folder, hint=_OVERWRITE)
        if runs != {model.fold: (model.run_id, model.epoch) for model in self.manifest.models}:
            raise OutputExistsError("holds a bundle of other models", file=self.folder, hint=_OVERWRITE)

    def carry_over(self, folder: Path, new: BundleManifest, *, overwrite: bool = False) -> BundleManifest:
        """Copy into a new folder what must not be lost; the card of other models gets another name.

        Args:
            folder: of the new bundle, before it takes the old one's place.
            overwrite: other models, or a calibration that no longer holds, may be replaced.

        Returns:
            The new bundle.json, with the calibration where the models give the same answers as before.

        Raises:
            OutputExistsError: a model file would change or go, or there is a calibration and post-processing changes.
        """
        old, before = self.manifest, {} if self.manifest is None else self.manifest.models_sha256
        lost = sorted(name for name, sha256 in before.items() if new.models_sha256.get(name) != sha256)
        same = old is not None and not lost and (old.postprocess, old.profile) == (new.postprocess, new.profile)
        calibration = None if old is None else old.calibration
        if lost and not overwrite:
            what = f"holds a bundle of other models: {', '.join(lost)} would change or be removed"
            raise OutputExistsError(what, file=self.folder, hint=_OVERWRITE)
        if calibration is not None and not same and not overwrite:
            what = "post-processing would change, and the calibration that was measured with it would be lost"
            raise OutputExistsError(what, file=self.folder, hint=_OVERWRITE)
        replaced = self.own & (_names_in(old) | bundle_names(model.fold or 0 for model in new.models))
        for item in sorted(self.folder.iterdir()):
            if item.name in replaced or item.name.startswith(_PASSING):
                continue
            name = item.name
            if name == CARD_FILE and not same:
                name = f"MODEL_CARD.{fingerprint(models=before)[:8]}.md"
                log.warning("%s describes the models before: it is now %s", CARD_FILE, name)
            if item.name in self.own:
                claim(folder, [name])
            if item.is_dir() and not item.is_symlink():
                shutil.copytree(item, folder / name, symlinks=True)
            else:
                shutil.copy2(item, folder / name, follow_symlinks=False)
        return new.model_copy(update={"calibration": calibration}) if same else new


def _names_in(manifest: BundleManifest | None) -> frozenset[str]:
    if manifest is None:
        return frozenset()
    return frozenset({BUNDLE_FILE, *manifest.models_sha256, *([manifest.golden.file] if manifest.golden else [])})
