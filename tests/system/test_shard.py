"""Which patients a shard works on."""

from __future__ import annotations

import pytest

from fvv.errors import ConfigError
from fvv.system.shard import Shard


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_each_name_is_in_exactly_one_shard(count: int) -> None:
    names = [f"p{number:03d}" for number in range(13)]
    parts = [Shard(index, count).select(reversed(names)) for index in range(1, count + 1)]
    assert sorted(name for part in parts for name in part) == names
    assert max(len(part) for part in parts) - min(len(part) for part in parts) <= 1


def test_a_shard_reads_as_it_is_written() -> None:
    shard = Shard.parse("3/20")
    assert (shard.index, shard.count, str(shard), shard.file_part) == (3, 20, "3/20", "3-of-20")


@pytest.mark.parametrize(
    "text", ["", "3", "0/3", "4/3", "-1/3", "1/0", "a/b", "1/3/5", "1.5/3", "\u0663/20", "1/3\n/4"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Shard.parse(text)
