"""A verb as a program of its own, whose stage does what a test wants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PATH = os.pathsep.join(path for path in sys.path if path)
STAGE = """
import logging, os, sys, time
from dataclasses import dataclass
from pathlib import Path
import fvv.system.ending, fvv.stages.verify
from fvv.cli import main
from fvv.data import Failure
from fvv.system.parallel import progress_bar

@dataclass
class Result:
    failures: tuple = ()
    def summary(self):
        return TEXT

def work(*args, **options):
    for n in range(20):
        logging.getLogger("fvv.test").warning("line %d of many", n)
    with progress_bar() as bar:
        bar.advance(bar.add_task("work", total=1))
    DURING
    Path("done").write_text("done")
    return Result()

fvv.stages.verify.verify = work
sys.exit(main(["verify"]))
"""


def script(text: str = "all is well", during: str = "pass") -> str:
    return STAGE.replace("TEXT", repr(text)).replace("DURING", during)


def start(code: str, folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "PYTHONPATH": PATH, **options.pop("env", {})}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, **options)
