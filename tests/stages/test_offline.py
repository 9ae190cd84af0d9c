"""Every stage with the network blocked, in every process it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HOOK = """
import os, socket

def note(what):
    with open(os.environ["FVV_TEST_ATTEMPTS"], "a") as stream:
        stream.write(f"{what} in process {os.getpid()}\\n")
    raise OSError("the network is blocked")

class Blocked(socket.socket):
    # Making a socket reaches nobody: urllib3 does, when imported, to see whether the machine knows IPv6.
    def connect(self, address):
        note(f"connect {address}") if self.family != socket.AF_UNIX else super().connect(address)

    def connect_ex(self, address):
        return note(f"connect {address}") if self.family != socket.AF_UNIX else super().connect_ex(address)

    def sendto(self, *args):
        return note(f"send {args[-1]}") if self.family != socket.AF_UNIX else super().sendto(*args)

socket.socket = Blocked
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "create_connection"):
    setattr(socket, name, lambda *args, name=name, **kwargs: note(f"{name} {args}"))
"""
"""Runs when an interpreter starts, ours and those of the workers."""

TINY = {
    "simulate": {"cases": 5, "stroke_free_share": 0, "follow_up_share": 0, "workers": 2},
    "prepare": {"kfolds": 2, "workers": 2},
    "train": {
        "epochs": 1,
        "slices_per_epoch": 16,
        "slab_slices": 8,
        "wandb_mode": "disabled",
        "network": {"widths": [4, 4, 8, 8], "decoder_widths": [8, 4, 4], "resolution": "half"},
    },
    "convert": {"check_patients": 1},
    "evaluate": {"bootstrap_samples": 20, "heatmaps": False},
    "predict": {"device": "cpu"},
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment whose every Python process has no network."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    paths = os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": paths, "FVV_TEST_ATTEMPTS": str(tmp_path / "attempts")}


def python(code: str, environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_block_works_in_this_process_and_in_workers(environment: dict[str, str], tmp_path: Path) -> None:
    assert python("import socket; socket.socket().connect(('192.0.2.1', 80))", environment).returncode == 1
    assert python("import socket; socket.getaddrinfo('example.org', 80)", environment).returncode == 1
    spawned = (
        "import multiprocessing, socket\nif __name__ == '__main__':\n  context = multiprocessing.get_context('spawn')\n"
    )
    spawned += (
        '  p = context.Process(target=eval, args=(\'__import__("socket").gethostbyname("x")\',)); p.start(); p.join()'
    )
    python(spawned, environment)
    assert len((tmp_path / "attempts").read_text().splitlines()) == 3


@pytest.mark.slow
def test_the_whole_demo_reaches_for_no_network(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    words = ("demo", "-o", tmp_path / "run", "-c", tmp_path / "tiny.yaml")
    run = python("import sys; from fvv.cli import main; sys.exit(main())", environment, *words)
    assert run.returncode == 0, run.stderr[-3000:]
    assert not (tmp_path / "attempts").exists(), (tmp_path / "attempts").read_text()
    for page in ("processed_data/report.html", "predictions/report.html", "predictions/results.csv"):
        assert (tmp_path / "run" / page).stat().st_size > 100
