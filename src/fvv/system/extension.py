"""Code of the user's own, named "package.module:Name" in the settings.

A name is code that runs. It is taken from settings that the user gives to this run, never from a bundle, a store or a
checkpoint, which may come from somebody else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import StringConstraints

from fvv.errors import ConfigError
from fvv.names import nearest_hint, plain

ExtensionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
"""As "my_package.checks:too_short"."""


def extension(name: str, what: str) -> Callable[..., Any]:
    """What a name stands for.

    Args:
        name: "package.module:Name"; the module must be installed, or lie on PYTHONPATH.
        what: it should be, for the message: "quality check".

    Raises:
        ConfigError: the module cannot be imported, has no such name, or the name stands for nothing that can be called.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # A module may raise anything while it is imported.
        hint = f"install the package that holds {module_name}, or put its folder on PYTHONPATH"
        raise ConfigError(f"{what} {name}: {type(error).__name__}: {plain(str(error))}", hint=hint) from error
    found = getattr(module, attribute, None)
    if found is None:
        names = [one for one in dir(module) if not one.startswith("_")]
        nearest = nearest_hint([attribute], names)
        raise ConfigError(f"{what} {name}: {module_name} has no {attribute}", hint=nearest)
    if not callable(found):
        raise ConfigError(f"{what} {name}: expected something to call, found {type(found).__name__}")
    result: Callable[..., Any] = found
    return result
