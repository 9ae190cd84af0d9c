"""The models in the package on emulated processors: with AVX2, and with neither AVX nor fused multiply-add."""

from __future__ import annotations

import json
import platform
import shutil
import signal
import subprocess
import sys

import pytest

EMULATOR = shutil.which("qemu-x86_64")
PROGRAM = """
import json
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.golden import golden_output, largest_difference, problem_of
from fvv.io.bundle import ModelBundle
from fvv.io.bundle import read_golden
from fvv.io.shipped import shipped_or_refuse
bundle = ModelBundle.open(shipped_or_refuse())
model = OnnxEnsemble.from_bundle(bundle, bundle.models[:1], device="cpu", threads=1, confirmed=False)
images, kept = read_golden(bundle.path / bundle.manifest.golden.file, len(bundle.models))
# Two slices in the middle, each of the seven around it: an emulator takes seconds for each.
found, kept = golden_output(model, images[:, 2:10]), kept[:1, :, 2:4]
difference = largest_difference(found, kept)
print(json.dumps([difference, problem_of(difference), float(((found > 0) != (kept > 0)).mean())]))
"""


@pytest.mark.skipif(EMULATOR is None, reason="qemu-x86_64 (Debian's qemu-user) is not here")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="emulates x86-64 on itself")
@pytest.mark.parametrize("processor", ["Haswell-noTSX", "Nehalem"])
def test_float32_on_another_processor(processor: str) -> None:
    words = [str(EMULATOR), "-cpu", processor, sys.executable, "-c"]
    code = subprocess.run([*words, "import numpy"], capture_output=True, check=False).returncode
    if code in (-signal.SIGILL, 128 + signal.SIGILL):
        pytest.skip(f"this NumPy does not run on {processor}")
    words += [PROGRAM]
    difference, problem, flipped = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert (problem, difference < 1e-4) == ("", True)
    assert flipped < 1e-4
