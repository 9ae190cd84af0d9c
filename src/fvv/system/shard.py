"""One part of a cohort, for machines that share its work: `--shard 3/20` is the third of twenty parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fvv.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count`."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ConfigError(f"no shard {self.index}/{self.count}", hint="shards are 1/N, 2/N, ... N/N")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `3/20`."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        if match is None:
            raise ConfigError(f"expected a shard such as 3/20, got {text!r}", hint="shards are 1/N, 2/N, ... N/N")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def file_part(self) -> str:
        """How the shard is named in a file name, where a slash cannot stand: `3-of-20`."""
        return f"{self.index}-of-{self.count}"

    def select(self, names: Iterable[str]) -> tuple[str, ...]:
        """This shard's names: of the sorted names every `count`-th, from the `index`-th on.

        Every machine that sees the same folder selects the same; each name is in exactly one shard.
        """
        return tuple(sorted(names)[self.index - 1 :: self.count])
