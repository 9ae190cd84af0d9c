"""A SLURM of two nodes on this machine, from Debian's packages, as the present user, in a folder of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
NODES = ("w1", "w2")
MOST_S = 600.0
"""A machine that others use may be slow."""
CONFIGURATION = """\
ClusterName=fvvtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A requeued job waits for the end of the credential of its last start; of less than 5 s SLURM makes 120.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
# No control groups, which a container has not.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
SlurmdTimeout=8
KillWait=5
MpiDefault=none
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=64000"


def missing() -> list[str]:
    """Programs that are not here."""
    return [name for name in PROGRAMS if _path(name) is None]


class Slurm:
    """The daemons, from `with` to its end; `environment` leads SLURM's programs to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Slurm:
        (self.folder / "state").mkdir(parents=True)
        for node in NODES:
            (self.folder / f"spool-{node}").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        host, ports = socket.gethostname(), _free_ports(1 + len(NODES))
        nodes = [NODE.format(name=name, host=host, port=port) for name, port in zip(NODES, ports[1:], strict=True)]
        text = CONFIGURATION.format(
            host=host, folder=self.folder, user=getpass.getuser(), ctld_port=ports[0], nodes="\n".join(nodes)
        )
        (self.folder / "slurm.conf").write_text(text)
        try:
            files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
            options = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
            self._start("munged", "--foreground", "--force", *options)
            until((self.folder / "munge.socket").exists, "munged")
            self._start("slurmctld", "-D")
            for node in NODES:
                self.start_node(node)
            until(lambda: self.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split() == [*NODES], "slurmd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._job_processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in reversed(self._running.values()):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()

    def _start(self, name: str, *options: str, as_: str = "") -> None:
        with (self.folder / f"{as_ or name}.out").open("ab") as log:
            command = [_path(name) or name, *options]
            self._running[as_ or name] = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)

    def start_node(self, name: str) -> None:
        """A node begins, or comes back."""
        self._start("slurmd", "-D", "-N", name, as_=name)

    def stop_node(self, name: str) -> None:
        """A node goes as with a power cut: its daemon and all of its jobs."""
        daemon = self._running.pop(name)
        daemon.kill()
        daemon.wait()
        for process in self._job_processes(name):
            with contextlib.suppress(psutil.Error):
                process.parent().kill()  # slurmstepd, which would tell of the end
                process.kill()

    def ask(self, *command: str) -> str:
        """What one of SLURM's programs says; nothing where it fails."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False).stdout

    def jobs(self, *, running: bool = False) -> list[tuple[str, str]]:
        """Number and node of the jobs that wait or run, or only of those that run."""
        states = "RUNNING" if running else "PENDING,CONFIGURING,RUNNING,COMPLETING"
        lines = self.ask("squeue", "-h", "-r", "-t", states, "-o", "%i|%N").splitlines()
        return [(number, node) for number, _, node in (line.strip().partition("|") for line in lines)]

    def _job_processes(self, node: str = "") -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                environment = process.environ()
                ours = environment.get("SLURM_CONF") == self.environment["SLURM_CONF"] and "SLURM_JOB_ID" in environment
                if ours and node in {"", environment.get("SLURMD_NODENAME")}:
                    found.append(process)
        return found


def until(check: Callable[[], object], what: str, seconds: float = MOST_S) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def kill(process: subprocess.Popen[str]) -> None:
    """As the kernel does where memory runs out."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def _path(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
