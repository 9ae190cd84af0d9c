"""The list of malformed inputs: what is broken, how, and what must come of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

OUTCOMES = ("error", "failure", "warning", "not assessable", "success", "usage")
"""error: the verb refuses. failure: one patient is left out, the rest are done. warning: done, and something is said.
not assessable: `predict` answers so, without a volume. usage: the command line itself is wrong."""


class Place:
    """A folder for one variant, with private copies of sound inputs to break.

    Args:
        root: empty folder.
        base: sound inputs, made once (see `corpus.base`).
    """

    def __init__(self, root: Path, base: Path) -> None:
        self.root = root
        self.base = base

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.base / name, self.root / name, symlinks=True))

    @cached_property
    def cohort(self) -> Path:
        """Patients p0 to p3 with ROIs and masks."""
        return self._copy("cohort")

    @cached_property
    def new(self) -> Path:
        """New patients n0, n1, without ROIs."""
        return self._copy("new")

    @cached_property
    def store(self) -> Path:
        """A store of phantoms with a split in two folds."""
        return self._copy("store")

    @cached_property
    def prepared(self) -> Path:
        """What `prepare` makes of the sound cohort."""
        return self._copy("prepared")

    @cached_property
    def models(self) -> Path:
        """Two models in the published format."""
        return self._copy("models")

    @cached_property
    def bundle(self) -> Path:
        """A bundle with bundle.json that fits `store`."""
        return self._copy("bundle")

    @cached_property
    def predicted(self) -> Path:
        """What `predict` makes of the new patients with the two models."""
        return self._copy("predicted")

    @cached_property
    def evaluated(self) -> Path:
        """The evaluation of `bundle` on `store`, with the settings of tiny.yaml."""
        return self._copy("evaluated")

    @cached_property
    def trained(self) -> Path:
        """Checkpoints of both folds of `store`, after one epoch."""
        return self._copy("trained")

    @property
    def out(self) -> Path:
        """Where the verb writes: all else must stay as it was."""
        return self.root / "out"


@dataclass(frozen=True, slots=True)
class Variant:
    """One broken or odd input.

    Attributes:
        name: unique.
        verb: the stage that meets it.
        build: breaks things in a place and returns the words after `fvv`.
        outcome: one of `OUTCOMES`.
        says: words that the message, or the result, must hold.
        as_user: run without root's rights, where we are root.
        file_limit: largest file the disk takes, bytes: stands for a full disk.
        writes: names under the place, beside out, that the verb may change.
        also: a further check of what was left; raises AssertionError.
    """

    name: str
    verb: str
    build: Callable[[Place], list[str]]
    outcome: str
    says: str = ""
    as_user: bool = False
    file_limit: int | None = None
    writes: tuple[str, ...] = ()
    also: Callable[[Place], None] | None = None

    @property
    def expected(self) -> str:
        """For the table."""
        return f"{self.outcome}: {self.says}" if self.says else self.outcome


NEEDS_TORCH = ("train", "convert")
