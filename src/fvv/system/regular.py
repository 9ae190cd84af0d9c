"""Reading what should be a small regular file: a pipe would hang for ever, a device or a huge file fill the memory."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from fvv.errors import ConfigError, InputError
from fvv.names import is_plain

MAX_TEXT_BYTES = 64 * 2**20
"""Of a table; 100,000 examinations take a tenth of it."""
MAX_YAML_BYTES = 2**18
"""Of a settings file; the longest here has 20 kB."""
MAX_YAML_ALIASES = 20
"""Each may repeat all others: a few dozen of them make gigabytes of a few lines."""
MAX_YAML_DEPTH = 50
"""Of lists in lists: reading takes time with the square of the depth."""


def refuse_unsafe_name(name: str, place: Path) -> None:
    """Refuse a name that cannot be shown on one line: it could forge lines of a table, a log or a terminal.

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
        found = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise InputError(f"expected a regular file, found {found}", file=path)


def read_regular_text(path: Path, *, encoding: str = "utf-8", most_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a regular file of bounded size."""
    refuse_irregular(path)
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise InputError(f"holds {size} bytes, expected at most {most_bytes}", file=path)
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        hint = f"save it as {encoding.upper()}, which editors and spreadsheets offer when saving"
        raise InputError(f"cannot be read as {encoding} text: {error}", file=path, hint=hint) from error
    except OSError as error:
        raise InputError(f"cannot be read as {encoding} text: {error}", file=path) from error


def read_yaml(path: Path, *, what: str = "settings") -> Any:
    """What a small YAML file holds; None where it is empty."""
    try:
        text = read_regular_text(path, most_bytes=MAX_YAML_BYTES)
        _refuse_bomb(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe one)
    except InputError as error:
        raise ConfigError(f"cannot read {what}: {error.message}", file=path, hint=error.hint) from error
    # ValueError: a date that is none, a number of thousands of digits.
    except (RecursionError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {what}: {error}", file=path) from error


class _Loader(yaml.SafeLoader):
    """Safe YAML that takes nothing for what people did not mean: a key stands once, numbers and truth are plain.

    YAML 1.1 reads 010 as 8, 1:30 as 90 and yes as true; here, as in YAML 1.2, these are 10 and text.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  (as the class it refines has it)
        letter: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] not in {"bool", "int", "float"}]
        for letter, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """As the safe loader does; a key that stands twice would lose one of its values in silence."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Decimal, whatever zeros lead."""
        return int(str(self.construct_scalar(node)))


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def _refuse_bomb(text: str) -> None:
    """Refuse a short text that stands for a huge value; reads no further than it has to."""
    aliases = depth = 0
    for token in yaml.scan(text):
        aliases += isinstance(token, yaml.AliasToken)
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if aliases > MAX_YAML_ALIASES:
            raise InputError(f"more than {MAX_YAML_ALIASES} aliases")
        if depth > MAX_YAML_DEPTH:
            raise InputError(f"lists or sections nested more than {MAX_YAML_DEPTH} deep")
