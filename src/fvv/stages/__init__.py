"""One file per verb; stages meet through files. Only `demo`, which runs them all, imports others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # fvv.data loads NumPy, which `fvv --help` need not wait for.
    from fvv.data import Failure


@dataclass(frozen=True, slots=True)
class Printed:
    """A result that is nothing but text."""

    text: str
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """The text."""
        return self.text


class StageResult(Protocol):
    """What every stage gives back."""

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Patients that could not be done, and why."""
        ...

    def summary(self) -> str:
        """What was done and where it lies, for people."""
        ...
