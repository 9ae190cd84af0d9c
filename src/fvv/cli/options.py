"""Options of the command line: each names a path, or sets one value of the settings.

Type, choices, default and help of a setting come from its field in `fvv.config`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fvv.config import Config
from fvv.errors import ConfigError
from fvv.system.shard import Shard

_Container = argparse._ActionsContainer  # Parsers and groups share no public type.


def add_path(verb: _Container, *flags: str, meaning: str, default: str | None = None) -> None:
    """An option that names a file or a folder."""
    verb.add_argument(
        *flags,
        type=named_path,
        default=None if default is None else Path(default),
        metavar="PATH",
        help=meaning if default is None else f"{meaning} (default: {default})",
    )


def add_settings(verb: _Container, settings: dict[str, str]) -> None:
    """An option for each flag, which sets the setting of that dotted name, and only when it is given.

    Args:
        verb: the parser, or a group of it.
        settings: flag to dotted name; several spellings of a flag are separated by a blank.
    """
    for flags, key in settings.items():
        field = _field(key)
        kind = _without_none(field.annotation)
        how: dict[str, Any] = {"dest": key, "default": argparse.SUPPRESS, "help": _help(field)}
        if kind is bool:
            how["action"] = "store_true"
        elif get_origin(kind) is Literal:
            how["choices"] = get_args(kind)
        else:
            how |= {"type": kind, "metavar": flags.lstrip("-").rpartition("-")[2].upper()}
        verb.add_argument(*flags.split(), **how)


def add_repeated(verb: _Container, flag: str, key: str, metavar: str) -> None:
    """An option that may be repeated; all its values together are one setting."""
    how: dict[str, Any] = {"dest": key, "default": argparse.SUPPRESS, "help": _help(_field(key))}
    verb.add_argument(flag, action="append", metavar=metavar, **how)


def add_overwrite(verb: _Container, meaning: str = "replace earlier results") -> None:
    """`--overwrite`: without it nothing that exists is replaced."""
    verb.add_argument("--overwrite", action="store_true", help=meaning)


def add_shard(verb: _Container) -> None:
    """`--shard`: a part of the cohort, for machines that share the work."""
    meaning = "process only this shard of the cohort, such as 3/20; shards may run in parallel; `fvv gather` joins them"
    verb.add_argument("--shard", type=_shard, metavar="I/N", help=meaning)


def truth(text: str) -> bool:
    """A truth value as people type it: true/false, yes/no, on/off, 1/0, in any case.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    word = text.strip().lower()
    if word in {"true", "t", "yes", "y", "on", "1"}:
        return True
    if word in {"false", "f", "no", "n", "off", "0"}:
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


def named_path(text: str) -> Path:
    """A path. An empty one, as an unset variable of a script gives, would be the working folder.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a file or folder, got nothing (. is the folder you are in)")
    return Path(text)


def assignment(text: str) -> tuple[str, Any]:
    """Read `KEY=VALUE`.

    Raises:
        argparse.ArgumentTypeError: no key or no equals sign.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key.strip(), _value(value.strip())


def fold_and_path(text: str) -> tuple[int, Path]:
    """Read `FOLD=FILE`.

    Raises:
        argparse.ArgumentTypeError: no fold number or no file.
    """
    fold, equals, path = text.partition("=")
    if not equals or not fold.isdecimal() or not path:
        raise argparse.ArgumentTypeError(f"expected FOLD=FILE, such as 0=best.ckpt, got {text!r}")
    return int(fold), Path(path)


def fold_or_all(text: str) -> int:
    """Read a fold's number, or `all`.

    Raises:
        argparse.ArgumentTypeError: neither.
    """
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number or all, got {text!r}")
    from fvv.data import ALL_FOLDS  # noqa: PLC0415 - loads numpy, which --help must not

    return ALL_FOLDS if text == "all" else int(text)


def _shard(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _value(text: str) -> Any:
    # Numbers and truth values stay text: the type of the setting reads them. Lists and null are read here.
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    return value if value is None or isinstance(value, list | dict) else text


def _field(key: str) -> FieldInfo:
    """The field of a setting by its dotted name."""
    model: Any = Config
    *sections, last = key.split(".")
    for section in sections:
        model = model.model_fields[section].annotation
        if not issubclass(model, BaseModel):
            raise TypeError(f"{key}: {section} is no section of the settings")
    return model.model_fields[last]  # type: ignore[no-any-return]


def _without_none(annotation: Any) -> Any:
    if NoneType in get_args(annotation):
        return next(part for part in get_args(annotation) if part is not NoneType)
    return annotation


def _help(field: FieldInfo) -> str:
    """The first sentence of the field's docstring, and the default where it is not evident."""
    sentence = " ".join((field.description or "").split()).partition(". ")[0].rstrip(".").replace("%", "%%")
    if sentence[1:2].islower():
        sentence = sentence[0].lower() + sentence[1:]
    evident = field.default is None or field.default is False or field.default in ("", ())
    if evident or "default" in sentence or "(0 =" in sentence:
        return sentence
    return f"{sentence} (default: {field.default})"
