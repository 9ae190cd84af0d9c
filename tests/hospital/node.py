"""`fvv listen` as a program of its own, and free ports for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path


def free_port() -> int:
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        port: int = stream.getsockname()[1]
        return port


def start_node(
    spool: Path, models: Path, port: int, destination: str, *, settings: tuple[str, ...] = ()
) -> subprocess.Popen[bytes]:
    """In a session of its own, so that a kill takes it alone: its worker must end by itself."""
    words = ["listen", "--port", str(port), "--spool", str(spool), "-m", str(models), "--send-to", destination]
    words += ["--device", "cpu", "--threads", "1"]
    for setting in ("listen.min_free_mb=0", *settings):
        words += ["--set", setting]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (spool.parent / "node.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "fvv", *words], stdout=log, stderr=log, env=environment)


def wait_for_port(port: int, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
