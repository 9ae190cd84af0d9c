"""Memory that is kept: nothing is changed where there is no glibc, and the arrays stay what they are where there is."""

from __future__ import annotations

import sys

import pytest

from fvv.system import allocator
from fvv.system.allocator import keep_freed_memory


@pytest.mark.parametrize("platform", ["darwin", "win32", "linux"])
def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """On Linux the C library may be one without `mallopt`; elsewhere it is not even looked at."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(allocator.ctypes, "CDLL", {"linux": lambda _: object()}.get(platform))
    keep_freed_memory()


@pytest.mark.parametrize(
    ("most", "expected"), [(2**31, {-8: 1, -3: 2**27, -1: 2**30}), (2**25, {-8: 1, -3: 2**25, -1: 2**30}), (0, {-8: 1})]
)
def test_an_older_glibc_keeps_the_most_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, most: int, expected: dict[int, int]
) -> None:
    """It refuses an mmap threshold over 32 MiB."""
    given: dict[int, int] = {}

    class Library:
        @staticmethod
        def mallopt(parameter: int, value: int) -> int:
            if parameter == -3 and value > most:
                return 0
            given[parameter] = value
            return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: Library())
    keep_freed_memory()
    assert given == expected
