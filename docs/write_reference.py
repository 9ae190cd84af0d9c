"""Write the pages that repeat the code: configs/default.yaml and docs/reference/commands.md.

`make reference` runs it; a test fails when a page and the code no longer agree.
"""

from __future__ import annotations

import argparse
import ast
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

import fvv.config
from fvv.cli import build_parser
from fvv.config import SHARE_DECISION, Config

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = ROOT / "src" / "fvv" / "configs" / "default.yaml"
COMMANDS = ROOT / "docs" / "reference" / "commands.md"


def default_settings() -> str:
    """All settings with their defaults as YAML; the comments are the docstrings of `fvv.config`."""
    head = "# Every setting with its default: the same as giving no file. Copy what you change.\n"
    head += "# Written by `make reference` from the code.\n"
    return head + "\n".join(_section(Config(), _docstrings(), depth=0)) + "\n"


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


def _section(settings: BaseModel, docstrings: dict[str, dict[str, str]], depth: int) -> Iterator[str]:
    indent = "  " * depth
    shared = {type(getattr(Config(), stage)) for stage in SHARE_DECISION}
    for name, value in settings:
        if name == "decision" and type(settings) in shared:
            continue  # Stands once, as a section of its own.
        about = docstrings[type(settings).__name__].get(name, "")
        if isinstance(value, BaseModel):
            about = about or docstrings[type(value).__name__].get("", "")
        if depth == 0:
            yield ""
        for line in textwrap.wrap(about, 116 - len(indent)):
            yield f"{indent}# {line}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _section(value, docstrings, depth + 1)
        else:
            yield f"{indent}{name}: {json.dumps(value)}"


def _docstrings() -> dict[str, dict[str, str]]:
    """Class name to {field: the string under it}; "" stands for the class itself."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(Path(fvv.config.__file__).read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        found[node.name] = {"": ast.get_docstring(node) or ""}
        for field, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[node.name][field.target.id] = " ".join(str(after.value.value).split())
    return found


if __name__ == "__main__":
    DEFAULTS.write_text(default_settings(), encoding="utf-8")
    COMMANDS.parent.mkdir(parents=True, exist_ok=True)
    COMMANDS.write_text(commands(), encoding="utf-8")
    print(f"wrote {DEFAULTS.relative_to(ROOT)} and {COMMANDS.relative_to(ROOT)}")
