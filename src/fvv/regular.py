"""Reading what should be a small regular file: a pipe would hang for ever, a device or a huge file fill the memory."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml

from fvv.errors import ConfigError, InputError
from fvv.names import is_plain

MAX_TEXT_BYTES = 64 * 2**20
"""Of a table; 100,000 examinations take a tenth of it."""
MAX_YAML_BYTES = 2**20
"""Of a settings file; the longest here has 20 kB."""
MAX_YAML_ALIASES = 20
"""Each may repeat all others: a few dozen of them make gigabytes of a few lines."""


def refuse_unsafe_name(name: str, place: Path) -> None:
    """Refuse a name that cannot be shown on one line: it could forge lines of a table, a log or a terminal.

    Args:
        name: of an examination or a person, as found.
        place: the file or folder where it was found.

    Raises:
        InputError: it has line ends, escape codes, marks that reorder text, or bytes that are no text.
    """
    if not is_plain(name):
        raise InputError(f"the name {name!a} cannot be shown", file=place, hint="rename it with letters that can")


def refuse_irregular(path: Path) -> None:
    """Refuse what is not a regular file, following links; opens nothing.

    Raises:
        InputError: missing, a broken link, a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            hint = "fetch the file (for example `datalad get`), or mount the disk it is on"
            raise InputError(f"a broken link to {path.readlink()}", file=path, hint=hint) from error
        raise InputError("no such file", file=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
    if not stat.S_ISREG(mode):
        raise InputError("expected a regular file, found a folder, a pipe or a device", file=path)


def read_regular_text(path: Path, *, encoding: str = "utf-8", most_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a regular file of bounded size.

    Raises:
        InputError: not a regular file, too large, unreadable, or not text in this encoding.
    """
    refuse_irregular(path)
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise InputError(f"holds {size} bytes, expected at most {most_bytes}", file=path)
        return path.read_text(encoding=encoding)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as {encoding} text: {error}", file=path) from error


def read_yaml(path: Path) -> Any:
    """What a small YAML file holds; None where it is empty.

    Raises:
        ConfigError: not a regular file, too large, or no YAML.
    """
    try:
        text = read_regular_text(path, most_bytes=MAX_YAML_BYTES)
        aliases = sum(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        if aliases > MAX_YAML_ALIASES:
            raise ConfigError(f"cannot read: it has {aliases} aliases, expected at most {MAX_YAML_ALIASES}", file=path)
        return yaml.safe_load(text)
    except InputError as error:
        raise ConfigError(error.message, file=path, hint=error.hint) from error
    # ValueError: a date that is none, a number of thousands of digits.
    except (RecursionError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read as YAML: {error}", file=path) from error
