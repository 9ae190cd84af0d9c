"""Dask workers on two hosts (network namespaces joined by a cable), of which one is killed (`make cluster-test`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from cluster.slurm import kill, until
from parallel_work import tries_of

ADDRESSES = ("192.0.2.1", "192.0.2.2")
"""Of RFC 5737: no real host has them."""
SCHEDULER = f"{ADDRESSES[0]}:8786"
IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""
DRIVER = """\
import json, sys
from pathlib import Path
from functools import partial
from fvv.config import ClusterConfig
from fvv.system.parallel import engine, map_items
from parallel_work import host, note_and_wait
engine_, folder, *items = sys.argv[1:]
found = []
with engine(ClusterConfig(engine=engine_)):
    for one in map_items(partial(note_and_wait, folder), items, workers=None, description="hosts"):
        found.append(one)
        Path(folder, f"{one[0]}.reported").touch()
print(json.dumps([host(), found]))
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("distributed") is None, reason="the extra `cluster` is not installed"),
    pytest.mark.skipif(not IP, reason="not here: ip (apt-get install iproute2)"),
]


class Host:
    """A network namespace, and what runs in it."""

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start Python there."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with self.log.open("a") as log:
            command = [IP, "netns", "exec", self.name, sys.executable, *words]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        self.running.append(process)  # `ip` becomes the program that it starts.
        return process


def _ip(*words: str) -> None:
    ended = subprocess.run([IP, *words], capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"no network namespaces here: ip {' '.join(words)}: {ended.stderr.strip()}")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    """Two hosts that reach each other alone."""
    made: list[Host] = []
    cables = [f"fvv{os.getpid()}{end}" for end in "ab"]
    try:
        for cable in cables:
            _ip("netns", "add", cable)
            made.append(Host(cable, tmp_path / f"{cable}.log"))
        _ip("link", "add", cables[0], "netns", cables[0], "type", "veth", "peer", "name", cables[1], "netns", cables[1])
        for cable, address in zip(cables, ADDRESSES, strict=True):
            _ip("-n", cable, "address", "add", f"{address}/30", "dev", cable)
            for device in ("lo", cable):
                _ip("-n", cable, "link", "set", device, "up")
        yield made
    finally:
        for host in made:
            for process in host.running:
                kill(process)
            subprocess.run([IP, "netns", "delete", host.name], check=False)  # The cable goes with it.


def test_a_worker_killed_on_one_of_two_hosts_loses_nothing_and_does_nothing_twice(
    hosts: list[Host], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    hosts[0].start("-m", "dask", "scheduler", "--host", ADDRESSES[0], "--no-dashboard", "--no-show")
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path))
    workers = {}
    for host, address in zip(hosts, ADDRESSES, strict=True):
        process = host.start("-m", "dask", "worker", SCHEDULER, "--host", address, *options)
        until(lambda: "Registered to" in host.log.read_text(), "a worker")  # noqa: B023
        workers[os.readlink(f"/proc/{process.pid}/ns/net")] = process  # noqa: PTH115
    items = [*"abc", "slow", *"defgh"]
    driver = hosts[0].start("-c", DRIVER, f"dask://{SCHEDULER}", str(work), *items)
    # A result that the killed worker had finished and that had not reached the driver would be made again; one item may
    # have been sent to the worker that is busy, and wait there.
    until(lambda: len([*work.glob("*.reported")]) >= len(items) - 2, "all but the slow one and one that waits")
    killed = (work / "slow.tries").read_text().split()[0]
    kill(workers.pop(killed))
    said, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, hosts[0].log.read_text()[-2000:]
    its_own, found = json.loads(said)
    assert sorted(item for item, _ in found) == sorted(items)
    tries = {item: tries_of(str(work), item) for item in items}
    assert tries == dict.fromkeys(items, 1) | {"slow": 2}
    assert dict(found) == {item: f"{item} {tries[item]}" for item in items}
    (other,) = workers
    at = {item: (work / f"{item}.tries").read_text().split() for item in items}
    assert at["slow"] == [killed, other]
    assert {place for places in at.values() for place in places} == {killed, other}
    begun = sum(places[0] == killed for places in at.values())
    print(
        f"two hosts, a worker each: {begun} of {len(items)} items were begun on the host whose worker was killed "
        f"({'that' if its_own == killed else 'not that'} of the driver); {len(found)} outcomes, tries {tries}"
    )
