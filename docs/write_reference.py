"""Write the pages that repeat the code: configs/default.yaml and docs/reference/commands.md.

`make reference` runs it; a test fails when a page and the code no longer agree.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from fvv.cli import build_parser
from fvv.config import SHARED, Config

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = ROOT / "src" / "fvv" / "configs" / "default.yaml"
COMMANDS = ROOT / "docs" / "reference" / "commands.md"


def default_settings() -> str:
    """All settings with their defaults as YAML; the comments are the docstrings of their fields."""
    head = "# Every setting with its default: the same as giving no file. Copy what you change.\n"
    head += "# Written by `make reference` from the code.\n"
    return head + "\n".join(_section(Config(), depth=0)) + "\n"


def commands() -> str:
    """Every verb with its options, as Markdown."""
    parser = build_parser()
    lines = [
        "# Commands",
        "",
        "Written by `make reference` from the code. Options override the settings file only when they are given.",
        "Options of every verb:",
        "",
    ]
    verbs = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    common = {"-c", "--set", "--verbose", "-h"}
    first = next(iter(verbs.values()))
    lines += _table(action for action in first._actions if common & set(action.option_strings))
    for name, verb in verbs.items():
        lines += ["", f"## fvv {name}", "", str(verb.description), ""]
        lines += _table(action for action in verb._actions if not common & set(action.option_strings))
    return "\n".join(lines) + "\n"


def _table(actions: Iterator[argparse.Action]) -> list[str]:
    rows = ["| option | meaning |", "|---|---|"]
    for action in actions:
        flags = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{action.metavar}`"
        choices = f" One of: {', '.join(map(str, action.choices))}." if action.choices else ""
        rows.append(f"| {flags} | {action.help}{choices} |".replace("%%", "%"))
    return rows


def _section(settings: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, value in settings:
        if depth == 1 and name in SHARED:
            continue  # Stands once, as a section of its own.
        about = type(settings).model_fields[name].description
        if about is None and isinstance(value, BaseModel):
            about = (type(value).__doc__ or "").partition("\n\n")[0]
        if depth == 0:
            yield ""
        for line in textwrap.wrap(" ".join((about or "").split()), 116 - len(indent)):
            yield f"{indent}# {line}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _section(value, depth + 1)
        else:
            yield f"{indent}{name}: {json.dumps(value)}"


if __name__ == "__main__":
    DEFAULTS.write_text(default_settings(), encoding="utf-8")
    COMMANDS.parent.mkdir(parents=True, exist_ok=True)
    COMMANDS.write_text(commands(), encoding="utf-8")
    print(f"wrote {DEFAULTS.relative_to(ROOT)} and {COMMANDS.relative_to(ROOT)}")
