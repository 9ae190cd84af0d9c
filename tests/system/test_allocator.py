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


def test_every_parameter_is_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[int, int] = {}

    class Library:
        @staticmethod
        def mallopt(parameter: int, value: int) -> int:
            given[parameter] = value
            return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: Library())
    keep_freed_memory()
    assert given == {-8: 1, -1: 2**30, -3: 2**27}
