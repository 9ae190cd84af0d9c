"""The models in the package on an emulated processor with AVX2 and without VNNI, whose 8-bit products saturate."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys

import pytest

EMULATOR = shutil.which("qemu-x86_64")
PROGRAM = """
import json, sys
from fvv.inference import sessions
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.golden import difference, golden_output
from fvv.io.bundle import ModelBundle
from fvv.io.golden import read_golden
from fvv.io.shipped import shipped_or_refuse
if sys.argv[1] == "off":
    sessions._EXACT_PRODUCTS = ("session.x64quantprecision", "0")
bundle = ModelBundle.open(shipped_or_refuse())
model = OnnxEnsemble.from_bundle(bundle, bundle.models[:1], precision="int8", device="cpu", threads=1, confirmed=False)
images, kept = read_golden(bundle.path / bundle.manifest.golden.file, len(bundle.models))
found = difference(golden_output(model, images), kept["int8"][:1])
print(json.dumps([found.largest, found.mean, found.accepted("int8")]))
"""


@pytest.mark.skipif(EMULATOR is None, reason="qemu-x86_64 (Debian's qemu-user) is not here")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="emulates x86-64 on itself")
@pytest.mark.parametrize("exact", ["on", "off"])
def test_8_bit_models_without_vnni(exact: str) -> None:
    words = [str(EMULATOR), "-cpu", "Haswell-noTSX", sys.executable, "-c", PROGRAM, exact]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    largest, mean, accepted = json.loads(said)
    if exact == "on":
        assert (largest, accepted) == (0.0, True)
    else:  # What the option is for, and that the emulator shows it.
        assert mean > 0.02
        assert not accepted
