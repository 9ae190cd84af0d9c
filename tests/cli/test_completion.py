"""The completion script, run by the shell that reads it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from fvv.cli.completion import completion_script
from fvv.cli.parser import build_parser
from fvv.cli.verbs import VERBS

BASH = shutil.which("bash")


def completed(*words: str) -> list[str]:
    if BASH is None:
        pytest.skip("no bash")
    script = completion_script(build_parser(), "bash")
    script += 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fvv; printf "%s\\n" "${COMPREPLY[@]}"'
    run = subprocess.run([BASH, "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    return run.stdout.split()


def test_verbs_then_options_then_files() -> None:
    assert completed("fvv", "") == list(VERBS)
    assert completed("fvv", "pre") == ["prepare", "predict"]
    assert completed("fvv", "predict", "a", "--th") == ["--threads"]
    assert completed("fvv", "predict", "some_fi") == []  # The shell then offers files.
    assert completed("fvv", "none", "--th") == []


def test_zsh_reads_it_through_its_bash_completion() -> None:
    assert completion_script(build_parser(), "zsh").startswith("autoload -U +X bashcompinit")
