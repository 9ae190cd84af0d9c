"""What was found right on this machine, remembered from run to run: an empty file in the user's cache folder each.

A cache that cannot be read or written only means that a check is done again.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from fvv.system.fingerprint import fingerprint

_CPU = "CPUExecutionProvider"
_DONE = "FVV_CHECKED"
"""Environment variable with what this process, or the one that started it, has checked: workers need no cache."""
_DESCRIBES = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "CPU part", "Features")
"""Lines of Linux's /proc/cpuinfo that tell processors apart, on x86 and on ARM."""


def machine(provider: str) -> tuple[str, ...]:
    """What the arithmetic of a provider depends on, here: the processor; the computer too where another device runs."""
    return _processor() if provider == _CPU else (*_processor(), platform.node())


def is_checked(about: Sequence[str]) -> bool:
    """Whether this was remembered."""
    key = fingerprint(about=about)
    with suppress(OSError, RuntimeError):
        return key in os.environ.get(_DONE, "").split() or (_folder() / key).is_file()
    return False


def remember_checked(about: Sequence[str]) -> None:
    """Remember that a check has passed.

    Args:
        about: all that it depends on; only its hash is kept.
    """
    key = fingerprint(about=about)
    os.environ[_DONE] = f"{os.environ.get(_DONE, '')} {key}".strip()
    with suppress(OSError, RuntimeError):
        _folder().mkdir(parents=True, exist_ok=True)
        (_folder() / key).touch()


def _folder() -> Path:
    """XDG base directory specification: an absolute XDG_CACHE_HOME, else .cache in the home folder."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "fvv" / "checked"


@cache
def _processor() -> tuple[str, ...]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:  # not Linux
        return platform.system(), platform.machine(), platform.processor()
    return platform.machine(), *(line for line in lines if line.partition(":")[0].strip() in _DESCRIBES)
