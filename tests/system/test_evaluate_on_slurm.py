"""`fvv evaluate --on slurm` is `fvv evaluate`; a stand-in plays SLURM."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import fvv.system.slurm
from builders import write_cohort
from bundles import write_bundle
from chaos.stages import contents
from fake_slurm import write_programs
from fvv.cli import main
from fvv.config import PrepareConfig
from fvv.stages.prepare import prepare

pytest.importorskip("submitit", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in reads /proc")


def test_an_evaluation_as_jobs_is_the_evaluation_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{write_programs(tmp_path)}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setattr(fvv.system.slurm, "_LOOK_S", 0.05)
    monkeypatch.chdir(tmp_path)  # Relative paths mean the same in the jobs.
    write_cohort(tmp_path / "in", np.random.default_rng(7), 4)
    prepare("in", "store", PrepareConfig(kfolds=2, profile="robust-v1", compute={"workers": 1}))
    write_bundle(tmp_path / "models", tmp_path / "store")
    words = ["evaluate", "-i", "store", "-m", "models", "--set", "evaluate.bootstrap_samples=5", "--threads", "1"]
    words += ["--set", "evaluate.heatmaps=false", "--workers", "1"]
    assert main([*words, "-o", "here"]) == 0
    assert main([*words, "-o", "as_jobs", "--on", "slurm", "--set", "cluster.jobs=2"]) == 0
    here, jobs = (contents(tmp_path / folder) for folder in ("here", "as_jobs"))
    differing = {name for name in here | jobs if here.get(name) != jobs.get(name) and ".fvv" not in name}
    assert differing <= {"report.html"}
    assert len([*tmp_path.glob("fvv_jobs/fvv-evaluate-*/*_log.out")]) == 2
