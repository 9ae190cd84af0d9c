"""The settings as text: YAML with their docstrings as comments, or a JSON Schema for editors."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fvv.config import SHARED, STAGES, Config, load_config
from fvv.errors import ConfigError
from fvv.names import did_you_mean

PACKAGED = {file.stem: file for file in sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))}
"""Settings files of the package by name; `-c` takes the names."""
_WIDTH = 116


def settings_file(named: Path) -> Path:
    """The file that `-c` means: one of the package by its name, or the file of that path.

    A file that exists is that file, whatever its name.

    Raises:
        ConfigError: a bare word that is neither.
    """
    if not named.is_file() and str(named) in PACKAGED:
        return PACKAGED[str(named)]
    if not named.exists() and not named.suffix and len(named.parts) == 1:
        hint = f"those of the package: {', '.join(PACKAGED)}"
        raise ConfigError(f"{named}: neither a file nor the name of settings in the package", hint=hint)
    return named


def as_yaml(config: Config, section: str = "") -> str:
    """Settings as a settings file holds them; a comment says what each means and, where it differs, its default.

    Args:
        config: what is in force.
        section: this one alone; "": all.

    Raises:
        ConfigError: no such section.
    """
    if section and section not in Config.model_fields:
        near = did_you_mean(section, Config.model_fields)
        raise ConfigError(f"no section {section!r}{near}", hint=f"the sections: {', '.join(Config.model_fields)}")
    lines = list(_lines(config, load_config(), depth=0, only=section))
    return "\n".join(lines[1:])


def json_schema() -> str:
    """JSON Schema of a settings file; editors check one whose first line is `# yaml-language-server: $schema=FILE`."""
    schema = Config.model_json_schema()
    for stage in STAGES:
        definition = schema["$defs"][schema["properties"][stage]["$ref"].rpartition("/")[2]]
        for shared in SHARED:  # Stands once, as a section of its own.
            definition["properties"].pop(shared, None)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Settings of fvv"}
    return json.dumps(schema, indent=2, ensure_ascii=False)


def _lines(settings: BaseModel, defaults: Any, depth: int, only: str = "") -> Iterator[str]:
    indent = "  " * depth
    for name, value in settings:
        if (only and name != only) or (depth == 1 and name in SHARED):
            continue
        about = type(settings).model_fields[name].description
        if about is None and isinstance(value, BaseModel):
            about = (type(value).__doc__ or "").partition("\n\n")[0]
        if depth == 0:
            yield ""
        for line in textwrap.wrap(" ".join((about or "").split()), _WIDTH - len(indent)):
            yield f"{indent}# {line}"
        default = getattr(defaults, name, None)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, type(value)() if default is None else default, depth + 1)
        else:
            other = "" if value == default else f"  # default: {json.dumps(default, default=str)}"
            yield f"{indent}{name}: {json.dumps(value, default=str)}{other}"
