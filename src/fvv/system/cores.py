"""How many processor cores' worth of time, and how much memory, this process may have."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fvv.errors import FvvError

_LEAST_BYTES = 2**30
"""NumPy, SciPy and onnxruntime alone take 0.6 GB of addresses; OpenBLAS waits for ever for the last of them."""


def core_count() -> int:
    """Cores that this process may use: its affinity, or less where a container or a batch system sets a quota.

    A quota of one and a half cores counts as two. From Python 3.13 on, `PYTHON_CPU_COUNT` replaces the affinity.
    """
    quota = _quota(Path("/"))
    return _allowed() if quota is None else max(1, min(_allowed(), math.ceil(quota)))


def refuse_little_memory() -> None:
    """Refuse to start where less memory may be addressed than the libraries need to load: some then wait for ever.

    Raises:
        FvvError: the limit of this process (`ulimit -v`) is lower.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  (Unix alone has it)

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_BYTES:
        message = f"this process may address {limit / 2**20:.0f} MiB of memory, and {_LEAST_BYTES // 2**20} are needed"
        raise FvvError(message, hint="raise the limit (`ulimit -v`, or the batch system's)")


def most_threads() -> int:
    """Threads over which more can only cost memory: the cores of the whole machine."""
    return max(core_count(), os.cpu_count() or 1)


def most_workers() -> int:
    """Processes side by side over which more can only cost memory; patients may wait for a slow disk."""
    return max(16, 4 * most_threads())


def _allowed() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _quota(root: Path) -> float | None:
    """The smallest quota, in cores, of the control groups this process is in (Linux; man cgroups), or None."""
    found = [quota for folder in _control_groups(root) if (quota := _quota_of(folder)) is not None]
    return min(found, default=None)


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders of this process's processor groups and of all groups around them.

    Inside a container the names may be those that the host uses, while only the container's own group is there, at the
    top: that is among them.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = [controllers, "cpu"] if controllers else [".", "unified"]
        group = PurePosixPath(name.lstrip("/"))
        for mount in mounts:
            for part in (group, *group.parents):
                yield root / "sys/fs/cgroup" / mount / part


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():  # version 2: "quota period", or "max period"
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:  # version 1: -1 is none
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):
        return None
