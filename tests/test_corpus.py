"""A sample of the malformed inputs of tests/corpus; `make corpus` runs them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.run import all_variants

TESTS = Path(__file__).parent


def test_the_corpus_is_large_and_meets_every_stage() -> None:
    variants = all_variants()
    assert len(variants) >= 150
    stages = {"simulate", "verify", "prepare", "train", "convert", "evaluate", "predict"}
    assert stages <= {variant.verb for variant in variants}


@pytest.mark.usefixtures("one_core")
def test_a_sample_comes_out_as_expected() -> None:
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    run = subprocess.run(
        [sys.executable, "-m", "corpus.run", "--sample", "9", "--no-torch", "--jobs", "1"],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [line for line in run.stdout.splitlines() if line.startswith("NOT")]
    assert run.returncode == 0, "\n".join([*wrong, run.stderr[-2000:]])
