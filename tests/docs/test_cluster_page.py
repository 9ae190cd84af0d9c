"""The job scripts of the page about clusters start every shard once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fvv.cli import build_parser
from fvv.system.shard import Shard

BASH = shutil.which("bash")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "cluster.md"


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(("scheduler", "variable"), [("SBATCH", "SLURM_ARRAY_TASK_ID"), ("PBS", "PBS_ARRAY_INDEX")])
def test_a_job_script_gives_each_task_its_shard(tmp_path: Path, scheduler: str, variable: str) -> None:
    scripts = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (script,) = (text for text in scripts if f"#{scheduler} " in text)
    first, last = map(int, re.findall(r"(?:--array=|-J )(\d+)-(\d+)", script)[0])
    command = tmp_path / "fvv"
    command.write_text('#!/bin/sh\necho "$@"\n')
    command.chmod(0o755)
    shards = set()
    for task in range(first, last + 1):
        environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", variable: str(task)}
        environment["PBS_O_WORKDIR"] = str(tmp_path)
        said = subprocess.check_output([str(BASH), "-eu", "-c", script], env=environment, text=True)
        options = build_parser().parse_args(said.split())
        shards.add(options.shard)
    assert shards == {Shard(index, last) for index in range(1, last + 1)}
