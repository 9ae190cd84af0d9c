"""Programs that behave like SLURM's as far as `fvv.system.slurm` sees them: a job is a process of this machine."""

from __future__ import annotations

import sys
from pathlib import Path

SBATCH = """
import os, re, subprocess
script = pathlib.Path(sys.argv[1])
text = script.read_text()
if (place / "refuse").exists():
    sys.exit("sbatch: error: Batch job submission failed: Invalid account")
value = lambda option: re.search(f"#SBATCH --{option}=(.*)", text)
name, array = value("job-name")[1], value("array")
number = str(len(list(place.glob("*.script"))) + 1)
(place / f"{number}.script").write_text(text)
for task in range(int(re.match("0-([0-9]+)", array[1])[1]) + 1 if array else 1):
    job = f"{number}_{task}" if array else number
    environment = {**os.environ, "SLURM_JOB_ID": job, "SLURM_PROCID": "0"}
    if array:
        environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task)}
    output = value("output")[1].replace("%A", number).replace("%a", str(task)).replace("%j", number)
    with open(output, "ab") as log:
        process = subprocess.Popen(
            ["bash", str(script)], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    (place / f"{name}~{job}").write_text(str(process.pid))
print("Submitted batch job", number)
"""
SQUEUE = """
name = next(word.partition("=")[2] for word in sys.argv if word.startswith("--name="))
for file in sorted(place.glob(f"{name}~*")):
    stat = pathlib.Path("/proc", file.read_text(), "stat")
    alive = stat.exists() and ") Z" not in stat.read_text()
    print(file.name.partition("~")[2], "RUNNING" if alive else "FAILED")
"""
SCANCEL = """
import contextlib, os, signal
name = next(word.partition("=")[2] for word in sys.argv if word.startswith("--name="))
for file in place.glob(f"{name}~*"):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(int(file.read_text()), signal.SIGTERM)
"""
SRUN = """
import os
words = sys.argv[1:]
os.execvp(words[first := next(k for k, word in enumerate(words) if word == sys.executable)], words[first:])
"""


def write_programs(folder: Path) -> Path:
    """Write them; gives the folder to put on PATH. Jobs are noted beside it."""
    programs, place = folder / "bin", folder / "jobs"
    programs.mkdir()
    place.mkdir()
    begin = f"#!{sys.executable} -S\nimport pathlib, sys\nplace = pathlib.Path({str(place)!r})\n"
    for name, code in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL, "srun": SRUN}.items():
        (programs / name).write_text(begin + code)
        (programs / name).chmod(0o755)
    return programs
