"""How many cores count: the affinity, and the quotas of control groups of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from fvv.system import cores


def system(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "200000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "400000 100000", "sys/fs/cgroup/a/b/cpu.max": "50000 100000"}, 0.5),
        ("3:cpu,cpuacct:/x\n", {f"{V1}/x/cpu.cfs_quota_us": "300000", f"{V1}/x/cpu.cfs_period_us": "100000"}, 3.0),
        # The host's name of the group, inside a container that has its own at the top.
        ("3:cpu,cpuacct:/docker/x\n", {f"{V1}/cpu.cfs_quota_us": "200000", f"{V1}/cpu.cfs_period_us": "100000"}, 2.0),
        ("3:cpu:/\n", {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "9"}, None),
        ("5:memory:/\n", {"sys/fs/cgroup/memory/cpu.max": "1 1"}, None),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ("nonsense", {}, None),
    ],
)
def test_quota(groups: str, files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    assert cores._quota(system(tmp_path, groups, files)) == quota


def test_no_control_groups(tmp_path: Path) -> None:
    assert cores._quota(tmp_path) is None


@pytest.mark.parametrize(("allowed", "quota", "count"), [(64, 1.2, 2), (64, 0.1, 1), (2, 8.0, 2), (4, None, 4)])
def test_the_smaller_counts(allowed: int, quota: float | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_allowed", lambda: allowed)
    monkeypatch.setattr(cores, "_quota", lambda _: quota)
    assert cores.core_count() == count
