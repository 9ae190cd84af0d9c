"""Damage to the files that a stage wrote, and the same command on them."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from chaos.stages import Stage, contents, is_volatile
from fvv.cohort.split import SPLIT_FILE
from fvv.io.folds import FOLDS_FILE
from fvv.io.ownership import MARKER

HANGS_S = 120
"""No stage of the harness works for so long."""


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


def _replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": _truncate,
    "emptied": lambda file: file.write_bytes(b""),
    "removed": lambda file: file.unlink(),
    "a bit flipped": _flip,
    "replaced by a folder": _replace_by_folder,
}


def chosen_damages(output: Path, each: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Files of a stage's output, one of each kind (numbers aside), each with some kinds of damage."""
    kinds: dict[str, list[str]] = {}
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        if path.is_file() and path.stat().st_size and not is_volatile(name):
            kinds.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    for names in kinds.values():
        for damage in rng.sample(sorted(DAMAGES), min(each, len(DAMAGES))):
            yield rng.choice(names), damage


def damaged_and_again(
    stage: Stage, folder: Path, whole: Path, expected: dict[str, str], name: str, damage: str
) -> str | None:
    """What was wrong with the same command on damaged output; None where it repaired, refused in one line, or warned.

    A warning is enough of `train` alone: no log or picture of a finished fold can be made again without training it.
    """
    output = folder / stage.output
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(whole, output, symlinks=True)
    DAMAGES[damage](output / name)
    code, said = _in_child(stage, folder)
    what = f"{name} {damage}"
    if "Traceback" in said or code not in {0, 1}:
        return f"{what}: ended with {code}: {said[-400:]!r}"
    lines = [line for line in said.splitlines() if line.startswith(("error: ", "failed: "))]
    if code == 1:
        return None if lines else f"{what}: exit 1 without a reason: {said[-300:]!r}"
    try:
        found = contents(output)
    except Exception as error:  # noqa: BLE001  (whatever a damaged file does to its reader here)
        return f"{what}: kept, exit 0 ({type(error).__name__}: {error})"
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    # A damaged marker costs nothing until a file is to be replaced, which it then forbids.
    wrong = [key for key in wrong if key != name or not name.endswith(MARKER)]
    # A split that differs counts as edited: it is kept, and copied where it changes.
    if name in {FOLDS_FILE, SPLIT_FILE}:
        wrong = [key for key in wrong if key != SPLIT_FILE and not key.startswith("folds")]
    warned = any("damaged or missing" in line and Path(name).name in line for line in said.splitlines())
    if stage.verb == "train" and wrong == [name] and warned:
        return None
    return f"{what}: exit 0, but {', '.join(wrong[:3])} differ" if wrong else None


def _in_child(stage: Stage, folder: Path) -> tuple[int | None, str]:
    """Run the command in a fork of this process, which has imported everything; None: it hung."""
    said = folder / "said.txt"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            stream = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            os.chdir(folder)
            signal.alarm(HANGS_S)
            from fvv.cli import main  # noqa: PLC0415

            code = main(stage.command(1))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 98
        except BaseException:  # noqa: BLE001  (the judge must see whatever comes)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    how = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (None if how == -signal.SIGALRM else how), said.read_text(errors="replace")
