"""Command-line options that set one value of the settings: type, choices and default come from `fvv.config`."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from fvv.config import Config
from fvv.errors import ConfigError
from fvv.system.shard import Shard

_Container = argparse._ActionsContainer  # parsers and groups share no public type


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
    raise argparse.ArgumentTypeError(f"expected a truth value (True or False), got {text!r}")


def named_path(text: str) -> Path:
    """A path that names something: an empty one, as an unset variable of a script gives, would be the working folder.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a file or folder, got nothing (. is the folder you are in)")
    return Path(text)


def add_path(verb: _Container, *flags: str, meaning: str, default: str | None = None) -> None:
    """An option that names a file or a folder."""
    verb.add_argument(
        *flags,
        type=named_path,
        default=None if default is None else Path(default),
        metavar="PATH",
        help=meaning if default is None else f"{meaning} (default: {default})",
    )


def add_overwrite(verb: argparse.ArgumentParser) -> None:
    """`--overwrite`: without it nothing that exists is replaced."""
    verb.add_argument("--overwrite", action="store_true", help="replace what is already there")


def add_shard(verb: argparse.ArgumentParser) -> None:
    """`--shard`: a part of the cohort, for machines that share the work."""
    meaning = "do this part alone, such as 3/20; all parts may run side by side, `fvv gather` joins them"
    verb.add_argument("--shard", type=_shard, metavar="I/N", help=meaning)


def _shard(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_preparation_settings(verb: argparse.ArgumentParser, section: str) -> None:
    """The choices about reading and masking that `verify`, `prepare` and `predict` share."""
    key = f"{section}.preprocess"
    add_setting(verb, "--mask-method", key=f"{key}.mask_method", meaning="brain mask where no mask file is given")
    add_setting(
        verb, "--mask-command", key=f"{key}.mask_command", meaning="outside tool, as 'mask_tool -i {b0} -m {mask}'"
    )
    add_setting(verb, "--b0-index", key=f"{key}.b0_index", meaning="volume of a 4D b0 file, from 0")
    add_setting(verb, "--b1000-index", key=f"{key}.b1000_index", meaning="volume of a 4D b1000 file, from 0")
    add_setting(verb, "--resample-rois", key=f"{key}.resample_rois", meaning="bring ROIs on another grid onto b1000's")
    add_setting(verb, "--resample-b0", key=f"{key}.resample_b0", meaning="bring a b0 on another grid onto b1000's")


def add_setting(verb: _Container, *flags: str, key: str, meaning: str) -> None:
    """An option that sets one value of the settings, and only when it is given."""
    kind, default = _field(key)
    described = f"{meaning} (default: {_shown(default, key)})"
    if kind is bool:
        verb.add_argument(*flags, action="store_true", dest=key, default=argparse.SUPPRESS, help=described)
    elif get_origin(kind) is Literal:
        verb.add_argument(*flags, choices=get_args(kind), dest=key, default=argparse.SUPPRESS, help=described)
    else:
        name = flags[-1].lstrip("-").rpartition("-")[2].upper()
        verb.add_argument(*flags, type=kind, dest=key, default=argparse.SUPPRESS, metavar=name, help=described)


def add_truth(verb: _Container, *flags: str, key: str, meaning: str) -> None:
    """A switch that also takes a truth value: `-ram`, `-ram True`, `-ram False`."""
    _, default = _field(key)
    verb.add_argument(
        *flags,
        nargs="?",
        const=True,
        type=truth,
        dest=key,
        default=argparse.SUPPRESS,
        metavar="True|False",
        help=f"{meaning} (default: {default})",
    )


def _field(key: str) -> tuple[Any, Any]:
    """Type (without None) and default of a setting by its dotted name."""
    model: Any = Config
    *sections, last = key.split(".")
    for section in sections:
        model = model.model_fields[section].annotation
        if not issubclass(model, BaseModel):
            raise TypeError(f"{key}: {section} is no section of the settings")
    field = model.model_fields[last]
    kind: Any = field.annotation
    if NoneType in get_args(kind):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    return kind, field.default


def _shown(default: object, key: str) -> str:
    if default is None or default == "":
        return "the profile's own" if key.endswith("mask_method") else "none"
    return "off" if default is False else str(default)


def assignment(text: str) -> tuple[str, Any]:
    """Read `KEY=VALUE`.

    Raises:
        argparse.ArgumentTypeError: no key or no equals sign.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key.strip(), _value(value.strip())


def _value(text: str) -> Any:
    # Numbers and truth values stay text: the setting's own type reads them. Lists and null are read here.
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    return value if value is None or isinstance(value, list | dict) else text


def fold_and_path(text: str) -> tuple[int, Path]:
    """Read `FOLD=FILE`.

    Raises:
        argparse.ArgumentTypeError: no fold number or no file.
    """
    fold, equals, path = text.partition("=")
    if not equals or not fold.isdecimal() or not path:
        raise argparse.ArgumentTypeError(f"expected FOLD=FILE, such as 0=best.ckpt, got {text!r}")
    return int(fold), Path(path)
