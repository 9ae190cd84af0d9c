"""What was found right on this machine, remembered from run to run: an empty file in the user's cache folder each.

A cache that cannot be read or written only means that a check is done again.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

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
    key = _key(about)
    if key in os.environ.get(_DONE, "").split():
        return True
    folder = _folder()
    try:
        return folder is not None and (folder / key).is_file()
    except OSError:
        return False


def remember_checked(about: Sequence[str]) -> None:
    """Remember that a check has passed.

    Args:
        about: all that it depends on; only its hash is kept.
    """
    key = _key(about)
    os.environ[_DONE] = f"{os.environ.get(_DONE, '')} {key}".strip()
    folder = _folder()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()
    except OSError:
        return


def _folder() -> Path | None:
    """XDG base directory specification: an absolute XDG_CACHE_HOME, else .cache in the home folder."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # no HOME, and a user whom the system does not know
        return None
    return base / "fvv" / "checked" if base.is_absolute() else None


def _key(about: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(about).encode(errors="surrogateescape")).hexdigest()


@cache
def _processor() -> tuple[str, ...]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:  # not Linux
        return platform.system(), platform.machine(), platform.processor()
    return platform.machine(), *(line for line in lines if line.partition(":")[0].strip() in _DESCRIBES)
